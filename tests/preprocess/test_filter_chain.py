"""Filter and chain kernels: against the reference's tensors, brute-force loops, and worked cases."""

import math

import numpy as np
import pytest
import torch

from flow.appearance import FeatureMap, sample_features
from preprocess.chain import appearance_agrees, chain_frame, hops
from preprocess.filter import cycle_masks, filter_frame, filter_pairs
from tests.helpers.paths import CONFORMANCE

TENSORS = CONFORMANCE / "preprocess.npz"


@pytest.fixture(scope="module")
def reference():
    if not TENSORS.exists():
        pytest.skip(f"no conformance tensors at {TENSORS} (set OMNIMOTION_CONFORMANCE)")
    return dict(np.load(TENSORS))


def feature_maps(reference):
    return [FeatureMap(features) for features in torch.from_numpy(reference["in/features"])]


@pytest.fixture(scope="module")
def filtered(reference):
    """Our cycle and occluded masks (N, N, H, W) of the reference's flow."""
    flow, features = torch.from_numpy(reference["in/flow"]), feature_maps(reference)
    frames = range(len(flow))
    masks = np.zeros((2, *flow.shape[:4]), bool)
    for i in frames:
        partners = [j for j in frames if j != i]
        masks[:, i, partners] = filter_frame(i, partners, lambda a, b: flow[a, b], features).swapaxes(0, 1)
    return masks


def test_filter_reproduces_the_reference(reference, filtered):
    for mask, name in zip(filtered, ("mask_cycle", "mask_occluded")):
        assert (mask != reference[f"filtered/{name}"]).mean() <= 1e-3
    valid = filtered.any(0)
    assert (valid.sum(1) != reference["filtered/count_maps"]).mean() <= 1e-3
    assert np.abs(valid.sum((2, 3)) - reference["filtered/pair_counts"]).max() <= 1e-3 * valid[0, 0].size


def test_chain_reproduces_the_reference(reference, filtered):
    flow, features = torch.from_numpy(reference["in/flow"]), feature_maps(reference)
    images = torch.from_numpy(reference["in/frames"]).float() / 255
    masks = torch.from_numpy(filtered)
    chained, valid = np.zeros_like(reference["in/flow"]), np.zeros_like(filtered)
    for i in range(len(flow)):
        partners = [j for j in range(len(flow)) if j != i]
        walk = chain_frame(i, partners, lambda a, b: flow[a, b], lambda a, b: masks[:, a, b], images, features)
        for j, *result in walk:
            chained[i, j], valid[0, i, j], valid[1, i, j] = (part.numpy() for part in result)
    np.testing.assert_allclose(chained, reference["chained/flow"], rtol=1e-4, atol=1e-4)
    assert (valid[0] != reference["chained/mask_cycle"]).mean() <= 1e-3
    assert (valid[1] != reference["chained/mask_occluded"]).mean() <= 1e-3
    assert (valid.any(0).sum(1) != reference["chained/count_maps"]).mean() <= 1e-3


def bilinear(grid, x, y):
    """Plain bilinear look-up of (H, W, C) with zeros outside."""
    total = np.zeros(grid.shape[2])
    for row, column in ((math.floor(y) + b, math.floor(x) + a) for a in (0, 1) for b in (0, 1)):
        if 0 <= row < grid.shape[0] and 0 <= column < grid.shape[1]:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * grid[row, column]
    return total


def brute_force_masks(flow, back, features_1, features_2, interval, threshold):
    """The filter of one pair as the method words it, pixel by pixel."""
    height, width = flow.shape[:2]
    scale = np.array([(features_1.shape[1] - 1) / (width - 1), (features_1.shape[0] - 1) / (height - 1)])
    cycle, occluded = np.zeros((2, height, width), bool)
    for y, x in np.ndindex(height, width):
        start = np.array([x, y], float)
        there = start + flow[y, x]
        again = there + bilinear(back, *there)
        error = np.linalg.norm(again - start)
        cycle[y, x] = error < threshold
        if interval >= 3:
            a, b = bilinear(features_1, *start * scale), bilinear(features_2, *there * scale)
            cycle[y, x] &= a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-8) > 0.5
        else:
            second = np.linalg.norm(again + bilinear(flow, *again) - there)
            inside = 0 <= there[0] <= width - 1 and 0 <= there[1] <= height - 1
            occluded[y, x] = second < threshold and error > 1.5 * threshold and inside
    return cycle, occluded


