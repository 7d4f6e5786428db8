"""Evidence in batches, by loops over hand-made data: what is drawn, what it weighs, and which source is believed."""

import numpy as np
import pytest
import torch

from loaders.correspondences import CorrespondencePool
from loaders.evidence import Evidence, of_tracks, write_evidence
from loaders.evidence_sampler import INTERVALS, SETTINGS, EvidenceSampler
from loaders.surface_sampler import SurfaceSampler
from tests.helpers.hand_made_data import H, HandMadeData, N, W

KINDS = len(INTERVALS) + 1
PAIRS = {(0, 1), (0, 3), (1, 2), (1, 4)}  # of 1, 3, 1 and 3 frames apart: the first two kinds


@pytest.fixture
def pool():
    return CorrespondencePool(HandMadeData(), torch.device("cpu"))


def right(count=60):
    """Tracks that move as the flow does, one pixel a frame."""
    start = np.random.default_rng(0).uniform(0, [W - N, H - 1], (count, 2))
    positions = start[:, None] + np.arange(N)[None, :, None] * [1, 0]
    return of_tracks("right", positions, np.ones((count, N), bool), PAIRS)


def wrong():
    truth = right()
    return Evidence("wrong", truth.frames, truth.points + np.float32([[0, 0], [0, 2]]), truth.weight)


def known_pairs():
    return PAIRS | {(j, i) for i, j in PAIRS}


def test_a_source_is_believed_as_often_as_reliable_flow_agrees(pool):
    belief = EvidenceSampler([right(), wrong()], pool).belief.view(2, KINDS)
    cycle, evidence = HandMadeData().cycle, right()
    for kind, apart in enumerate((1, 3)):
        votes = 0
        for (i, j), points in zip(evidence.frames, evidence.points):
            for a, b, (x, y) in ((i, j, points[0]), (j, i, points[1])):
                votes += (j - i == apart) and cycle[a, b, round(float(y)), round(float(x))]
        assert belief[0, kind].item() == pytest.approx((votes + 1) / (votes + 2))
        assert belief[1, kind] < 0.1 and votes > 20
    assert belief[:, 2:].flatten().tolist() == [0.5] * 4  # nothing is known so far apart


def test_drawn_correspondences_are_those_of_the_pair(pool):
    sampler, truth = EvidenceSampler([right()], pool), right()
    sampler.belief = torch.tensor([0.75, 0.25, 0, 0])
    i, j = np.array([(a, b) for a in range(N) for b in range(N) if a != b]).T
    points, weight, kind = sampler.draw(i, j, 5, torch.Generator().manual_seed(0))
    for pair, (a, b) in enumerate(zip(i.tolist(), j.tolist())):
        if (a, b) not in known_pairs():
            assert (weight[pair] == 0).all() and (kind[pair] == -1).all()
            continue
        all_of_pair = {(*p, *q) for p, q in zip(*(ends.tolist() for ends in truth.between(a, b)[:2]))}
        drawn = [(*p, *q) for p, q in points[pair].tolist()]
        assert set(drawn) <= all_of_pair and len(set(drawn)) > 1
        assert (weight[pair] == (0.75 if abs(a - b) == 1 else 0.25)).all()


def test_belief_follows_agreement_with_the_model_relative_to_the_flows(pool):
    sampler = EvidenceSampler([right(), wrong()], pool)
    sampler.belief = torch.full((2 * KINDS,), 0.5)
    near, far = 0.0, 2 * sampler.tolerance
    kind = torch.tensor([[-1, -1, -1, 0, 0, 0, 0, KINDS]])
    error = torch.tensor([[near, far, far, near, far, far, far, far]])
    sampler.learn(kind, error, torch.tensor([[1.0, 1, 0, 1, 1, 1, 1, 1]]))  # the third has no reliable flow
    expected = [0.5] * 2 * KINDS
    expected[0] += SETTINGS.rate * (1 / 4 / (1 / 2) - 0.5)
    expected[KINDS] += SETTINGS.rate * (0 - 0.5)
    assert sampler.belief.tolist() == pytest.approx(expected)


def test_evidence_takes_the_last_points_of_a_batch_and_leaves_the_others(pool, tmp_path):
    write_evidence(tmp_path, right())
    pool.data.path = tmp_path
    plain, sampler = SurfaceSampler(pool, seed=4, online=True), SurfaceSampler(pool, seed=4, online=True)
    sampler.use_evidence(0.25)
    before, batch = plain.sample(40, 8, N), sampler.sample(40, 8, N)
    assert plain.beliefs() == {} and (before.evidence == -1).all()
    for name in ("pixels_1", "pixels_2", "rgb_1", "weight", "covisible", "evidence"):
        assert torch.equal(getattr(before, name)[:, :6], getattr(batch, name)[:, :6])
    for pair in range(40):
        i, j = int(batch.frames_1[pair]), int(batch.frames_2[pair])
        if (i, j) in known_pairs():
            moved = batch.pixels_2[pair, 6:] - batch.pixels_1[pair, 6:]
            assert torch.allclose(moved, torch.tensor([[j - i, 0.0]] * 2), atol=1e-5)
            cosine, kind = np.cos((abs(i - j) - 1) / N * np.pi / 2), 0 if abs(i - j) == 1 else 1
            assert batch.weight[pair, 6:].tolist() == pytest.approx([cosine * sampler.evidence.belief[kind].item()] * 2)
        else:
            assert torch.equal(before.pixels_2[pair], batch.pixels_2[pair])
    sampler.learn(batch, torch.where(batch.evidence < 0, 0.0, 9.0))
    assert sampler.running.max() == 0  # error maps are of flow
    assert sampler.beliefs()["evidence/right to 1 apart"] < EvidenceSampler([right()], pool).belief[0]
    other = SurfaceSampler(pool, seed=5, online=True)
    other.use_evidence(0.25)
    other.load_state_dict(sampler.state_dict())
    assert torch.equal(other.evidence.belief, sampler.evidence.belief)


def test_what_processes_average_is_what_the_next_batches_weigh_by(pool):
    """Written in place, as ranks.average does."""
    sampler = SurfaceSampler(pool, online=True)
    assert len(sampler.learned()) == 1
    sampler.evidence, sampler.evidence_share = EvidenceSampler([right()], pool), 0.5
    running, belief = sampler.learned()
    running.fill_(3.0)
    belief.fill_(0.25)
    sampler.publish()
    assert (sampler.error_maps == 3).all() and sampler.beliefs()["evidence/right to 1 apart"] == 0.25
    batch = sampler.sample(200, 8, 1)  # pairs of neighbours weigh 1
    assert batch.weight[batch.evidence >= 0].unique().tolist() == [0.25]
