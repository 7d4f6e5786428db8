"""Frames in between two frames, by flow both ways.

The motion of each frame's pixels is put down at the moment in between, where what is hidden in the other frame gives
way to what is seen in both. From there each pixel looks back at both frames, or at the only one that shows it.

Conventions: moment from 0 (the first frame) to 1 (the second); flow and visible as in edits.warping, there[0], there[1]
from the first frame to the second, back[0], back[1] the other way.
"""

import numpy as np

from edits.warping import fetch, fill_smoothly, splat
from flow.images import pixel_grid, sample

HIDDEN_WEIGHT = 1e-3  # of a pixel that the other frame does not show, where one that it shows arrives, too
LEVELS = 20.0  # of luminance that two ends of a flow differ by, for its weight to fall to 1 / e
ARRIVED = 0.3  # share of a pixel: where less arrives is a hole


def motion_at(moment, first, second, flow, visible):
    """The motion of the first frame's pixels, put down where they are at the moment.

    Returns: flow (H, W, 2) from first to second frame of what is there then; how much of it is visible in the second
    (H, W), 0 to 1; where anything arrived, bool (H, W).
    """
    grid = pixel_grid(flow.shape[:2])
    differs = np.abs(first.astype(np.float32) - sample(second, grid + flow)).mean(-1)
    weights = np.where(visible, np.exp(-differs / LEVELS), 0) + HIDDEN_WEIGHT
    values = np.concatenate([flow, visible[..., None]], axis=-1).astype(np.float32)
    landed, share = splat(values, grid + np.float32(moment) * flow, weights)
    arrived = share > ARRIVED
    landed = fill_smoothly(landed, arrived)
    return landed[..., :2], landed[..., 2].clip(0, 1), arrived


def seen_at(moment, first, second, flow, visible):
    """The frame at the moment by the motion of the first frame's pixels -> float32 (H, W, 3), arrived (H, W)."""
    motion, both, arrived = motion_at(moment, first, second, flow, visible)
    grid = pixel_grid(motion.shape[:2])
    own, other = fetch(first, grid - moment * motion), fetch(second, grid + (1 - moment) * motion)
    share = (moment * both / (1 - moment + moment * both + 1e-6))[..., None]
    return own + share * (other.astype(np.float32) - own), arrived


def frame_between(moment, first, second, there, back):
    """The frame at a moment strictly between 0 and 1 -> uint8 (H, W, 3)."""
    forwards, in_first = seen_at(moment, first, second, *there)
    backwards, in_second = seen_at(1 - moment, second, first, *back)
    weights = np.stack([(1 - moment) * in_first, moment * in_second]) + 1e-6
    share = (weights[1] / weights.sum(0))[..., None]
    return np.round(forwards + share * (backwards - forwards)).clip(0, 255).astype(np.uint8)
