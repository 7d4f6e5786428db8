"""Loss terms against hand-worked numbers and brute force."""

from math import log

import numpy as np
import pytest
import torch

import losses
from losses import total_variation


def apart(difference):
    """Predictions and targets that differ by this; neither is 0."""
    target = torch.rand(difference.shape, generator=torch.Generator().manual_seed(0)) + 0.5
    return target + difference, target


def test_flow_drops_the_largest_residual_and_keeps_the_weights():
    predicted = torch.tensor([[[1.0, 0.0], [0.0, 4.0], [10.0, 10.0], [7.0, 7.0]]])
    weight, valid = torch.tensor([[1.0, 0.5, 1.0, 1.0]]), torch.tensor([[True, True, True, False]])
    # residuals 0.5, 2, 10 (dropped), 7 (not valid): mean of 1 * 0.5 and 0.5 * 2
    assert losses.flow(*apart(predicted), weight, valid).item() == pytest.approx(0.75, rel=1e-5)


def test_gradient_joins_neighbours_across_invalid_rows():
    predicted = torch.tensor([[[0.0], [100.0], [3.0], [4.0]]])
    valid = torch.tensor([[True, False, True, True]])
    # valid rows 0, 3, 4: contrasts 3 (the largest, dropped) and 1
    assert losses.gradient(*apart(predicted), valid).item() == pytest.approx(1.0, rel=1e-5)
    weight = torch.tensor([[1.0, 1.0, 0.5, 0.5]])
    assert losses.gradient(*apart(predicted), valid, weight).item() == pytest.approx(1.0, rel=1e-5)


def test_robust_flow_by_hand():
    predicted = torch.tensor([[[1.5, 2.0], [6.0, 8.0], [100.0, 0.0]]])  # 2.5, 10 and 100 pixels
    weight, valid = torch.tensor([[0.5, 2.0, 1.0]]), torch.tensor([[True, True, False]])
    expected = (0.5 * 12.5 * log(1 + 0.25) + 2.0 * 12.5 * log(1 + 4)) / 2  # scale 5: 5^2 / 2 = 12.5
    found = losses.robust_flow(*apart(predicted), weight, valid, 5.0)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    small = losses.robust_flow(torch.tensor([[[0.0, 0.1]]]), torch.zeros(1, 1, 2), torch.ones(1, 1), valid[:, :1], 5.0)
    assert small.item() == pytest.approx(0.1**2 / 2, rel=1e-3)  # near 0 it is the half square


def test_gradient_is_absolute_and_weighted_by_both_of_its_points():
    predicted = torch.tensor([[[0.0, 0.0], [4.0, 0.0], [4.0, 3.0], [20.0, 20.0]]])
    valid, weight = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[1.0, 0.5, 0.4, 1.0]])
    # contrasts 2, 1.5 and 16.5 (dropped)
    assert losses.gradient(*apart(predicted), valid).item() == pytest.approx(1.75, rel=1e-5)
    weighted = losses.gradient(*apart(predicted), valid, weight).item()
    assert weighted == pytest.approx((2 * 0.5 + 1.5 * 0.2) / 0.7, rel=1e-5)


def test_colour_is_the_mean_square_where_valid():
    predicted = torch.tensor([[[0.1, 0.2, 0.4], [0.0, 0.0, 0.5], [9.0, 9.0, 9.0]]])
    valid = torch.tensor([[True, True, False]])
    found = losses.colour(*apart(predicted), valid)
    assert found.item() == pytest.approx(((0.01 + 0.04 + 0.16) / 3 + 0.25 / 3) / 2, rel=1e-5)


def test_masked_mean():
    values, mask = torch.tensor([0.5, -3.0, 100.0]), torch.tensor([True, True, False])
    assert losses.masked_mean(values, mask).item() == -1.25


def test_terms_are_zero_and_finite_when_nothing_is_valid():
    x = torch.rand(2, 5, 2, requires_grad=True)
    nothing = torch.zeros(2, 5, dtype=torch.bool)
    total = losses.flow(x, x * 2, nothing.float(), nothing) + losses.gradient(x, x * 2, nothing, nothing.float())
    total = total + losses.colour(x, x * 2, nothing) + losses.smoothness(x, x, x, torch.zeros(2, dtype=torch.bool))
    total.backward()
    assert total.item() == 0 and torch.isfinite(x.grad).all()


def test_distortion_against_a_double_loop():
    torch.manual_seed(0)
    depths, weights = torch.rand(3, 6).sort(-1).values.double(), torch.rand(3, 6).double()
    expected = 0.0
    for ray in range(3):
        t = depths[ray].tolist() + [depths[ray, -1].item()]
        w = weights[ray].tolist()
        middle = [(t[k] + t[k + 1]) / 2 for k in range(6)]
        expected += sum(w[k] * w[m] * abs(middle[k] - middle[m]) for k in range(6) for m in range(6)) / 3
        expected += sum(w[k] ** 2 * (t[k + 1] - t[k]) for k in range(6)) / 3 / 3
    assert losses.distortion(depths, weights).item() == pytest.approx(expected, rel=1e-9)
    pairs = losses.distortion(depths.expand(2, 3, 6), weights.expand(2, 3, 6))  # of as many rays as there are
    assert pairs.item() == pytest.approx(expected, rel=1e-9)


def test_depth_range():
    depth = torch.tensor([-0.5, 0.0, 1.0, 2.0, 3.5])
    assert losses.depth_range(depth, 0, 2).item() == pytest.approx((0.25 + 2.25) / 5)


def test_smoothness_is_zero_for_constant_velocity():
    current, velocity = torch.rand(3, 4, 5, 3), torch.rand(3, 4, 5, 3)
    valid = torch.tensor([True, True, False])
    assert losses.smoothness(current - velocity, current, current + velocity, valid).item() < 1e-6
    after = current + velocity + torch.tensor([0.3, 0, 0])
    after[2] += 100  # not valid
    assert losses.smoothness(current - velocity, current, after, valid).item() == pytest.approx(0.1, abs=1e-4)


def test_unit_sphere():
    points = torch.tensor([[[0.5, 0, 0], [2.0, 0, 0]], [[0, 3.0, 0], [0.6, 0.6, 0.8]]])
    assert losses.unit_sphere(points).item() == pytest.approx((3**2 + 8**2 + 0.36**2) / 3)
    assert losses.unit_sphere(points[0]).item() == 9  # of one point outside
    assert losses.unit_sphere(points[0, :1]).item() == 0


def test_total_is_the_weighted_sum():
    terms = {"a": torch.tensor(2.0), "b": torch.tensor(3.0), "logged_only": torch.tensor(1e9)}
    assert losses.total(terms, {"a": 0.5, "b": 2.0}).item() == pytest.approx(7.0)


def test_total_variation_by_a_loop():
    torch.manual_seed(0)
    depth, across, down = torch.rand(2, 3, 4), torch.rand(2, 3, 3), torch.rand(2, 2, 4)
    a = [abs(depth[n, y, x + 1] - depth[n, y, x]) * across[n, y, x] for n, y, x in np.ndindex(2, 3, 3)]
    b = [abs(depth[n, y + 1, x] - depth[n, y, x]) * down[n, y, x] for n, y, x in np.ndindex(2, 2, 4)]
    assert total_variation(depth, (across, down)).item() == pytest.approx(float(sum(a) / len(a) + sum(b) / len(b)))