@pytest.mark.parametrize("interval", [1, 2, 3])
def test_filter_equals_a_loop_over_pixels(interval):
    random = np.random.default_rng(interval)
    flow = random.uniform(-2.5, 2.5, (9, 11, 2))
    back = -flow + random.normal(0, 0.8, flow.shape)
    features = random.normal(0.4, 1, (2, 5, 6, 4))
    expected = brute_force_masks(flow, back, *features, interval, threshold=0.9)
    flow, back, *maps = (torch.from_numpy(array).float() for array in (flow, back, *features))
    first, second = map(FeatureMap, maps)
    cycle, occluded = filter_pairs(flow[None], back[None], first, [second], [interval], 0.9)
    assert expected[0].any()
    assert not expected[0].all()
    assert expected[1].any() == (interval < 3)
    assert np.array_equal(cycle[0], expected[0])
    assert np.array_equal(occluded[0], expected[1])


def test_hidden_pixels_with_repeating_flow_are_occluded_but_reliable():
    """Two rigid halves: the right one stays, the left one moves 6 px over it."""
    flow, back = torch.zeros(1, 8, 24, 2), torch.zeros(1, 8, 24, 2)
    flow[:, :, :12, 0] = 6.0
    back[:, :, 6:18, 0] = -6.0
    cycle, occluded = cycle_masks(flow, back)
    assert cycle[0, :, :12].all()  # what moves is seen in both frames
    # still pixels 12..17 get covered: there and back ends 6 px to the left, on the moving half, whose flow returns
    assert occluded[0, :, 12:18].all()
    assert not cycle[0, :, 12:18].any()
    assert cycle[0, :, 18:].all()
    assert occluded.sum() == 8 * 6


