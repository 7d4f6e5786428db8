"""What the sampler of surfaces draws, against loops and by hand."""

import numpy as np
import pytest
import torch

from loaders.correspondences import CorrespondencePool, Sampler
from loaders.data_dir import pack_mask
from loaders.surface_sampler import SurfaceSampler, nearest_index
from tests.helpers.hand_made_data import H, HandMadeData, N, W


def test_content_of_a_surface_batch():
    data = HandMadeData()
    sampler = SurfaceSampler(CorrespondencePool(data, torch.device("cpu")), online=True)
    batch = sampler.sample(64, 20, N)
    assert batch.pixels_1[..., 0].max() == W - 1 and batch.pixels_1[..., 1].max() == H - 1
    assert torch.equal(batch.source_frames, batch.frames_1)
    for pair, point in np.ndindex(64, 20):
        i, j = int(batch.frames_1[pair]), int(batch.frames_2[pair])
        x, y = batch.pixels_1[pair, point].long().tolist()
        assert batch.pixels_2[pair, point].tolist() == [x + j - i, y]
        assert np.allclose(batch.rgb_1[pair, point].numpy(), data.video[i, y, x] / 255, atol=1e-6)
        assert batch.source_cells[pair, point] == y // 2 * 4 + x // 2  # cells of 2 pixels, 4 of them a row
        assert sampler.pool.sources[batch.backward[pair]] == j and sampler.pool.targets[batch.backward[pair]] == i


@pytest.mark.parametrize("kind", ["cos", "inverse_cos"])
def test_a_covisible_pixels_weight_is_that_of_the_distance_in_time(kind):
    """The flow is right everywhere, so that only its cycle mask says what is covisible."""
    data = HandMadeData()
    batch = SurfaceSampler(CorrespondencePool(data, torch.device("cpu")), pair_weight=kind).sample(64, 20, N)
    assert batch.weight.dtype == torch.float32 and 0.3 < batch.covisible.float().mean() < 0.7
    for pair, point in np.ndindex(64, 20):
        i, j = int(batch.frames_1[pair]), int(batch.frames_2[pair])
        x, y = batch.pixels_1[pair, point].long().tolist()
        assert batch.covisible[pair, point] == data.cycle[i, j, y, x]
        cosine = np.cos((abs(i - j) - 1) / N * np.pi / 2)
        expected = (cosine if kind == "cos" else 1 / cosine) * data.cycle[i, j, y, x]
        assert batch.weight[pair, point].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", [Sampler, SurfaceSampler])
def test_a_batch_goes_to_another_device_as_a_whole(kind):
    batch = kind(CorrespondencePool(HandMadeData(), torch.device("cpu"))).sample(2, 3, N)
    moved = batch.to(torch.device("meta"))
    assert type(moved) is type(batch)
    for before, after in zip(batch, moved, strict=True):
        assert after.device.type == "meta" and (after.shape, after.dtype) == (before.shape, before.dtype)


def test_pixels_by_error_are_spread_as_the_cells_say():
    """Cells of 4 x 4 pixels, with a quarter and three quarters of the error; what lies beyond the image is its rim."""
    sampler = SurfaceSampler(CorrespondencePool(HandMadeData(), torch.device("cpu")))
    sampler.cell, sampler.grid, sampler.error_maps = 4, (2, 2), torch.tensor([[0.5, 0, 0, 1.5]]).expand(N, -1)
    expected = np.zeros((H, W))
    for dy, dx in np.ndindex(4, 4):
        expected[dy, dx] += 0.25 / 16
        expected[min(4 + dy, H - 1), min(4 + dx, W - 1)] += 0.75 / 16
    index = sampler._draw_pixels(torch.tensor([3]), 100_000)[0, :50_000]
    found = np.bincount(index, minlength=H * W).reshape(H, W) / len(index)
    assert np.abs(found - expected).max() < 0.01 and (found[expected == 0] == 0).all()


