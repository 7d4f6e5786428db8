"""The tracks file: the one place that knows its format, for its writer and all its readers.

tracks.npz holds, for Q queries in a video of N frames:
  query_points (Q, 3) float32     t, y, x: frame number from 0, position in that frame
  tracks (Q, N, 2) float32        x, y in every frame
  occluded (Q, N) bool            hidden behind something, or outside the frame
  occlusion_score (Q, N) float32  in [0, 1]: above 0.5 the point is hidden, whatever made the tracks
  visibility (Q, N) uint8         why it is not seen (VISIBILITY): 0 visible, 1 occluded, 2 outside the frame, 3
                                  uncertain. It follows from the arrays above, so that readers here compute it and files
                                  from before it was written are read as well
  depth (Q, N) float32            pseudo-depth of the point, near 0, far 2; no metric unit; NaN of flow alone
  frame_size (2,) int32           H, W that the model was fitted at
  video_size (2,) int32           H, W of the original video, in whose pixels all positions are
  fps () float32                  frames per second
  convention () str               this, in words
"""

import csv
import io
import math
from dataclasses import dataclass, replace

import numpy as np

from files import UserError, check_arrays, load_npz, read_columns, size_in, write_file, write_npz
from util import inside_video

CONVENTION = (
    "Positions are in pixels of the ORIGINAL video (video_size = height, width) with pixel centres at +0.5, the raster "
    "of TAP-Vid: (0, 0) is the outer corner of the top left pixel. query_points are t, y, x; tracks are x, y."
)
COTRACKER_CONVENTION = (
    "CoTracker's layout: tracks (1, N, Q, 2) x, y in pixels of the ORIGINAL video with INTEGER pixel centres (the "
    "centre of the top left pixel is (0, 0)); visibility (1, N, Q) bool; queries (Q, 3) t, x, y."
)
VISIBILITY = ("visible", "occluded", "outside", "uncertain")  # the words of the codes 0 to 3
UNCERTAIN = 1 / 3, 2 / 3  # occlusion scores between which neither hidden nor visible is twice as likely as the other
CSV_COLUMNS = ("query", "frame", "x", "y", "visible", "occlusion_score", "depth", "visibility")
SHAPES = {"tracks": "QN2", "query_points": "Q3", "occluded": "QN", "occlusion_score": "QN", "depth": "QN"}


@dataclass
class Tracks:
    """Trajectories of Q points over N frames; the fields are those of the file (see the module's docstring)."""

    query_points: np.ndarray
    tracks: np.ndarray
    occluded: np.ndarray
    occlusion_score: np.ndarray
    depth: np.ndarray
    frame_size: tuple[int, int]
    video_size: tuple[int, int]
    fps: float

    @property
    def visibility(self):
        """(Q, N) uint8 codes: what VISIBILITY names. Uncertain is also where there is no position (NaN)."""
        unknown = np.isnan(self.tracks).any(axis=-1)
        outside = self.occluded & ~inside_video(self.tracks, self.video_size)
        doubted = (self.occlusion_score >= UNCERTAIN[0]) & (self.occlusion_score <= UNCERTAIN[1])
        return np.select([unknown, outside, doubted, self.occluded], [3, 2, 3, 1], 0).astype(np.uint8)


def select(tracks, which):
    """The Tracks of some of the points."""
    return replace(tracks, **{name: getattr(tracks, name)[which] for name in SHAPES})


def from_positions(positions, occluded, score, video_size, fps, depth=None):
    """Tracks of what another program stored: positions (Q, N, 2), hidden where they are `occluded` or NaN.

    Each point's query is where it is surest to be seen (the lowest score (Q, N)), at the first such frame.
    Points that are never seen are left out. UserError when none is seen.
    """
    occluded = occluded | np.isnan(positions).any(axis=-1)
    score = np.where(np.isnan(score), 1, score)
    seen = ~occluded.all(axis=1)
    if not seen.any():
        raise UserError("no point in it is ever visible")
    frames = np.where(occluded, np.inf, score).argmin(axis=1)
    starts = np.take_along_axis(positions, frames[:, None, None], axis=1)[:, 0]
    queries = np.column_stack([frames, starts[:, 1], starts[:, 0]])
    depth = np.full(score.shape, np.nan) if depth is None else depth
    arrays = (array.astype(np.float32) for array in (queries, positions))
    tracks = Tracks(*arrays, occluded, score.astype(np.float32), depth.astype(np.float32), video_size, video_size, fps)
    return select(tracks, seen)


