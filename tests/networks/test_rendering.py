"""Volume rendering against closed forms and brute force."""

import pytest
import torch

from networks import query, rendering
from networks.field import CanonicalField, contract
from networks.model import Prediction, Rays


def test_weights_against_a_loop():
    torch.manual_seed(0)
    density = torch.rand(3, 4, 7, dtype=torch.float64) * 2
    expected = torch.zeros_like(density)
    for index in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
        passed = 1.0
        for k, value in enumerate(density[tuple(index)].tolist()):
            alpha = 1 - torch.exp(torch.tensor(-value, dtype=torch.float64)).item()
            expected[(*index, k)] = alpha * passed
            passed *= 1 - alpha
    weights = rendering.compositing_weights(density)
    assert torch.allclose(weights, expected, atol=1e-9)
    # what is absorbed and what passes make up the whole: 1 - exp(-sum of densities)
    assert torch.allclose(weights.sum(-1), 1 - torch.exp(-density.sum(-1)), atol=1e-8)


def test_opaque_sample_hides_what_is_behind():
    density = torch.tensor([0.0, 50.0, 50.0, 1.0], requires_grad=True)
    weights = rendering.compositing_weights(density)
    assert torch.allclose(weights, torch.tensor([0.0, 1.0, 0.0, 0.0]), atol=1e-6)
    weights.square().sum().backward()
    assert torch.isfinite(density.grad).all()


def test_near_samples_are_masked():
    weights = rendering.compositing_weights(torch.full((10,), 100.0), near_fraction=0.2)
    assert torch.equal(weights.argmax(), torch.tensor(2))
    assert weights[:2].sum() == 0


def test_stratified_depths_stay_in_their_intervals():
    jitter = torch.rand(1000, 8)
    depths = rendering.stratified_depths(jitter)
    edges = torch.tensor([0, 1, 3, 5, 7, 9, 11, 13, 14]) / 7  # mid-points of linspace(0, 2, 8)
    assert (depths >= edges[:-1] - 1e-6).all() and (depths <= edges[1:] + 1e-6).all()
    assert depths.std(0).min() > 0.02


def test_ray_points_and_composites():
    points = rendering.ray_points(torch.tensor([[0.5, -0.25]]), torch.tensor([[0.0, 1.0, 2.0]]))
    assert torch.equal(points[0, 2], torch.tensor([0.5, -0.25, 2.0]))
    weights = torch.tensor([[0.2, 0.5, 0.1]])
    assert torch.allclose(rendering.composite(weights, points)[0], torch.tensor([0.4, -0.2, 0.7]))
    assert torch.equal(rendering.take_max_weight(weights, points)[0], points[0, 1])


@pytest.mark.parametrize("surface, expected", [(1.9, 0.9), (1.0, 0.6), (0.1, 0.0)])
def test_absorbed_counts_what_lies_clearly_in_front(surface, expected):
    depths = torch.linspace(0, 2, 5)  # 0, 0.5, 1, 1.5, 2; the tolerance is 1.1 * 2/5 = 0.44
    weights = torch.tensor([0.2, 0.4, 0.3, 0.05, 0.05])
    absorbed = rendering.absorbed_in_front(weights, depths, torch.tensor(surface))
    assert absorbed.item() == pytest.approx(expected, abs=1e-6)


def test_contraction():
    x = torch.tensor([[0.3, 0.0, 0.4], [3.0, 0.0, 4.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]], requires_grad=True)
    y = contract(x)
    assert torch.allclose(y[0], x[0])
    assert torch.allclose(y[1], torch.tensor([1.8 * 0.6, 0, 1.8 * 0.8]))  # |x| = 5 -> 2 - 1/5
    y.norm(dim=-1)[:2].sum().backward()
    contract(x).square().sum().backward()
    assert torch.isfinite(x.grad).all()  # at the origin too
    far = contract(torch.randn(100, 3) * 1e4)
    assert (far.norm(dim=-1) <= 2).all()


