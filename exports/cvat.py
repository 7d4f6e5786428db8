"""CVAT for video 1.1 (XML): a track of points for each point, with a shape in every frame.

Pixels with y down from the upper left corner, centres at +0.5 as ours; frames from 0. What is hidden says so itself:
occluded="1" where something is in front (or that is uncertain), outside="1" where the point is outside the frame or its
position unknown. Labels have to exist in CVAT's task: they are the names that the user gave, or else one for all,
`point`.
"""

from xml.etree import ElementTree

import numpy as np

from exports.options import number
from files import UserError, read_bytes
from tracking.tracks_file import VISIBILITY, check_extent, from_positions

LABEL = "point"


def write(tracks, options):
    """Tracks -> the text of a file."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    codes, known = tracks.visibility, np.isfinite(tracks.tracks).all(axis=-1)
    labels = options.names if options.named else [LABEL] * len(known)
    describe(root, tracks, labels)
    for q, label in enumerate(labels):
        track = ElementTree.SubElement(root, "track", id=str(q), label=label, source="auto")
        for frame, (x, y) in enumerate(filled(tracks.tracks[q], known[q])):
            outside = codes[q, frame] == VISIBILITY.index("outside") or not known[q, frame]
            ElementTree.SubElement(
                track, "points", frame=str(frame), keyframe="1", outside=str(int(outside)),
                occluded=str(int(tracks.occluded[q, frame] and not outside)),
                points=f"{number(x)},{number(y)}", z_order="0")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def describe(root, tracks, labels):
    """The task that the tracks are of, as CVAT itself heads its files."""
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    num_frames, (height, width) = tracks.tracks.shape[1], tracks.video_size
    for name, value in (("size", num_frames), ("mode", "interpolation"), ("start_frame", 0),
                        ("stop_frame", num_frames - 1)):
        ElementTree.SubElement(task, name).text = str(value)
    all_labels = ElementTree.SubElement(task, "labels")
    for label in dict.fromkeys(labels):
        ElementTree.SubElement(ElementTree.SubElement(all_labels, "label"), "name").text = label
    size = ElementTree.SubElement(task, "original_size")
    ElementTree.SubElement(size, "width").text = str(width)
    ElementTree.SubElement(size, "height").text = str(height)


def filled(positions, known):
    """Positions (N, 2), those that are not known as in the nearest earlier frame, or else the first known."""
    nearest = np.maximum.accumulate(np.where(known, np.arange(len(known)), -1))
    return positions[np.where(nearest < 0, known.argmax(), nearest)]


def read(path, video):
    """A file -> (Tracks, labels or None where they repeat); between keyframes straight on, as CVAT does.

    UserError when it is no such file.
    """
    try:
        root = ElementTree.fromstring(read_bytes(path, 2**30, "annotations of CVAT"))
        tracks = [track for track in root.iter("track") if track.find("points") is not None]
        found = [(track.get("label"), shapes(track)) for track in tracks]
        stated_frames, size = stated_video(root)
    except (ElementTree.ParseError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not readable as CVAT for video 1.1 ({error})") from None
    if not found:
        raise UserError(f"{path}: expected annotations of CVAT for video 1.1 with tracks of points")
    num_frames = video.num_frames or stated_frames or max(int(rows[-1, 0]) for _, rows in found) + 1
    if max(rows[-1, 0] for _, rows in found) >= num_frames:
        raise UserError(f"{path}: has frames after {num_frames - 1}, the last one expected")
    check_extent(path, (len(found), num_frames), sum(len(rows) for _, rows in found))
    parts = zip(*(interpolated(rows, num_frames) for _, rows in found))
    positions, occluded = (np.stack(part) for part in parts)
    seen = ~(occluded | np.isnan(positions[..., 0])).all(axis=1)
    tracks = from_positions(positions, occluded, occluded.astype(float), video.size_for(path, size), video.fps)
    labels = [label for (label, _), one in zip(found, seen) if one]
    return tracks, labels if len(set(labels)) == len(labels) else None


def stated_video(root):
    """(number of frames, (H, W)) that a file's head states, each None where it does not."""
    frames, *size = (int(root.findtext(f"meta//{name}") or 0)
                     for name in ("size", "original_size/height", "original_size/width"))
    return frames or None, tuple(size) if all(size) else None


def shapes(track):
    """Rows (frame, outside, occluded, x, y) of a track's points, by frame. ValueError for shapes of several points."""
    rows = []
    for points in track.iter("points"):
        x, y = points.get("points").split(",")  # of several points there are more
        rows.append([int(points.get(name)) for name in ("frame", "outside", "occluded")] + [float(x), float(y)])
    return np.array(sorted(rows))


def interpolated(rows, num_frames):
    """Positions (N, 2) and occluded (N,) of all frames: NaN where the point is outside, or before its first shape."""
    frames = np.arange(num_frames)
    before = np.searchsorted(rows[:, 0], frames, side="right") - 1
    hidden = (before < 0) | (rows[before, 1] > 0)
    positions = np.stack([np.interp(frames, rows[:, 0], rows[:, axis]) for axis in (3, 4)], axis=-1)
    positions[hidden] = np.nan
    return positions, hidden | (rows[before, 2] > 0)
