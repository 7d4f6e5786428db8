"""From queries in the user's pixels to tracks and flow in the user's pixels.

Inside, pixels are of the processed size with integer centres; users speak pixels of the original video with centres at
+0.5. This module is the boundary. Tracks come from a source: a fitted run (RunSource), or the stored flow of a data
directory with no model at all (FlowSource).
"""

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from tqdm import tqdm

from loaders.data_dir import DataDir
from loaders.layer_pixels import layer_masks
from networks import query
from tracking import pins, refinement
from tracking.tracks_file import Tracks
from util import UserError, from_raster, inside_video, pixel_grid, to_raster

HIDDEN_ABOVE = 0.5  # occlusion score: what all sources mean by theirs
DENSE_CHUNK = 2**16  # pixels of dense flow that are walked at once, which bounds the memory


class Source(Protocol):
    """What tracks can come from. All pixels are of the processed size, with integer centres."""

    run: object  # the fitted run, or None
    num_frames: int
    size: tuple[int, int]  # (H, W) processed
    video_size: tuple[int, int]  # (H, W) of the original video
    fps: float
    data_dir: str
    pins: list  # [loaders.pins.Pin] that its tracks obey
    threshold: float  # occluded where the score exceeds it

    def track(self, frames, pixels):
        """Pixels (Q, 2) of frames (Q,), numpy -> tracks (Q, N, 2), occlusion scores (Q, N), depth (Q, N)."""

    def flow(self, i, j):
        """Flow (H, W, 2) of frame i to frame j, and occlusion score (H, W)."""


@dataclass
class RunSource:
    """A fitted run, its tracks sharpened by flow or not, and corrected by what was pinned (see tracking.pins).

    method: 'max_weight' or 'composite', see networks.query.track_points. chunk: rays that
    are computed at once, which bounds the memory (None: track_points' own). refine: see refinement.flow_at_hand.
    """

    run: object
    method: str = "max_weight"
    threshold: float = HIDDEN_ABOVE
    chunk: int | None = None
    refine: str = "auto"
    known: tuple | None = None  # see pinned
    masks: np.ndarray | None = None  # see of_layer

    def __post_init__(self):
        model, video = self.run.model, self.run.video
        self.num_frames, self.size, self.fps = model.num_frames, (model.height, model.width), video["fps"]
        self.video_size, self.data_dir = (video["original_height"], video["original_width"]), self.run.data_dir
        self.pins = self.run.pins

    def pinned(self):
        """Images that tell what goes along with a pin, the pinned tracks (K, N, 2) and their scores (K, N).

        UserError when the data directory is gone, or of another video.
        """
        if self.known is None:
            data = DataDir.open(self.data_dir)
            data.check_same_video(self.run.video)
            images = pins.smoothed(data.frame(i) for i in range(self.num_frames))
            anchors = pins.anchors_of(self.pins, self.size, self.video_size)
            self.known = images, *pins.known_tracks(self.follow, anchors)
        return self.known

    def track(self, frames, pixels):
        if not self.pins:
            return self.follow(frames, pixels)
        images, *known = self.pinned()
        return pins.correct(self.follow, images, *known, frames, pixels)

    def follow(self, frames, pixels):
        """track, without pins."""
        with progress_bar("tracking", len(frames) * self.num_frames) as bar:
            options = {"method": self.method, "progress": bar.update} | chunk_option(self.chunk)
            found = query.track_points(self.run.model, torch.from_numpy(frames), torch.from_numpy(pixels), **options)
        tracks, score, depth = (found[name].cpu().numpy() for name in ("pixels", "occlusion_score", "depth"))
        data = refinement.flow_at_hand(self.run, self.refine)
        if data is not None:
            ours = np.ones(len(frames), bool)  # what the model knows of
            if self.run.layer >= 0:
                ours = self.of_layer()[(frames, *refinement.nearest_pixels(pixels, self.size))]
            with progress_bar("refining", score.size) as bar:
                tracks[ours], score[ours] = refinement.refine(data, frames[ours], pixels[ours], tracks[ours],
                                                              score[ours], progress=bar.update)
                if not ours.all():  # it reads the flow anew
                    tracks[~ours], score[~ours] = refinement.flow_tracks(data, frames[~ours], pixels[~ours], bar.update)
            depth[~ours] = np.nan
        return tracks, score, depth

    def of_layer(self):
        """bool (N, H, W): the pixels of the layer that the run was fitted to alone, or None if to all there is.

        UserError when the data directory, which knows them, is gone, or of another video.
        """
        if self.masks is None and self.run.layer >= 0:
            data = DataDir.open(self.data_dir)
            data.check_same_video(self.run.video)
            self.masks = layer_masks(data, self.run.layer)
        return self.masks

    def flow(self, i, j):
        options = {"method": self.method} | chunk_option(self.chunk)
        found = query.dense_flow(self.run.model, i, j, **options)
        flow, score = (tensor.cpu().numpy() for tensor in found)
        beside = None  # (H, W) bool: what the model knows nothing of
        if self.run.layer >= 0 and (data := refinement.flow_at_hand(self.run, self.refine)):
            beside = ~self.of_layer()[i]
            y, x = beside.nonzero()
            flow[y, x], score[y, x] = flow_of_pixels(data, i, j, np.stack([x, y], axis=-1).astype(np.float32))
        if not self.pins:
            return flow, score
        images, *known = self.pinned()
        tracks, scores = (values[:, [i, j]] for values in known)
        starts = torch.full((len(tracks),), i), torch.from_numpy(tracks[:, 0])
        found = query.track_points(self.run.model, *starts, [i, j], **options)
        led, led_scores = (found[name].cpu().numpy() for name in ("pixels", "occlusion_score"))
        if beside is not None:
            rows = beside[refinement.nearest_pixels(tracks[:, 0], self.size)]
            ends, hidden = flow_of_pixels(data, i, j, tracks[rows, 0])
            led[rows], led_scores[rows] = np.stack([tracks[rows, 0], tracks[rows, 0] + ends], axis=1), hidden[:, None]
        return pins.correct_flow([images[i], images[j]], flow, score, tracks, scores, led, led_scores)


