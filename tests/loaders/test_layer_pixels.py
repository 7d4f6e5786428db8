"""Points of one object alone: where they are drawn, and what is refused."""

import numpy as np
import pytest
import torch

from loaders.correspondences import CorrespondencePool
from loaders.layer_pixels import layer_masks
from loaders.surface_sampler import SurfaceSampler
from tests.helpers.hand_made_data import H, HandMadeData, N, W
from util import UserError


class LabelledData(HandMadeData):
    """Object 1 is a block of 2 x 3 pixels in frames 1 to 3, which moves by a pixel a frame; object 7 is nowhere."""

    path = "data"

    def labels(self, i):
        labels = np.zeros((H, W), np.uint8)
        labels[2:4, i : i + 3] = 1
        return labels if 1 <= i <= 3 else labels * 0

    def layers(self, i):
        return self.labels(i), np.ones((H, W), np.float32)


def sampler_of(data, layer, **options):
    sampler = SurfaceSampler(CorrespondencePool(data, torch.device("cpu")), **options)
    sampler.use_layer(layer)
    return sampler


@pytest.mark.parametrize("by_error", [False, True])
def test_points_are_on_the_object_and_all_of_it_alike(by_error):
    data = LabelledData()
    sampler = sampler_of(data, 1, online=True)
    if by_error:  # all of it in the cell of pixels 2 and 3 of rows 2 and 3, which in frame 3 is half of the object's
        sampler.error_maps, sampler.frame_error = torch.eye(12)[None, 5].expand(N, -1).clone(), np.ones(N)
    batch = sampler.sample(400, 30, N)
    drawn = np.zeros((N, H, W))
    for pair, point in np.ndindex(400, 30):
        x, y = batch.pixels_1[pair, point].long().tolist()
        drawn[batch.frames_1[pair], y, x] += 1
    masks = np.stack([data.labels(i) for i in range(N)])
    assert (drawn[masks == 0] == 0).all()
    frame_counts = drawn.sum((1, 2))
    assert frame_counts[1:4] / frame_counts.sum() == pytest.approx([1 / 3] * 3, abs=0.08)
    if not by_error:
        assert np.abs(drawn[masks == 1] / drawn.sum() - 1 / 18).max() < 0.02
    else:  # the object's pixels in that cell: 4 in frames 1 and 2, 2 in frame 3; half of what falls beside is uniform
        share = [drawn[i, 2:4, 2:4].sum() / drawn[i].sum() for i in (1, 2, 3)]
        assert share == pytest.approx([0.5 + 0.5 * 4 / 6, 0.5 + 0.5 * 4 / 6, 0.25 + 0.75 * 2 / 6], abs=0.04)


def test_frames_are_drawn_by_the_error_on_the_object_however_large_it_is():
    """It is in two of the 12 cells of frame 1 and in one of frame 2; the error there is the same."""
    data = LabelledData()
    labels = np.zeros((N, H, W), np.uint8)
    labels[1, 2:4, :4] = labels[2, 2:4, :2] = 1
    data.labels = labels.__getitem__
    sampler = sampler_of(data, 1, online=True)
    sampler.running[1, 4:6], sampler.running[2, 4] = 3.0, 3.0
    sampler.publish()
    frames = sampler.sample(1000, 4, N).frames_1
    assert set(frames.tolist()) == {1, 2} and (frames == 1).float().mean().item() == pytest.approx(0.5, abs=0.06)


def test_evidence_is_of_the_object_alone():
    """Evidence that begins beside it is left out, and the flow's points stay in its place."""
    class Evidence:
        def draw(self, sources, targets, count, generator):
            start = torch.zeros(len(sources), count, 2, 2)
            start[:, 0, 0] = torch.tensor([3.0, 2.0])  # on it in frames 1 to 3; the others are at (0, 0)
            return start, torch.ones(len(sources), count), torch.zeros(len(sources), count, dtype=torch.long)

    sampler = sampler_of(LabelledData(), 1)
    sampler.evidence, sampler.evidence_share = Evidence(), 0.5
    batch = sampler.sample(20, 8, N)
    assert (batch.evidence[:, :4] == -1).all() and (batch.evidence[:, 5:] == -1).all()
    assert (batch.evidence[:, 4] == 0).all() and (batch.pixels_1[:, 4] == torch.tensor([3.0, 2.0])).all()


def test_what_is_refused():
    with pytest.raises(UserError, match="layer 7: in no frame of data, whose layers are 0, 1"):
        layer_masks(LabelledData(), 7)
    without = LabelledData()
    without.layers = lambda i: None
    with pytest.raises(UserError, match="layer 1: data has no layers; preprocess with --layers"):
        layer_masks(without, 1)


def test_masks_are_those_of_the_frames():
    masks = layer_masks(LabelledData(), 1)
    assert masks.sum((1, 2)).tolist() == [0, 6, 6, 6, 0] and masks[2, 2, 2:5].all()
