"""Generated training pairs: exact flow and occlusion against brute force, inverses, textures, motion's range."""

import cv2
import numpy as np
import pytest
import torch

from preprocess import flow_scenes

HEIGHT, WIDTH = 72, 96


@pytest.fixture(scope="module")
def textures():
    return flow_scenes.make_textures(6, torch.Generator().manual_seed(0))


def scenes_with(textures, seed=1, batch=4, max_motion=30):
    generator = torch.Generator().manual_seed(seed)
    return flow_scenes.random_scenes(textures, batch, 6, HEIGHT, WIDTH, max_motion, generator)


def flat_textures(count=40):
    """Textures of one colour each, without holes."""
    shades = torch.linspace(0, 1, count)[:, None, None, None].expand(count, 4, 256, 256).clone()
    shades[:, 3] = 1
    return shades


def test_motion_is_inverted_and_moves(textures):
    scenes = scenes_with(textures, batch=8)
    points = flow_scenes.centred_grid(HEIGHT, WIDTH, "cpu").expand(8, -1, -1)
    moved_by = 0
    for layer in range(6):
        there = scenes.forward(layer, points)
        torch.testing.assert_close(scenes.backward(layer, there), points, atol=1e-3, rtol=0)
        torch.testing.assert_close(scenes.forward(layer, scenes.backward(layer, points)), points, atol=1e-3, rtol=0)
        moved_by = max(moved_by, float((there - points).abs().max()))
    assert moved_by > 5


def test_homography_of_hand_worked_cases():
    zero = torch.zeros(())
    still = {"angle": zero, "log_zoom": zero, "stretch": zero, "tilt": torch.zeros(2)}
    pivot, shift = torch.tensor([3.0, 4.0]), torch.tensor([10.0, -2.0])

    def move(point, **changes):
        matrix = flow_scenes.homography_of(shift, pivot, **(still | changes))
        return flow_scenes.apply_homography(matrix[None], torch.tensor([[point]]))[0, 0].tolist()

    assert move([5.0, 4.0]) == pytest.approx([15, 2])
    assert move([5.0, 4.0], angle=torch.tensor(np.pi / 2)) == pytest.approx([13, 4], abs=1e-5)  # x turns towards y
    assert move([5.0, 4.0], log_zoom=torch.tensor(3.0).log()) == pytest.approx([19, 2])
    assert move([5.0, 4.0], tilt=torch.tensor([0.1, 0.0])) == pytest.approx([15 / 2.5, 2 / 2.5])


def sample_bilinear(image, points):
    """image (H, W, ...) numpy at points (n, 2) inside it."""
    x, y = points.T.astype(np.float32)
    return cv2.remap(np.ascontiguousarray(image), x[None], y[None], cv2.INTER_LINEAR)[0]


@pytest.mark.parametrize("frame", [0, 1])
def test_visibility_equals_a_look_at_the_other_frame(frame):
    """Brute force: a pixel is visible where the layer drawn at its target, in the other frame, is its own."""
    scenes = scenes_with(flat_textures(), seed=5, batch=6)
    (_, top), (_, other_top) = scenes.draw(frame), scenes.draw(1 - frame)
    flow = scenes.flow(frame, top)
    visible = scenes.visible(frame, top, flow)
    agreed = compared = hidden = 0
    for b in range(6):
        here, there = (layers[b].view(HEIGHT, WIDTH).numpy() for layers in (top, other_top))
        unmixed = cv2.erode(np.float32(there), np.ones((3, 3))) == cv2.dilate(np.float32(there), np.ones((3, 3)))
        for y in range(1, HEIGHT - 1):
            for x in range(1, WIDTH - 1):
                target_x, target_y = x + float(flow[b, 0, y, x]), y + float(flow[b, 1, y, x])
                column, row = round(target_x), round(target_y)
                if not (0 <= target_x <= WIDTH - 1 and 0 <= target_y <= HEIGHT - 1):
                    assert not visible[b, y, x]
                elif unmixed[row, column]:  # away from the other frame's borders, where half a pixel decides
                    compared += 1
                    hidden += not visible[b, y, x]
                    agreed += bool(visible[b, y, x]) == (there[row, column] == here[y, x])
    assert compared > 6 * HEIGHT * WIDTH / 3 and hidden > 100
    assert agreed > 0.9995 * compared  # what is thinner than a pixel may pass between the pixels' centres


