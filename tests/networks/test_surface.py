"""The surface model: its depth maps' grid, the look-up in them, and its predictions."""

import pytest
import torch
import torch.nn.functional as F

from networks.build import build_model
from networks.surface import SurfaceModel, grid_size, sample_grid
from tests.helpers.known_surface import known_model


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


SIZES = [(2, 2, 2), (144, 256, 2), (320, 240, 2), (480, 854, 7), (1920, 1080, 15)]


@pytest.mark.parametrize("height, width, cell", SIZES)
def test_unless_it_is_given_a_cell_grows_with_the_frame(height, width, cell):
    model = SurfaceModel(1, height, width, None, None)
    assert model.cell == cell and max(model.depth.shape) <= 161  # 2 px up to sides of 320, about 128 cells beyond
    assert SurfaceModel(1, height, width, None, None, cell=3).cell == 3


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
    model = build_model(9, 20, 30, rendering="surface", mapping=mapping, coupling_width=8, field_width=8).double()
    with torch.no_grad():
        for parameter in model.mapping.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    points, frames = torch.rand(4, 10, 3, dtype=torch.float64), torch.tensor([7, 0, 7, 3])
    expected = model.to_frame(model.to_canonical(points, frames), frames.flip(0))
    with model.frames_at_once():
        found = model.to_frame(model.to_canonical(points, frames), frames.flip(0))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - points).abs().max() > 1e-2 and model.conditions is None


def test_a_surface_is_looked_up_at_pixel_centres():
    model = known_model()
    pixels = torch.tensor([[[3.0, 1.0], [4.5, 2.25]]])
    points, canonical = model.lift(torch.tensor([0]), pixels)
    assert torch.allclose(points[0, :, 0], torch.tensor([[-0.25, -0.5, 1.25], [0.125, 0.125, 1.625]]), atol=1e-6)
    assert torch.allclose(canonical, points, atol=1e-6)
    assert torch.allclose(model.surface_depth(torch.tensor([1]), pixels), torch.tensor([[1.0, 0.375]]))
    # in frame 1 at (4, 1) and (5.5, 2.25), where 1 and 0.375 are seen: 0.25 and 1.25 behind it
    found = model.predict(torch.tensor([0]), pixels, torch.tensor([1]))
    assert torch.allclose(found.pixels, pixels + torch.tensor([1.0, 0]), atol=1e-5)
    expected = torch.sigmoid((torch.tensor([[0.25, 1.25]]) - 0.4) / 0.1)
    assert torch.allclose(found.occlusion_score, expected, atol=1e-4)


@pytest.mark.parametrize("height, width", [(1, 1), (1, 4), (4, 1), (2, 2), (1, 2), (2, 1), (3, 3)])
def test_sample_grid_of_the_smallest_grids(height, width):
    grid = torch.arange(2.0 * height * width).view(2, height, width) ** 2  # what lies beyond a grid is another one's
    positions = torch.tensor([[[0.0, 0.0], [0.5, 0.25], [width - 1.0, height - 1.0], [width + 3.0, height - 0.5]]])
    for which in (0, 1):
        for found, (x, y) in zip(sample_grid(grid, torch.tensor([which]), positions)[0], positions[0].tolist()):
            x, y = min(x, width - 1), min(y, height - 1)
            corners = [(int(x), 1 - x % 1), (min(int(x) + 1, width - 1), x % 1)]
            rows = [(int(y), 1 - y % 1), (min(int(y) + 1, height - 1), y % 1)]
            expected = sum(grid[which, row, column] * a * b for column, a in corners for row, b in rows)
            assert found.item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_surface_has_one_sample_a_ray_that_absorbs_everything():
    model = known_model()
    pixels = torch.tensor([[[3.0, 1.0], [4.5, 2.25]]])
    rays = model.cast(torch.tensor([0]), pixels)
    points, canonical = model.lift(torch.tensor([0]), pixels)
    assert model.num_samples == 1 and rays.weights.shape == (1, 2, 1) and (rays.weights == 1).all()
    assert torch.equal(rays.points, points) and torch.equal(rays.canonical, canonical)
    assert torch.equal(rays.depths, points[..., 2]) and torch.equal(rays.rgb, canonical)  # known_model's colours


def test_what_a_surface_is_by_default():
    model = SurfaceModel(2, 9, 17, None, None)
    assert (model.cell, model.margin, tuple(model.depth.shape)) == (2, 0.2, (2, 5, 9))
    assert (model.depth == 1).all()  # half way from 0 to 2
