"""A small change of view: pixels move sideways by their pseudo-depth, near ones against far ones.

Pseudo-depth orders surfaces and is not metric, so this is no camera in a scene: parallax of a plausible order, good
for a few percent of the width. Conventions: depth (H, W), 0 nearest; view (x, y) in pixels that the nearest surface
moves against the farthest.
"""

import cv2
import numpy as np

from edits.warping import fetch, splat
from flow.images import pixel_grid

ARRIVED = 0.3  # share of a pixel: where less arrives is a hole
NEARER = 12.0  # log weight of the nearest surface against the farthest, where both arrive


def view_at(moment, amount):
    """(2,) the view after this share of one turn around the straight one, half as high as wide."""
    turn = 2 * np.pi * moment
    return amount * np.array([np.sin(turn), 0.5 * np.cos(turn)])


def seen_from(frame, depth, view, near, far):
    """The frame from another view -> uint8 (H, W, 3), and bool (H, W) what it had hidden, which is a guess.

    near, far: depths that move by half the view's length one way and the other; beyond them as at them.
    """
    nearness = 1 - np.clip((depth - near) / max(far - near, 1e-6), 0, 1)
    shift = ((nearness - 0.5)[..., None] * view).astype(np.float32)
    grid = pixel_grid(depth.shape)
    back, share = splat(-shift, grid + shift, np.exp(NEARER * (nearness - 1)))
    hidden = share < ARRIVED
    image = fetch(frame, grid + back)
    return cv2.inpaint(image, hidden.astype(np.uint8), 3, cv2.INPAINT_TELEA), hidden
