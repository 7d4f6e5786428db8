"""SLEAP's analysis table (csv): a track for each point, of a skeleton with the single node `point`.

Rows track, frame_idx, instance.score, point.x, point.y, point.score; frames from 0. Pixels with y down and integer
centres, so 0.5 less than ours; scores are 1 - occlusion score. Hidden positions have no row.
"""

import csv
import io

import numpy as np

from exports.options import written


def write(tracks, options):
    """Tracks -> the text of a table."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["track", "frame_idx", "instance.score", "point.x", "point.y", "point.score"])
    keys, positions = written(tracks, options), tracks.tracks.astype(np.float64) - 0.5
    for q, name in enumerate(options.names):
        for frame in np.flatnonzero(keys[q]):
            x, y = positions[q, frame].tolist()
            score = f"{1 - tracks.occlusion_score[q, frame]:.4f}"
            writer.writerow([name, frame, score, x, y, score])
    return text.getvalue()