def test_field_ranges():
    torch.manual_seed(0)
    rgb, density = CanonicalField(width=16, num_layers=1)(torch.randn(5, 6, 3) * 3)
    assert rgb.shape == (5, 6, 3) and density.shape == (5, 6)
    assert (rgb >= 0).all() and (rgb <= 1).all() and (density >= 0).all()


class KnownModel(torch.nn.Module):
    """3 frames of 6 x 4 pixels, 2 samples a ray of weights 0.25 and 0.5, where every answer says what was asked.

    A ray at (x, y) of frame i has depths 1 and 2, colours (x, y, i) / 10 and (0.1, 0.2, 0.3), and canonical points
    (x + 100, y + 100, i + 100) and (x, y, i). From the canonical volume to frame j all moves by (j, 2 j).
    """

    num_frames, height, width = 3, 4, 6

    def __init__(self):
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))

    def cast(self, frame_ids, pixels):
        frame = frame_ids[:, None, None].expand(*pixels.shape[:2], 1).float()
        place = torch.cat([pixels, frame], dim=-1)
        canonical = torch.stack([place + 100, place], dim=-2)
        rgb = torch.stack([place / 10, torch.tensor([0.1, 0.2, 0.3]).expand_as(place)], dim=-2)
        depths, weights = (torch.tensor(pair).expand(*pixels.shape[:2], 2) for pair in ([1.0, 2.0], [0.25, 0.5]))
        return Rays(depths, canonical - 7, canonical, rgb, weights)

    def to_frame(self, points, frame_ids):
        step = frame_ids.float()[:, None, None] * torch.tensor([1.0, 2.0, 0.0])
        return points + (step if points.dim() == 3 else step[:, :, None])

    def describe(self, frame_ids, points):
        x, y, z = points.unbind(-1)
        return Prediction(points[..., :2], z, (x + 10 * y + 100 * frame_ids[:, None]) / 1000)


def test_a_rendered_frame_has_its_colours_and_depth_at_their_pixels():
    rendered = query.render_frame(KnownModel(), 2, chunk=5)
    assert rendered["rgb"].shape == (4, 6, 3) and rendered["depth"].shape == (4, 6)
    for y in range(4):
        for x in range(6):
            assert rendered["rgb"][y, x].tolist() == pytest.approx([0.025 * x + 0.05, 0.025 * y + 0.1, 0.05 + 0.15])
            assert rendered["depth"][y, x].item() == 0.25 * 1 + 0.5 * 2


@pytest.mark.parametrize("method, share, offset", [("max_weight", 1, 0), ("composite", 0.75, 25)])
def test_dense_flow_to_several_frames_at_its_pixels(method, share, offset):
    """'composite': 0.75, the sum of the weights, of all, and 0.25 of the 100 by which the first sample lies off."""
    flow, score = query.dense_flows(KnownModel(), 1, [2, 0], method, chunk=7)
    assert flow.shape == (2, 4, 6, 2) and score.shape == (2, 4, 6)
    for k, target in enumerate([2, 0]):
        for y in range(4):
            for x in range(6):
                end_x, end_y = share * (x + target) + offset, share * (y + 2 * target) + offset
                assert flow[k, y, x].tolist() == pytest.approx([end_x - x, end_y - y], abs=1e-5)
                assert score[k, y, x].item() == pytest.approx((end_x + 10 * end_y + 100 * target) / 1000, abs=1e-6)
    one, score_of_one = query.dense_flow(KnownModel(), 1, 0, method)
    assert torch.allclose(one, flow[1]) and torch.allclose(score_of_one, score[1])


def test_canonical_points_of_every_second_pixel():
    points, rgb, weight = query.canonical_points(KnownModel(), 1, stride=2, chunk=4)
    places = [[x, y, 1.0] for y in (0.0, 2.0) for x in (0.0, 2.0, 4.0)]  # row by row
    assert points.tolist() == places
    assert torch.allclose(rgb, torch.tensor([[0.1, 0.2, 0.3]]).expand(6, 3)) and weight.tolist() == [0.5] * 6


def test_scores_of_a_volume_are_one_half_at_the_papers_threshold():
    absorbed = torch.tensor([0.0, 0.495, 0.99, 0.995, 1.0])
    assert rendering.as_occlusion_score(absorbed).tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
