"""What monocular depth says of the order of surfaces: believed as far as the occlusions in the flow bear it out.

A pixel that is hidden in another frame lies behind the surface that hides it, and the flow leads back to where that
surface is seen in the pixel's own frame. As often as the depth there says so, too, it is believed: not at all where
that is by chance, as of random depth, and the other way round where it says the opposite, as inverse depth does.

Conventions: ranks (N, H, W) in [0, 1], of a pixel's depth among those of its frame; P pairs of n points.
"""

from dataclasses import dataclass

import numpy as np
import torch

from networks.surface import sample_grid
from training.evidence import occluders


@dataclass(frozen=True)
class MonoDepthSettings:
    """How it is tested and used."""

    interval: int = 2  # frames, at most, from one to the other: further on, what hides a pixel is not known
    apart: float = 0.02  # ranks that differ by less say nothing
    sure: float = 0.7  # of the occlusions: who agrees with so many is believed fully; some that look like one are none


SETTINGS = MonoDepthSettings()
BATCHES, PAIRS, POINTS = 32, 64, 128  # that are looked through for occlusions


@dataclass(frozen=True)
class DepthHint:
    """ranks (N, H, W), rising with depth; belief in [0, 1]; agree: share of the occlusions that they agree with."""

    ranks: torch.Tensor
    belief: float
    agree: float

    def at(self, frames, pixels):
        """Ranks at pixels (P, n, 2) of frames (P,) -> (P, n)."""
        there = self.ranks.device
        return sample_grid(self.ranks, frames.to(there), pixels.to(there)).to(pixels.device)


def believed(ranks, sampler):
    """DepthHint of ranks (N, H, W) of depth, or of inverse depth.

    What agrees with half of the occlusions, or by three standard errors with more, may do so by chance; as occlusions
    are not independent of each other, belief rises slowly from there.
    """
    said = torch.zeros(2, device=ranks.device)
    for _ in range(BATCHES):
        batch = sampler.sample(PAIRS, POINTS, SETTINGS.interval)
        hidden, places = occluders(sampler.pool, batch)
        behind = sample_grid(ranks, batch.frames_1, batch.pixels_1) - sample_grid(ranks, batch.frames_1, places)
        tells = hidden & (behind.abs() > SETTINGS.apart)
        said += torch.stack([(tells & (behind > 0)).sum(), (tells & (behind < 0)).sum()])
    as_given, turned_round = said.tolist()
    votes, turned = max(as_given + turned_round, 1), turned_round > as_given
    agree = max(as_given, turned_round) / votes if as_given + turned_round else 0.5
    belief = max(0.0, (agree - 0.5 - 3 * 0.5 / votes**0.5) / (SETTINGS.sure - 0.5)) ** 2
    return DepthHint(1 - ranks if turned else ranks, min(belief, 1.0), agree)


def stored_hint(pool, sampler):
    """DepthHint of what the data directory holds of depth, on the pool's device; None where it holds none."""
    ranks = [pool.data.depth(i) for i in range(pool.num_frames)]
    if ranks[0] is None:
        return None
    return believed(torch.from_numpy(np.stack(ranks)).to(pool.device).float() / 255, sampler)


def rank_order(depth, ranks, margin):
    """How far depths (P, n) contradict ranks (P, n) of the same points: mean over points and the next of their frame.

    What is farther by rank is to be so by as much in depth, up to the margin.
    """
    wanted = ranks - ranks.roll(1, 1)
    gap = (depth - depth.roll(1, 1)) * wanted.sign()
    return (wanted.abs().clamp(max=margin) - gap).clamp(min=0).mean()
