"""The mapping that looks its couplings up in grids: a bijection over x and y, and what one knot of it moves."""

import math

import pytest
import torch
import torch.nn.functional as F

from networks.grids import GridMapping

FINEST = 2


def random_mapping(num_frames, scale=0.3):
    """A float64 mapping with random grids, far from the identity."""
    torch.manual_seed(num_frames)
    mapping = GridMapping(num_frames).double()
    with torch.no_grad():
        for level in mapping.levels:
            level += scale * torch.randn_like(level)
    return mapping


def random_points(num_frames):
    """(F, 200, 3) float64: x and y also beyond the grids, z in [0, 2]."""
    return torch.rand(num_frames, 200, 3, dtype=torch.float64) * torch.tensor([4, 4, 2]) - torch.tensor([2, 2, 0])


@pytest.mark.parametrize("num_frames", [1, 2, 3, 9, 20])
def test_round_trip_in_both_orders(num_frames):
    mapping, points = random_mapping(num_frames), random_points(num_frames)
    condition = mapping.condition(torch.arange(num_frames))
    canonical, local = mapping.to_canonical(points, condition), mapping.to_frame(points, condition)
    for moved in (canonical, local):
        assert ((moved - points)[..., :2].abs().mean((0, 1)) > 0.1).all()  # a map that moves nothing would pass below
        assert torch.equal(moved[..., 2], points[..., 2])
    assert torch.allclose(mapping.to_frame(canonical, condition), points, atol=1e-9)
    assert torch.allclose(mapping.to_canonical(local, condition), points, atol=1e-9)
    if num_frames > 1:
        one = points[:1].expand(num_frames, -1, -1)
        assert mapping.to_frame(one, condition).diff(dim=0).abs().amax((1, 2)).min() > 1e-3  # frames differ


@pytest.mark.parametrize("num_frames", [1, 2, 3, 9, 20])
def test_levels_are_linear_in_time_space_and_depth(num_frames):
    mapping = random_mapping(num_frames)
    size = num_frames, 16, 33
    whole = sum(F.interpolate(level, size, mode="trilinear", align_corners=True) for level in mapping.levels)[0]
    frames = torch.arange(num_frames).flip(0)
    assert torch.allclose(mapping.condition(frames), whole.transpose(0, 1)[frames], atol=1e-12)


def test_starts_as_the_identity():
    points = random_points(4).float()
    mapping = GridMapping(4)
    condition = mapping.condition(torch.arange(4))
    assert torch.equal(mapping.to_canonical(points, condition), points)
    assert torch.equal(mapping.to_frame(points, condition), points)


@pytest.mark.parametrize("layer, axis", [(0, 0), (1, 1), (2, 0), (3, 1)])
def test_a_constant_shift_moves_one_frame_along_one_axis(layer, axis):
    mapping = GridMapping(6)
    with torch.no_grad():
        mapping.levels[FINEST][0, 2 * layer + 1, 4] = 0.25
    points, condition = random_points(6).float(), mapping.condition(torch.arange(6))
    shift = torch.zeros(6, 1, 3)
    shift[4, 0, axis] = 0.25
    assert torch.allclose(mapping.to_frame(points, condition), points + shift, atol=1e-6)
    assert torch.allclose(mapping.to_canonical(points, condition), points - shift, atol=1e-6)


def test_one_knot_moves_what_is_near_in_depth_and_across():
    mapping = GridMapping(2)
    with torch.no_grad():
        mapping.levels[FINEST][0, 1, 1, 7, 16] = 0.32  # of 16 knots over y in [-1.5, 1.5], of 33 over z in [0, 2]
    y, z = -0.1, 1.0  # where the knot lies; its neighbours are 0.2 and 1/16 away
    offsets = torch.tensor([[0, 0], [0, 1 / 32], [0, -1 / 16], [0.05, 0], [-0.1, 1 / 32], [0.2, 0]])
    points = torch.cat([torch.full((6, 1), 0.4), offsets + torch.tensor([y, z])], dim=-1)[None]
    moved = mapping.to_frame(points, mapping.condition(torch.tensor([1]))) - points
    assert moved[0, :, 0].tolist() == pytest.approx([0.32, 0.16, 0, 0.24, 0.08, 0], abs=1e-5)


def test_coarse_levels_move_frames_together():
    mapping = GridMapping(9)  # one knot in 8 frames: at the first and the last
    with torch.no_grad():
        mapping.levels[0][0, 1, 1] = 0.8
    points = random_points(9).float()
    moved = mapping.to_frame(points, mapping.condition(torch.arange(9))) - points
    assert torch.allclose(moved[..., 0], 0.1 * torch.arange(9.0)[:, None].expand(9, 200), atol=1e-5)


def test_scale_is_limited():
    mapping = GridMapping(3, num_layers=2, max_log_scale=0.5)
    with torch.no_grad():
        mapping.levels[1][0, [0, 2]] = 1000
    points, condition = random_points(3).float(), mapping.condition(torch.arange(3))
    factors = torch.tensor([math.exp(0.5), math.exp(0.5), 1])
    assert torch.allclose(mapping.to_frame(points, condition), points * factors, atol=1e-5)


def gradients(mapping, points):
    points = points.clone().requires_grad_(True)
    condition = mapping.condition(torch.arange(len(points)))
    there = mapping.to_canonical(points, condition)
    (there.square().mean() + mapping.to_frame(there.flip(0), condition).abs().mean()).backward()
    found = [points.grad, *(level.grad.clone() for level in mapping.levels)]
    mapping.zero_grad()
    return found


def test_gradients_are_finite_and_repeat():
    mapping, points = random_mapping(5).float(), random_points(5).float()
    points[0, :4] = torch.tensor([[-1.5, 1.5, 0], [1.5, -1.5, 2], [0, 0, 1], [1e4, -1e4, -7]])  # borders, far outside
    first, second = gradients(mapping, points), gradients(mapping, points)
    assert all(torch.isfinite(part).all() and part.abs().max() > 0 for part in first)
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_a_point_that_is_not_a_number_stays_one():
    """The trainer has to see it; torch's grid_sample makes it finite, and its backward pass may crash over it."""
    mapping, points = random_mapping(2).float(), random_points(2).float()
    points[0, 3, 0], points[1, 7, 2] = math.nan, math.nan
    points.requires_grad_(True)
    moved = mapping.to_canonical(points, mapping.condition(torch.arange(2)))
    assert torch.isnan(moved).any(-1).nonzero().tolist() == [[0, 3], [1, 7]]
    moved.sum().backward()


def test_scales_are_bounded_softly_and_shifts_are_not():
    mapping = GridMapping(2, max_log_scale=2.0)
    grid = torch.tensor([[3.0, 7.0]]).view(1, 2, 1, 1).expand(1, 2, 5, 4)
    scale, shift = mapping.scale_and_shift(torch.zeros(1, 1), torch.ones(1, 1), grid)
    assert scale.item() == pytest.approx(2 * math.tanh(1.5)) and shift.item() == pytest.approx(7)


def test_what_a_grid_mapping_is_by_default():
    mapping = GridMapping(7)
    assert mapping.axes == [0, 1, 0, 1] and mapping.max_log_scale == 1
    assert all(level.shape[0] == 1 and level.shape[1] == 8 for level in mapping.levels)
