"""The surface model: its depth maps, the order found in occlusions, and the evidence its batches carry."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import preprocess
from benchmarks.scenes import SceneFlow, make_scene
from loaders.correspondences import CorrespondencePool
from loaders.data_dir import pack_mask
from loaders.surface_sampler import SurfaceSampler
from networks.build import build_model
from networks.surface import grid_size, sample_grid
from training.depth_order import edge_weights, initial_depth, total_variation


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
    cycle, _ = sampler.pool.masks(torch.from_numpy(sampler.pool.number(batch.frames_1.numpy(), batch.frames_2.numpy())))
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
    """Data of which SurfaceSampler._confirmed asks flow and masks: random ones, frames 0 and 3 not paired."""

    num_frames, height, width, flow_step, stored = 4, 5, 6, 1 / 32, [[1, 2], [0, 2, 3], [0, 1, 3], [1, 2]]
    pair_counts = None

    def __init__(self):
        random = np.random.default_rng(1)
        self.flow = random.normal(0, 48, (4, 4, 5, 6, 2)).astype(np.int16)  # 1.5 pixels
        self.cycle = random.random((4, 4, 5, 6)) < 0.7

    def rows(self, i):
        return {j: row for row, j in enumerate(self.stored[i])}

    def flow_fixed(self, i):
        return self.flow[i, self.stored[i]]

    def valid_bits(self, i):
        return np.stack([pack_mask(np.stack([self.cycle[i, j], ~self.cycle[i, j]])) for j in self.stored[i]])

    def frames(self):
        return np.zeros((4, 5, 6, 3), np.uint8)

    def count_map(self, i):
        return np.zeros((5, 6), np.uint16)


def test_third_frames_confirm_or_contradict_as_in_a_loop():
    data, pairs = FourFrames(), [(0, 1), (3, 2), (1, 3), (2, 1), (0, 2)]
    sampler = SurfaceSampler(CorrespondencePool(data, torch.device("cpu")))
    pool, drawn, index = sampler.pool, [], torch.arange(30).expand(5, 30)
    choose = sampler._choose_targets
    sampler._choose_targets = lambda *asked: drawn.append(choose(*asked)) or drawn[-1]
    pixels_1 = torch.stack([index % 6, index // 6], -1).float()
    pixels_2 = pixels_1 + torch.from_numpy(np.stack([data.flow[pair].reshape(30, 2) / 32 for pair in pairs])).float()
    found = sampler._confirmed(pool.number(*np.array(pairs).T), index, pixels_1, pixels_2)
    votes = np.zeros((5, 30), int)
    for witness, (p, n) in ((w, at) for w in range(3) for at in np.ndindex(5, 30)):
        (i, j), k = pairs[p], pool.targets[drawn[witness][p]]
        x, y = (min(max(round(v), 0), most) for v, most in zip(pixels_2[p, n].tolist(), (5, 4)))
        at_1, at_2 = (n // 6, n % 6), (y, x)
        if k in data.stored[i] and k in data.stored[j] and data.cycle[i, k][at_1] and data.cycle[j, k][at_2]:
            end_1 = pixels_1[p, n].numpy() + data.flow[i, k][at_1] / 32
            end_2 = pixels_2[p, n].numpy() + data.flow[j, k][at_2] / 32
            votes[p, n] += 1 if np.linalg.norm(end_1 - end_2) < 2 else -1
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


@pytest.mark.parametrize("mapping", ["grid", "invertible"])
def test_conditions_of_all_frames_at_once_are_those_of_each(mapping):
    torch.manual_seed(0)
    model = build_model(9, 20, 30, rendering="surface", mapping=mapping, coupling_width=8, field_width=8)
    with torch.no_grad():
        for parameter in model.mapping.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    points, frames = torch.rand(4, 10, 3), torch.tensor([7, 0, 7, 3])
    expected = model.to_frame(model.to_canonical(points, frames), frames.flip(0))
    with model.frames_at_once():
        found = model.to_frame(model.to_canonical(points, frames), frames.flip(0))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - points).abs().max() > 1e-2 and model.conditions is None
