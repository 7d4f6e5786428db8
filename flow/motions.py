"""Pixels assigned to a few affine motions.

Most of what moves between two frames moves in a few ways: the camera, and each rigid thing or part of one. An
estimator that looks through small windows does not know that, and goes wrong where a window shows too little: on thin
things, at rims, where there is no texture. So the affine motions that explain most of a flow are found; then each pixel
is assigned to one of them or keeps its own flow: by colour, and as its neighbours of like colour do. The same colour is
found in many places, and limbs bend as no affine motion does: so a motion is there only for what is near to pixels that
follow it; the nearer, the less of the flow motions explain at all.

Conventions: flow float32 (H, W, 2), (x, y) in pixels, flattened to (n, 2) inside; a motion (3, 2) is the flow
(x, y, 1) @ motion, x and y running from -1 to 1 over the frame; costs and errors (H, W), in levels. Candidates are
{name: flow}, as in flow.fusion.
"""

from dataclasses import dataclass

import cv2
import numpy as np

import util
from flow.fusion import lowest, select
from flow.images import resize, shrink


@dataclass(frozen=True)
class MotionSettings:
    """Distances between flows are in pixels, not in shares of the side: they say what estimators' noise is."""

    # finding
    most_motions: int = 16  # that are found: too few miss some, too many fit what is wrong
    radius: float = 1 / 16  # of the long side: how far around a pixel others are that a motion is fitted to; adjacent
    # flow also starts from shifts by as much
    inlier_distance: float = 0.75  # pixels from a motion: flow that follows it
    # assigning
    own_cost: float = 3.0  # levels that the own flow costs, and at most half as many those of motions far from it; and
    # that each pixel of distance from a motion's followers costs, if nothing is explained
    certainty: float = 0.4  # cost of an error of the usual size, where 1 is what one neighbour that is alike says
    colour_contrast: float = 12.0  # levels of colour by which neighbours differ that are 1/e alike


GUESSES, NEIGHBOURS, TESTED = 150, 48, 1500  # motions fitted to a random pixel and some around it; pixels they explain
SWEEPS = 16  # of the mean field over all pixels
CELLS = 256  # on the long side, at most: in larger frames neighbours are cells of several pixels
FEWEST = 4  # pixels that have a motion: three determine one
LEAST_NOISE = 1.0  # levels: frames are of whole ones
REACH = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y] + [(2, 0), (-2, 0), (0, 2), (0, -2)]  # neighbours


