"""Carry the labels of one frame through a video.

Each pixel of another frame looks back along its flow: what it sees in the labelled frame is its label. The neighbouring
frame, labelled before, is asked too. Where neither sees it, the colours that labels have in the labelled frame decide
among those of the pixels around (flow/layers.py).
"""

import matplotlib.colors
import numpy as np

from edits.warping import within
from flow.images import pixel_grid
from flow.layers import carried, colours_of, shares_of


def carry_labels(frames, flow, first, start, progress=iter):
    """Labels of all frames from those of one.

    Args:
        frames: N frames; flow(i, j) -> flow (H, W, 2), visible (H, W).
        first: labels (H, W) of frame `start`, 0 the background.
    Returns: uint8 (N, H, W).
    """
    levels = np.union1d(0, first).astype(np.uint8)
    count, labels = len(levels), np.zeros((len(frames), *first.shape), np.uint8)  # places in levels
    labels[start] = np.searchsorted(levels, first)
    colours = colours_of([frames[start]], [labels[start]], count)
    order = sorted(set(range(len(frames))) - {start}, key=lambda frame: abs(frame - start))
    for frame in progress(order):
        looks = []
        for other in sorted({frame - int(np.sign(frame - start)), start}):
            found, visible = flow(frame, other)
            right = visible & within(pixel_grid(found.shape[:2]) + found, found.shape)
            looks.append((found, right, shares_of(labels[other], count)))
        labels[frame] = carried(frames[frame], looks, colours).argmax(-1)
    return levels[labels]


def tinted(frame, labels):
    """The frame with each label in a colour of its own -> uint8 (H, W, 3)."""
    hues = labels.astype(np.float64) * 0.381966 % 1  # of the golden angle: any few differ
    colours = np.round(matplotlib.colors.hsv_to_rgb(np.stack([hues, hues * 0 + 0.9, hues * 0 + 1], axis=-1)) * 255)
    mixed = np.where(labels[..., None] > 0, 0.5 * frame + 0.5 * colours, frame)
    return np.round(mixed).astype(np.uint8)
