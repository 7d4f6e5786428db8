"""After Effects: keyframe text for the clipboard, or a script (.jsx) that makes one null for each point.

Pixels with y down from the upper left corner; frames count from the start of the composition, whatever the plate's
numbers. Keyframe text is tab-separated, its data lines begin with a tab and end with one. It is pasted onto the
selected layer: one point becomes its position, four its corner pin (`corner_pin`), others points of a motion tracker.
Hidden positions have no key, and After Effects goes straight on between keys: the position of one point and the nulls
of the script have opacity 0 there.
"""

import json

import numpy as np

from exports.nuke import anticlockwise
from exports.options import number, starts_of_runs, written

X_Y, X_Y_Z = ("X pixels", "Y pixels"), ("X pixels", "Y pixels", "Z pixels")
NTSC = (24000 / 1001, 30000 / 1001, 60000 / 1001)  # shown as 23.976, 29.97, 59.94
SCRIPT = """// File > Scripts > Run Script File: it makes a composition with a null for each point.
(function () {
    var fps = %(fps)s, first = %(first)d, frames = %(frames)d;
    var tracks = %(tracks)s;
    app.beginUndoGroup("import tracks");
    var comp = app.project.items.addComp("tracks", %(width)d, %(height)d, 1.0, (first + frames) / fps, fps);
    for (var i = 0; i < tracks.length; i++) {
        var layer = comp.layers.addNull(), track = tracks[i];
        layer.name = track.name;
        var position = layer.property("ADBE Transform Group").property("ADBE Position");
        for (var k = 0; k < track.frames.length; k++) {
            position.setValueAtTime((first + track.frames[k]) / fps, [track.x[k], track.y[k], 0]);
        }
        var opacity = layer.property("ADBE Transform Group").property("ADBE Opacity");
        for (var j = 0; j < track.changes.length; j++) {
            opacity.setValueAtTime((first + track.changes[j][0]) / fps, track.changes[j][1]);
            opacity.setInterpolationTypeAtKey(j + 1, KeyframeInterpolationType.HOLD, KeyframeInterpolationType.HOLD);
        }
    }
    app.endUndoGroup();
})();
"""


def keyframes(tracks, options):
    """Tracks -> keyframe text: the position of a single point, or points of a motion tracker."""
    keys = written(tracks, options)
    if len(keys) > 1:
        return text(tracks, [block(f"Motion Trackers\tTracker #1\tTrack Point #{q + 1}\tFeature Center", X_Y, keys[q],
                                   tracks.tracks[q], options) for q in range(len(keys))])
    at = np.column_stack([tracks.tracks[0], np.zeros(len(keys[0]))])
    blocks = [block("Transform\tPosition", X_Y_Z, keys[0], at, options)]
    if not keys.all():
        always, opacity = np.ones(len(keys[0]), bool), 100 * keys[0, :, None]
        blocks.append(block("Transform\tOpacity", ("percent",), always, opacity, options))
    return text(tracks, blocks)


def corner_pin(tracks, options):
    """Tracks of exactly four points -> keyframe text of the effect Corner Pin."""
    keys = written(tracks, options)
    lower_left, lower_right, upper_right, upper_left = anticlockwise(tracks, keys)
    order = upper_left, upper_right, lower_left, lower_right
    return text(tracks, [block(f"Effects\tADBE Corner Pin #1\tADBE Corner Pin-{place:04d}", X_Y, keys[q],
                               tracks.tracks[q], options) for place, q in enumerate(order, 1)])


def text(tracks, blocks):
    """Keyframe text: header, blocks, footer."""
    height, width = tracks.video_size
    return "\n".join([
        "Adobe After Effects 8.0 Keyframe Data", "", f"\tUnits Per Second\t{rate(tracks.fps)}",
        f"\tSource Width\t{width}", f"\tSource Height\t{height}", "\tSource Pixel Aspect Ratio\t1",
        "\tComp Pixel Aspect Ratio\t1", "", *blocks, "", "End of Keyframe Data", "",
    ])


def block(what, columns, keys, values, options):
    """The keys (N,) of one property, whose values are (N, C); columns: what they are called."""
    lines = [what, "\t".join(["", "Frame", *columns, ""])]
    for frame in np.flatnonzero(keys):
        lines.append("\t".join(["", str(frame + options.first_frame), *map(number, values[frame]), ""]))
    return "\n".join([*lines, ""])


def rate(fps):
    """Frames per second as After Effects prints them."""
    nearest = min((*NTSC, round(fps)), key=lambda known: abs(known - fps))
    return number(nearest if abs(nearest - fps) < 0.005 else fps, 3)


def script(tracks, options):
    """Tracks -> an ExtendScript that makes one null for each point."""
    keys, rows = written(tracks, options), []
    for q, name in enumerate(options.names):
        frames = np.flatnonzero(keys[q])
        x, y = (",".join(map(number, values)) for values in tracks.tracks[q, frames].T)
        changes = [[int(start), 100 * int(keys[q, start])] for start in starts_of_runs(keys[q])]
        rows.append(f'{{"name": {json.dumps(name)}, "frames": {frames.tolist()}, "x": [{x}], "y": [{y}], '
                    f'"changes": {changes if not keys[q].all() else []}}}')
    height, width = tracks.video_size
    return SCRIPT % {"fps": number(tracks.fps, 6), "first": options.first_frame, "frames": keys.shape[1],
                     "width": width, "height": height, "tracks": "[\n" + ",\n".join(rows) + "\n    ]"}
