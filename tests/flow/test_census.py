"""Census features seen along a flow: neighbourhoods that turn with their surface."""

import cv2
import numpy as np
import pytest
import torch

from flow import appearance
from flow.appearance import FEATURE_THRESHOLD, CensusAppearance, cosine, sample_features
from preprocess.chain import appearance_agrees
from preprocess.filter import filter_pairs
from util import pixel_grid

SIZE = 64


def turned(degrees, seed=0):
    """Two frames (H, W, 3) of one texture, the second turned about its middle; flow (H, W, 2) of 1; seen (H, W)."""
    canvas = cv2.GaussianBlur(np.random.default_rng(seed).uniform(0, 255, (128, 128)).astype(np.float32), (0, 0), 1)
    canvas = (canvas - canvas.min()) / np.ptp(canvas) * 255
    middle, angle = (SIZE - 1) / 2, np.deg2rad(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    centred = pixel_grid(SIZE, SIZE).numpy() - middle
    frames = []
    for places in (centred, centred @ rotation):  # a pixel p of frame 2 shows the canvas at R^-1 p
        image = cv2.remap(canvas, *np.moveaxis(places + 63.5, -1, 0), cv2.INTER_LINEAR)
        frames.append(np.repeat(image.astype(np.uint8)[..., None], 3, axis=-1))
    seen = np.linalg.norm(centred, axis=-1) < 22
    return *frames, torch.from_numpy(centred @ rotation.T - centred), torch.from_numpy(seen)


@pytest.mark.parametrize("degrees, upright_share", [(40, 0.8), (90, 0.3)])
def test_a_turned_texture_agrees_only_when_aligned(degrees, upright_share):
    first, second, flow, seen = turned(degrees)
    census = CensusAppearance()
    one, two = census(first), census(second)
    own, arrived = one.of_pixels(SIZE, SIZE), pixel_grid(SIZE, SIZE) + flow

    def share(found):
        return (cosine(own, found).view(SIZE, SIZE) > FEATURE_THRESHOLD)[seen].float().mean()

    assert share(two.seen_from(arrived)) > 0.99
    assert share(sample_features(two.map, arrived.flatten(0, 1), SIZE, SIZE)) < upright_share
    assert share(two.seen_from(pixel_grid(SIZE, SIZE))) < 0.15  # what does not follow the turn is not excused


def test_filter_and_chain_ask_for_aligned_features():
    first, second, flow, seen = turned(90)
    census = CensusAppearance()
    one, two = census(first), census(second)
    cycle, _ = filter_pairs(flow[None], -flow[None], one, [two], [3], cycle_threshold=1e3)  # only appearance decides
    assert cycle[0][seen].float().mean() > 0.99
    images = [torch.from_numpy(frame) / 255 for frame in (first, second)]
    agrees = appearance_agrees(flow, seen, *images, one.of_pixels(SIZE, SIZE, align_corners=False), two)
    assert agrees[seen].float().mean() > 0.99 and not agrees[~seen].any()


def test_unmoved_positions_give_the_frames_own_features(monkeypatch):
    monkeypatch.setattr(appearance, "LARGEST_SIDE", 40)  # so the frame is described at every second pixel
    frame = turned(0)[0][:, :51]
    found = CensusAppearance()(frame)
    assert found.map.shape == (32, 26, 24)
    positions, asked = pixel_grid(64, 51), torch.rand(64, 51) < 0.3
    seen = found.seen_from(positions)
    torch.testing.assert_close(seen, found.of_pixels(64, 51), atol=1e-3, rtol=0)
    assert torch.equal(found.seen_from(positions, asked), seen[:, asked.flatten()])
    assert found.nbytes >= found.map.nbytes + 64 * 51 * 4
