"""Where evaluated tracks come from: a file of tracks, a fitted run, or a baseline on a data directory.

A predictor has .name, .video_size (H, W) or None, and .predict(truth) -> Prediction for the truth's queries, in raster
pixels of its own video size. The truth's video size must be known by then (see with_size).
"""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import checkpoints
from evaluation import baselines
from loaders.data_dir import DataDir
from loaders.tracks_layouts import read_point_tracks
from tracking.sources import HIDDEN_ABOVE, RunSource, open_flow, track_queries
from util import UserError, pick_device

ROWS = ("model", "both", "flow")  # of a run: its model alone, refined by flow, and that flow alone
QUERY_TOLERANCE = 0.05  # pixels: queries of a file and of the truth that are this close are the same


@dataclass
class Prediction:
    tracks: np.ndarray  # (Q, N, 2) x, y, raster pixels of a video of video_size
    occluded: np.ndarray  # (Q, N)
    video_size: tuple  # (H, W)
    occlusion_score: np.ndarray | None = None  # (Q, N), infinite outside the frame


def rescale(points, size, target_size):
    """Raster points (..., 2) x, y of an image of `size` (H, W) -> of `target_size`; either may be None (the same)."""
    if size is None or target_size is None or tuple(size) == tuple(target_size):
        return points
    return points * np.array([target_size[1] / size[1], target_size[0] / size[0]])


def rescale_queries(queries, size, target_size):
    """As rescale, for queries (Q, 3) t, y, x."""
    xy = rescale(np.asarray(queries, np.float64)[:, [2, 1]], size, target_size)
    return np.column_stack([np.round(queries[:, 0]), xy[:, ::-1]]).astype(np.float32)


def with_size(truth, predictors):
    """The truth with its video's size; where it does not say, that of the first predictor that knows it."""
    sizes = [truth.video_size, *(predictor.video_size for predictor in predictors)]
    known = next((tuple(size) for size in sizes if size is not None), None)
    if known is None:
        raise UserError(f"ground truth {truth.name}: has no video_size (H, W), and nothing that is scored knows it; "
                        "add the array to the file, or give --data_dir")
    return replace(truth, video_size=known)


def check_frames(where, num_frames, truth):
    if num_frames != truth.num_frames:
        raise UserError(f"{where}: {num_frames} frames, but the ground truth {truth.name} has {truth.num_frames}")


class TracksFile:
    """Tracks in any of the layouts of loaders/tracks_layouts.py. size: (H, W) in whose pixels a file is that does not
    say so; convention: as read_point_tracks has it."""

    def __init__(self, path, size=None, convention=None):
        self.path = Path(path)
        self.name = self.path.stem
        found = read_point_tracks(self.path, convention)
        self.tracks, self.occluded, self.scores = found.positions, ~found.visible, found.scores
        self.video_size = found.video_size or size
        self.queries = None if found.queries is None else found.queries[:, [0, 2, 1]]  # t, y, x

    def predict(self, truth):
        check_frames(self.path, self.tracks.shape[1], truth)
        rows = self.rows_of(rescale_queries(truth.query_points, truth.video_size, self.video_size))
        tracks, scores, size = self.tracks[rows], None, self.video_size or truth.video_size
        if self.scores is not None:
            scores = mark_outside(self.scores[rows], tracks, size)
        return Prediction(tracks, self.occluded[rows], size, scores)

    def rows_of(self, queries):
        """The file's row (Q,) of each query (Q, 3). UserError where there is none."""
        if self.queries is None:
            if len(queries) != len(self.tracks):
                raise UserError(f"{self.path}: {len(self.tracks)} tracks, no query points, but {len(queries)} queries")
            return np.arange(len(queries))
        rows = np.empty(len(queries), int)
        for k, query in enumerate(queries):
            distance = np.abs(self.queries[:, 1:] - query[1:]).max(axis=1, initial=0)
            distance[np.round(self.queries[:, 0]) != query[0]] = np.inf
            best = distance.argmin() if len(distance) else 0
            if not len(distance) or distance[best] > QUERY_TOLERANCE:
                t, y, x = query
                raise UserError(
                    f"{self.path}: no track for the ground truth's query t={t:g} y={y:.2f} x={x:.2f}; make the file "
                    f"with track.py --queries GROUND_TRUTH.npz"
                )
            rows[k] = best
        return rows


