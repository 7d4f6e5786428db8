"""Motion around points, against affine motions in closed form: two surfaces, wrong points, places without any."""

import pickle

import numpy as np
import pytest

from flow.point_tracks import PointFlow, PointSettings, affine_motions, spread_motions

H, W = 60, 100
TURN = np.array([[0.02, -0.05], [0.05, 0.01]])


def left(points):
    return np.array([6.0, -2.0]) + (points - [20, 30]) @ TURN.T


def right(points):
    return np.broadcast_to(np.array([-4.0, 1.0]), points.shape)


def two_surfaces(count=120, seed=0, until=W):
    """Points on the left and the right half of a frame, which move apart, and where they go."""
    random = np.random.default_rng(seed)
    start = random.uniform(0, [until - 1, H - 1], (count, 2))
    motion = np.where(start[:, :1] < W // 2 - 0.5, left(start), right(start))
    return start, start + motion


def grid():
    return np.stack(np.meshgrid(np.arange(W), np.arange(H)), axis=-1).astype(float)


def true_flow():
    return np.where(grid()[..., :1] < W // 2, left(grid()), right(grid()))


def flow_of_nearest(start):
    """(H, W, 2): that of the surface of the nearest of the points (n, 2)."""
    nearest = np.linalg.norm(grid()[:, :, None] - start, axis=-1).argmin(-1)
    return np.where(start[nearest][..., :1] < W // 2 - 0.5, left(grid()), right(grid()))


def test_a_pixel_moves_as_the_surface_of_the_nearest_point():
    start, end = two_surfaces()
    assert np.abs(spread_motions(start, end, (H, W)) - flow_of_nearest(start)).max() < 0.3


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_points_that_no_other_agrees_with_are_left_out(share):
    start, end = two_surfaces(200)
    random = np.random.default_rng(1)
    wrong = random.random(len(end)) < share
    end[wrong] = random.uniform(0, [W, H], (wrong.sum(), 2))
    kept, _, _ = affine_motions(start, end - start, W)
    of = {tuple(point): bad for point, bad in zip(start, wrong)}
    assert np.mean([of[tuple(point)] for point in kept]) < share / 3
    error = np.linalg.norm(spread_motions(start, end, (H, W)) - flow_of_nearest(start[~wrong]), axis=-1)
    assert np.mean(error < 1) > (0.95 if share == 0.1 else 0.8)


def test_unknown_far_from_all_points():
    start, end = two_surfaces(until=40)
    best = spread_motions(start, end, (H, W))
    reach = PointSettings().reach * W
    distance = np.linalg.norm(grid()[:, :, None] - start, axis=-1).min(-1)
    assert np.isnan(best[distance > reach]).all() and np.isfinite(best[distance < 0.9 * reach]).all()


def test_a_single_point_counts_where_each_stands_for_itself():
    start, end = np.array([[30.0, 20.0]]), np.array([[33.0, 25.0]])
    assert np.isnan(spread_motions(start, end, (H, W))).all()
    assert spread_motions(start, end, (H, W), PointSettings(support=0))[20, 30].tolist() == [3, 5]


class Two:
    """Points between frames 0 and 1 only."""

    def between(self, i, j):
        start, end = two_surfaces()
        points = {(0, 1): (start, end), (1, 0): (end, start)}.get((i, j), (start[:0], end[:0]))
        return *points, np.ones(len(points[0]))


def test_the_estimator_says_what_it_knows():
    estimator = pickle.loads(pickle.dumps(PointFlow(Two(), "two", "1")))
    estimator.load_frames(np.zeros((3, H, W, 3), np.uint8))
    flows = estimator.flow_from(0, [1, 2])
    assert flows.shape == (2, H, W, 2) and flows.dtype == np.float32
    assert np.abs(flows[0] - true_flow())[:, :40].max() < 0.3 and np.isnan(flows[1]).all()
    assert estimator.flow_from(0, []).shape == (0, H, W, 2)
    assert PointFlow(Two(), "two", "2").description != estimator.description


class Six(Two):
    """The same points of frames six times as large."""

    def between(self, i, j):
        start, end, weight = super().between(i, j)
        return start * 6 + 2.5, end * 6 + 2.5, weight


def test_large_frames_are_the_same_on_a_coarser_grid():
    estimator = PointFlow(Six(), "six", "1")
    estimator.load_frames(np.zeros((2, 6 * H, 6 * W, 3), np.uint8))
    flow = estimator.flow_from(0, [1])[0]
    assert estimator.cell == 2 and flow.shape == (6 * H, 6 * W, 2)
    error = np.abs(flow - 6 * flow_of_nearest(two_surfaces()[0]).repeat(6, axis=0).repeat(6, axis=1))
    assert np.median(error) < 0.5 and np.mean(error > 3) < 0.02  # which point is nearest changes within a cell


@pytest.mark.parametrize("degrees, zoom", [(60, 1.0), (-140, 0.7), (0, 1.6)])
def test_what_turns_and_zooms_far_is_exact(degrees, zoom):
    random, angle = np.random.default_rng(2), np.deg2rad(degrees)
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    start = random.uniform(0, [W, H], (80, 2))
    motion = (start - [50, 30]) @ turn.T + [50, 30] - start
    wrong = random.random(len(start)) < 0.25
    motion[wrong] = random.uniform(-W, W, (wrong.sum(), 2))
    kept, found, slope = affine_motions(start, motion, W)
    right = np.isin(kept[:, 0], start[~wrong, 0])
    assert right.mean() > 0.95 and right.sum() > 0.95 * (~wrong).sum()
    expected = (kept - [50, 30]) @ turn.T + [50, 30] - kept
    assert np.linalg.norm(found - expected, axis=-1)[right].max() < 1e-6
    assert np.abs(slope - (turn - np.eye(2)))[right].max() < 1e-6


def test_points_that_end_at_one_place_tell_of_no_collapse():
    start = np.array([[10.0, 10], [14, 10], [10, 14], [16, 16], [12, 18]])
    assert not len(affine_motions(start, 50 - start, W)[0])  # all end at (50, 50): nothing shrinks by more than half
