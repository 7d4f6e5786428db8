"""The order of surfaces before training: of a scene, and of motion and occlusions worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.optimize
import torch

from networks.surface import sample_grid
from training import depth_order
from training.depth_order import camera_residual, edge_weights, grid_flow, initial_depth


class KnownFlow:
    """Pool of 3 frames of 12 x 8 pixels with this flow to the next frame (of the last: to the one before)."""

    num_frames, height, width, device = 3, 8, 12, torch.device("cpu")

    def __init__(self, flow):
        self.flow = torch.as_tensor(flow, dtype=torch.float32)  # (N, H, W, 2)

    def number(self, sources, targets):
        assert np.array_equal(np.c_[sources, targets], [[0, 1], [1, 2], [2, 1]])
        return sources

    def flow_at(self, numbers, index):
        return self.flow.flatten(1, 2)[numbers[:, None], index]


def flow_of_a_block():
    """The camera pans by (1, -2) and zooms; in frame 1 columns 8 to 11 of rows 0 to 3 move by 6 px more."""
    y, x = np.mgrid[:8, :12].astype(float)
    flow = np.stack([np.stack([1 + 0.02 * x + 0.1 * frame, -2 + 0.03 * y], -1) for frame in range(3)])
    flow[1, :4, 8:] += [0, 6]
    return flow


def test_motion_at_cells_and_what_moves_against_the_camera():
    pool = KnownFlow(flow_of_a_block())
    found = grid_flow(pool, 2)
    assert torch.allclose(found[:, :4, :6], pool.flow[:, ::2, ::2])
    assert torch.equal(found[:, 4, 3], pool.flow[:, 7, 6]) and torch.equal(found[:, 2, 6], pool.flow[:, 4, 11])
    residual = camera_residual(found)
    block = torch.zeros(3, 5, 7, dtype=torch.bool)
    block[1, :2, 4:] = True
    assert residual.shape == block.shape and (residual[~block] < 0.7).all() and (residual[block] > 5).all()
    across, down = edge_weights(pool, 2)
    assert across[0, 1, 2].item() == pytest.approx(np.exp(-0.04), rel=1e-4)  # 2 pixels further right
    assert across[1, 1, 3].item() == pytest.approx(np.exp(-np.hypot(0.04, 6)), rel=1e-3)  # the block's left side
    assert down[1, 1, 5].item() == pytest.approx(np.exp(-5.94), rel=1e-3)  # its lower side
    assert across.shape == (3, 5, 6) and down.shape == (3, 4, 7)


def robust_distances(flow):
    """Distances of flow (h, w, 2) to the affine motion of least sum of log(1 + distance^2), by a general optimiser."""
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]]
    basis = np.stack([np.ones_like(x), x - x.mean(), y - y.mean()], -1).reshape(-1, 3)
    off = lambda affine: flow.reshape(-1, 2) - basis @ affine.reshape(3, 2)  # noqa: E731
    cost = lambda affine: np.log1p(np.square(off(affine)).sum(-1)).sum()  # noqa: E731
    start = np.linalg.lstsq(basis, flow.reshape(-1, 2), rcond=None)[0]
    found = scipy.optimize.minimize(cost, start.ravel(), method="BFGS", options={"gtol": 1e-6})
    return np.linalg.norm(off(found.x), axis=-1).reshape(flow.shape[:2])


def test_distance_to_the_cameras_motion_is_that_of_a_robust_fit():
    random = np.random.default_rng(0)
    flow = np.stack([flow_of_a_block()[frame] for frame in (0, 1)])
    flow += random.normal(0, 0.3, flow.shape)
    flow[0, 5:, :3] -= [2, 1]
    expected = np.stack([robust_distances(frame) for frame in flow])
    np.testing.assert_allclose(camera_residual(torch.from_numpy(flow).float()), expected, atol=0.01)


@pytest.mark.parametrize(("height", "width"), [(2, 3), (1, 4), (3, 1)])
def test_affine_motion_is_the_cameras_on_the_smallest_grids(height, width):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    flow = np.stack([3 + 2 * x - y, 0.5 * x + 4 * y - 1], -1)
    assert camera_residual(torch.from_numpy(flow)[None]).max() < 1e-3


NO_TIES = torch.zeros(3, 5, 6), torch.zeros(3, 4, 7)  # neighbouring cells may differ as they like


class FixedEvidence:
    """A sampler that draws one batch again and again."""

    def __init__(self, pool, pixels_1, pixels_2, hidden, covisible):
        self.pool, self.hidden, self.asked = pool, torch.tensor([hidden]), []
        self.batch = SimpleNamespace(frames_1=torch.tensor([1]), frames_2=torch.tensor([2]),
                                     pixels_1=torch.tensor([pixels_1]), pixels_2=torch.tensor([pixels_2]),
                                     covisible=torch.tensor([covisible]), evidence=self.evidence)

    def sample(self, *asked):
        self.asked.append(asked)
        return self.batch

    def evidence(self, pixels):
        assert pixels is self.batch.pixels_2
        return self.hidden, ~self.hidden


def test_what_moves_against_the_camera_starts_in_front(known_evidence):
    sampler = FixedEvidence(KnownFlow(flow_of_a_block()), [[0.0, 0.0]], [[0.0, 0.0]], [False], [False])
    depth = initial_depth(sampler, 2, 0.2, NO_TIES, steps=5)
    block = torch.zeros(3, 5, 7, dtype=torch.bool)
    block[1, :2, 4:] = True
    assert (depth[block] < 0.65).all() and (depth[~block] > 0.85).all()


def test_depth_order_follows_what_is_hidden_and_joins_what_is_seen_twice(known_evidence):
    """The first point is hidden; the second is seen twice, at the block and beside it; the third the flow follows."""
    sampler = FixedEvidence(KnownFlow(flow_of_a_block()), [[2.0, 4.0], [10.0, 2.0], [0.0, 2.0]],
                            [[8.0, 2.0], [4.0, 6.0], [10.0, 4.0]], [True, False, True], [False, True, True])
    depth = initial_depth(sampler, 2, 0.2, NO_TIES, steps=150)
    assert depth[1, 2, 1] > 1.02 and depth[2, 1, 4] < 0.9 and depth[1, 2, 1] - depth[2, 1, 4] > 0.19
    assert depth[1, 1, 5].item() == pytest.approx(depth[2, 3, 2].item(), abs=0.02)
    assert depth[1, 1, 0].item() == pytest.approx(depth[2, 2, 5].item(), abs=0.02)
    assert depth[1, 0, 4:].max() < 0.65 and depth[1, 3:].min() > 0.85  # what no point touches
    touched = torch.zeros(5, 7, dtype=torch.bool)
    touched[[1, 3, 2], [4, 2, 5]] = True  # frame 2 moves like frame 0, which no point touches
    assert torch.allclose(depth[2][~touched], depth[0][~touched], atol=1e-3)


def one_hidden_point(flow=None):
    """A point at a cell of frame 1 that is hidden by what a cell of frame 2 shows; by default all moves alike."""
    pool = KnownFlow(torch.ones(3, 8, 12, 2) if flow is None else flow)
    return FixedEvidence(pool, [[2.0, 4.0]], [[8.0, 2.0]], [True], [False])


def test_depth_starts_in_front_by_how_much_motion_differs_from_the_cameras(known_evidence):
    """Two margins at most, and 76 % of them at 2 px; nothing else moves a cell that no point touches."""
    flow = flow_of_a_block()
    flow[1, :4, 8:] -= [0, 4]  # now the block moves by 2 px more than the camera
    depth = initial_depth(one_hidden_point(flow), 2, 0.2, NO_TIES, steps=1)
    expected = 1 - 0.4 * torch.tanh(camera_residual(grid_flow(KnownFlow(flow), 2)) / 2)
    assert expected[1, 0, 6] < 0.85 and expected[0].min() > 0.9
    untouched = torch.ones(3, 5, 7, dtype=torch.bool)
    untouched[1, 2, 1] = untouched[2, 1, 4] = False
    assert torch.allclose(depth[untouched], expected[untouched], atol=1e-6)


def test_a_hidden_point_moves_at_the_falling_rate_of_adam(known_evidence):
    """While the force is the same each step is as long as the rate: 0.02 (1 + 0.9 + ... + 0.1) after ten."""
    sampler = one_hidden_point()
    depth = initial_depth(sampler, 2, 0.8, NO_TIES, steps=10)
    assert depth[1, 2, 1].item() == pytest.approx(1.11, abs=2e-3)
    assert depth[2, 1, 4].item() == pytest.approx(0.89, abs=2e-3)
    assert sampler.asked == [(64, 128, 2)] * 10  # pairs, points, all distances of three frames


def test_depth_keeps_half_a_margin_from_both_ends(known_evidence):
    depth = initial_depth(one_hidden_point(), 2, 1.5, NO_TIES, steps=60)
    assert depth.max() == depth[1, 2, 1] == 1.25 and depth.min() == depth[2, 1, 4] == 0.75


def test_flatness_holds_what_evidence_would_move_alone(known_evidence, monkeypatch):
    monkeypatch.setattr(depth_order, "STEPS", 30)
    sampler = one_hidden_point()
    depth = initial_depth(sampler, 2, 0.8, tuple(torch.full_like(ties, 1e4) for ties in NO_TIES))
    assert len(sampler.asked) == 30 and (depth - 1).abs().max() < 0.05


@pytest.mark.slow
def test_order_of_surfaces_is_found_before_training(flow_scene, surface_sampler):
    depth = initial_depth(surface_sampler, 2, 0.2, edge_weights(surface_sampler.pool, 2))
    assert depth.min() >= 0 and depth.max() <= 2
    right = wrong = 0
    for i, j in ((3, 5), (6, 4), (8, 9)):
        flow, visible = flow_scene.flow(i, j)
        y, x = np.nonzero(~visible)
        start = torch.from_numpy(np.stack([x, y], -1)).float()[None]
        landing = start + torch.from_numpy(flow[y, x]).float()[None]
        inside = (landing >= 0).all(-1) & (landing <= torch.tensor([63.0, 47.0])).all(-1)
        gap = sample_grid(depth, torch.tensor([i]), start / 2) - sample_grid(depth, torch.tensor([j]), landing / 2)
        right += int((gap[inside] > 0.02).sum())
        wrong += int((gap[inside] < -0.02).sum())
    assert right > 30 and right > 4 * wrong, (right, wrong)
