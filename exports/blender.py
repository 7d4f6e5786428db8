'''Blender 2.8 to 5: a script that adds a motion tracking track for each point to a movie clip.

Positions are shares of width and height with y up; frame 1 is the clip's first, whatever the plate's numbers and where
the clip begins in the scene. Blender holds a marker until the next one, so a muted marker stands at the first frame of
each hidden stretch, and one before the first position, as its own tracker sets them. It moves markers outside the
picture to its border: such positions are not written, even where hidden ones are to be kept.
'''

import base64
import json
import zlib

import numpy as np

from exports.options import unit, written
from util import inside_video

SCRIPT = '''"""Adds tracks to a movie clip: open the clip in the Movie Clip editor, then run this in the Text editor.

Or:  blender --background --python THIS.py -- CLIP SAVED.blend        (CLIP: a video, or the first of its images)
"""

import base64
import json
import sys
import zlib

import bpy
import numpy as np

WIDTH, HEIGHT, NUM_FRAMES = %(width)d, %(height)d, %(frames)d
NAMES = json.loads(r"""%(names)s""")


def unpacked(text, kind, *shape):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind).reshape(len(NAMES), NUM_FRAMES, *shape)


def open_clip(paths):
    if paths:
        clip = bpy.data.movieclips.load(paths[0])
        clip.use_fake_user = True  # what nothing uses is not saved
        return clip
    clips = [area.spaces.active.clip for area in getattr(bpy.context.screen, "areas", []) if area.type == "CLIP_EDITOR"]
    clips = [clip for clip in clips if clip] or list(bpy.data.movieclips)
    if len(clips) != 1:
        raise SystemExit("expected one open movie clip, found %%d: name it after --" %% len(clips))
    return clips[0]


def add_track(tracks, name, places, known):
    """places (N, 2): shares of width and height, y up; known (N,): whether there is one."""
    seen = np.flatnonzero(known)
    first = max(seen[0] - 1, 0)
    track = tracks.new(name=name, frame=int(first) + 1)
    for frame in range(first, min(seen[-1] + 2, NUM_FRAMES)):
        if known[frame]:
            marker = track.markers.insert_frame(frame + 1, co=places[frame].tolist())
            marker.mute = False
        elif frame < seen[0]:
            track.markers.insert_frame(frame + 1, co=places[seen[0]].tolist()).mute = True
        elif known[frame - 1]:
            track.markers.insert_frame(frame + 1, co=places[frame - 1].tolist()).mute = True


def main():
    paths = sys.argv[sys.argv.index("--") + 1:] if "--" in sys.argv else []
    clip = open_clip(paths[:1])
    if abs(clip.size[0] * HEIGHT - clip.size[1] * WIDTH) > 0.01 * WIDTH * clip.size[1]:
        raise SystemExit("the clip has %%d x %%d pixels, the tracks are of a video of %%d x %%d"
                         %% (*clip.size, WIDTH, HEIGHT))
    camera = getattr(clip.tracking.objects, "active", None)
    tracks = camera.tracks if camera else clip.tracking.tracks
    places, known = unpacked(PLACES, "<f8", 2), unpacked(KNOWN, "?")
    for row, name in enumerate(NAMES):
        add_track(tracks, name, places[row], known[row])
    print("%%d tracks added to %%s" %% (len(NAMES), clip.name))
    if paths[1:]:
        bpy.ops.wm.save_as_mainfile(filepath=paths[1])


PLACES = """%(places)s"""
KNOWN = """%(known)s"""
main()
'''


def write(tracks, options):
    """Tracks -> the text of a script."""
    height, width = tracks.video_size
    keys = written(tracks, options) & inside_video(tracks.tracks, tracks.video_size)
    places = np.where(keys[..., None], unit(tracks), 0).astype("<f8")
    return SCRIPT % {"width": width, "height": height, "frames": keys.shape[1], "names": json.dumps(options.names),
                     "places": packed(places), "known": packed(keys)}


def packed(array):
    """Its bytes, compressed, as base64 in lines."""
    return base64.encodebytes(zlib.compress(array.tobytes(), 9)).decode("ascii").strip()
