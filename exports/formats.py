"""The formats that tracks can be written in, and read from: one row each, by name and by suffix."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from exports import (
    after_effects,
    blender,
    cvat,
    deeplabcut,
    dltdv,
    fusion,
    napari,
    natron,
    nuke,
    rerun_file,
    sleap,
    three_de,
)
from exports.options import Options, check_names, default_names, written
from loaders.tracks_layouts import read_point_tracks
from tracking import tracks_file
from tracking.tracks_file import select
from util import UserError, atomic_path, needs_extra


@dataclass(frozen=True)
class Format:
    """A format of tracks.

    write: (path, Tracks, Options) -> None, whole or not at all. read: (path, Video) -> Tracks, names or None.
    first_frame: the number of frame 0; None where the program does not take another one than it has. says_hidden: the
    format marks what is hidden, so that every position is written. fits: points that the program handles with ease.
    exactly: the number of points that it takes. extra: module that writes it, and the extra that has that.
    """

    program: str
    suffix: str
    write: Callable
    read: Callable | None = None
    first_frame: int | None = None
    says_hidden: bool = False
    has_names: bool = True
    needs_fps: bool = False
    fits: int | None = None
    exactly: int | None = None
    extra: tuple[str, str] | None = None


def whole(content):
    """A writer of the text or bytes that content(tracks, options) gives."""

    def write(path, tracks, options):
        data = content(tracks, options)
        with atomic_path(path) as temporary:
            temporary.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))

    return write


def own(write):
    """A writer of tracks_file, which needs no options."""
    return lambda path, tracks, options: write(path, tracks)


def read_csv(path, video):
    return tracks_file.read_csv(path, video.size_for(path), video.num_frames, video.fps), None


def read_cotracker(path, video):
    """Tracks in CoTracker's layout, or another of loaders.tracks_layouts."""
    stored = read_point_tracks(path)
    size, hidden = video.size_for(path, stored.video_size), ~stored.visible
    tracks = tracks_file.from_positions(stored.positions, hidden, hidden.astype(float), size, stored.fps or video.fps)
    if stored.queries is not None and len(tracks.tracks) == len(stored.queries):
        tracks.query_points = stored.queries[:, [0, 2, 1]].astype(np.float32)
    return tracks, None


OURS = {"says_hidden": True, "has_names": False}
FORMATS = {
    "npz": Format("this program", ".npz", own(tracks_file.write_tracks),
                  lambda path, video: (tracks_file.read_tracks(path), None), needs_fps=True, **OURS),
    "csv": Format("spreadsheets", ".csv", own(tracks_file.write_csv), read_csv, **OURS),
    "cotracker": Format("CoTracker's arrays", ".npz", own(tracks_file.write_cotracker),
                        read_cotracker, needs_fps=True, **OURS),
    "nuke": Format("Nuke, Tracker4", ".nk", whole(nuke.tracker), first_frame=1, fits=500),
    "nuke_corner_pin": Format("Nuke, CornerPin2D", ".nk", whole(nuke.corner_pin), first_frame=1, has_names=False,
                              exactly=4),
    "ae": Format("After Effects, keyframes to paste", ".txt", whole(after_effects.keyframes), first_frame=0,
                 has_names=False, needs_fps=True, fits=100),
    "ae_corner_pin": Format("After Effects, corner pin to paste", ".txt", whole(after_effects.corner_pin),
                            first_frame=0, has_names=False, needs_fps=True, exactly=4),
    "ae_script": Format("After Effects, a null for each point", ".jsx", whole(after_effects.script), first_frame=0,
                        needs_fps=True, fits=500),
    "blender": Format("Blender, script", ".py", whole(blender.write), fits=2000),
    "3de": Format("3DEqualizer", ".txt", whole(three_de.write), three_de.read),
    "fusion": Format("Fusion, Tracker", ".setting", whole(fusion.write), first_frame=0, fits=200),
    "natron": Format("Natron, script", ".py", whole(natron.write), first_frame=1, fits=500),
    "dlc": Format("DeepLabCut, csv", ".csv", whole(deeplabcut.write_csv), deeplabcut.read_csv),
    "dlc_h5": Format("DeepLabCut, h5", ".h5", whole(deeplabcut.write_h5), extra=("tables", "dlc")),
    "sleap": Format("SLEAP, analysis csv", ".csv", whole(sleap.write)),
    "dltdv": Format("DLTdv8, xypts", ".csv", whole(dltdv.write), dltdv.read, has_names=False),
    "cvat": Format("CVAT for video", ".xml", whole(cvat.write), cvat.read, says_hidden=True),
    "napari": Format("napari, tracks", ".csv", whole(napari.write), has_names=False),
    "rerun": Format("Rerun", ".rrd", whole(rerun_file.write), says_hidden=True, extra=("rerun", "rerun")),
}
READABLE = [name for name, format in FORMATS.items() if format.read]
PLAIN = {".npz": "npz", ".csv": "csv", ".nk": "nuke"}  # what these suffixes mean, though other formats have them too
WHOSE_NAMES = "names of the points (--names gives others)"
SUFFIXES = dict.fromkeys(format.suffix for format in FORMATS.values())


