"""Monocular depth is believed as far as occlusions agree, either way up, and never where they do not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from loaders.surface_sampler import SurfaceSampler
from tests.training.test_objective import options
from training import mono_depth
from training.depth_order import edge_weights, initial_depth
from training.evidence import occluders
from training.mono_depth import believed, rank_order, stored_hint
from training.surface import SurfaceObjective, hint_term


@pytest.fixture(scope="module")
def true_ranks(flow_scene):
    """(N, H, W) in [0, 1], rising with depth: layers are numbered from the farthest."""
    layers = np.stack([flow_scene.layer_map(i) for i in range(flow_scene.num_frames)])
    return torch.from_numpy(1 - layers / layers.max()).float()


def test_occluders_are_nearer_in_truth(flow_scene, flow_pool, true_ranks):
    batch = SurfaceSampler(flow_pool, 0).sample(64, 128, 2)
    hidden, places = occluders(flow_pool, batch)
    assert hidden.sum() > 50
    near, far = [], []
    for frame, pixels, there, chosen in zip(batch.frames_1.tolist(), batch.pixels_1, places, hidden):
        far += flow_scene.top_layer(frame, pixels[chosen].double().numpy()).tolist()
        near += flow_scene.top_layer(frame, there[chosen].double().numpy()).tolist()
    assert (np.array(near) > np.array(far)).mean() > 0.9


def test_belief(flow_pool, true_ranks):
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(true_ranks.shape, generator=generator)
    wrong = torch.rand(true_ranks.shape, generator=generator) < 0.2

    def hint(ranks):
        return believed(ranks, SurfaceSampler(flow_pool, 0))

    true, worse, turned = hint(true_ranks), hint(torch.where(wrong, noise, true_ranks)), hint(1 - true_ranks)
    assert true.belief > 0.5 and torch.equal(true.ranks, true_ranks)
    assert worse.belief > 0.5 and 0.7 < worse.agree < true.agree
    assert turned.belief == pytest.approx(true.belief) and torch.allclose(turned.ranks, true_ranks)
    assert hint(noise).belief < 0.1
    assert hint(torch.full_like(noise, 0.5)).belief == 0


@pytest.mark.parametrize("votes, believed_by", [(0, 0), (3, 0), (9, 0), (100, 1)])
def test_few_occlusions_are_no_proof(votes, believed_by, monkeypatch):
    """Each of so many says that the depth is right: 3 of 3 may do so by chance."""
    batch = SimpleNamespace(frames_1=torch.zeros(1, dtype=torch.long), pixels_1=torch.tensor([[[2.0, 1]] * 100]))
    hidden = torch.arange(100)[None] < votes
    monkeypatch.setattr(mono_depth, "BATCHES", 1)
    monkeypatch.setattr(mono_depth, "occluders", lambda pool, of: (hidden, torch.zeros(1, 100, 2)))
    ranks = torch.zeros(1, 3, 4)
    ranks[0, 1, 2] = 1
    found = believed(ranks, SimpleNamespace(pool=None, sample=lambda *asked: batch))
    assert found.belief == pytest.approx(believed_by, abs=0.01) and found.agree == (1 if votes else 0.5)


def test_what_contradicts_ranks_costs_up_to_the_margin():
    ranks = torch.tensor([[0.2, 0.3, 0.9]])  # wanted, each against the one before: -0.2 (of 0.7), 0.1, 0.2 (of 0.6)
    assert rank_order(torch.tensor([[0.5, 1.0, 1.5]]), ranks, 0.2) == 0
    assert rank_order(torch.tensor([[1.0, 1.0, 1.0]]), ranks, 0.2).item() == pytest.approx((0.2 + 0.1 + 0.2) / 3)
    assert rank_order(torch.tensor([[1.5, 1.0, 1.5]]), ranks, 0.2).item() == pytest.approx((0.2 + 0.6 + 0) / 3)


def test_the_first_order_follows_ranks_where_nothing_else_speaks(flow_pool, true_ranks):
    sampler = SurfaceSampler(flow_pool, 0)
    hint = believed(true_ranks, sampler)
    edges = edge_weights(flow_pool, 2)
    with_it, without = (initial_depth(SurfaceSampler(flow_pool, 0), 2, 0.2, edges, steps=60, hint=of)
                        for of in (hint, None))

    def agree(depth):
        ranks = true_ranks[:, ::2, ::2]
        flat = depth[:, : ranks.shape[1], : ranks.shape[2]]
        return np.corrcoef(flat.flatten(), ranks.flatten())[0, 1]

    assert agree(with_it) > agree(without) + 0.05


def test_stored_depth_is_read_used_and_told(flow_pool, true_ranks, monkeypatch):
    assert stored_hint(flow_pool, None) is None  # there is none
    stored = (true_ranks * 255).round().byte().numpy()
    monkeypatch.setattr(flow_pool.data, "depth", lambda i: stored[i])
    model = SimpleNamespace(depth=torch.zeros(len(stored), 25, 33), cell=2, margin=0.2)
    objective = SurfaceObjective(model, flow_pool, options(w_depth_rank=0.3))
    assert (objective.hint.ranks - true_ranks).abs().max() < 1 / 255
    assert objective.sampler.beliefs() == {"evidence/depth": torch.tensor(objective.hint.belief)}
    batch = objective.sampler.sample(4, 8, 3)
    wrong = -objective.hint.at(batch.frames_1, batch.pixels_1)
    assert hint_term(model, objective.hint, batch, wrong) > 0.05 and hint_term(model, None, batch, wrong) == 0
    off = SurfaceObjective(model, flow_pool, options(w_depth_rank=0.0))
    assert off.hint is None and off.sampler.beliefs() == {}
