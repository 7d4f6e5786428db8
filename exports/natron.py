"""Natron: a Python script for its Script Editor that makes a Tracker node with a track for each point.

Pixels with y up from the lower left corner of the picture; frames are the sequence's, mostly from 1. Hidden positions
have no key, and the track's `enabled` is 0 there.
"""

import json

import numpy as np

from exports.options import flip, number, starts_of_runs, written

SCRIPT = '''# Run it in Natron's Script Editor. It makes a Tracker node; connect it to the plate.
import json

TRACKS = json.loads(r"""%s""")

node = app.createNode("fr.inria.built-in.Tracker")
context = node.getTrackerContext()
for name, frames, x, y, changes in TRACKS:
    track = context.createTrack()
    track.setLabel(name)
    centre, enabled = track.getParam("centerPoint"), track.getParam("enabled")
    for frame, horizontal, vertical in zip(frames, x, y):
        centre.setValueAtTime(horizontal, frame, 0)
        centre.setValueAtTime(vertical, frame, 1)
    for frame, value in changes:
        enabled.setValueAtTime(bool(value), frame)
'''


def write(tracks, options):
    """Tracks -> the text of a script."""
    keys, positions, rows = written(tracks, options), flip(tracks), []
    for q, name in enumerate(options.names):
        frames = np.flatnonzero(keys[q])
        x, y = ([float(number(value)) for value in values] for values in positions[q, frames].T)
        changes = [[int(start) + options.first_frame, int(keys[q, start])] for start in starts_of_runs(keys[q])]
        rows.append(json.dumps([name, (frames + options.first_frame).tolist(), x, y, changes]))
    return SCRIPT % ("[\n" + ",\n".join(rows) + "\n]")
