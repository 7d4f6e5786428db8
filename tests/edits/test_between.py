"""Frames in between of motions by whole pixels, where the true frame is known."""

import numpy as np
import pytest

from edits.between import frame_between
from flow.images import pixel_grid

SIZE = (40, 56)
GROUND = np.random.default_rng(2).integers(0, 256, (60, 80, 3), dtype=np.uint8)
RED = np.uint8([250, 10, 10])


def box(k):
    """A box that moves right by 4 px from frame to frame, over a ground that stands."""
    mask = np.zeros(SIZE, bool)
    mask[12:28, 10 + 4 * k : 26 + 4 * k] = True
    return mask


def scene(k):
    whole = int(k * 4)
    mask = np.zeros(SIZE, bool)
    mask[12:28, 10 + whole : 26 + whole] = True
    return np.where(mask[..., None], RED, GROUND[: SIZE[0], : SIZE[1]])


def flow(start, end):
    moved = np.where(box(start)[..., None], np.float32([4 * (end - start), 0]), np.float32([0, 0]))
    return moved, box(start) | ~box(end)


@pytest.mark.parametrize("moment", [0.25, 0.5, 0.75])
def test_what_is_in_front_passes_before_what_is_behind(moment):
    found = frame_between(moment, scene(0), scene(1), flow(0, 1), flow(1, 0))
    off = np.abs(found.astype(int) - scene(moment)).max(-1) > 8
    assert off.mean() < 0.01, off.sum()
    assert np.abs(scene(moment).astype(int) - scene(0)).max(-1).mean() > 0.01


def test_a_pan():
    frames = [GROUND[10:50, 10 + 6 * k : 66 + 6 * k] for k in range(2)]
    seen = np.ones(SIZE, bool)
    there = np.broadcast_to(np.float32([-6, 0]), (*SIZE, 2))
    grid = pixel_grid(SIZE)
    found = frame_between(0.5, *frames, (there, seen & (grid[..., 0] >= 6)), (-there, seen & (grid[..., 0] < 50)))
    np.testing.assert_array_equal(found[:, 1:-4], GROUND[10:50, 13:69][:, 1:-4])
