"""From queries in the user's pixels to tracks and flow in the user's pixels.

The model speaks pixels of its own, processed size with integer centres; users speak pixels of the original video with
centres at +0.5. This module is the boundary.
"""

import cv2
import numpy as np
import torch
from tqdm import tqdm

import refinement
from networks import query
from outputs.tracks_file import Tracks
from util import from_raster, to_raster


def track_queries(run, queries, method="max_weight", threshold=None, chunk=None, refine="auto"):
    """Track queries (Q, 3) of (t, y, x) through all N frames of a run -> Tracks, with a progress bar.

    Args:
        method: 'max_weight' or 'composite', see networks.query.track_points.
        threshold: occluded where the occlusion score exceeds it (default: the run's).
        chunk: rays that are computed at once, which bounds the memory (default: track_points' own).
        refine: 'on', 'off' or 'auto', see refinement.flow_at_hand.
    A point that left the frame counts as occluded; at its own query a point is exactly there, and visible.
    """
    threshold = run.occlusion_threshold if threshold is None else threshold
    size, video_size = sizes(run)
    frames = torch.as_tensor(queries[:, 0].astype(np.int64))
    pixels = from_raster(torch.as_tensor(queries[:, [2, 1]], dtype=torch.float32), size, video_size)
    with tqdm(total=len(queries) * run.model.num_frames, desc="tracking", unit="position", unit_scale=True) as bar:
        options = {"method": method, "progress": bar.update} | chunk_option(chunk)
        found = query.track_points(run.model, frames, pixels, **options)
    tracks, score, depth = (found[name].cpu().numpy() for name in ("pixels", "occlusion_score", "depth"))
    data = refinement.flow_at_hand(run, refine)
    if data is not None:
        with tqdm(total=score.size, desc="refining", unit="position", unit_scale=True) as bar:
            tracks, score = refinement.refine(data, frames.numpy(), pixels.numpy(), tracks, score, bar.update)
    positions = to_raster(torch.from_numpy(tracks), size, video_size).numpy()
    occluded = (score > threshold) | ~inside_video(positions, video_size)
    tracks = Tracks(queries, positions, occluded, score, depth, size, video_size, run.video["fps"])
    pin_queries(tracks)
    return tracks


def chunk_option(chunk):
    """Keyword arguments for networks.query: its own default stands where the user named none."""
    return {} if chunk is None else {"chunk": chunk}


def sizes(run):
    """((H, W) of the model, (H, W) of the original video)."""
    return (run.model.height, run.model.width), (run.video["original_height"], run.video["original_width"])


def inside_video(positions, video_size):
    """(...) bool: raster positions (..., 2) on the image. False for NaN."""
    x, y = positions[..., 0], positions[..., 1]
    return (x >= 0) & (x <= video_size[1]) & (y >= 0) & (y <= video_size[0])


def pin_queries(tracks):
    """In each query's own frame: exactly the query's position, visible."""
    each, frames = np.arange(len(tracks.query_points)), tracks.query_points[:, 0].astype(int)
    tracks.tracks[each, frames] = tracks.query_points[:, [2, 1]]
    tracks.occluded[each, frames] = False
    tracks.occlusion_score[each, frames] = 0


def dense_flow(run, i, j, method="max_weight", threshold=None, chunk=None):
    """Flow and visibility from frame i to frame j at the original video's size.

    Returns: flow (H, W, 2) float32 in pixels of the original video, visible (H, W) bool: not occluded and not moved
    out of the frame. Options as those of track_queries.
    """
    threshold = run.occlusion_threshold if threshold is None else threshold
    found = query.dense_flow(run.model, i, j, method=method, **chunk_option(chunk))
    flow, score = (tensor.cpu().numpy() for tensor in found)
    (height, width), (original_height, original_width) = sizes(run)
    flow = resize_map(flow, (original_height, original_width))
    flow = flow * np.float32([original_width / width, original_height / height])
    visible = resize_map(score, (original_height, original_width)) <= threshold
    y, x = np.mgrid[:original_height, :original_width] + np.float32(0.5)
    return flow, visible & inside_video(np.stack([x, y], axis=-1) + flow, (original_height, original_width))


def resize_map(values, size):
    """Resize (H, W) or (H, W, C) to `size` (H, W), corner on corner: bilinear, or averaged where it shrinks."""
    height, width = size
    if values.shape[:2] == (height, width):
        return values
    shrinks = height < values.shape[0] and width < values.shape[1]
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
