"""What all formats share: what is to be written, under which names and frame numbers, and how numbers are spelt.

Tracks have pixels of the original video, (x, y) with y down, centres at +0.5; frames from 0. Q points, N frames, H W.
"""

from dataclasses import dataclass, replace

import numpy as np

from util import UserError

NOT_IN_NAMES = "\"'\\{}[]$<>&,;`"  # each means something in some format


@dataclass(frozen=True)
class Options:
    """How to write Tracks of Q points.

    names: one for each point. first_frame: the number that the target has for frame 0. keep_hidden: write estimated
    positions of hidden points like those of visible ones. named: the names are the user's, not made up.
    """

    names: tuple[str, ...]
    first_frame: int = 0
    keep_hidden: bool = False
    named: bool = False


@dataclass(frozen=True)
class Video:
    """What files of other programs leave out of their video; None where it was not given."""

    size: tuple[int, int] | None = None  # H, W
    num_frames: int | None = None
    fps: float | None = None

    def size_for(self, path, stated=None):
        """(H, W), as given or as `stated` in the file. UserError when neither is, or they differ."""
        if stated is not None and self.size not in (None, stated):
            raise UserError(f"{path}: its video has {stated[1]}x{stated[0]} pixels, not {self.size[1]}x{self.size[0]}")
        if (self.size or stated) is None:
            raise UserError(f"{path}: does not say how large its video is: give --video_size WIDTHxHEIGHT")
        return self.size or stated


def default_names(count):
    """('track_001', 'track_002', ...), padded alike."""
    return tuple(f"track_{number:0{max(3, len(str(count)))}d}" for number in range(1, count + 1))


def check_names(names, count, where):
    """The names as a tuple. UserError unless there are `count`, different, and of characters safe in all formats."""
    if len(names) != count:
        raise UserError(f"{where}: {len(names)} names, expected {count}, one for each point")
    for name in names:
        if not name or name != name.strip() or not name.isprintable() or set(name) & set(NOT_IN_NAMES):
            raise UserError(f"{where}: {name!r} cannot be a name in all formats: expected printable characters, none "
                            f"of {' '.join(NOT_IN_NAMES)}")
    repeated = {name for name in names if names.count(name) > 1} if len(set(names)) < count else ()
    if repeated:
        raise UserError(f"{where}: {min(repeated)!r} names more than one point")
    return tuple(names)


def written(tracks, options):
    """(Q, N) bool: the positions that become keys; never one that is unknown (NaN)."""
    return np.isfinite(tracks.tracks).all(axis=-1) & (options.keep_hidden | ~tracks.occluded)


def hide_unsure(tracks, min_confidence):
    """Tracks in which what is less sure to be seen than `min_confidence`, from 0 to 1, counts as occluded."""
    return replace(tracks, occluded=tracks.occluded | (1 - tracks.occlusion_score < min_confidence))


def spread(count, limit):
    """At most `limit` of the numbers 0 to count - 1, evenly spaced."""
    return np.arange(count) if limit >= count else np.arange(limit) * count // limit


def flip(tracks):
    """(Q, N, 2) float64 positions with y up, from the lower left corner of the picture."""
    return [0, tracks.video_size[0]] + tracks.tracks.astype(np.float64) * [1, -1]


def unit(tracks):
    """(Q, N, 2) float64 positions as shares of width and height, y up."""
    return flip(tracks) / tracks.video_size[::-1]


def starts_of_runs(flags):
    """Indices at which a row (N,) of bools begins, or changes."""
    return [0, *(np.flatnonzero(np.diff(flags)) + 1)]


def number(value, places=6):
    """Decimal digits of a finite number, without exponent or trailing zeros."""
    text = f"{value:.{places}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
