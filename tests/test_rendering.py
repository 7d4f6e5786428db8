"""Volume rendering against closed forms and brute force."""

import pytest
import torch

from networks import rendering
from networks.field import CanonicalField, contract


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
def test_occlusion_score_counts_what_lies_clearly_in_front(surface, expected):
    depths = torch.linspace(0, 2, 5)  # 0, 0.5, 1, 1.5, 2; the tolerance is 1.1 * 2/5 = 0.44
    weights = torch.tensor([0.2, 0.4, 0.3, 0.05, 0.05])
    assert rendering.occlusion_score(weights, depths, torch.tensor(surface)).item() == pytest.approx(expected, abs=1e-6)


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
