"""napari's tracks layer as a table (csv): columns track_id, t, y, x, as its `add_tracks` takes them.

Pixels with y down and integer centres, so 0.5 less than ours; frames from 0. Hidden positions have no row, and the
layer joins what is before and after.
"""

import numpy as np

from exports.options import written


def write(tracks, options):
    """Tracks -> the text of a table."""
    keys, places = written(tracks, options), tracks.tracks.astype(np.float64) - 0.5
    lines = ["track_id,t,y,x"]
    for q, frame in np.argwhere(keys).tolist():
        x, y = places[q, frame].tolist()
        lines.append(f"{q},{frame},{y!r},{x!r}")
    return "\n".join([*lines, ""])