@pytest.mark.parametrize("frame", [0, 1])
def test_flow_carries_colours_exactly(textures, frame):
    """Visible pixels inside one layer find their own colour at p + flow, and flow back there undoes the flow."""
    smooth = torch.stack([flow_scenes.noise(torch.Generator().manual_seed(k), 4, 3.0) for k in range(6)])
    smooth[:, 3] = 1
    scenes = scenes_with(smooth, seed=5)
    drawn = [scenes.draw(k) for k in (0, 1)]
    flows = [scenes.flow(k, drawn[k][1]) for k in (0, 1)]
    visible = scenes.visible(frame, drawn[frame][1], flows[frame]).numpy()
    for b in range(len(visible)):
        tops = [top[b].view(HEIGHT, WIDTH).numpy().astype(np.float32) for _, top in drawn]
        inside = [cv2.erode(top, np.ones((5, 5))) == cv2.dilate(top, np.ones((5, 5))) for top in tops]
        flow, back = (flows[k][b].permute(1, 2, 0).numpy() for k in (frame, 1 - frame))
        pixels = np.argwhere(visible[b] & inside[frame])[:, ::-1]
        targets = pixels + flow[pixels[:, 1], pixels[:, 0]]
        kept = sample_bilinear(np.float32(inside[1 - frame]), targets) == 1
        pixels, targets = pixels[kept], targets[kept]
        images = [drawn[k][0][b].permute(1, 2, 0).numpy() for k in (frame, 1 - frame)]
        assert len(pixels) > 300
        difference = sample_bilinear(images[1], targets) - images[0][pixels[:, 1], pixels[:, 0]]
        assert np.abs(difference).mean() < 0.004 and np.abs(difference).max() < 0.06
        closure = sample_bilinear(back, targets) + flow[pixels[:, 1], pixels[:, 0]]
        assert np.abs(closure).max() < 0.05


def test_textures_repeat_and_are_bilinear(textures):
    positions = torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(0)) * 4 - 2
    sampled = flow_scenes.sample_periodic(textures[:1], positions)[0]
    texture = textures[0].permute(1, 2, 0).numpy()
    for (u, v), found in zip(positions[0].numpy(), sampled.numpy()):
        x, y = u * 256, v * 256
        column, row = int(np.floor(x)), int(np.floor(y))
        expected = sum(
            (1 - abs(x - k)) * (1 - abs(y - m)) * texture[m % 256, k % 256]
            for k in (column, column + 1)
            for m in (row, row + 1)
        )
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_pairs_depend_on_the_generator_alone(textures):
    make = lambda seed: flow_scenes.make_pairs(  # noqa: E731
        textures, 2, HEIGHT, WIDTH, 20, torch.Generator().manual_seed(seed), with_visibility=True
    )
    first, again, other = make(1), make(1), make(2)
    for a, b in zip(first, again):
        assert torch.equal(a, b)
    assert not torch.equal(first.flow, other.flow)
    assert first.images.shape == (2, 2, 3, HEIGHT, WIDTH) and first.visible.dtype == torch.bool
    assert first.images.min() >= 0 and first.images.max() <= 1 and first.flow.isfinite().all()


def test_motion_is_heavy_tailed(textures):
    generator = torch.Generator().manual_seed(0)
    motion = torch.cat(
        [flow_scenes.make_pairs(textures, 16, 64, 96, 32, generator).flow[0].norm(dim=1).flatten(1) for _ in range(6)]
    )
    per_scene = motion.mean(dim=1)
    assert per_scene.min() < 0.5 and per_scene.median() < 8 and motion.max() > 32
    assert (per_scene < 1).float().mean() > 0.1 and (per_scene > 10).float().mean() > 0.1


def test_blur_matches_opencv():
    images = torch.rand(2, 2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([[0.0, 0.6], [0.9, 0.3]])
    blurred = flow_scenes.blur(images, sigma)
    torch.testing.assert_close(blurred[0, 0], images[0, 0], atol=1e-5, rtol=0)
    image = images[1, 0].permute(1, 2, 0).numpy()
    expected = cv2.GaussianBlur(image, (7, 7), 0.9, borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(blurred[1, 0].permute(1, 2, 0), expected, atol=1e-3)


def test_every_kind_of_texture():
    generator = torch.Generator().manual_seed(0)
    kinds = ("cloudy", "posterised", "stripes", "dots", "cells", "marks", "smooth")
    for kind in kinds:
        texture = getattr(flow_scenes, kind)(generator)
        assert texture.shape == (3, 256, 256) and texture.isfinite().all(), kind
        assert texture.min() >= 0 and texture.max() <= 1 and texture.std() > 0.001, kind