def assign_motions(flow, pair, settings=MotionSettings()):
    """Flow (H, W, 2) in which pixels that may move by one of a few affine motions do. pair: the frames' FramePair."""
    motions = Motions(flow.shape[:2], settings)
    cell = -(-max(motions.size) // CELLS)
    alike = likeness(in_cells(np.float32(pair.first.pixels), cell), settings.colour_contrast)
    found = {f"motion {k}": motions.flow(motion) for k, motion in enumerate(motions.find(flow))}
    candidates = {"own": flow, **found}
    errors = {name: pair.colour_error(candidate) for name, candidate in candidates.items()}
    costs = costs_of_motions(candidates, errors, settings)
    return select(candidates, assign(np.stack(list(costs.values())), alike, cell))


# Finding


class Motions:
    """Finds motions in flow between frames of size (H, W). seed: of the random guesses."""

    def __init__(self, size, settings=MotionSettings(), seed=0):
        self.size, self.settings, self.rng = size, settings, np.random.default_rng(seed)
        x, y = (np.linspace(-1, 1, side, dtype=np.float32) for side in (size[1], size[0]))
        self.basis = np.stack([*np.meshgrid(x, y), np.ones(size, np.float32)], axis=-1).reshape(-1, 3)

    def flow(self, motion):
        """A motion's flow (H, W, 2)."""
        return (self.basis @ motion).reshape(*self.size, 2)

    def find(self, flow):
        """The motions that explain most of a flow (H, W, 2), each fitted to what follows it."""
        flow, found = flow.reshape(-1, 2), []
        left = np.ones(len(flow), bool)
        for motion in self.guess(flow):
            followers = self.followers(motion, flow, left)
            if len(followers) >= FEWEST:
                motion = fit(self.basis[followers], flow[followers])
                followers = self.followers(motion, flow, left)
            if len(followers) >= FEWEST:
                left[followers] = False
                found.append(motion)
        return found

    def followers(self, motion, flow, left):
        """Which of the pixels that are `left` (n,) have flow (n, 2) that follows a motion."""
        return np.flatnonzero(left & (squared_norm(self.basis @ motion - flow) <= self.settings.inlier_distance**2))

    def guess(self, flow):
        """At most so many motions, fitted around random pixels, that together explain most of flow (n, 2)."""
        settings = self.settings
        seeds = self.rng.choice(len(flow), GUESSES)
        around = self.around(seeds)
        used = squared_norm(flow[around] - flow[seeds][:, None]) < util.SAME_MOTION**2
        motions = fit(self.basis[around] * used[..., None], flow[around] * used[..., None])
        motions = motions[used.sum(1) >= FEWEST]
        tested = self.rng.choice(len(flow), min(len(flow), TESTED), replace=False)
        missed = sum(np.square(motions[..., c] @ self.basis[tested].T - flow[tested, c]) for c in (0, 1))
        explains = (missed < settings.inlier_distance**2).astype(np.float32)
        return [motions[k] for k in covering(explains, settings.most_motions)]

    def around(self, seeds):
        """Random pixels (n, NEIGHBOURS) around the seeds (n,)."""
        height, width = self.size
        radius = self.settings.radius * max(self.size)
        down, across = self.rng.uniform(-1, 1, (2, len(seeds), NEIGHBOURS)) * radius
        y = (seeds[:, None] // width + down).astype(int).clip(0, height - 1)
        x = (seeds[:, None] % width + across).astype(int).clip(0, width - 1)
        return y * width + x


def covering(explains, count):
    """At most `count` rows of explains (m, n), 0 or 1, that together explain most: each of what is left."""
    unexplained, chosen = np.ones(explains.shape[1], np.float32), []
    while len(chosen) < count and (gained := explains @ unexplained).any():
        chosen.append(gained.argmax())
        unexplained *= 1 - explains[chosen[-1]]
    return chosen


def fit(basis, flow):
    """Least squares: basis (..., n, 3), flow (..., n, 2) -> motions (..., 3, 2); linear parts lean to zero."""
    transposed = np.swapaxes(basis, -1, -2)
    lean = np.diag(np.float32([1e-3, 1e-3, 1e-6]))  # so that few pixels, or pixels in a row, have a solution too
    return np.linalg.solve(transposed @ basis + lean, transposed @ flow)


# Assigning


def costs_of_motions(candidates, errors, settings):
    """{name: cost (H, W)} of assigning a pixel to each candidate, in units of what a neighbour says.

    candidates: "own", the flow as it was, and motions; errors {name: (H, W)}.
    """
    own = candidates["own"]
    away = {name: np.sqrt(squared_norm(flow - own)) for name, flow in candidates.items()}
    motions = [name for name in candidates if name != "own"]
    costs = {name: errors[name] + settings.own_cost / 2 * far / (far + settings.inlier_distance)
             for name, far in away.items()}
    costs["own"] += settings.own_cost
    follows = {name: away[name] <= settings.inlier_distance for name in motions}
    unexplained = 1 - np.mean(np.any(list(follows.values()), axis=0)) if motions else 1.0
    for name in motions:
        costs[name] += settings.own_cost * unexplained * distance_to(follows[name])
    noise = np.median(np.min(list(errors.values()), axis=0)).clip(LEAST_NOISE)
    return {name: cost * (settings.certainty / noise) for name, cost in costs.items()}


def assign(costs, alike, cell):
    """The label (H, W) of each pixel by a mean field over cells of so many pixels, then by its own costs (F, H, W)."""
    if cell == 1:
        return lowest(-share for share in mean_field(costs, alike))
    shares = mean_field(np.stack([in_cells(cost, cell) for cost in costs]), alike)
    shares = [resize(share, costs.shape[1:])[..., 0] for share in shares]
    return lowest(cost - np.log(share + 1e-6) for share, cost in zip(shares, costs))


def mean_field(costs, alike):
    """Shares (F, H, W) of labels of these costs (F, H, W) when neighbours that are alike favour the same label.

    Krähenbühl and Koltun, "Efficient inference in fully connected CRFs" (NIPS 2011), with a few neighbours.
    """
    own = -np.float32(costs)
    shares = softmax(own)
    for _ in range(SWEEPS):
        energy = own.copy()
        for weight, (here, there) in zip(alike, windows(*costs.shape[1:])):
            energy[(..., *here)] += weight * shares[(..., *there)]
        shares = softmax(energy)
    return shares


def likeness(guide, contrast=MotionSettings.colour_contrast):
    """How alike each pixel of guide (H, W, C) is to its neighbours in colour, in (0, 1]: a list of arrays."""
    guide = np.moveaxis(guide.astype(np.float32), -1, 0)
    return [np.exp(-sum(np.abs(c[here] - c[there]) for c in guide) / (contrast * len(guide)))
            for here, there in windows(*guide.shape[1:])]


def windows(height, width, reach=REACH):
    """For each neighbour in reach: slices of the pixels that have it, and of the neighbours."""
    for x, y in reach:
        yield (np.s_[max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)],
               np.s_[max(y, 0) : height - max(-y, 0), max(x, 0) : width - max(-x, 0)])


def in_cells(values, cell):
    """(H, W) or (H, W, C) -> the same of cells of so many pixels, averaged."""
    height, width = values.shape[:2]
    return values if cell == 1 else shrink(values, (-(-height // cell), -(-width // cell)))


def softmax(values):
    shares = np.exp(values - values.max(0))
    return shares / shares.sum(0)


def distance_to(mask):
    """float32 (H, W): pixels from the nearest one in mask (H, W); far where there is none."""
    if not mask.any():
        return np.full(mask.shape, sum(mask.shape), np.float32)
    return cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3)


def squared_norm(vectors):
    """(..., 2) -> (...)."""
    return np.square(vectors[..., 0]) + np.square(vectors[..., 1])
