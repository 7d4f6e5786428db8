"""Tracks straight from optical flow, without a model: the floor that a model must beat.

flow     The walk of refinement.flow_tracks over all stored pairs (not in this module).
direct   Flow from the query's frame to every other frame. Hidden where the forward-backward error
         |f(p) + b(p + f(p))| exceeds the threshold, or the point leaves the frame.
chained  Flow from frame to frame. The forward-backward check is made at each step; a chain that has failed it, or has
         left the frame, is hidden from there on, because what it follows then is something else.
mft      The choice of MFT (Neoral et al., WACV 2024): each frame is reached directly from the query, and from the
         frames 1, 2, 4, ... 32 before it; of these chains the one of least variance that no hop has lost.
static   The point stays where it was asked for, always visible.

The flow is whatever the data directory holds. Conventions: pixels (x, y) with integer centres at the processed size;
`flow(i, j)` returns float32 (H, W, 2), `stored(i, j)` says whether there is one. Q queries, N frames.
"""

import numpy as np
import torch

from util import UserError, inside_image, sample_at_pixels

BASELINES = ("flow", "direct", "chained", "mft", "static")
CYCLE_THRESHOLD = 3.0  # processed pixels: the one that filters the flow for training
MFT_STEPS = (1, 2, 4, 8, 16, 32)  # frames; those of the paper, beside the step straight from the query
HOP_VARIANCE = 0.1**2  # pixels squared: of a hop whose flow there and back agree exactly


def sample_flow(flow, pixels):
    """Flow (H, W, 2) at pixels (n, 2), bilinear; beyond the border as at the border."""
    maps = torch.from_numpy(np.ascontiguousarray(flow)).permute(2, 0, 1)[None]
    return sample_at_pixels(maps, pixels[None], padding="border")[0]


def hop(flow, source, target, pixels):
    """Pixels (n, 2) of frame `source` in `target`, their forward-backward error (n,), and whether inside (n,)."""
    forward = flow(source, target)
    moved = pixels + sample_flow(forward, pixels)
    back = moved + sample_flow(flow(target, source), moved)
    return moved, (back - pixels).norm(dim=-1), inside_image(moved, *forward.shape[:2], margin=0.5)


def step(flow, source, target, pixels, threshold):
    """Move pixels (n, 2) from frame `source` to `target` -> pixels there, whether the flow is trusted (n,)."""
    moved, error, inside = hop(flow, source, target, pixels)
    return moved, (error <= threshold) & inside


def direct_tracks(flow, num_frames, frame, pixels, threshold, _stored):
    """Tracks (n, N, 2) and occluded (n, N) of pixels (n, 2) of one frame, each frame reached in one step."""
    tracks, visible = start(pixels, num_frames)
    for target in range(num_frames):
        if target != frame:
            tracks[:, target], visible[:, target] = step(flow, frame, target, pixels, threshold)
    return tracks, ~visible


def chained_tracks(flow, num_frames, frame, pixels, threshold, _stored):
    """As direct_tracks, walking from frame to frame in both directions."""
    tracks, visible = start(pixels, num_frames)
    for direction, end in ((1, num_frames), (-1, -1)):
        for target in range(frame + direction, end, direction):
            source = target - direction
            tracks[:, target], trusted = step(flow, source, target, tracks[:, source], threshold)
            visible[:, target] = visible[:, source] & trusted
    return tracks, ~visible


def mft_tracks(flow, num_frames, frame, pixels, threshold, stored):
    """As direct_tracks: every frame by the best of the chains that reach it. A pair that is not stored makes none.

    A hop's variance is its squared forward-backward error and a constant; a chain's the sum of its hops'. Where all
    chains are lost, or there is none: the one of least variance, or where the frame before has the point; hidden.
    """
    tracks, visible = start(pixels, num_frames)
    variance = torch.zeros(len(pixels), num_frames)
    for direction, end in ((1, num_frames), (-1, -1)):
        for target in range(frame + direction, end, direction):
            sources = mft_sources(frame, target, direction, stored)
            if not sources:
                tracks[:, target], visible[:, target] = tracks[:, target - direction], False
                variance[:, target] = torch.inf
                continue
            chains = []
            for source in sources:
                moved, error, inside = hop(flow, source, target, tracks[:, source])
                total = variance[:, source] + error**2 + HOP_VARIANCE
                chains.append((moved, total, visible[:, source] & (error <= threshold) & inside))
            tracks[:, target], variance[:, target], visible[:, target] = best_chain(chains)
    return tracks, ~visible


def mft_sources(frame, target, direction, stored):
    """Frames from which `target` is reached: the query's, and those of MFT_STEPS that lie between."""
    distance = abs(target - frame)
    steps = sorted({distance, *(d for d in MFT_STEPS if d < distance)})
    sources = [target - direction * d for d in steps]
    return [source for source in sources if stored(source, target) and stored(target, source)]


def best_chain(chains):
    """Of chains [(pixels (n, 2), variance (n,), visible (n,))], for each point: visible before hidden, then sure."""
    moved, variance, visible = (torch.stack(parts) for parts in zip(*chains))
    among = visible | ~visible.any(0)
    best = torch.where(among, variance, torch.inf).argmin(0)
    points = torch.arange(moved.shape[1])
    return moved[best, points], variance[best, points], visible[best, points]


def static_tracks(_flow, num_frames, _frame, pixels, _threshold, _stored):
    tracks, visible = start(pixels, num_frames)
    return tracks, ~visible


def start(pixels, num_frames):
    """Every frame holds the query's pixels, visible."""
    return pixels[:, None].repeat(1, num_frames, 1), torch.ones(len(pixels), num_frames, dtype=torch.bool)


METHODS = {"direct": direct_tracks, "chained": chained_tracks, "mft": mft_tracks, "static": static_tracks}


def check_baseline(kind):
    """UserError for a name that is none of BASELINES."""
    if kind not in BASELINES:
        raise UserError(f"baseline {kind!r}: expected one of {', '.join(BASELINES)}")


def baseline_tracks(kind, flow, num_frames, frames, pixels, threshold=CYCLE_THRESHOLD, stored=lambda i, j: True):
    """Tracks float32 (Q, N, 2) and occluded (Q, N) of pixels (Q, 2) of frames (Q,), numpy arrays."""
    tracks = np.empty((len(pixels), num_frames, 2), np.float32)
    occluded = np.empty((len(pixels), num_frames), bool)
    for frame in np.unique(frames):
        rows = frames == frame
        start_pixels = torch.from_numpy(np.asarray(pixels[rows], np.float32))
        found = METHODS[kind](flow, num_frames, int(frame), start_pixels, threshold, stored)
        tracks[rows], occluded[rows] = (tensor.numpy() for tensor in found)
    return tracks, occluded
