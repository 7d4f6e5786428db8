"""What the frames show where a point is put, by hand and against a scene's truth."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from loaders.correspondences import CorrespondencePool
from loaders.surface_sampler import SurfaceSampler
from tests.helpers.hand_made_data import HandMadeData
from training.evidence import evidence


def test_evidence_by_hand():
    """A point that starts at (1, 2) in frame 1 and lands in frame 3, whose flow leads back by (-2, 0)."""
    data = HandMadeData(valid_share=1.0)
    data.cycle[3, 1, 5, 6] = False  # at x = 6, y = 5
    sampler = SurfaceSampler(CorrespondencePool(data, torch.device("cpu")))
    # exactly there; 1.4, 1.9, 2.1, 3.2 and 3.2 pixels off; where nothing is reliable; outside
    landing = torch.tensor([[[3.0, 2], [4.4, 2], [4.9, 2], [5.1, 2], [6.2, 2], [3, 5.2], [6, 5], [8, 2]]])
    batch = SimpleNamespace(backward=torch.from_numpy(sampler.pool.number(np.array([3]), np.array([1]))),
                            pixels_1=torch.tensor([[[1.0, 2.0]]]).expand(1, 8, 2))
    hidden, visible = evidence(sampler.pool, batch, landing)
    assert hidden[0].nonzero()[:, 0].tolist() == [3, 4, 5] and visible[0].nonzero()[:, 0].tolist() == [0, 1, 2]
    first = SimpleNamespace(backward=torch.tensor([0]), pixels_1=torch.tensor([[[3.0, 4.0]]]))  # of the pair 0 -> 1
    assert [part.item() for part in evidence(sampler.pool, first, torch.tensor([[[2.0, 4.0]]]))] == [False, True]
    assert [part.item() for part in evidence(sampler.pool, first, torch.tensor([[[5.0, 1.0]]]))] == [True, False]
    batch.backward = torch.tensor([-1])  # of a pair that is not stored nothing is known
    assert not any(part.any() for part in evidence(sampler.pool, batch, landing))


@pytest.mark.slow
def test_evidence_at_the_true_landing_place_is_the_true_visibility(flow_scene, surface_sampler):
    """With exact flow, a point is found hidden only where the scene hides it, and visible only where it is."""
    batch = surface_sampler.sample(60, 100, 6)
    hidden, visible = evidence(surface_sampler.pool, batch, batch.pixels_2)
    truth = []
    for i, j, pixels in zip(batch.frames_1.tolist(), batch.frames_2.tolist(), batch.pixels_1):
        truth.append(flow_scene.tracks(i, pixels.numpy().astype(float))[1][:, j])
    truth = torch.from_numpy(np.stack(truth))
    assert hidden.any() and visible.any() and not (hidden & visible).any()
    assert (~truth[hidden]).float().mean() > 0.9  # landing between two pixels, a boundary may be either
    assert truth[visible].float().mean() > 0.98
