"""Views of two planes at two depths: each moves by its own half of the view."""

import numpy as np

from edits.orbit import seen_from, view_at

FRAME = np.random.default_rng(4).integers(0, 256, (40, 60, 3), dtype=np.uint8)
DEPTH = np.full((40, 60), 1.5)
DEPTH[10:30, 20:40] = 0.5


def test_near_and_far_move_apart_and_near_is_in_front():
    image, hidden = seen_from(FRAME, DEPTH, np.array([8.0, 0]), 0.5, 1.5)
    assert (image[12:28, 26:42] == FRAME[12:28, 22:38]).all()  # near: 4 px to the right
    assert (image[2:8, 2:50] == FRAME[2:8, 6:54]).all()  # far: 4 px to the left
    uncovered = hidden[12:28, 17:23]
    assert uncovered.all() and not hidden[:8, :55].any()


def test_the_straight_view_is_the_frame():
    image, hidden = seen_from(FRAME, DEPTH, np.zeros(2), 0.5, 1.5)
    assert (image == FRAME).all() and not hidden.any()


def test_the_view_goes_round_once():
    views = np.array([view_at(moment, 10) for moment in (0, 0.25, 0.5, 0.75, 1)])
    np.testing.assert_allclose(views, [[0, 5], [10, 0], [0, -5], [-10, 0], [0, 5]], atol=1e-9)