def format_of(path, name, option, among=tuple(FORMATS)):
    """The name of the format that `option` gives, or else the suffix of `path`. UserError: none, or they contradict."""
    suffix = path.suffix.lower()
    if name is not None:
        if FORMATS[name].suffix != suffix:
            raise UserError(f"{option} {name} and {path} contradict each other: expected a file ending in "
                            f"{FORMATS[name].suffix}")
        return name
    named = [name for name in among if FORMATS[name].suffix == suffix]
    if PLAIN.get(suffix) in named or len(named) == 1:
        return PLAIN.get(suffix, named[0])
    if named:
        raise UserError(f"{path}: {suffix} may be {' or '.join(named)}: say which by {option}")
    suffixes = dict.fromkeys(FORMATS[name].suffix for name in among)
    raise UserError(f"{path}: no format of {option} has this suffix: expected one of {', '.join(suffixes)}")


def read(path, name, video):
    """(Tracks, names or None) of a file in the format `name`. UserError when it is missing or not such a file."""
    try:
        return FORMATS[name].read(path, video)
    except OSError as error:
        raise UserError(f"{path}: not readable as {name} ({error})") from None
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from None


def check_format(name, count):
    """A line on more points than the program is made for, or None.

    UserError for a number of points that the format cannot take, or when its extra is not installed.
    """
    format = FORMATS[name]
    if format.extra:
        needs_extra(f"{name} ({format.program})", *format.extra)
    if format.exactly and count != format.exactly:
        raise UserError(f"{name} takes exactly {format.exactly} points, not {count}")
    if format.fits and count > format.fits:
        return (f"warning: {count:,} points are more than {format.program.split(',')[0]} handles with ease; "
                f"--limit {format.fits} of export.py takes that many, evenly spaced")
    return None


def export(path, name, tracks, names=None, first_frame=None, keep_hidden=False):
    """Write Tracks in the format `name` -> rows (Q,) bool of the points that are written: what has no position is not.

    UserError when none has one, or names or number of points do not fit.
    """
    format, count = FORMATS[name], len(tracks.tracks)
    options = Options(
        names=check_names(names, count, WHOSE_NAMES) if names and format.has_names else default_names(count),
        first_frame=(format.first_frame or 0) if first_frame is None else first_frame,
        keep_hidden=keep_hidden or format.says_hidden, named=bool(names))
    some = written(tracks, options).any(axis=1)
    if not some.any():
        raise UserError("no point is ever visible: nothing to write")
    check_format(name, int(some.sum()))
    format.write(path, select(tracks, some), replace(options, names=tuple(compress(options.names, some))))
    return some
