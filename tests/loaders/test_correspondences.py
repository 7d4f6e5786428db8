"""What the sampler draws, against brute force and closed forms, on a hand-made pool of correspondences."""

import numpy as np
import pytest
import torch

from loaders.correspondences import CorrespondencePool, Sampler, blur, draw, pair_weight
from loaders.surface_sampler import SurfaceSampler
from tests.helpers.hand_made_data import H, HandMadeData, N, W
from training.evidence import evidence


def make_sampler(data=None, **options):
    return Sampler(CorrespondencePool(data or HandMadeData(), torch.device("cpu")), **options)


def frequencies(indices, size):
    indices = np.asarray(indices).ravel()
    return np.bincount(indices, minlength=size) / len(indices)


def test_draw_is_proportional_and_never_takes_weight_zero():
    weights = torch.tensor([[0.0, 1, 3, 0, 4, 0], [5.0, 0, 0, 0, 0, 5]])
    index = draw(weights, 40_000, torch.Generator().manual_seed(0))
    for row in range(2):
        expected = (weights[row] / weights[row].sum()).numpy()
        found = frequencies(index[row], 6)
        assert np.abs(found - expected).max() < 0.01
        assert (found[expected == 0] == 0).all()


def test_batch_content():
    data = HandMadeData()
    batch = make_sampler(data, swap=False).sample(64, 20, N)
    i, j = batch.frames_1, batch.frames_2
    offset = batch.pixels_2 - batch.pixels_1
    assert torch.equal(offset[..., 0], (j - i)[:, None].float().expand(-1, 20)) and (offset[..., 1] == 0).all()
    assert torch.equal(batch.pixels_1, batch.pixels_1.round())
    x, y = batch.pixels_1.long().unbind(-1)
    expected = torch.from_numpy(data.video)[i[:, None], y, x].float() / 255
    assert torch.allclose(batch.rgb_1, expected)
    valid = torch.from_numpy(data.cycle | data.occluded)[i[:, None], j[:, None], y, x]
    assert (valid | ((i - j).abs() == 1)[:, None]).all()  # adjacent pairs use every pixel, others the valid ones


def test_swapped_pairs_are_as_consistent_as_others():
    """The flow moves pixels by whole pixels in x, so that either end is a pixel, whose colour the batch has to have."""
    data = HandMadeData()
    batch = make_sampler(data).sample(64, 20, N)
    i, j = batch.frames_1, batch.frames_2
    assert (i != batch.source_frames).any() and (i == batch.source_frames).any()
    assert (batch.source_frames == torch.where(i == batch.source_frames, i, j)).all()
    offset = torch.stack([(j - i).float(), torch.zeros(64)], -1)[:, None]
    assert torch.equal(batch.pixels_2 - batch.pixels_1, offset.expand(-1, 20, -1))
    at_source = torch.where((i == batch.source_frames)[:, None, None], batch.pixels_1, batch.pixels_2)
    assert torch.equal(batch.source_cells.float(), at_source[..., 1] * W + at_source[..., 0])
    for pair, point in np.ndindex(64, 20):
        x, y = batch.pixels_1[pair, point].long().tolist()
        expected = data.video[i[pair], y, x] / 255 if 0 <= x < W else np.zeros(3)
        assert np.allclose(batch.rgb_1[pair, point].numpy(), expected, atol=1e-6)


def test_partner_distribution():
    data = HandMadeData()
    sampler = make_sampler(data)
    counts = data.pair_counts[0, 1:].astype(float)
    expected = counts / counts.sum()
    expected[0] = 0.5  # the adjacent frame
    expected /= expected.sum()
    found = sampler._probability(0, np.array([1, 2, 3, 4]))
    assert np.allclose(found, expected)
    numbers = sampler._choose_pairs(3000, max_interval=2)
    sources, targets = sampler.pool.sources[numbers], sampler.pool.targets[numbers]
    assert np.abs(sources - targets).max() == 2
    assert np.abs(frequencies(sources, N) - 1 / N).max() < 0.04
    of_first = frequencies(targets[sources == 0], N)
    second = counts[1] / counts[:2].sum()
    assert of_first[1] == pytest.approx(0.5 / (0.5 + second), abs=0.06) and of_first[0] == 0


def test_pairs_are_numbered_as_they_are_stored():
    pool = CorrespondencePool(HandMadeData(), torch.device("cpu"))
    pairs = [(i, j) for i in range(N) for j in range(N) if j != i]
    assert list(zip(pool.sources.tolist(), pool.targets.tolist())) == pairs
    everything = [(i, j) for i in range(N) for j in range(N)]
    expected = [pairs.index(pair) if pair in pairs else -1 for pair in everything]
    assert pool.number(*np.array(everything).T).tolist() == expected
    for reach in (1, 2, N):
        for i, first, end in zip(range(N), *pool.numbers_near(np.arange(N), reach)):
            assert pool.targets[first:end].tolist() == [j for j in range(N) if 0 < abs(i - j) <= reach]
            assert (pool.sources[first:end] == i).all()


def test_pixels_follow_the_count_map_before_error_maps():
    data = HandMadeData()
    sampler = make_sampler(data, swap=False)
    mask = torch.from_numpy((data.cycle | data.occluded)[2, 4].reshape(1, -1))
    weights = sampler._pixel_weights(mask, torch.tensor([2]))[0].numpy()
    expected = mask[0].numpy() / np.sqrt(data.count_map(2).ravel() + 1.0)
    assert np.allclose(weights, expected)


