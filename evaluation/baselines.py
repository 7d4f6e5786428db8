"""Tracks straight from optical flow, without a model: the floor that a model must beat.

raft-d  Direct: flow from the query's frame to every other frame. Hidden where the forward-backward error
        |f(p) + b(p + f(p))| exceeds the threshold, or the point leaves the frame.
raft-c  Chained: flow from frame to frame. The forward-backward check is made at each step; a chain that has failed it,
        or has left the frame, is hidden from there on, because what it follows then is something else.
static  The point stays where it was asked for, always visible.

The names are the paper's; the flow is whatever the data directory holds. Conventions: pixels (x, y) with integer
centres at the processed size; `flow(i, j)` returns float32 (H, W, 2). Q queries, N frames.
"""

import numpy as np
import torch

from util import UserError, inside_image, sample_at_pixels

BASELINES = ("raft-d", "raft-c", "static")
CYCLE_THRESHOLD = 3.0  # processed pixels: the one that filters the flow for training


def sample_flow(flow, pixels):
    """Flow (H, W, 2) at pixels (n, 2), bilinear; beyond the border as at the border."""
    maps = torch.from_numpy(np.ascontiguousarray(flow)).permute(2, 0, 1)[None]
    return sample_at_pixels(maps, pixels[None], padding="border")[0]


def step(flow, source, target, pixels, threshold):
    """Move pixels (n, 2) from frame `source` to `target` -> pixels there, whether the flow is trusted (n,)."""
    forward = flow(source, target)
    moved = pixels + sample_flow(forward, pixels)
    back = moved + sample_flow(flow(target, source), moved)
    trusted = (back - pixels).norm(dim=-1) <= threshold
    return moved, trusted & inside_image(moved, *forward.shape[:2], margin=0.5)


def direct_tracks(flow, num_frames, frame, pixels, threshold):
    """Tracks (n, N, 2) and occluded (n, N) of pixels (n, 2) of one frame, each frame reached in one step."""
    tracks, visible = start(pixels, num_frames)
    for target in range(num_frames):
        if target != frame:
            tracks[:, target], visible[:, target] = step(flow, frame, target, pixels, threshold)
    return tracks, ~visible


def chained_tracks(flow, num_frames, frame, pixels, threshold):
    """As direct_tracks, walking from frame to frame in both directions."""
    tracks, visible = start(pixels, num_frames)
    for direction, end in ((1, num_frames), (-1, -1)):
        for target in range(frame + direction, end, direction):
            source = target - direction
            tracks[:, target], trusted = step(flow, source, target, tracks[:, source], threshold)
            visible[:, target] = visible[:, source] & trusted
    return tracks, ~visible


def static_tracks(_flow, num_frames, _frame, pixels, _threshold):
    tracks, visible = start(pixels, num_frames)
    return tracks, ~visible


def start(pixels, num_frames):
    """Every frame holds the query's pixels, visible."""
    return pixels[:, None].repeat(1, num_frames, 1), torch.ones(len(pixels), num_frames, dtype=torch.bool)


METHODS = {"raft-d": direct_tracks, "raft-c": chained_tracks, "static": static_tracks}


def baseline_tracks(kind, flow, num_frames, frames, pixels, threshold=CYCLE_THRESHOLD):
    """Tracks float32 (Q, N, 2) and occluded (Q, N) of pixels (Q, 2) of frames (Q,), numpy arrays."""
    if kind not in METHODS:
        raise UserError(f"baseline {kind!r}: expected one of {', '.join(BASELINES)}")
    tracks = np.empty((len(pixels), num_frames, 2), np.float32)
    occluded = np.empty((len(pixels), num_frames), bool)
    for frame in np.unique(frames):
        rows = frames == frame
        start_pixels = torch.from_numpy(np.asarray(pixels[rows], np.float32))
        found = METHODS[kind](flow, num_frames, int(frame), start_pixels, threshold)
        tracks[rows], occluded[rows] = (tensor.numpy() for tensor in found)
    return tracks, occluded
