"""Carry the labels of one frame through a video.

Each pixel of another frame looks back along its flow: what it sees in the labelled frame is its label. Where its
surface is hidden there, the neighbouring frame, labelled before, is asked; what is seen for the first time goes with
the pixels around that look alike. So the rim lies where the frame has an edge, at the frame's own pixels.

Conventions: labels uint8 (H, W), 0 the background; shares (H, W, L) of labels 0 to L - 1, which add up to 1; flow and
visible as in edits.warping, from the frame that is labelled to the one that is asked.
"""

import matplotlib.colors
import numpy as np

from edits.warping import look_up, within
from flow.images import pixel_grid
from flow.rims import guided, rim_radius

NEIGHBOUR = 0.2  # weight of the neighbouring frame's labels, which have come further, against the given ones
UNSEEN = 0.01  # weight of a label that flow leads to although it is hidden there


def shares_of(labels, count):
    """Labels (H, W) -> float32 (H, W, count), 1 at the pixel's own."""
    return np.eye(count, dtype=np.float32)[labels]


def seen_shares(shares, flow, visible):
    """Shares (H, W, L) of one frame as another sees them along its flow, times how much they count -> (H, W, L)."""
    positions = pixel_grid(flow.shape[:2]) + flow
    weight = np.where(visible & within(positions, flow.shape), 1, UNSEEN).astype(np.float32)
    looked_up = np.stack([look_up(channel, positions) for channel in np.moveaxis(shares, -1, 0)], axis=-1)
    return looked_up * weight[..., None]


def decide(votes, frame):
    """Votes (H, W, L), any sum -> labels (H, W), their rims drawn to the frame's edges."""
    smoothed = guided(votes, frame, rim_radius(frame.shape))
    return smoothed.argmax(-1).astype(np.uint8)


def carry_labels(frames, flow, first, start, progress=iter):
    """Labels of all frames from those of one.

    Args:
        frames: N frames; flow(i, j) -> flow (H, W, 2), visible (H, W).
        first: labels (H, W) of frame `start`.
    Returns: uint8 (N, H, W).
    """
    count = int(first.max()) + 1
    labels = np.zeros((len(frames), *first.shape), np.uint8)
    labels[start] = first
    order = sorted(set(range(len(frames))) - {start}, key=lambda frame: abs(frame - start))
    for frame in progress(order):
        neighbour = frame - int(np.sign(frame - start))
        votes = seen_shares(shares_of(first, count), *flow(frame, start))
        if neighbour != start:
            votes += NEIGHBOUR * seen_shares(shares_of(labels[neighbour], count), *flow(frame, neighbour))
        labels[frame] = decide(votes, frames[frame])
    return labels


def tinted(frame, labels):
    """The frame with each label in a colour of its own -> uint8 (H, W, 3)."""
    hues = labels.astype(np.float64) * 0.381966 % 1  # of the golden angle: any few differ
    colours = np.round(matplotlib.colors.hsv_to_rgb(np.stack([hues, hues * 0 + 0.9, hues * 0 + 1], axis=-1)) * 255)
    mixed = np.where(labels[..., None] > 0, 0.5 * frame + 0.5 * colours, frame)
    return np.round(mixed).astype(np.uint8)