def write_tracks(path, tracks):
    """Write `tracks` to an .npz file, whole or not at all."""
    arrays = {
        "query_points": tracks.query_points.astype(np.float32),
        "tracks": tracks.tracks.astype(np.float32),
        "occluded": tracks.occluded.astype(bool),
        "occlusion_score": tracks.occlusion_score.astype(np.float32),
        "visibility": tracks.visibility,
        "depth": tracks.depth.astype(np.float32),
        "frame_size": np.array(tracks.frame_size, np.int32),
        "video_size": np.array(tracks.video_size, np.int32),
        "fps": np.float32(tracks.fps),
        "convention": np.array(CONVENTION),
    }
    write_npz(path, **arrays)


def read_tracks(path):
    """Read a file of write_tracks. UserError if it is missing, unreadable, or not such a file."""
    arrays = load_npz(path)
    missing = [name for name in Tracks.__dataclass_fields__ if name not in arrays]
    if missing:
        raise UserError(f"{path}: not a tracks file of track.py: it has no {', '.join(missing)}")
    check_arrays(path, arrays, SHAPES | {"fps": ""})
    return Tracks(
        **{name: arrays[name] for name in SHAPES},
        frame_size=size_in(path, arrays, "frame_size"),
        video_size=size_in(path, arrays),
        fps=float(arrays["fps"]),
    )


def write_cotracker(path, tracks):
    """Write `tracks` as CoTracker's arrays: tracks (1, N, Q, 2), visibility (1, N, Q), integer pixel centres."""
    queries = tracks.query_points.astype(np.float32)
    write_npz(
        path,
        tracks=tracks.tracks.transpose(1, 0, 2)[None].astype(np.float32) - 0.5,
        visibility=~tracks.occluded.T[None].astype(bool),
        queries=np.concatenate([queries[:, :1], queries[:, [2, 1]] - 0.5], axis=1),
        video_size=np.array(tracks.video_size, np.int32),
        fps=np.float32(tracks.fps),
        convention=np.array(COTRACKER_CONVENTION),
    )


def write_csv(path, tracks):
    """Write `tracks` as a table, a row per query and frame, for spreadsheets and scripts in any language.

    Nine digits give each float32 back; visibility is a word of VISIBILITY.
    """
    text, words = io.StringIO(), np.array(VISIBILITY)[tracks.visibility]
    writer = csv.writer(text)
    writer.writerow(CSV_COLUMNS)
    for query in range(len(tracks.tracks)):
        for frame, (x, y) in enumerate(tracks.tracks[query]):
            numbers = (x, y, tracks.occlusion_score[query, frame], tracks.depth[query, frame])
            x, y, score, depth = (f"{number:.9g}" for number in numbers)
            visible = int(not tracks.occluded[query, frame])
            writer.writerow([query, frame, x, y, visible, score, depth, words[query, frame]])
    write_file(path, text.getvalue().encode())


def read_csv(path, video_size, num_frames, fps):
    """Read a table with at least the columns query, frame, x, y of CSV_COLUMNS; rows that are missing are hidden.

    num_frames: None for as many as there are rows of. UserError: not such a table, or a row that is not numbers.
    """
    values = read_columns(path, CSV_COLUMNS[:4], optional=CSV_COLUMNS[4:7])
    numbers = np.concatenate([values["query"], values["frame"]])
    if not len(numbers) or not ((numbers >= 0) & (numbers % 1 == 0)).all():
        raise UserError(f"{path}: expected rows with whole numbers from 0 in query and frame")
    index, num_frames = row_index(path, values["query"], values["frame"], num_frames)
    shape = index[0].max() + 1, num_frames
    check_extent(path, shape, len(index[0]))
    positions, score, depth = np.full((*shape, 2), np.nan), np.ones(shape), np.full(shape, np.nan)
    occluded = np.ones(shape, bool)
    positions[index] = np.column_stack([values["x"], values["y"]])
    occluded[index] = values.get("visible", np.ones(len(index[0]))) == 0
    score[index] = values.get("occlusion_score", occluded[index].astype(float))
    depth[index] = values.get("depth", np.nan)
    return from_positions(positions, occluded, score, video_size, fps, depth)


def check_extent(path, shape, rows):
    """UserError where a table of so many rows speaks of more positions (Q, N) than it can be meant to."""
    if math.prod(map(int, shape)) > max(2**22, 1000 * rows):
        raise UserError(f"{path}: {rows} rows, but points and frames up to {shape[0]} x {shape[1]}; expected a row for "
                        "most points and frames")


def row_index(path, points, frames, num_frames):
    """((rows of points, frames), N) of a table's columns; points in the order of their first rows."""
    found = int(frames.max()) + 1
    if num_frames is not None and found > num_frames:
        raise UserError(f"{path}: has frame {found - 1}, expected frames 0 to {num_frames - 1}")
    first = dict.fromkeys(points.tolist())
    order = {name: row for row, name in enumerate(first)}
    rows = np.array([order[name] for name in points.tolist()])
    return (rows, frames.astype(int)), num_frames or found
