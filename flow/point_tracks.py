"""Flow around points that are known in two frames: what a tracker, or a person, says, as a candidate of the walk.

Each point carries the affine motion of the points near it that move alike, however they turn and zoom; a point that no
other near it agrees with is taken for wrong. A pixel takes the motion of a point that is near it and of its colour.
What is further from all points than they reach is unknown. A second flow is that of the next motion near a pixel, so
that at the borders of surfaces the walk can choose.

Conventions: flow float32 (H, W, 2), (x, y) in pixels, NaN where unknown; n points (n, 2), (x, y), integer centres; k
points near another. Lengths of settings are shares of the longer side S.
"""

from dataclasses import asdict, dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

from flow.estimator import Estimator
from flow.images import WORKING_SIDE, pixel_grid
from util import BoundedCache, source_hash

AT_ONCE = 2**13  # points that are compared with those around them, which bounds the memory
CACHE_BYTES = 2**26  # of motions between frames, and of colours


@dataclass(frozen=True)
class PointSettings:
    """How far points reach, and which belong together."""

    neighbours: int = 12  # points that a point is compared with
    alike: float = 0.02  # of S: what points that turn and zoom as one may miss it by
    support: int = 2  # points near it that a point has to move alike with
    reach: float = 0.12  # of S: pixels further from a point take nothing from it
    spread: float = 0.04  # of S: the distance that weighs as much as ...
    colour: float = 25.0  # ... so many levels of colour between a pixel and a point
    stiffness: float = 0.04  # of S: points nearer than that tell little of how motion changes with place, beside those
    nearest: int = 8  # points that a pixel chooses from
    other: float = 0.01  # of S: by which a second motion differs from the first


class PointMotions:
    """Motion around points that are known in two frames, on a grid of every few pixels of large frames.

    evidence: has between(i, j) -> points_1 (n, 2), points_2 (n, 2), weight (n,) in pixels of the frames, and pickles.
    """

    def __init__(self, evidence, settings=PointSettings()):
        self.evidence, self.settings, self.frames = evidence, settings, None

    def __reduce__(self):  # to another process, without frames
        return PointMotions, (self.evidence, self.settings)

    def load_frames(self, frames):
        if self.frames is not frames:  # those of both ranks are the same
            self.frames, self.size = frames, frames[0].shape[:2]
            self.cell = max(1, round(max(self.size) / WORKING_SIDE))  # a hint need not be finer
            self.colours = BoundedCache(self.coarse_colours, CACHE_BYTES)
            self.flows = BoundedCache(lambda pair: self.between(*pair), CACHE_BYTES)

    def coarse_colours(self, i):
        """float32 (h, w, 3)."""
        return cv2.GaussianBlur(self.frames[i], (0, 0), self.cell)[:: self.cell, :: self.cell].astype(np.float32)

    def between(self, i, j):
        """(2, h, w, 2), in pixels of the frame: see spread_motions."""
        start, end, _ = self.evidence.between(i, j)
        flows = spread_motions(start / self.cell, end / self.cell, self.colours[i], self.settings)
        return flows * np.float32(self.cell)

    def flow(self, i, j, rank):
        """(H, W, 2), NaN where it is unknown."""
        flow = self.flows[i, j][rank].repeat(self.cell, axis=0).repeat(self.cell, axis=1)
        return flow[: self.size[0], : self.size[1]]


class PointFlow(Estimator):
    """Flow estimator: of a PointMotions; `rank` 0 is the best motion at a pixel, 1 the next.

    name, fingerprint: what the points are called, and a text that differs when they do.
    """

    def __init__(self, motions, name, fingerprint, rank=0):
        self.motions, self.rank, self.reason = motions, rank, f"the points of {name}"
        self.description = {"method": "points", "name": name, "sha256": fingerprint, "rank": rank,
                            "settings": asdict(motions.settings), "code": source_hash("flow.point_tracks")}

    def load_frames(self, frames, adjacent=None):
        self.motions.load_frames(frames)

    def flow_from(self, i, partners, ahead=None):
        """See Estimator; NaN where no point reaches."""
        flows = [self.motions.flow(i, j, self.rank) for j in partners]
        return np.stack(flows) if flows else np.empty((0, *self.motions.size, 2), np.float32)


def spread_motions(start, end, colours, settings=PointSettings()):
    """Two flows (2, H, W, 2) of points that go from start (n, 2) to end (n, 2): the best motion, and the next.

    colours: float32 (H, W, 3) of the frame in which they start. Both are NaN where no point reaches.
    """
    size, side = colours.shape[:2], max(colours.shape[:2])
    flows = np.full((2, *size, 2), np.nan, np.float32)
    start, motion, slope = affine_motions(start, end - start, side, settings)
    if not len(start):
        return flows
    pixels = pixel_grid(size).reshape(-1, 2)
    distance, near = cKDTree(start).query(pixels, k=min(settings.nearest, len(start)),
                                          distance_upper_bound=settings.reach * side)
    distance, near = distance.reshape(len(pixels), -1), near.reshape(len(pixels), -1)
    reached, near = np.isfinite(distance), near.clip(max=len(start) - 1)
    away = pixels[:, None] - start[near]
    moved = motion[near] + np.einsum("pkab,pkb->pka", slope[near], away)  # (pixels, k, 2)
    at = np.rint(start).astype(int).clip(0, [size[1] - 1, size[0] - 1])
    unlike = colours.reshape(-1, 1, 3) - colours[at[:, 1], at[:, 0]][near]
    cost = np.square(distance / (settings.spread * side)) + np.square(unlike / settings.colour).mean(-1)
    cost[~reached] = np.inf
    for flow in flows:
        best = cost.argmin(-1)[:, None]
        known = np.isfinite(np.take_along_axis(cost, best, 1))
        chosen = np.take_along_axis(moved, best[..., None], 1)
        flow[:] = np.where(known, chosen[:, 0], np.nan).reshape(*size, 2)
        cost[np.square(moved - chosen).sum(-1) < (settings.other * side) ** 2] = np.inf
    return flows


def affine_motions(start, motion, side, settings=PointSettings()):
    """Points (n, 2) and their motion (n, 2) -> those that others agree with, their motion and its slope (n', 2, 2).

    Motion and slope (of motion by place) are fitted to the points near one that move alike, itself among them.
    """
    if len(start) <= settings.support:
        return start[:0], motion[:0], np.zeros((0, 2, 2))
    _, near = cKDTree(start).query(start, k=min(settings.neighbours + 1, len(start)))  # the first is itself, mostly
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
    ridge = (settings.stiffness * side) ** 2 * np.eye(2)
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
