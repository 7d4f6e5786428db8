"""From flow between shrunk frames to flow of the frames: places, units, candidates at rims."""

import numpy as np
import pytest

from flow.dis import DisFlow
from flow.images import shrink_flow
from flow.upsampling import around, shrunk_size, times_shrunk, upsampled


def affine(x, y):
    """A flow that turns and zooms slowly, at any places."""
    return np.stack([3 + 0.02 * x - 0.03 * y, -1 + 0.03 * x + 0.02 * y], axis=-1).astype(np.float32)


def at_cells(size, factor):
    """That flow at the middles of cells of a frame, in pixels of the shrunk frame."""
    y, x = np.mgrid[: size[0] : factor, : size[1] : factor] + (factor - 1) / 2
    return affine(x, y) / factor


@pytest.mark.parametrize("factor", [2, 3])
def test_smooth_flow_is_that_of_every_pixel(factor):
    size = (60, 96)
    flow = upsampled(at_cells(size, factor), size)["between"]
    y, x = np.mgrid[: size[0], : size[1]]
    inner = np.s_[factor:-factor, factor:-factor]  # at the border it is the border's
    np.testing.assert_allclose(flow[inner], affine(x, y)[inner], atol=1e-3)
    np.testing.assert_allclose(shrink_flow(affine(x, y), shrunk_size(size, factor)), at_cells(size, factor),
                               atol=1e-3)


def test_beside_a_rim_one_candidate_is_the_flow_of_each_side():
    """A disc on a ground, each with a motion of its own: of every pixel some candidate is exactly its surface's."""
    size = (60, 90)
    y, x = np.mgrid[: size[0], : size[1]]
    disc = np.hypot(x - 43.3, y - 28.1) < 15.4
    true = np.where(disc[..., None], (12, 0), (0, -6))
    candidates = upsampled(np.where(disc[1::3, 1::3, None], (4, 0), (0, -2)).astype(np.float32), size)
    errors = {name: np.abs(flow - true).max(-1) for name, flow in candidates.items()}
    assert errors["between"].max() > 3
    assert np.min(list(errors.values()), axis=0).max() < 1e-4
    inside = np.hypot(x - 43.3, y - 28.1) < 10
    assert all(error[inside].max() < 1e-4 for error in errors.values())


def test_pixels_around_by_hand():
    """Six pixels from two: the middles of those are 1 and 4."""
    before, after = around(6, 2)
    assert before.tolist() == [0, 0, 0, 0, 1, 1] and after.tolist() == [0, 1, 1, 1, 1, 1]


def test_each_of_the_four_is_where_its_name_says():
    flow = np.float32([[1, 2], [3, 4]])[..., None].repeat(2, -1)
    found = {name: one[3, 3, 0] / 3 for name, one in upsampled(flow, (6, 6)).items()}
    assert {name: round(float(value), 4) for name, value in found.items() if name != "between"} == {
        "upper left": 1, "upper right": 2, "lower left": 3, "lower right": 4}


def test_only_large_frames_are_shrunk():
    sides = [100, 320, 639, 640, 854, 1920, 3840]
    assert [times_shrunk((90, side)) for side in sides] == [1, 1, 1, 2, 2, 6, 12]
    assert shrunk_size((481, 854), 2) == (241, 427)


def test_large_frames_are_followed_to_a_part_of_a_pixel():
    """Two textures of 660 pixels, of which one passes in front of the other by 6.5 px a frame."""
    rng, size = np.random.default_rng(0), (110, 660)
    ground, front = (np.kron(rng.integers(40, 216, (60, 170, 3)), np.ones((4, 8, 1))) for _ in range(2))

    def frame(k):
        picture = ground[: size[0] * 2, : size[1] * 2].copy()  # at twice the size, so half pixels are whole
        left = 300 + 13 * k
        picture[60:160, left : left + 200] = front[:100, :200]
        return picture.reshape(size[0], 2, size[1], 2, 3).mean((1, 3)).astype(np.uint8)

    estimator = DisFlow()
    estimator.load_frames([frame(k) for k in range(4)])
    flow = estimator.flow_from(0, [1, 3])
    for k, steps in enumerate((1, 3)):
        inside = flow[k, 36:74, 160:240]
        assert np.median(np.linalg.norm(inside - (6.5 * steps, 0), axis=-1)) < 0.25
        assert np.median(np.linalg.norm(flow[k, 90:], axis=-1)) < 0.1
