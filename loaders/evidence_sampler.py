"""Evidence among the points of training's batches, and how far each source of it is believed.

A source is believed, at each of a few distances in time, as often as its correspondences agree: at first with reliable
flow, and then with the model that is being fitted, as compared with how often flow agrees with it. So a source that
contradicts all others soon weighs little, and one that is right where the flow is lost weighs what it did.

Conventions: S sources, B distances in time (INTERVALS), M correspondences in both directions; pixels as in the batch.
"""

from dataclasses import dataclass

import numpy as np
import torch

INTERVALS = 1, 4, 16  # frames: a distance up to the first, the second ..., or more than the last


@dataclass(frozen=True)
class BeliefSettings:
    """What counts as agreement, and how fast belief follows."""

    agree: float = 0.02  # of the longer side: as far off a correspondence may be
    rate: float = 0.02  # by which belief moves to what a batch shows


SETTINGS = BeliefSettings()


class EvidenceSampler:
    """Draws correspondences of pairs of frames from the evidence of all sources, and weighs them by belief (S, B)."""

    def __init__(self, sources, pool):
        """sources: [loaders.evidence.Evidence]; pool: CorrespondencePool."""
        self.pool, self.names = pool, [source.name for source in sources]
        frames = np.concatenate([source.frames for source in sources]).astype(np.int64)
        points = np.concatenate([source.points for source in sources])
        weight = np.concatenate([source.weight for source in sources])
        kind = np.repeat(np.arange(len(sources)), [len(source.frames) for source in sources]) * (len(INTERVALS) + 1)
        kind = kind + np.searchsorted(INTERVALS, np.diff(frames, axis=1)[:, 0])
        frames, points = (np.concatenate([array, array[:, ::-1]]) for array in (frames, points))
        keys = frames[:, 0] * pool.num_frames + frames[:, 1]
        order = np.argsort(keys, kind="stable")
        self.keys, self.tolerance = keys[order], SETTINGS.agree * max(pool.height, pool.width)
        self.points, self.weight, self.kind = (torch.from_numpy(array[order]).to(pool.device) for array in (
            points, np.tile(weight, 2), np.tile(kind, 2)))
        self.belief = self.first_belief()

    def first_belief(self):
        """(S * B,): how often correspondences agree with the reliable flow of their first pixel."""
        pool = self.pool
        votes = torch.zeros(2, len(self.names) * (len(INTERVALS) + 1), device=pool.device)
        for key in np.unique(self.keys):
            number = pool.number(np.array([key // pool.num_frames]), np.array([key % pool.num_frames]))
            if number[0] < 0:
                continue
            rows = slice(*(int(np.searchsorted(self.keys, key, side)) for side in ("left", "right")))
            number, (start, end) = torch.from_numpy(number).to(pool.device), self.points[rows].unbind(1)
            x, y = start.round().unbind(-1)
            index = (y.clamp(0, pool.height - 1) * pool.width + x.clamp(0, pool.width - 1)).long()[None]
            miss = (start + pool.flow_at(number, index)[0] - end).norm(dim=-1)
            known = pool.cycle_at(number, index)[0]
            votes[0].index_add_(0, self.kind[rows], (known & (miss < self.tolerance)).float())
            votes[1].index_add_(0, self.kind[rows], known.float())
        return (votes[0] + 1) / (votes[1] + 2)  # Laplace's rule of succession: nothing is certain from few

    def draw(self, sources, targets, count, generator):
        """Frames (P,), (P,) numpy -> points (P, count, 2, 2), weight (P, count), kind (P, count).

        Of each pair `count` correspondences, with replacement; of a pair without any their weight is 0 and kind -1.
        """
        wanted = sources * self.pool.num_frames + targets
        first, end = (torch.from_numpy(np.searchsorted(self.keys, wanted, side)).to(self.pool.device)
                      for side in ("left", "right"))
        place = torch.rand(len(wanted), count, generator=generator, device=self.pool.device)
        rows = first[:, None] + (place * (end - first)[:, None]).long()
        known = (end > first)[:, None].expand_as(rows)
        rows = rows.clamp(max=len(self.keys) - 1)
        weight = self.weight[rows] * self.belief[self.kind[rows]] * known
        return self.points[rows], weight, torch.where(known, self.kind[rows], -1)

    def learn(self, kind, error, flow_weight):
        """Move belief to how often a batch's evidence agrees with the model, relative to its flow.

        kind (P, n): of evidence, -1 of flow; error (P, n) pixels; flow_weight (P, n): 0 where flow is not reliable.
        """
        agrees, of_flow = (error < self.tolerance).float(), (kind < 0) & (flow_weight > 0)
        usual = (agrees * of_flow).sum() / of_flow.sum().clamp(min=1)
        ours, slots = kind >= 0, kind.clamp(min=0).flatten()
        right, all_of_kind = (torch.zeros_like(self.belief).index_add_(0, slots, (ours * value).flatten())
                              for value in (agrees, torch.ones_like(agrees)))
        relative = (right / all_of_kind.clamp(min=1) / usual.clamp(min=1e-3)).clamp(max=1)
        self.belief += SETTINGS.rate * torch.where(all_of_kind > 0, relative - self.belief, 0)

    def beliefs(self):
        """{'evidence/NAME FRAMES': belief} for the curves."""
        spans = [f"to {most}" for most in INTERVALS] + [f"over {INTERVALS[-1]}"]
        names = [f"evidence/{name} {span} apart" for name in self.names for span in spans]
        return dict(zip(names, self.belief.unbind()))
