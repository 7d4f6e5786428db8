"""The order of surfaces before training: of a scene, and of motion and occlusions worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from networks.surface import sample_grid
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


class FixedEvidence:
    """A sampler that draws one batch again and again."""

    def __init__(self, pool, pixels_1, pixels_2, hidden, covisible):
        self.pool, self.hidden = pool, torch.tensor([hidden])
        self.batch = SimpleNamespace(frames_1=torch.tensor([1]), frames_2=torch.tensor([2]),
                                     pixels_1=torch.tensor([pixels_1]), pixels_2=torch.tensor([pixels_2]),
                                     covisible=torch.tensor([covisible]), evidence=self.evidence)

    def sample(self, *_):
        return self.batch

    def evidence(self, pixels):
        assert pixels is self.batch.pixels_2
        return self.hidden, ~self.hidden


def test_what_moves_against_the_camera_starts_in_front(known_evidence):
    sampler = FixedEvidence(KnownFlow(flow_of_a_block()), [[0.0, 0.0]], [[0.0, 0.0]], [False], [False])
    depth = initial_depth(sampler, 2, 0.2, (torch.zeros(3, 5, 6), torch.zeros(3, 4, 7)), steps=5)
    block = torch.zeros(3, 5, 7, dtype=torch.bool)
    block[1, :2, 4:] = True
    assert (depth[block] < 0.65).all() and (depth[~block] > 0.85).all()


def test_depth_order_follows_what_is_hidden_and_joins_what_is_seen_twice(known_evidence):
    """The first point is hidden; the second is seen twice, at the block and beside it; the third the flow follows."""
    sampler = FixedEvidence(KnownFlow(flow_of_a_block()), [[2.0, 4.0], [10.0, 2.0], [0.0, 2.0]],
                            [[8.0, 2.0], [4.0, 6.0], [10.0, 4.0]], [True, False, True], [False, True, True])
    depth = initial_depth(sampler, 2, 0.2, (torch.zeros(3, 5, 6), torch.zeros(3, 4, 7)), steps=150)
    assert depth[1, 2, 1] > 1.02 and depth[2, 1, 4] < 0.9 and depth[1, 2, 1] - depth[2, 1, 4] > 0.19
    assert depth[1, 1, 5].item() == pytest.approx(depth[2, 3, 2].item(), abs=0.02)
    assert depth[1, 1, 0].item() == pytest.approx(depth[2, 2, 5].item(), abs=0.02)
    assert depth[1, 0, 4:].max() < 0.65 and depth[1, 3:].min() > 0.85  # what no point touches
    touched = torch.zeros(5, 7, dtype=torch.bool)
    touched[[1, 3, 2], [4, 2, 5]] = True  # frame 2 moves like frame 0, which no point touches
    assert torch.allclose(depth[2][~touched], depth[0][~touched], atol=1e-3)


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
