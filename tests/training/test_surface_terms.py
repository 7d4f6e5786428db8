"""The surface's loss terms, by a loop over points whose answers are known."""

from math import log
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from losses import total_variation
from tests.helpers.known_surface import known_model
from training.surface import FLAT_FRAMES, flatness, surface_terms

# x, y in frame 0 and 1; hidden, visible (as the flow there says) and covisible (as the batch's own flow says)
POINTS = {
    0: [(0, 1, 0, 0, 1), (7, 0, 1, 0, 0), (3, 3, 1, 1, 1), (8, 2, 1, 0, 1),  # 8 + 1 is outside
        (5, 2, 0, 1, 0), (6, 4, 0, 0, 0), (1, 3, 1, 0, 0), (2, 1, 0, 1, 1)],
    1: [(2, 3, 1, 0, 0), (8, 1, 0, 1, 0), (0, 2, 1, 0, 1), (4, 4, 0, 0, 1),  # 0 - 1 is outside
        (6, 1, 1, 0, 0), (5, 0, 0, 1, 0), (3, 2, 0, 0, 0), (1, 1, 1, 1, 0)],
}
FLOW_ERROR, WEIGHTS = (1.5, -2.0), (0.0, 0.5, 1.0, 0.25)  # 2.5 pixels; every point's weight is one of these


def known_batch():
    """POINTS as a batch of the pairs 0 -> 1 and 1 -> 0, and a sampler that knows what is hidden and visible."""
    table = torch.tensor([POINTS[0], POINTS[1]])
    pixels = table[..., :2].float()
    landing = pixels + torch.tensor([[[1.0, 0]], [[-1.0, 0]]])
    weight = torch.tensor([WEIGHTS * 2] * 2)
    rgb = torch.rand(2, 8, 3, generator=torch.Generator().manual_seed(0))
    batch = SimpleNamespace(
        frames_1=torch.tensor([0, 1]), frames_2=torch.tensor([1, 0]), pixels_1=pixels,
        pixels_2=landing - torch.tensor(FLOW_ERROR), rgb_1=rgb, weight=weight, covisible=table[..., 4].bool())

    def known(places):
        assert torch.allclose(places, landing, atol=1e-4)  # where the model puts them
        return table[..., 2].bool(), table[..., 3].bool()

    batch.evidence = known
    return batch


def seen_depth(frame, x, y):
    return 0.5 + x / 4 if frame == 0 else 1.5 - y / 2


def test_terms_of_a_surface_by_a_loop(known_evidence):
    model, batch = known_model(), known_batch()
    terms, statistics, error = surface_terms(model, batch, None, (torch.ones(3, 3, 4), torch.ones(3, 2, 5)), 5.0)
    same, front, behind, ranges, colour = [], [], [], [], []
    for frame, k in np.ndindex(2, 8):
        x, y, hidden, visible, covisible = POINTS[frame][k]
        depth, x_2 = seen_depth(frame, x, y), x + (1 if frame == 0 else -1)
        gap = depth - seen_depth(1 - frame, x_2, y)  # above 0: behind what the other frame sees
        ranges.append(max(-depth, 0, depth - 2) ** 2)
        if k % 4 == 0:
            canonical = ((x - frame) / 4 - 1, y / 2 - 1, depth)
            colour += [(a - b) ** 2 for a, b in zip(canonical, batch.rgb_1[frame, k].tolist())]
        if 0 <= x_2 <= 8:
            front.append(max(0, -gap))
            same += [abs(gap)] if (visible or covisible) and not hidden else []
            behind += [max(0, 0.8 - gap)] if hidden else []
    expected = {"depth_same": same, "depth_front": front, "depth_behind": behind, "depth_range": ranges, "rgb": colour}
    for name, values in expected.items():
        assert terms[name].item() == pytest.approx(np.mean(values), rel=1e-4), name
        assert np.mean(values) > 0.02 and max(values) != min(values), name
    # 2.5 px at scale 5; the mean is over the points that have a weight
    assert terms["flow"].item() == pytest.approx(12.5 * log(1.25) * sum(WEIGHTS) / 3, rel=1e-4)
    # frame 0 rises by 0.5 a cell across, frame 1 falls by 1 a cell, frame 2 is flat
    assert terms["depth_flatness"].item() == pytest.approx(0.5 / 3 + 1 / 3)
    # the first two points of frame 1, y = 3 and 1, moved by 1 px and move by 2 px and by -2 px (dropped: the largest)
    assert terms["smoothness"].item() == pytest.approx(0.25 / 3, rel=1e-4)
    assert torch.allclose(error, torch.full((2, 8), 2.5), atol=1e-4)
    assert statistics["flow_error_px/all"].item() == pytest.approx(2.5, rel=1e-4)


def test_depth_terms_move_depths_only(known_evidence):
    model, batch = known_model(), known_batch()
    terms, _, _ = surface_terms(model, batch, None, (torch.ones(3, 3, 4), torch.ones(3, 2, 5)), 5.0)
    (terms["depth_same"] + terms["depth_front"] + terms["depth_behind"]).backward()
    assert model.depth.grad[:2].abs().max() > 0
    assert all(level.grad is None or not level.grad.any() for level in model.mapping.levels)


def step_maps(num_frames):
    """Depth maps of 2 x 2 cells, of frame k with a step of k + 1 across at a weight of 0.5, and flat downwards."""
    depth = torch.zeros(num_frames, 2, 2)
    depth[:, :, 1] = 1.0 + torch.arange(num_frames)[:, None]
    return depth.requires_grad_(True), [torch.full((num_frames, 2, 1), 0.5), torch.ones(num_frames, 1, 2)]


def test_all_frames_of_a_short_video_are_flattened():
    depth, edges = step_maps(FLAT_FRAMES)
    assert flatness(depth, edges).item() == pytest.approx(0.5 * (FLAT_FRAMES + 1) / 2)


def test_frames_of_a_long_video_are_flattened_in_turns_and_on_average_alike():
    depth, edges = step_maps(3 * FLAT_FRAMES)
    found, share = [], torch.zeros(len(depth))
    for _ in range(400):
        found.append(flatness(depth, edges))
        gradient, = torch.autograd.grad(found[-1], depth)
        drawn = gradient.flatten(1).any(1)
        assert drawn.sum() == FLAT_FRAMES
        share += drawn / 400
        values = depth.detach()[drawn]
        assert found[-1].item() == pytest.approx(total_variation(values, [w[:FLAT_FRAMES] for w in edges]).item())
    assert torch.stack(found).mean().item() == pytest.approx(0.5 * (len(depth) + 1) / 2, rel=0.03)
    assert (share - 1 / 3).abs().max() < 0.12  # five deviations
