"""DeepLabCut's table of one animal, a body part for each point: csv, and h5 (the extra `dlc`).

Header rows scorer, bodyparts, coords; a row for each frame from 0: x, y, likelihood of every point. Pixels with y down
and integer centres, so 0.5 less than ours; likelihood is 1 - occlusion score. Hidden positions are blank, their
likelihood stays. The h5 is the same table as pandas stores it, key df_with_missing. It is only written: pandas would
unpickle what is in it, which a file from elsewhere may abuse; DeepLabCut has the csv as well.
"""

import csv
import io

import numpy as np

from exports.options import written
from files import UserError, read_table
from tracking.tracks_file import check_extent, from_positions

SCORER, COORDS = "omnimotion", ("x", "y", "likelihood")


def table(tracks, options):
    """(N, 3 Q) float64: x, y, likelihood of each point, NaN where hidden."""
    values = np.concatenate([tracks.tracks.astype(np.float64) - 0.5, 1 - tracks.occlusion_score[..., None]], axis=-1)
    values[..., :2][~written(tracks, options)] = np.nan
    return values.transpose(1, 0, 2).reshape(values.shape[1], -1)


def write_csv(tracks, options):
    """Tracks -> the text of a table."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    points = range(len(options.names))
    writer.writerow(["scorer", *[SCORER for _ in points for _ in COORDS]])
    writer.writerow(["bodyparts", *[options.names[q] for q in points for _ in COORDS]])
    writer.writerow(["coords", *[coord for _ in points for coord in COORDS]])
    for frame, row in enumerate(table(tracks, options).tolist()):
        writer.writerow([frame, *["" if value != value else repr(value) for value in row]])
    return text.getvalue()


def write_h5(tracks, options):
    """Tracks -> the bytes of a file, by pandas. UserError for more points than it can hold."""
    import pandas
    from tables.exceptions import HDF5ExtError

    columns = pandas.MultiIndex.from_product([[SCORER], options.names, COORDS],
                                             names=["scorer", "bodyparts", "coords"])
    frame = pandas.DataFrame(table(tracks, options), columns=columns)
    in_memory = {"driver": "H5FD_CORE", "driver_core_backing_store": 0}
    try:
        with pandas.HDFStore("tracks.h5", "w", **in_memory) as store:
            store.put("df_with_missing", frame, format="table")
            return store._handle.get_file_image()  # pandas has no public way to a file in memory
    except HDF5ExtError:  # the names of all columns have to fit into an attribute of 64 KiB
        raise UserError(f"DeepLabCut's h5 cannot hold {len(options.names)} points of these names (800 short ones fit): "
                        "give --limit 500, or write csv") from None


def read_csv(path, video):
    """A csv -> (Tracks, names); hidden where the likelihood is below 0.5. UserError when it is no such table."""
    size = video.size_for(path)
    rows = read_table(path, "DeepLabCut's predictions")
    heads = [row[0] if row else "" for row in rows[:4]]
    if "individuals" in heads:
        raise UserError(f"{path}: a table of several animals (individuals): expected one of a single animal")
    names = rows[1][1::3] if heads[:3] == ["scorer", "bodyparts", "coords"] else []
    if not names or tuple(rows[2][1:]) != COORDS * len(names) or len(rows) < 4:
        raise UserError(f"{path}: not DeepLabCut's predictions: expected rows scorer, bodyparts and coords (x, y, "
                        "likelihood), then a row for each frame")
    try:
        values = np.array([[float(cell or "nan") for cell in row] for row in rows[3:]])
        frames, values = values[:, 0].astype(int), values[:, 1:].reshape(len(values), len(names), 3)
    except ValueError:
        raise UserError(f"{path}: expected a frame number and {3 * len(names)} numbers or blanks in each row "
                        "(not image names: training data are of single images)") from None
    num_frames = video.num_frames or frames.max() + 1
    if frames.min() < 0 or frames.max() >= num_frames:
        raise UserError(f"{path}: frames {frames.min()} to {frames.max()}, expected 0 to {num_frames - 1}")
    check_extent(path, (len(names), num_frames), len(rows))
    placed = np.full((len(names), num_frames, 3), np.nan)
    placed[:, frames] = values.transpose(1, 0, 2)
    score, positions = 1 - placed[..., 2], placed[..., :2] + 0.5
    hidden = np.isnan(positions).any(axis=-1) | (score > 0.5)
    tracks = from_positions(positions, hidden, score, size, video.fps)
    return tracks, [name for name, seen in zip(names, ~hidden.all(axis=1)) if seen]
