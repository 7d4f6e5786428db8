"""Pixels of several pairs assigned to a few affine motions each: flow/motions.py, in torch.

Conventions: as in flow.batched.images; a motion (3, 2) as in flow.motions; M motions, of which some pairs may have
fewer: what is not there costs too much to be taken.
"""

import math
from functools import lru_cache

import torch

import util
from flow.batched.images import resize, shrink
from flow.motions import CELLS, FEWEST, GUESSES, LEAST_NOISE, SWEEPS, TESTED, Motions, windows

NEVER = 1e4  # levels that a motion costs that is not there


def assign_motions(flow, pairs, settings):
    """Flow (B, 2, H, W) in which pixels that may move by one of a few affine motions do; pairs: of batched.pairs."""
    size = flow.shape[-2:]
    finder = finder_of(size, settings, flow.device)
    motions, there = finder.find(flow)
    candidates = [flow, *(finder.flow(motions[:, k]) for k in range(motions.shape[1]))]
    costs = costs_of_motions(candidates, [pairs.colour_error(candidate) for candidate in candidates], there, settings)
    label = assign(costs, pairs.first.pixels, -(-max(size) // CELLS), settings)
    chosen = flow
    for k, candidate in enumerate(candidates[1:], start=1):
        chosen = torch.where(label == k, candidate, chosen)
    return chosen


@lru_cache(maxsize=2)
def finder_of(size, settings, device):
    """The Finder for frames of a size."""
    return Finder(size, settings, device)


class Finder:
    """Finds motions in flow between frames of size (H, W), by the same random guesses as flow.motions.Motions."""

    def __init__(self, size, settings, device):
        guesses, self.size, self.settings = Motions(size, settings), size, settings
        pixels = size[0] * size[1]
        self.seeds = guesses.rng.choice(pixels, GUESSES)
        self.near = torch.from_numpy(guesses.around(self.seeds)).to(device)
        self.tested = torch.from_numpy(guesses.rng.choice(pixels, min(pixels, TESTED), replace=False)).to(device)
        self.seeds, self.basis = torch.from_numpy(self.seeds).to(device), torch.from_numpy(guesses.basis).to(device)

    def flow(self, motions):
        """Motions (B, 3, 2) -> their flow (B, 2, H, W)."""
        return (self.basis @ motions).transpose(1, 2).unflatten(2, self.size)

    def find(self, flow):
        """The motions that explain most of flow (B, 2, H, W), each fitted to what follows it -> (B, M, 3, 2), and
        which of them are there, bool (B, M)."""
        flow = flow.flatten(2).transpose(1, 2)  # (B, n, 2)
        motions, there = self.guess(flow)
        left, found = torch.ones(flow.shape[:2], dtype=torch.bool, device=flow.device), []
        for k in range(motions.shape[1]):
            motion, kept = motions[:, k], there[:, k]
            follow = self.followers(motion, flow, left)
            kept = kept & (follow.sum(1) >= FEWEST)
            motion = fit(self.basis[None], flow, follow)
            follow = self.followers(motion, flow, left)
            there[:, k] = kept & (follow.sum(1) >= FEWEST)
            left &= ~(follow & there[:, k : k + 1])
            found.append(motion)
        return torch.stack(found, dim=1), there

    def followers(self, motion, flow, left):
        """bool (B, n): the pixels that are left whose flow (B, n, 2) follows motions (B, 3, 2)."""
        return left & ((self.basis @ motion - flow).square().sum(-1) <= self.settings.inlier_distance**2)

    def guess(self, flow):
        """Motions (B, M, 3, 2) fitted around random pixels, that together explain most of flow (B, n, 2), and which are
        there."""
        near = flow[:, self.near]  # (B, GUESSES, k, 2)
        used = (near - flow[:, self.seeds][:, :, None]).square().sum(-1) < util.SAME_MOTION**2
        motions = fit(self.basis[self.near], near, used)
        valid = used.sum(-1) >= FEWEST
        missed = (self.basis[self.tested] @ motions - flow[:, None, self.tested]).square().sum(-1)
        explains = ((missed < self.settings.inlier_distance**2) & valid[..., None]).float()
        chosen, there = covering(explains, self.settings.most_motions)
        return motions.gather(1, chosen[..., None, None].expand(-1, -1, 3, 2)), there


def covering(explains, count):
    """`count` rows of explains (B, m, n), 0 or 1, that together explain most: each of what is left -> their places
    (B, count), and which of them explain anything (B, count)."""
    unexplained, chosen, there = torch.ones_like(explains[:, 0]), [], []
    for _ in range(count):
        gained = (explains @ unexplained[..., None])[..., 0]
        best = gained.argmax(1)
        chosen.append(best)
        there.append(gained.amax(1) > 0)
        unexplained = unexplained * (1 - explains[torch.arange(len(best), device=best.device), best])
    return torch.stack(chosen, dim=1), torch.stack(there, dim=1)


def fit(basis, flow, used):
    """Least squares: basis (..., n, 3), flow (..., n, 2), which are used (..., n) -> motions (..., 3, 2)."""
    weighted = (basis * used[..., None]).transpose(-1, -2).double()
    normal = weighted @ basis.double()
    normal.diagonal(dim1=-2, dim2=-1)[..., :2] += 1e-3  # as in flow.motions
    normal.diagonal(dim1=-2, dim2=-1)[..., 2] += 1e-6
    return torch.linalg.solve_ex(normal, weighted @ flow.double()).result.float()


def costs_of_motions(candidates, errors, there, settings):
    """Costs (B, F, H, W) of assigning a pixel to its own flow, the first candidate, or to motions that are `there`."""
    errors = torch.cat(errors, dim=1)
    away = torch.cat([(flow - candidates[0]).square().sum(1, keepdim=True) for flow in candidates], dim=1).sqrt()
    costs = errors + settings.own_cost / 2 * away / (away + settings.inlier_distance)
    costs[:, 0] += settings.own_cost
    absent = ~there[..., None, None]
    follow = (away[:, 1:] <= settings.inlier_distance) & ~absent
    unexplained = 1 - follow.any(1).float().mean((1, 2))
    costs[:, 1:] += settings.own_cost * unexplained[:, None, None, None] * distance_to(follow)
    costs[:, 1:].masked_fill_(absent, NEVER)
    errors = torch.cat([errors[:, :1], errors[:, 1:].masked_fill(absent, NEVER)], dim=1)
    noise = errors.amin(1).flatten(1).median(1).values.clamp(min=LEAST_NOISE)
    return costs * (settings.certainty / noise)[:, None, None, None]


def assign(costs, pixels, cell, settings):
    """The label (B, 1, H, W) of each pixel by a mean field over cells of so many pixels, then by its own costs."""
    size = costs.shape[-2:]
    cells = tuple(-(-side // cell) for side in size)
    shares = mean_field(shrink(costs, cells), likeness(shrink(pixels, cells), settings.colour_contrast))
    if cell > 1:
        shares = (resize(shares, size) + 1e-6).log() - costs
    return shares.argmax(1, keepdim=True)


def mean_field(costs, alike):
    """Shares (B, F, H, W) of labels of these costs when neighbours that are alike favour the same label."""
    shares = (-costs).softmax(1)
    for _ in range(SWEEPS):
        energy = -costs
        for weight, (here, there) in zip(alike, windows(*costs.shape[-2:])):
            energy[(..., *here)] += weight * shares[(..., *there)]
        shares = energy.softmax(1)
    return shares


def likeness(guide, contrast):
    """How alike each pixel of guide (B, C, H, W) is to its neighbours in colour, in (0, 1]: a list of (B, 1, h, w)."""
    return [torch.exp(-(guide[(..., *here)] - guide[(..., *there)]).abs().mean(1, keepdim=True) / contrast)
            for here, there in windows(*guide.shape[-2:])]


def distance_to(mask):
    """float32 (B, F, H, W): pixels from the nearest one in mask; far where there is none.

    By jump flooding (Rong and Tan, I3D 2006): each pixel takes over the nearest one that pixels half, a quarter, ... of
    the side away know of.
    """
    height, width = mask.shape[-2:]
    y, x = (torch.arange(side, device=mask.device, dtype=torch.float32) for side in (height, width))
    y, x = y[:, None].expand(height, width), x.expand(height, width)
    far = float(height + width)
    near_x, near_y = torch.where(mask, x, 4 * far), torch.where(mask, y, 4 * far)
    least = torch.where(mask, 0, 16 * far * far)
    step = 2 ** math.ceil(math.log2(max(height, width)))
    while step >= 1:
        reach = [(dx, dy) for dy in (-step, 0, step) for dx in (-step, 0, step)
                 if (dx or dy) and abs(dx) < width and abs(dy) < height]
        for here, there in windows(height, width, reach):
            here, there = (..., *here), (..., *there)
            other_x, other_y = near_x[there], near_y[there]
            distance = (other_x - x[here]).square() + (other_y - y[here]).square()
            closer = distance < least[here]
            for of, other in ((near_x, other_x), (near_y, other_y), (least, distance)):
                of[here] = torch.where(closer, other, of[here])
        step //= 2
    return least.sqrt().clamp(max=far)