class FlowSource:
    """The stored flow of a data directory. Depth is unknown: NaN."""

    run, pins = None, []

    def __init__(self, data, threshold=HIDDEN_ABOVE):
        self.data, self.threshold = data, threshold
        self.num_frames, self.size, self.fps = data.num_frames, (data.height, data.width), data.fps
        self.video_size, self.data_dir = (data.original_height, data.original_width), str(data.path)

    def track(self, frames, pixels):
        with progress_bar("tracking", len(frames) * self.num_frames) as bar:
            tracks, score = refinement.flow_tracks(self.data, frames, pixels, bar.update)
        return tracks, score, np.full(score.shape, np.nan, np.float32)

    def flow(self, i, j):
        flow, score = flow_of_pixels(self.data, i, j, pixel_grid(*self.size).reshape(-1, 2).numpy())
        return flow.reshape(*self.size, 2), score.reshape(self.size)


def flow_of_pixels(data, i, j, pixels):
    """By stored flow alone: the flow (n, 2) of pixels (n, 2) of frame i to frame j, and their occlusion scores (n,)."""
    window = range(min(i, j), max(i, j) + 1)
    flow, score = np.zeros((len(pixels), 2), np.float32), np.zeros(len(pixels), np.float32)
    for start in range(0, len(pixels), DENSE_CHUNK):
        part = slice(start, start + DENSE_CHUNK)
        tracks, scores = refinement.flow_tracks(data, np.full(len(pixels[part]), i), pixels[part], window=window)
        flow[part], score[part] = tracks[:, j - window.start] - pixels[part], scores[:, j - window.start]
    return flow, score


def check_threshold(threshold):
    """UserError unless it is one of occlusion scores, which are from 0 to 1."""
    if not 0 <= threshold <= 1:  # so put, it refuses NaN too
        raise UserError(f"--occlusion_th {threshold:g}: expected a number from 0 to 1")


def progress_bar(what, positions):
    return tqdm(total=positions, desc=what, unit="position", unit_scale=True, delay=0.5)  # s: what is quick shows none


def needs_run(source, what):
    """UserError when the source has no fitted model, without which there is no `what`."""
    if source.run is None:
        raise UserError(f"{what} needs a fitted model: give --run DIR (--data_dir alone gives tracks and flow)")


def open_flow(data_dir, threshold=HIDDEN_ABOVE):
    """The FlowSource of a data directory. UserError when there is none."""
    return FlowSource(DataDir.open(data_dir), threshold)


def track_queries(source, queries):
    """Track queries (Q, 3) of (t, y, x) through all N frames of a source -> Tracks, with a progress bar.

    A point that left the frame counts as occluded; at its own query a point is exactly there, and visible.
    """
    size, video_size = source.size, source.video_size
    frames = queries[:, 0].astype(np.int64)
    pixels = from_raster(torch.as_tensor(queries[:, [2, 1]], dtype=torch.float32), size, video_size).numpy()
    tracks, score, depth = source.track(frames, pixels)
    positions = to_raster(torch.from_numpy(tracks), size, video_size).numpy()
    occluded = (score > source.threshold) | ~inside_video(positions, video_size)
    tracks = Tracks(queries, positions, occluded, occlusion_score=score, depth=depth, frame_size=size,
                    video_size=video_size, fps=source.fps)
    fix_queries(tracks)
    return tracks


def chunk_option(chunk):
    """Keyword arguments for networks.query: its own default stands where the user named none."""
    return {} if chunk is None else {"chunk": chunk}


def fix_queries(tracks):
    """In each query's own frame: exactly the query's position, visible."""
    each, frames = np.arange(len(tracks.query_points)), tracks.query_points[:, 0].astype(int)
    tracks.tracks[each, frames] = tracks.query_points[:, [2, 1]]
    tracks.occluded[each, frames] = False
    tracks.occlusion_score[each, frames] = 0


def dense_flow(source, i, j):
    """Flow and visibility from frame i to frame j of a source at the original video's size.

    Returns: flow (H, W, 2) float32 in pixels of the original video, visible (H, W) bool: not occluded and not moved
    out of the frame.
    """
    flow, score = source.flow(i, j)
    (height, width), (original_height, original_width) = source.size, source.video_size
    flow = resize_map(flow, source.video_size)
    flow = flow * np.float32([original_width / width, original_height / height])
    visible = resize_map(score, source.video_size) <= source.threshold
    y, x = np.mgrid[:original_height, :original_width] + np.float32(0.5)
    return flow, visible & inside_video(np.stack([x, y], axis=-1) + flow, source.video_size)


def resize_map(values, size):
    """Resize (H, W) or (H, W, C) to `size` (H, W), corner on corner: bilinear, or averaged where it shrinks."""
    height, width = size
    if values.shape[:2] == (height, width):
        return values
    shrinks = height < values.shape[0] and width < values.shape[1]
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
