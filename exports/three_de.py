"""3DEqualizer's 2D tracks as ASCII, which its menus `Import Tracks` and `Export Tracks` read and write.

The number of points; for each its name, a colour index, its number of lines, and lines `frame x y`. Pixels with y up
from the lower left corner of the picture; frame 1 is the first of the sequence, whatever the plate's numbers. Hidden
positions have no line, so that a file without them does not say where the video ends.
"""

import numpy as np

from exports.options import flip, written
from files import UserError, read_text
from tracking.tracks_file import check_extent, from_positions


def write(tracks, options):
    """Tracks -> the text of a file."""
    keys, positions = written(tracks, options), flip(tracks)
    lines = [str(len(keys))]
    for q, name in enumerate(options.names):
        frames = np.flatnonzero(keys[q])
        lines += [name, "0", str(len(frames))]
        lines += [f"{frame + 1} {x:.15f} {y:.15f}" for frame, (x, y) in zip(frames, positions[q, frames])]
    return "\n".join([*lines, ""])


def read(path, video):
    """A file -> (Tracks, names). UserError at the line that is none of the format."""
    height, width = video.size_for(path)
    lines = enumerate(read_text(path, "tracks of 3DEqualizer").splitlines(), 1)
    names, points = [], []
    for _ in range(*read_numbers(path, lines, int, 1)):
        names.append(next(lines, (0, ""))[1].strip())
        read_numbers(path, lines, int, 1)  # the colour
        count, = read_numbers(path, lines, int, 1)
        points.append(np.array([read_numbers(path, lines, float, 3) for _ in range(count)]).reshape(-1, 3))
    frames = np.concatenate([point[:, 0] for point in points] or [np.empty(0)])
    last = video.num_frames or int(frames.max(initial=1))
    if not len(frames) or frames.min() < 1 or frames.max() > last or (frames % 1).any():
        raise UserError(f"{path}: expected lines `frame x y` with whole frame numbers from 1 to {last}")
    check_extent(path, (len(points), last), len(frames))
    positions = np.full((len(points), last, 2), np.nan)
    for position, point in zip(positions, points):
        position[point[:, 0].astype(int) - 1] = [0, height] + point[:, 1:] * [1, -1]
    hidden = np.isnan(positions[..., 0])
    tracks = from_positions(positions, hidden, hidden.astype(float), (height, width), video.fps)
    return tracks, [name for name, seen in zip(names, ~hidden.all(axis=1)) if seen]


def read_numbers(path, lines, kind, count):
    """The `count` numbers of the next of `lines`."""
    place, line = next(lines, ("its end", ""))
    try:
        values = [kind(word) for word in line.split()]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all() or (kind is int and values[0] < 0):
        expected = "`frame x y`" if count == 3 else "a whole number"
        raise UserError(f"{path}: not tracks of 3DEqualizer: line {place}: expected {expected}, found {line!r}")
    return values