def test_pixels_are_half_by_error_half_uniform():
    sampler = make_sampler(swap=False)
    maps = torch.rand(N, H, W)
    sampler.set_error_maps(maps)
    mask = torch.rand(1, H * W) < 0.6
    weights = sampler._pixel_weights(mask, torch.tensor([1]))[0]
    error = blur(maps)[1].flatten() * mask[0]
    expected = 0.5 * error / error.sum() + 0.5 * mask[0] / mask.sum()
    assert torch.allclose(weights / weights.sum(), expected, atol=1e-6)
    frames = sampler.pool.sources[sampler._choose_pairs(4000, N)]
    expected = maps.mean((1, 2)) / maps.mean((1, 2)).sum()
    assert np.abs(frequencies(frames, N) - expected.numpy()).max() < 0.04


def test_blur_equals_opencv():
    import cv2

    image = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    expected = cv2.GaussianBlur(image, (5, 5), 0, borderType=cv2.BORDER_REPLICATE)
    assert np.allclose(blur(torch.from_numpy(image)[None])[0].numpy(), expected, atol=1e-4)


def test_swapped_pairs_keep_only_covisible_points():
    data = HandMadeData()
    batch = make_sampler(data).sample(400, 30, N)
    swapped = batch.frames_1 != batch.source_frames
    assert 0.4 < swapped.float().mean() < 0.6
    source, target = batch.source_frames, torch.where(swapped, batch.frames_1, batch.frames_2)
    at_source = torch.where(swapped[:, None, None], batch.pixels_2, batch.pixels_1).long()
    cycle = torch.from_numpy(data.cycle)[source[:, None], target[:, None], at_source[..., 1], at_source[..., 0]]
    assert torch.equal(batch.weight > 0, (cycle | ~swapped[:, None]) & (batch.weight > 0))
    assert (batch.weight[swapped][~cycle[swapped]] == 0).all() and (batch.weight[~swapped] > 0).all()


def test_a_pair_without_valid_pixels_has_weight_zero():
    batch = make_sampler(HandMadeData(valid_share=0.0)).sample(50, 10, N)
    adjacent = (batch.frames_1 - batch.frames_2).abs() == 1
    assert adjacent.all()  # nothing else has a valid correspondence, so nothing else is drawn
    data = HandMadeData(valid_share=0.0)
    sampler = make_sampler(data, swap=False)
    sampler._choose_pairs = lambda *_: sampler.pool.number(np.array([0]), np.array([3]))
    batch = sampler.sample(1, 10, N)
    assert (batch.weight == 0).all() and torch.isfinite(batch.rgb_1).all()


def test_pair_weight():
    assert pair_weight(1, 20) == pytest.approx(1.0)
    assert pair_weight(11, 20) == pytest.approx(np.cos(np.pi / 4))
    assert pair_weight(11, 20, "inverse_cos") == pytest.approx(2**0.5)


def test_online_error_maps_learn_where_errors_are():
    sampler = make_sampler(online=True, swap=False)
    for _ in range(30):
        batch = sampler.sample(16, 40, N)
        left = batch.pixels_1[..., 0] < 3
        sampler.learn(batch, torch.where(left, 2.0, 0.0) + 0.1)
        sampler.publish()
    image = sampler.error_maps[:, sampler.cell_of_pixel].reshape(N, H, W)
    assert image[..., :2].mean() > 5 * image[..., 4:].mean()


def test_same_seed_same_batches_and_state_restores():
    first, second = make_sampler(seed=3, online=True), make_sampler(seed=3, online=True)
    for _ in range(3):
        a, b = first.sample(4, 8, 3), second.sample(4, 8, 3)
        assert all(torch.equal(x, y) for x, y in zip(a, b))
        first.learn(a, torch.ones(4, 8))
        first.publish()
        second.learn(b, torch.ones(4, 8))
        second.publish()
    third = make_sampler(seed=99, online=True)
    third.load_state_dict(first.state_dict())
    assert all(torch.equal(x, y) for x, y in zip(first.sample(4, 8, 3), third.sample(4, 8, 3)))


def test_storage_on_disk_equals_host(tmp_path):
    data = HandMadeData()
    on_disk = CorrespondencePool(data, torch.device("cpu"), "disk")
    in_memory = CorrespondencePool(data, torch.device("cpu"), "host")
    for kind in (Sampler, SurfaceSampler):
        samplers = [kind(pool, seed=1) for pool in (on_disk, in_memory)]
        batches = [sampler.sample(8, 16, 3) for sampler in samplers]
        assert all(torch.equal(x, y) for x, y in zip(*batches))
    seen = [evidence(sampler.pool, batches[0], batches[0].pixels_2) for sampler in samplers]
    assert all(torch.equal(x, y) for x, y in zip(*seen))


def test_colours_between_pixels():
    pool = CorrespondencePool(HandMadeData(), torch.device("cpu"))
    video = pool.frames.reshape(N, H, W, 3).float() / 255
    pixels = torch.tensor([[[2.5, 3.0], [2.0, 3.25], [-5.0, 0.0]]])
    found = pool.colours(torch.tensor([1]), pixels)[0]
    assert torch.allclose(found[0], (video[1, 3, 2] + video[1, 3, 3]) / 2)
    assert torch.allclose(found[1], 0.75 * video[1, 3, 2] + 0.25 * video[1, 4, 2])
    assert (found[2] == 0).all()
