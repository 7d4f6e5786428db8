"""Motions that are known are found again, with points that are wrong; rectangles by trying all."""

import itertools

import numpy as np
import pytest

from edits.stabilise import FEWEST, dense, fit, held_still, largest_rectangle, motions, move

SIZE = (90, 120)
RANDOM = np.random.default_rng(3)
POINTS = RANDOM.uniform(5, 85, (60, 2))


def turned(points):
    angle, scale = 0.3, 1.2
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ rotation.T + [4, -7]


def tilted(points):
    return (points @ np.array([[1.1, 0.1], [-0.05, 0.95]]) + [3, 2]) / (1 + points @ [[1e-3], [-5e-4]])


def bent(points):
    return points + np.stack([3 * np.sin(points[..., 1] / 25), 2 * np.cos(points[..., 0] / 30)], axis=-1)


CASES = {"translation": (lambda p: p + [5.5, -2], 1e-6), "similarity": (turned, 0.05), "homography": (tilted, 0.05),
         "warp": (bent, 0.4)}


@pytest.mark.parametrize("model", CASES)
def test_a_motion_is_found_in_spite_of_wrong_points(model):
    truth, within = CASES[model]
    end = truth(POINTS)
    end[::6] += RANDOM.uniform(15, 25, end[::6].shape)
    found = fit(model, POINTS, end, SIZE)
    inside = RANDOM.uniform(15, 75, (50, 2))
    assert np.abs(truth(inside) - inside).max() > 1
    assert np.linalg.norm(found(inside) - truth(inside), axis=-1).max() < within


@pytest.mark.parametrize("model", CASES)
def test_too_few_points(model):
    few = POINTS[: FEWEST[model] - 1]
    assert fit(model, few, few, SIZE) is None


def test_a_frame_without_points_lies_between_its_neighbours():
    tracks = np.stack([POINTS, POINTS + [2, 0], POINTS + [50, 50], POINTS + [8, 3]], axis=1)
    visible = np.ones(tracks.shape[:2], bool)
    visible[:, 2] = False
    found = motions("translation", tracks, visible, 0, SIZE)
    assert [motion is None for motion in found] == [False, False, True, False]
    places = np.stack([move(found, k, POINTS) - POINTS for k in range(4)])
    np.testing.assert_allclose(places[:, 0], [[0, 0], [2, 0], [5, 1.5], [8, 3]], atol=1e-9)


def test_a_warp_asked_at_nodes_is_the_warp():
    found = [fit("warp", POINTS, bent(POINTS), SIZE)]
    asked = dense(found, 0, SIZE, bends=True)
    exact = dense(found, 0, SIZE, bends=False)
    assert np.abs(asked - exact)[10:-10, 10:-10].max() < 0.25


def test_the_video_stands_still():
    world = RANDOM.integers(0, 256, (100, 140, 3), dtype=np.uint8)
    frame = world[6:96, 11:131]  # 5 px to the right and 4 up of the reference, world[10:, 6:]
    image = held_still(frame, dense([lambda p: p + [-5, 4]], 0, SIZE, bends=False))
    assert (image[:86, 5:] == world[10:96, 11:126]).all()
    assert not image[86:].any() and not image[:, :5].any()


def test_the_largest_rectangle_is_the_largest():
    for share in (0.3, 0.7, 0.9):
        mask = RANDOM.random((7, 9)) < share
        top, left, height, width = largest_rectangle(mask)
        assert mask[top : top + height, left : left + width].all()
        rows, columns = itertools.combinations(range(8), 2), list(itertools.combinations(range(10), 2))
        best = max((b - t) * (r - l) for t, b in rows for l, r in columns if mask[t:b, l:r].all())  # noqa: E741
        assert height * width == best
    assert largest_rectangle(np.zeros((3, 3), bool))[2:] == (0, 0)