def test_of_an_odd_number_of_pixels_the_larger_half_is_uniform():
    sampler = SurfaceSampler(CorrespondencePool(HandMadeData(), torch.device("cpu")), online=True)
    sampler.error_maps = torch.eye(N, 3 * 4) * 2  # frame i: all of its error is in cell i
    index = sampler._draw_pixels(torch.full((200,), 1), 3)
    in_cell = ((index % W) // 2 == 1) & (index // W < 2)
    assert in_cell[:, 0].all() and (in_cell[:, 1:].float().mean(0) < 0.25).all()  # 4 of 42 pixels


def test_the_same_seed_draws_the_same_pixels_by_error():
    drawn = []
    for seed in (1, 1, 2):
        sampler = SurfaceSampler(CorrespondencePool(HandMadeData(), torch.device("cpu")), seed=seed, online=True)
        sampler.error_maps = torch.ones(N, 3 * 4)
        drawn.append(sampler._draw_pixels(torch.tensor([1, 4]), 100))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_surface_pixels_are_half_from_where_the_error_is():
    sampler = SurfaceSampler(CorrespondencePool(HandMadeData(), torch.device("cpu")), online=True)
    sampler.error_maps = torch.zeros(N, 3 * 4)  # cells of 2 pixels, the last ones of a row are 1 pixel wide
    sampler.error_maps[1, 2 * 4 + 1] = sampler.error_maps[4, 1 * 4 + 3] = 5.0
    index = sampler._draw_pixels(torch.tensor([1, 4]), 400)
    x, y = index % W, index // W
    assert set(zip(x[0, :200].tolist(), y[0, :200].tolist())) == {(2, 4), (3, 4), (2, 5), (3, 5)}
    assert set(zip(x[1, :200].tolist(), y[1, :200].tolist())) == {(6, 2), (6, 3)}
    assert len(index[:, 200:].unique()) == H * W  # all pixels


def test_the_nearest_pixel():
    pixels = torch.tensor([[[2.4, 0.6], [0.6, 2.4], [6.4, 5.4], [-3.0, 9.0], [9.0, 1.0]]])
    assert nearest_index(pixels, H, W).tolist() == [[1 * W + 2, 2 * W + 1, 5 * W + 6, 5 * W, 1 * W + 6]]


@pytest.mark.slow
def test_batches_say_what_the_flow_says(flow_scene, surface_sampler):
    pool = surface_sampler.pool
    batch = surface_sampler.sample(30, 40, 11)
    cycle, _ = pool.masks(torch.from_numpy(pool.number(batch.frames_1.numpy(), batch.frames_2.numpy())))
    cycle = cycle.gather(1, (batch.pixels_1[..., 1] * 64 + batch.pixels_1[..., 0]).long())
    assert not (batch.covisible & ~cycle).any() and batch.covisible[cycle].float().mean() > 0.95  # the flow is right
    assert torch.equal(batch.weight > 0, batch.covisible)
    for p in range(0, 30, 7):
        flow, _ = flow_scene.flow(int(batch.frames_1[p]), int(batch.frames_2[p]))
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
        self.flow = random.normal(0, 32, (4, 4, 5, 6, 2)).astype(np.int16)  # 1 pixel
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
    data, pairs = FourFrames(), [(0, 1), (3, 2), (1, 3), (2, 1), (0, 2), (1, 0), (2, 0)] * 3
    sampler = SurfaceSampler(CorrespondencePool(data, torch.device("cpu")))
    pool, drawn, index = sampler.pool, [], torch.arange(30).expand(21, 30)
    choose = sampler._choose_targets
    sampler._choose_targets = lambda *asked: drawn.append(choose(*asked)) or drawn[-1]
    pixels_1 = torch.stack([index % 6, index // 6], -1).float()
    pixels_2 = pixels_1 + torch.from_numpy(np.stack([data.flow[pair].reshape(30, 2) / 32 for pair in pairs])).float()
    found = sampler._confirmed(pool.number(*np.array(pairs).T), index, pixels_1, pixels_2)
    votes = np.zeros((21, 30), int)
    for witness, (p, n) in ((w, at) for w in range(3) for at in np.ndindex(21, 30)):
        (i, j), k = pairs[p], pool.targets[drawn[witness][p]]
        x, y = (min(max(round(v), 0), most) for v, most in zip(pixels_2[p, n].tolist(), (5, 4)))
        at_1, at_2 = (n // 6, n % 6), (y, x)
        if k in data.stored[i] and k in data.stored[j] and data.cycle[i, k][at_1] and data.cycle[j, k][at_2]:
            end_1 = pixels_1[p, n].numpy() + data.flow[i, k][at_1] / 32
            end_2 = pixels_2[p, n].numpy() + data.flow[j, k][at_2] / 32
            votes[p, n] += 1 if np.linalg.norm(end_1 - end_2) < 2 else -1
    assert (votes > 0).any() and (votes < 0).any() and (votes == 0).any()
    assert np.array_equal(found.numpy(), votes >= 0)
