"""DLTdv8's points of one camera (xypts.csv): columns pt1_cam1_X, pt1_cam1_Y, pt2_cam1_X ...; a row for each frame.

Pixels with y down, the first one's centre at (1, 1), so 0.5 more than ours; NaN where hidden. (DLTdv before version 8
counts y from the lower edge.)
"""


import numpy as np

from exports.options import written
from files import UserError, read_table
from tracking.tracks_file import from_positions


def write(tracks, options):
    """Tracks -> the text of a table."""
    places = tracks.tracks.astype(np.float64) + 0.5
    places[~written(tracks, options)] = np.nan
    head = [f"pt{q}_cam1_{axis}" for q in range(1, len(places) + 1) for axis in "XY"]
    rows = places.transpose(1, 0, 2).reshape(places.shape[1], -1).tolist()
    cells = ([repr(value) if value == value else "NaN" for value in row] for row in rows)
    return "".join(",".join(row) + "\n" for row in [head, *cells])


def read(path, video):
    """A table of one camera -> (Tracks, no names). UserError when it is no such table."""
    head, *rows = [row for row in read_table(path, "DLTdv's points") if row] or [[]]
    expected = [f"pt{q}_cam1_{axis}" for q in range(1, len(head) // 2 + 1) for axis in "XY"]
    if not rows or head != expected:
        raise UserError(f"{path}: not DLTdv's points of one camera: expected columns pt1_cam1_X, pt1_cam1_Y ...")
    try:
        places = np.array([[float(cell or "nan") for cell in row] for row in rows]).reshape(len(rows), -1, 2)
    except ValueError:
        raise UserError(f"{path}: expected {len(head)} numbers or NaN in each row") from None
    num_frames = video.num_frames or len(rows)
    if len(rows) > num_frames:
        raise UserError(f"{path}: {len(rows)} frames, expected up to {num_frames}")
    positions = np.full((places.shape[1], num_frames, 2), np.nan)
    positions[:, : len(rows)] = places.transpose(1, 0, 2) - 0.5
    hidden = np.isnan(positions).any(axis=-1)
    return from_positions(positions, hidden, hidden.astype(float), video.size_for(path), video.fps), None
