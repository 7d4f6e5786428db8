"""The tracks file: the one place that knows its format, for its writer and all its readers.

tracks.npz holds, for Q queries in a video of N frames:
  query_points (Q, 3) float32     t, y, x: frame number from 0, position in that frame
  tracks (Q, N, 2) float32        x, y in every frame
  occluded (Q, N) bool            hidden behind something, or outside the frame
  occlusion_score (Q, N) float32  in [0, 1]: above 0.5 the point is hidden, whatever made the tracks
  depth (Q, N) float32            pseudo-depth of the point, near 0, far 2; no metric unit; NaN of flow alone
  frame_size (2,) int32           H, W that the model was fitted at
  video_size (2,) int32           H, W of the original video, in whose pixels all positions are
  fps () float32                  frames per second
  convention () str               this, in words
"""

import csv
import io
from dataclasses import dataclass

import numpy as np

from files import UserError, check_arrays, load_npz, size_in, write_file, write_npz

CONVENTION = (
    "Positions are in pixels of the ORIGINAL video (video_size = height, width) with pixel centres at +0.5, the raster "
    "of TAP-Vid: (0, 0) is the outer corner of the top left pixel. query_points are t, y, x; tracks are x, y."
)
COTRACKER_CONVENTION = (
    "CoTracker's layout: tracks (1, N, Q, 2) x, y in pixels of the ORIGINAL video with INTEGER pixel centres (the "
    "centre of the top left pixel is (0, 0)); visibility (1, N, Q) bool; queries (Q, 3) t, x, y."
)
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


def write_tracks(path, tracks):
    """Write `tracks` to an .npz file, whole or not at all."""
    arrays = {
        "query_points": tracks.query_points.astype(np.float32),
        "tracks": tracks.tracks.astype(np.float32),
        "occluded": tracks.occluded.astype(bool),
        "occlusion_score": tracks.occlusion_score.astype(np.float32),
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
    """Write `tracks` as a table, a row per query and frame, for spreadsheets and scripts in any language."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["query", "frame", "x", "y", "visible", "occlusion_score", "depth"])
    for query in range(len(tracks.tracks)):
        for frame, (x, y) in enumerate(tracks.tracks[query]):
            score, depth = tracks.occlusion_score[query, frame], tracks.depth[query, frame]
            visible = int(not tracks.occluded[query, frame])
            writer.writerow([query, frame, f"{x:.3f}", f"{y:.3f}", visible, f"{score:.4f}", f"{depth:.5f}"])
    write_file(path, text.getvalue().encode())


WRITERS = {"npz": write_tracks, "cotracker": write_cotracker, "csv": write_csv}
