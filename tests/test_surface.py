"""The surface model: its depth maps, the order found in occlusions, and the evidence its batches carry."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import preprocess
from benchmarks.scenes import SceneFlow, make_scene
from loaders.correspondences import CorrespondencePool
from loaders.surface_sampler import SurfaceSampler
from networks.build import build_model
from networks.surface import grid_size, sample_grid
from ordering import edge_weights, initial_depth, total_variation


@pytest.fixture(scope="module")
def scene():
    return make_scene("occlusion", seed=0, num_frames=12, height=48, width=64)


@pytest.fixture(scope="module")
def sampler(scene, tmp_path_factory):
    data = preprocess.build(scene.video, tmp_path_factory.mktemp("clip") / "data", flow=SceneFlow(scene), quiet=True)
    return SurfaceSampler(CorrespondencePool(data, torch.device("cpu")), seed=0, online=True)


def test_sample_grid_equals_grid_sample():
    torch.manual_seed(0)
    grids, ids = torch.rand(4, 5, 7, dtype=torch.float64), torch.tensor([2, 0, 2])
    positions = torch.rand(3, 50, 2, dtype=torch.float64) * torch.tensor([10.0, 8.0]) - 1.5  # some outside: clamped
    normalised = positions / torch.tensor([6.0, 4.0]) * 2 - 1
    expected = F.grid_sample(grids[ids][:, None], normalised[:, None], align_corners=True, padding_mode="border")
    assert torch.allclose(sample_grid(grids, ids, positions), expected[:, 0, 0], atol=1e-9)


@pytest.mark.parametrize("height, width, cell", [(2, 2, 2), (5, 9, 2), (48, 64, 4), (3, 101, 7)])
def test_grid_covers_the_image(height, width, cell):
    rows, columns = grid_size(height, width, cell)
    assert (rows - 1) * cell >= height - 1 and (columns - 1) * cell >= width - 1
    assert (rows - 2) * cell < height - 1 and (columns - 2) * cell < width - 1


def test_batches_say_what_the_flow_says(scene, sampler):
    batch = sampler.sample(30, 40, 11)
    cycle, _ = sampler.pool.masks([(int(i), sampler.pool.row(int(i), int(j)))
                                   for i, j in zip(batch.frames_1, batch.frames_2)])
    cycle = cycle.gather(1, (batch.pixels_1[..., 1] * 64 + batch.pixels_1[..., 0]).long())
    assert not (batch.covisible & ~cycle).any() and batch.covisible[cycle].float().mean() > 0.95  # the flow is right
    assert torch.equal(batch.weight > 0, batch.covisible)
    for p in range(0, 30, 7):
        flow, _ = scene.flow(int(batch.frames_1[p]), int(batch.frames_2[p]))
        x, y = batch.pixels_1[p].long().unbind(-1)
        expected = batch.pixels_1[p] + torch.from_numpy(flow)[y, x]
        used = batch.covisible[p]
        error = (batch.pixels_2[p] - expected.float())[used].norm(dim=-1)
        assert (error < 0.1).float().mean() > 0.9  # not all: some of the flow is chained


class FourFrames:
    """What SurfaceSampler._confirmed asks of a pool: random flow and masks, 0 and 3 not paired; it notes the thirds."""

    height, width, partners = 5, 6, [[1, 2], [0, 2, 3], [0, 1, 3], [1, 2]]

    def __init__(self):
        torch.manual_seed(1)
        self.device = torch.device("cpu")
        self.flow = 1.5 * torch.randn(4, 4, 30, 2)
        self.cycle = torch.rand(4, 4, 30) < 0.7

    def row(self, i, j):
        return self.partners[i].index(j) if j in self.partners[i] else None

    def flow_at(self, rows, index):
        return torch.stack([self.flow[i, self.partners[i][row]][index[p]] for p, (i, row) in enumerate(rows)])

    def masks_at(self, rows, index):
        return torch.stack([self.cycle[i, self.partners[i][row]][index[p]] for p, (i, row) in enumerate(rows)]), None

    def choice(self, partners):
        self.thirds.append(partners[len(self.thirds) * 7 % 5 % len(partners)])
        return self.thirds[-1]


def test_third_frames_confirm_or_contradict_as_in_a_loop():
    pool, pairs = FourFrames(), [(0, 0, 1), (3, 1, 2), (1, 2, 3), (2, 1, 1), (0, 1, 2)]
    pool.thirds, index = [], torch.arange(30).expand(5, 30)
    pixels_1 = torch.stack([index % 6, index // 6], -1).float()
    pixels_2 = pixels_1 + pool.flow_at([(i, row) for i, row, _ in pairs], index)
    sampler = SimpleNamespace(pool=pool, random=pool)
    found = SurfaceSampler._confirmed(sampler, pairs, index, pixels_1, pixels_2)
    votes = np.zeros((5, 30), int)
    for witness, (p, n) in ((w, at) for w in range(3) for at in np.ndindex(5, 30)):
        (i, _, j), k = pairs[p], pool.thirds[5 * witness + p]
        x, y = (min(max(round(v), 0), most) for v, most in zip(pixels_2[p, n].tolist(), (5, 4)))
        if k in pool.partners[i] and k in pool.partners[j] and pool.cycle[i, k, n] and pool.cycle[j, k, 6 * y + x]:
            gap = pixels_1[p, n] + pool.flow[i, k, n] - pixels_2[p, n] - pool.flow[j, k, 6 * y + x]
            votes[p, n] += 1 if gap.norm() < 2 else -1
    assert (votes > 0).any() and (votes < 0).any() and (votes == 0).any()
    assert np.array_equal(found.numpy(), votes >= 0)


def test_evidence_at_the_true_landing_place_is_the_true_visibility(scene, sampler):
    """With exact flow, a point is found hidden only where the scene hides it, and visible only where it is."""
    batch = sampler.sample(60, 100, 6)
    hidden, visible = sampler.evidence(batch, batch.pixels_2)
    truth = []
    for i, j, pixels in zip(batch.frames_1.tolist(), batch.frames_2.tolist(), batch.pixels_1):
        truth.append(scene.tracks(i, pixels.numpy().astype(float))[1][:, j])
    truth = torch.from_numpy(np.stack(truth))
    assert hidden.any() and visible.any() and not (hidden & visible).any()
    assert (~truth[hidden]).float().mean() > 0.9  # landing between two pixels, a boundary may be either
    assert truth[visible].float().mean() > 0.98


def test_order_of_surfaces_is_found_before_training(scene, sampler):
    depth = initial_depth(sampler, 2, 0.2, edge_weights(sampler.pool, 2))
    assert depth.min() >= 0 and depth.max() <= 2
    right = wrong = 0
    for i, j in ((3, 5), (6, 4), (8, 9)):
        flow, visible = scene.flow(i, j)
        y, x = np.nonzero(~visible)
        start = torch.from_numpy(np.stack([x, y], -1)).float()[None]
        landing = start + torch.from_numpy(flow[y, x]).float()[None]
        inside = (landing >= 0).all(-1) & (landing <= torch.tensor([63.0, 47.0])).all(-1)
        gap = sample_grid(depth, torch.tensor([i]), start / 2) - sample_grid(depth, torch.tensor([j]), landing / 2)
        right += int((gap[inside] > 0.02).sum())
        wrong += int((gap[inside] < -0.02).sum())
    assert right > 30 and right > 4 * wrong, (right, wrong)


def test_total_variation_by_a_loop():
    torch.manual_seed(0)
    depth, across, down = torch.rand(2, 3, 4), torch.rand(2, 3, 3), torch.rand(2, 2, 4)
    a = [abs(depth[n, y, x + 1] - depth[n, y, x]) * across[n, y, x] for n, y, x in np.ndindex(2, 3, 3)]
    b = [abs(depth[n, y + 1, x] - depth[n, y, x]) * down[n, y, x] for n, y, x in np.ndindex(2, 2, 4)]
    assert total_variation(depth, (across, down)).item() == pytest.approx(float(sum(a) / len(a) + sum(b) / len(b)))


def test_a_point_behind_the_depth_map_is_hidden():
    model = build_model(3, 20, 30, rendering="surface", coupling_width=8, field_width=8, zero_init=True, affine=False)
    with torch.no_grad():
        model.depth[0] = 0.8
        model.depth[1] = 0.3  # frame 1 sees something nearer
        model.depth[2] = 0.8
    pixels = torch.tensor([[[10.0, 5.0]]])
    for frame, hidden in ((1, True), (2, False)):
        prediction = model.predict(torch.tensor([0]), pixels, torch.tensor([frame]))
        assert torch.allclose(prediction.pixels, pixels, atol=1e-4)  # the start is the identity map
        assert (prediction.occlusion_score.item() > 0.5) == hidden
        assert prediction.depth.item() == pytest.approx(0.8, abs=1e-5)
