"""What the sampler draws, against brute force and closed forms, on a hand-made pool of correspondences."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from loaders import correspondences
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
    occluded = torch.from_numpy(data.occluded)[i[:, None], j[:, None], y, x]
    assert occluded[(i - j).abs() > 1].any()
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
    plain = make_sampler(data, count_map=False)._pixel_weights(mask, torch.tensor([2]))
    assert torch.equal(plain, mask.float())


def test_pixels_are_half_by_error_half_uniform():
    sampler = make_sampler(swap=False)
    maps = torch.rand(N, H, W) / 1000
    sampler.set_error_maps(maps)
    masks = torch.rand(2, H * W) < torch.tensor([[0.6], [0.3]])
    for frame, mask, weights in zip((1, 3), masks, sampler._pixel_weights(masks, torch.tensor([1, 3]))):
        error = blur(maps)[frame].flatten() * mask
        expected = 0.5 * error / error.sum() + 0.5 * mask / mask.sum()
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
    sampler._choose_pairs = lambda *_: sampler.pool.number(np.array([0, 0]), np.array([3, 1]))
    batch = sampler.sample(2, 10, N)
    assert (batch.weight[0] == 0).all() and (batch.weight[1] == 1).all() and torch.isfinite(batch.rgb_1).all()


def test_pair_weight():
    assert pair_weight(1, 20) == pytest.approx(1.0)
    assert pair_weight(11, 20) == pytest.approx(np.cos(np.pi / 4))
    assert pair_weight(11, 20, "inverse_cos") == pytest.approx(2**0.5)


@pytest.mark.parametrize("kind", ["cos", "inverse_cos"])
def test_pixels_weigh_as_their_pair_does(kind):
    batch = make_sampler(pair_weight=kind, swap=False).sample(30, 4, N)
    expected = pair_weight((batch.frames_1 - batch.frames_2).abs().numpy(), N, kind)
    assert batch.weight.dtype == torch.float32 and len(np.unique(expected)) == N - 1
    assert np.allclose(batch.weight.numpy(), expected[:, None])


def test_running_error_maps_move_by_a_fifth_towards_the_mean_error():
    """Cells that a batch hits once, often, with weight 0 only, and not at all; an error of 40 px counts as 5."""
    sampler = make_sampler(online=True)
    expected = np.random.default_rng(0).random((N, 12)) * 3
    sampler.running.copy_(torch.from_numpy(expected))
    batch = SimpleNamespace(source_frames=torch.tensor([1, 4, 1]), weight=torch.tensor([[1, 0.5], [0, 0], [0.1, 1]]),
                            source_cells=torch.tensor([[3, 7], [0, 2], [3, 3]]))
    error = torch.tensor([[1.0, 40], [2, 3], [0.5, 3]])
    for _ in range(2):
        sampler.learn(batch, error)
        expected[1, 3] += 0.2 * (4.5 / 3 - expected[1, 3])
        expected[1, 7] += 0.2 * (5 - expected[1, 7])
    np.testing.assert_allclose(sampler.running, expected, rtol=1e-5)
    assert sampler.error_maps is None and sampler.frame_error is None
    sampler.publish()
    np.testing.assert_allclose(sampler.error_maps, expected, rtol=1e-5)
    np.testing.assert_allclose(sampler.frame_error, expected.mean(1), rtol=1e-5)
    offline = make_sampler()
    offline.learn(batch, error)
    offline.publish()
    assert offline.error_maps is None


def test_frames_without_any_error_are_still_drawn():
    sampler = make_sampler()
    sampler.set_error_maps(torch.zeros(N, H, W))
    assert (sampler.frame_error > 0).all() and sampler.frame_error.max() < 1e-5


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
    assert third.error_maps is third.running  # what it learns it samples by, as before
    assert all(torch.equal(x, y) for x, y in zip(first.sample(4, 8, 3), third.sample(4, 8, 3)))


@pytest.mark.parametrize("rendered", [False, True])
def test_state_of_rendered_error_maps_restores(rendered):
    first, second = make_sampler(seed=3), make_sampler(seed=99)
    if rendered:
        first.set_error_maps(torch.rand(N, H, W))
    second.load_state_dict(first.state_dict())
    assert second.running is None and (second.error_maps is None) == (second.frame_error is None) == (not rendered)
    assert all(torch.equal(x, y) for x, y in zip(first.sample(4, 8, 3), second.sample(4, 8, 3)))


def test_state_before_anything_is_published_restores():
    first, second = make_sampler(seed=3, online=True), make_sampler(seed=99, online=True)
    first.learn(first.sample(4, 8, 3), torch.ones(4, 8))
    second.load_state_dict(first.state_dict())
    assert second.error_maps is None and torch.equal(second.running, first.running) and first.running.any()


def test_cells_of_running_error_maps_are_about_a_64th_of_the_longer_side():
    pool = SimpleNamespace(height=100, width=352, num_frames=2, device=torch.device("cpu"))
    sampler = Sampler(pool, online=True)
    assert (sampler.cell, sampler.grid, sampler.running.shape) == (6, (17, 59), (2, 17 * 59))
    for y, x in ((0, 5), (5, 6), (6, 0), (99, 351), (47, 200)):
        assert sampler.cell_of_pixel[y * 352 + x] == y // 6 * 59 + x // 6
    exact = Sampler(pool)
    assert exact.cell == 1 and exact.running is None and torch.equal(exact.cell_of_pixel, torch.arange(35200))


def test_where_correspondences_are_held(monkeypatch):
    """20 pairs of 42 pixels: 3,360 bytes of flow and 240 of masks; less than that, or 40 % of a GPU's memory."""
    data, cpu, free = HandMadeData(), torch.device("cpu"), {}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[device], 10**9))
    for limit, storage in ((3601, "host"), (3600, "disk")):
        monkeypatch.setattr(correspondences, "HOST_LIMIT", limit)
        pool = CorrespondencePool(data, cpu)
        assert pool.storage == storage and pool.device == cpu and isinstance(pool.flow, list) == (storage == "disk")
    for limit, storage in ((9001, "device"), (9000, "disk")):
        free[torch.device("cuda:1")] = limit
        assert pool._choose_storage(data, torch.device("cuda:1")) == storage
    for storage, device in (("device", "meta"), ("host", "cpu")):
        pool = CorrespondencePool(data, torch.device("meta"), storage)
        assert {tensor.device.type for tensor in (pool.flow, pool.bits, pool.frames, pool.counts)} == {device}
        assert pool.storage == storage and pool.device.type == device


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