def test_features_of_any_resolution_meet_at_the_corners():
    features = torch.arange(6.0).view(2, 3, 1)
    corners = torch.tensor([[0, 0], [20, 0], [0, 10], [20, 10], [10, 5], [21, 0]]).float()
    sampled = sample_features(features, corners, height=11, width=21)
    assert sampled[0].tolist() == pytest.approx([0, 2, 3, 5, 2.5, 1.8], abs=1e-5)  # the last is 1/10 cell outside
    assert FeatureMap(features).of_pixels(2, 3)[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert FeatureMap(features).of_pixels(1 + 2, 3)[0].tolist() == pytest.approx([0, 1, 2, 1.5, 2.5, 3.5, 3, 4, 5])


class Clip:
    """A random texture that moves 2 px to the right a frame; direct flow beyond adjacent frames is useless."""

    size, step, num_frames = (12, 40), 2.0, 6
    exact = ()  # pairs that are not adjacent, and yet right

    def __init__(self):
        texture = torch.rand(12, 60, 3, generator=torch.Generator().manual_seed(0))
        self.images = torch.stack([texture[:, 20 - 2 * i : 60 - 2 * i] for i in range(self.num_frames)])
        self.features = [FeatureMap(image * 2 - 1) for image in self.images]
        self.masks = {}

    def right(self, i, j):
        return abs(i - j) == 1 or (i, j) in self.exact

    def flow(self, i, j):
        exact = torch.zeros(*self.size, 2)
        exact[..., 0] = self.step * (j - i) if self.right(i, j) else 99.0
        return exact

    def read_masks(self, i, j):
        nothing = torch.zeros(self.size, dtype=torch.bool)
        x = torch.arange(self.size[1]).expand(self.size)
        arrives = (x + self.step * (j - i) >= 0) & (x + self.step * (j - i) <= self.size[1] - 1)
        return self.masks.get((i, j), (arrives if self.right(i, j) else nothing, nothing))

    def chain(self, i, partners, **limits):
        walk = chain_frame(i, partners, self.flow, self.read_masks, self.images, self.features, **limits)
        return {j: (flow, cycle, occluded) for j, flow, cycle, occluded in walk}


def test_chaining_adds_up_adjacent_flow_both_ways():
    chained = Clip().chain(3, [0, 1, 2, 4, 5])
    assert set(chained) == {0, 1, 2, 4, 5}
    x = torch.arange(40).expand(12, 40)
    for j, (flow, cycle, _) in chained.items():
        arrived = x + 2 * (j - 3)
        inside = (arrived >= 0) & (arrived <= 39)
        assert cycle[(arrived > 0) & (arrived < 39)].all()  # on the border itself rounding decides
        assert not cycle[~inside].any()
        torch.testing.assert_close(flow[inside], torch.tensor([2.0 * (j - 3), 0.0]).expand(int(inside.sum()), 2))


def test_a_chain_goes_from_partner_to_partner():
    """Flow between frames 1 and 4 is exact, so that frames 2 and 3 need not be right, and are not asked."""
    clip = Clip()
    clip.exact = ((1, 4),)
    clip.features[2].map[:] *= -1
    chained = clip.chain(0, [1, 4, 5])
    assert set(chained) == {1, 4, 5}
    for j in (4, 5):
        seen = torch.arange(40).expand(12, 40) + 2 * j < 39
        assert chained[j][1][seen].all() and not chained[j][1][:, 40 - 2 * j :].any()
        torch.testing.assert_close(chained[j][0][seen], torch.tensor([2.0 * j, 0.0]).expand(int(seen.sum()), 2))
    back = clip.chain(5, [1, 4])
    assert not back[1][1].any() and back[4][1][:, 2:].all()  # from 4 to 1 there is nothing to go by: on, as steadily
    assert (back[1][0] == torch.tensor([-8.0, 0.0])).all()
    torch.testing.assert_close(clip.chain(0, [1, 4, 5], trusted_up_to=3)[4], chained[4])


def test_where_far_flow_is_not_trusted_a_chain_goes_frame_by_frame():
    clip = Clip()
    chained, every = clip.chain(0, [1, 2, 4], trusted_up_to=1), clip.chain(0, [1, 2, 3, 4])
    assert set(chained) == {1, 2, 4} and chained[4][1].any()
    for found, expected in zip(chained[4], every[4]):
        torch.testing.assert_close(found, expected)
    assert list(hops([5, 4, 2, -2], 2)) == [(5, 4), (4, 2), (2, 1), (1, 0), (0, -1), (-1, -2)]


def test_the_chain_ends_where_colour_or_features_change_and_starts_again_from_direct_flow():
    clip = Clip()
    clip.images[2, 3, 10] = 1 - clip.images[2, 3, 10].round()  # seen from x = 6 in frame 0
    clip.features[3].map[5, 20] *= -1  # seen from x = 14
    restored = torch.zeros(12, 40, dtype=torch.bool)
    restored[3, 6] = True
    clip.masks[0, 4] = restored, torch.zeros_like(restored)
    chained = clip.chain(0, [1, 2, 3, 4, 5])
    assert [bool(chained[j][1][3, 6]) for j in (1, 2, 3, 4)] == [True, False, False, True]
    assert chained[4][0][3, 6].tolist() == [99.0, 0.0]  # the direct flow, as it is called consistent
    assert [bool(chained[j][1][5, 14]) for j in (1, 2, 3, 4)] == [True, True, False, False]


def test_direct_occlusion_ends_a_chain_but_keeps_the_direct_flow():
    clip = Clip()
    hidden = torch.zeros(12, 40, dtype=torch.bool)
    hidden[4, 9] = True
    clip.masks[0, 2] = torch.zeros_like(hidden), hidden
    chained = clip.chain(0, [1, 2, 3])
    flow, cycle, occluded = chained[2]
    assert not cycle[4, 9]
    assert occluded[4, 9]
    assert flow[4, 9].tolist() == [99.0, 0.0]
    assert not chained[3][1][4, 9]


def test_untrusted_pixels_get_the_direct_flow_up_to_so_many_frames():
    clip = Clip()
    clip.images[2, 3, 10] = 1 - clip.images[2, 3, 10].round()  # seen from x = 6 in frame 0: not trusted from there on
    lost, kept = clip.chain(0, [1, 2, 3], direct_up_to=2), clip.chain(0, [1, 2, 3])
    assert lost[2][0][3, 6].tolist() == [99.0, 0.0] and kept[2][0][3, 6].tolist() == [4.0, 0.0]
    assert lost[3][0][3, 6].tolist() == [6.0, 0.0]  # too far apart
    trusted = lost[2][1]
    assert trusted.any() and torch.equal(lost[2][0][trusted], kept[2][0][trusted])
    assert all(torch.equal(lost[j][1], kept[j][1]) for j in (1, 2, 3))


def test_only_the_pixels_asked_for_are_compared():
    image, features = torch.rand(6, 8, 3), torch.rand(6, 8, 5)
    asked = torch.rand(6, 8) > 0.5
    features = FeatureMap(features)
    agrees = appearance_agrees(torch.zeros(6, 8, 2), asked, image, image, features.of_pixels(6, 8), features)
    assert torch.equal(agrees, asked)


def test_feature_maps_are_resized_with_half_pixel_centres():
    resized = FeatureMap(torch.tensor([0.0, 1.0]).view(1, 2, 1)).of_pixels(1, 4, align_corners=False)
    assert resized.flatten().tolist() == pytest.approx([0, 0.25, 0.75, 1])
