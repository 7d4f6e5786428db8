"""Flow around points that are known in two frames: what a tracker, or a person, says, as a candidate of the walk.

Each point carries the affine motion of the points near it that move alike, however they turn and zoom; a point that no
other near it agrees with is taken for wrong. A pixel takes the motion of the nearest point. What is further from all
points than they reach is unknown.

Conventions: flow float32 (H, W, 2), (x, y) in pixels, NaN where unknown; n points (n, 2), (x, y), integer centres; k
points near another. Lengths of settings are shares of the longer side S.
"""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.spatial import cKDTree

from flow.estimator import Estimator
from flow.images import WORKING_SIDE, pixel_grid
from util import source_hash

NEIGHBOURS = 12  # points that a point is compared with
AT_ONCE = 2**13  # points that are compared with those around them, which bounds the memory


@dataclass(frozen=True)
class PointSettings:
    """How far points reach, and which belong together."""

    alike: float = 0.02  # of S: what points that turn and zoom as one may miss it by
    support: int = 2  # points near it that a point has to move alike with
    reach: float = 0.12  # of S: pixels further from a point take nothing from it
    spread: float = 0.04  # of S: points further from one count less in its motion, nearer ones tell little of its slope


class PointFlow(Estimator):
    """Flow estimator: motion around points that are known in two frames, on a grid of every few pixels of large frames.

    evidence: has between(i, j) -> points_1 (n, 2), points_2 (n, 2), weight (n,) in pixels of the frames, and pickles.
    name, fingerprint: what the points are called, and a text that differs when they do.
    """

    def __init__(self, evidence, name, fingerprint, settings=PointSettings()):
        self.evidence, self.settings, self.reason = evidence, settings, f"the points of {name}"
        self.description = {"method": "points", "name": name, "sha256": fingerprint, "settings": asdict(settings),
                            "code": source_hash("flow.point_tracks")}

    def load_frames(self, frames, adjacent=None):
        self.size = frames[0].shape[:2]
        self.cell = max(1, round(max(self.size) / WORKING_SIDE))  # a hint need not be finer

    def flow_from(self, i, partners):
        """See Estimator; NaN where no point reaches."""
        flows = [self.flow(i, j) for j in partners]
        return np.stack(flows) if flows else np.empty((0, *self.size, 2), np.float32)

    def flow(self, i, j):
        """(H, W, 2), NaN where it is unknown."""
        start, end, _ = self.evidence.between(i, j)
        coarse = tuple(-(-side // self.cell) for side in self.size)
        flow = spread_motions(start / self.cell, end / self.cell, coarse, self.settings) * np.float32(self.cell)
        return flow.repeat(self.cell, axis=0).repeat(self.cell, axis=1)[: self.size[0], : self.size[1]]


def spread_motions(start, end, size, settings=PointSettings()):
    """Flow (H, W, 2) of points that go from start (n, 2) to end (n, 2): around the nearest; NaN where none reaches."""
    flow, side = np.full((*size, 2), np.nan, np.float32), max(size)
    start, motion, slope = affine_motions(start, end - start, side, settings)
    if len(start):
        pixels = pixel_grid(size).reshape(-1, 2)
        _, nearest = cKDTree(start).query(pixels, distance_upper_bound=settings.reach * side)
        reached = nearest < len(start)
        nearest = nearest[reached]
        bent = np.einsum("nab,nb->na", slope[nearest], pixels[reached] - start[nearest])
        flow.reshape(-1, 2)[reached] = motion[nearest] + bent
    return flow


def affine_motions(start, motion, side, settings=PointSettings()):
    """Points (n, 2) and their motion (n, 2) -> those that others agree with, their motion and its slope (n', 2, 2).

    Motion and slope (of motion by place) are fitted to the points near one that move alike, itself among them.
    """
    if len(start) <= settings.support:
        return start[:0], motion[:0], np.zeros((0, 2, 2))
    _, near = cKDTree(start).query(start, k=min(NEIGHBOURS + 1, len(start)))  # the first is itself, mostly
    away, change = start[near] - start[:, None], motion[near] - motion[:, None]
    parts = [slice(k, k + AT_ONCE) for k in range(0, len(start), AT_ONCE)]
    found = zip(*(moving_alike(away[part], change[part], settings.alike * side) for part in parts))
    alike, votes, turn = map(np.concatenate, found)
    supported = votes > settings.support
    alike, away, change, turn = (array[supported] for array in (alike, away, change, turn))
    rest = change - np.einsum("nab,nkb->nka", turn, away)
    weight = alike / (1 + np.square(away).sum(-1) / (settings.spread * side) ** 2)
    centre, mean = ((weight[..., None] * array).sum(1) / weight.sum(1)[:, None] for array in (away, rest))
    away, rest = away - centre[:, None], rest - mean[:, None]
    ridge = (settings.spread * side) ** 2 * np.eye(2)
    spread = np.einsum("nk,nka,nkb->nab", weight, away, away) + ridge
    bent = np.einsum("nk,nka,nkb->nab", weight, rest, away) @ np.linalg.inv(spread)
    return start[supported], motion[supported] + mean - np.einsum("nab,nb->na", bent, centre), turn + bent


def moving_alike(away, change, within):
    """Which of k points around each of n turn and zoom as one -> bool (n, k), how many (n,), and how (n, 2, 2).

    away (n, k, 2): where they are from it, the first there itself; change (n, k, 2): by what their motion differs from
    its. Each of them tells how all would turn and zoom, by at most an octave, and the first that none does; right is
    what most others agree with, to so many pixels. How: the slope of motion by place.
    """
    here, there = (np.ascontiguousarray(v, np.float64).view(complex)[..., 0] for v in (away, away + change))
    at_it = (np.abs(here) < 1e-6) | (np.abs(there) < 1e-6)  # and so tells nothing
    told = np.where(at_it, 1, there / np.where(at_it, 1, here))
    told[:, 0] = 1
    told *= np.abs(told).clip(0.5, 2) / np.abs(told).clip(1e-9)
    agree = np.abs(there[:, None] - told[..., None] * here[:, None]) < within  # (n, who tells, of whom)
    votes = agree.sum(-1)
    votes[:, 1:] -= ~at_it[:, 1:]  # but for who tells it
    rows, best = np.arange(len(votes)), votes.argmax(1)
    turn = told[rows, best] - 1
    slope = np.stack([turn.real, -turn.imag, turn.imag, turn.real], axis=-1).reshape(-1, 2, 2)
    return agree[rows, best], votes[rows, best], slope