def mark_outside(scores, tracks, video_size):
    """Occlusion scores (Q, N), infinite where the track is outside the frame: no threshold makes that visible."""
    height, width = video_size
    inside = ((tracks >= 0) & (tracks <= [width, height])).all(-1)
    return np.where(inside, scores, np.inf)


def from_tracks(tracks):
    """The Prediction in tracking.tracks_file.Tracks."""
    scores = mark_outside(tracks.occlusion_score, tracks.tracks, tracks.video_size)
    return Prediction(tracks.tracks, tracks.occluded, tracks.video_size, scores)


class RunTracks:
    """A fitted run, asked for the truth's queries."""

    def __init__(self, path, data_dir=None, device="auto", threshold=HIDDEN_ABOVE, checkpoint=None, refine="auto"):
        self.name = Path(path).name
        self.path, self.threshold, self.refine = path, threshold, refine
        self.run = checkpoints.load_run(path, checkpoint=checkpoint, data_dir=data_dir, device=pick_device(device))
        self.video_size = (self.run.video["original_height"], self.run.video["original_width"])

    def row(self, kind):
        """The predictor of one of ROWS, of the same run."""
        if kind == "flow":
            chosen = FlowTracks(self.run.flow_dir)
        else:
            chosen = copy.copy(self)
            chosen.refine = {"model": "off", "both": "on"}[kind]
        chosen.name = f"{self.name} {kind}"
        return chosen

    def track(self, truth):
        """The truth's queries as tracking.tracks_file.Tracks."""
        return track_truth(RunSource(self.run, threshold=self.threshold, refine=self.refine), truth, self.path)

    def predict(self, truth):
        return from_tracks(self.track(truth))


def track_truth(source, truth, where):
    """The truth's queries, tracked by a source (see tracking.sources), whose name is `where` -> Tracks."""
    check_frames(where, source.num_frames, truth)
    return track_queries(source, rescale_queries(truth.query_points, truth.video_size, source.video_size))


class FlowTracks:
    """Tracks of the stored flow of a data directory, without a model."""

    def __init__(self, data_dir):
        self.name, self.source = "flow", open_flow(data_dir)
        self.video_size = self.source.video_size

    def track(self, truth):
        """The truth's queries as tracking.tracks_file.Tracks."""
        return track_truth(self.source, truth, self.source.data_dir)

    def predict(self, truth):
        return from_tracks(self.track(truth))


def open_baseline(kind, data_dir=None, threshold=baselines.CYCLE_THRESHOLD):
    """The predictor of one of BASELINES. UserError for another name, or where flow is needed and there is none."""
    baselines.check_baseline(kind)
    if kind != "static" and data_dir is None:
        raise UserError(f"baseline {kind} needs the flow of a data directory: give --data_dir DIR (or --run)")
    return FlowTracks(data_dir) if kind == "flow" else Baseline(kind, data_dir, threshold)


class Baseline:
    """A baseline of evaluation.baselines on the flow of a data directory, direct where it is kept; `static` needs none.

    Make it with open_baseline.
    """

    def __init__(self, kind, data_dir=None, threshold=baselines.CYCLE_THRESHOLD):
        self.name, self.threshold = kind, threshold
        self.data = DataDir.open(data_dir) if data_dir is not None else None
        self.direct = self.data is not None and all(self.data.has("flow", i) for i in range(self.data.num_frames))
        self.video_size = (self.data.original_height, self.data.original_width) if self.data else None

    def predict(self, truth):
        size = processed = truth.video_size
        if self.data is not None:
            check_frames(self.data.path, self.data.num_frames, truth)
            size, processed = self.video_size, (self.data.height, self.data.width)
        queries = rescale_queries(truth.query_points, truth.video_size, processed)
        pixels, frames = queries[:, [2, 1]] - 0.5, queries[:, 0].astype(int)
        tracks, occluded = baselines.baseline_tracks(
            self.name, self.flow, truth.num_frames, frames, pixels, threshold=self.threshold, stored=self.stored
        )
        return Prediction(rescale(tracks + 0.5, processed, size), occluded, size)

    def flow(self, i, j):
        return self.data.flow(i, j, direct=self.direct)

    def stored(self, i, j):
        return j in self.data.partners(i)
