"""A first guess of the surfaces and of their order, from the occlusions that the flow itself shows, before any training.

Where a pixel of frame i has no consistent flow to frame j, but what is seen at its landing place is seen in both, that
surface hides the pixel and lies in front of it. Where the flow is consistent, both pixels show one surface, at one
depth. So do neighbours that move together in all frames. Depth maps that obey all this minimise a convex function of
the maps (absolute differences and hinges), which a primal-dual method solves. Then what hangs together, in space and
time, at one depth is taken for one surface, and surfaces get depths of their own: the mapping, which moves all that is
at one depth together, can then move each as it likes.

Conventions: depth maps (N, h, w), a value at every `cell`-th pixel, in [NEAR, FAR]; `place` is an index into all of
their N * h * w cells. across (N, h, w - 1) and down (N, h - 1, w) are in (0, 1]: how surely neighbours move together.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from networks.rendering import FAR, NEAR
from networks.surface import MIDDLE, grid_size
from util import inside_image

MOST_CELLS = 2**19  # of the depth maps that are solved for; of larger videos, coarser maps, which are then refined
INTERVALS = 1, 2, 4, 8, 16  # frames apart are the pairs that are looked at
ORDER_UP_TO = 8  # frames apart: where what is hidden is continued from what is seen around it
VISIBLE_PX, HIDDEN_PX = 1.5, 3.0  # backward flow that misses the start by less / more is evidence
TOGETHER_PX, WINDOW = 1.0, 5  # neighbours' flow differs by so much more than around them: 0.37; cells
EXTEND_STEPS, EXTEND_LEAST = 24, 0.05  # cells that flow is continued over; joined to what is seen at least so much
SAME, ORDER, FLATNESS, PRIOR = 1.0, 4.0, 2.0, 0.1  # weights of the parts of the convex function
MOVING_PX = 2.0  # what moves by so much against the camera is taken, where nothing else is known, to lie in front
SOLVER_STEPS, FIT_STEPS = 500, 8  # of the primal-dual method; of reweighted least squares
JOINED, CLOSE, LINKED, LEAST_SHARE = 0.5, 0.08, 0.3, 0.002  # of a surface, see surfaces
GROW_STEPS, GROW_JOINED_STEPS = 24, 8  # cells that a surface grows to its rim, the first only where joined
STILL = 0.1  # depth that the prior moves a surface by at most that is still
APART = 0.08  # depth between surfaces that do not hide one another: more than a knot of the mapping


class Evidence(NamedTuple):
    """What flow says of the cells: same (2, S), places of one surface; order (2, O), of what is in front and behind."""

    same: torch.Tensor
    order: torch.Tensor
    across: torch.Tensor
    down: torch.Tensor


class Cells:
    """Flow and masks of a CorrespondencePool at every cell-th pixel of its frames."""

    def __init__(self, pool, cell):
        self.pool, self.cell, self.device = pool, cell, pool.device
        self.size = grid_size(pool.height, pool.width, cell)
        y = (torch.arange(self.size[0], device=self.device) * cell).clamp(max=pool.height - 1)
        x = (torch.arange(self.size[1], device=self.device) * cell).clamp(max=pool.width - 1)
        self.pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)  # (h, w, 2)
        self.index = (self.pixels[..., 1] * pool.width + self.pixels[..., 0]).flatten()[None]

    def partners(self, i):
        """[(frame, number of the pair from i to it)] of the stored pairs that are one of INTERVALS apart."""
        frames = np.array([i + sign * apart for apart in INTERVALS for sign in (1, -1)])
        frames = frames[(frames >= 0) & (frames < self.pool.num_frames)]
        numbers = self.pool.number(np.full(len(frames), i), frames)
        return [(int(j), int(n)) for j, n in zip(frames, numbers) if n >= 0]

    def flow(self, number):
        """(h, w, 2) pixels."""
        return self.pool.flow_at(torch.tensor([number], device=self.device), self.index).view(*self.size, 2)

    def consistent(self, number):
        """bool (h, w)."""
        return self.pool.cycle_at(torch.tensor([number], device=self.device), self.index).view(self.size)

    def nearest(self, pixels):
        """Pixels (h, w, 2) -> rows (h, w) of the cells nearest to them, whether they are in the frame."""
        inside = inside_image(pixels.round(), self.pool.height, self.pool.width)
        x, y = (pixels / self.cell).round().long().unbind(-1)
        return y.clamp(0, self.size[0] - 1) * self.size[1] + x.clamp(0, self.size[1] - 1), inside


def moving_together(cells, i):
    """How surely neighbours in frame i belong together: across (h, w - 1), down (h - 1, w) in (0, 1].

    By the largest difference of their flow to any partner that sees both, beyond the mean difference around them, which
    turning and stretching make.
    """
    rough = [torch.zeros((h, w), device=cells.device) for h, w in neighbours(cells.size)]
    for _, number in cells.partners(i):
        flow, seen = cells.flow(number).permute(2, 0, 1)[None], cells.consistent(number)[None, None].float()
        for k, axis in enumerate((3, 2)):
            difference = flow.diff(dim=axis)
            count = seen.shape[axis] - 1
            both = seen.narrow(axis, 1, count) * seen.narrow(axis, 0, count)
            around = mean_over_window(difference * both) / mean_over_window(both).clamp(min=1e-3)
            rough[k] = torch.maximum(rough[k], ((difference - around) * both)[0].norm(dim=0))
    return [torch.exp(-values / TOGETHER_PX) for values in rough]


def neighbours(size):
    """Shapes of what lies between neighbouring cells, across and down."""
    return (size[0], size[1] - 1), (size[0] - 1, size[1])


def mean_over_window(values):
    return F.avg_pool2d(values, WINDOW, 1, WINDOW // 2)


def all_moving_together(pool, cell):
    """moving_together of all frames: across (N, h, w - 1), down (N, h - 1, w)."""
    cells = Cells(pool, cell)
    return tuple(torch.stack(maps) for maps in zip(*(moving_together(cells, i) for i in range(pool.num_frames))))


def extend(flow, known, across, down):
    """Flow (h, w, 2) continued from known cells (h, w) over those joined to them -> flow, whether it was reached (h, w).

    What is hidden moves with what is seen of its surface, whatever an estimator found there.
    """
    across, down = across[..., None].square(), down[..., None].square()
    start = torch.cat([flow * known[..., None], known[..., None].to(flow)], dim=-1)  # flow times strength, strength
    value = start
    for _ in range(EXTEND_STEPS):
        from_sides = [F.pad(across * value[:, :-1], (0, 0, 1, 0)), F.pad(across * value[:, 1:], (0, 0, 0, 1)),
                      F.pad(down * value[:-1], (0, 0, 0, 0, 1, 0)), F.pad(down * value[1:], (0, 0, 0, 0, 0, 1))]
        total = sum(from_sides) + 1e-3 * value
        strength = torch.stack([side[..., 2] for side in from_sides] + [value[..., 2]]).amax(0)[..., None]
        mean = total[..., :2] / total[..., 2:].clamp(min=1e-12)
        value = torch.where(known[..., None], start, torch.cat([mean * strength, strength], dim=-1))
    strength = value[..., 2]
    return value[..., :2] / strength.clamp(min=1e-12)[..., None], strength > EXTEND_LEAST


def gather_evidence(pool, cell):
    """Evidence of all frames at every cell-th pixel."""
    cells, across, down = Cells(pool, cell), *all_moving_together(pool, cell)
    same, order = [], []
    per_frame = cells.size[0] * cells.size[1]
    own = torch.arange(per_frame, device=cells.device).view(cells.size)
    for i in range(pool.num_frames):
        for j, number in cells.partners(i):
            backward = int(pool.number(np.array([j]), np.array([i]))[0])
            if backward < 0:
                continue
            flow, seen = cells.flow(number), cells.consistent(number)
            known, near = seen, abs(i - j) <= ORDER_UP_TO
            if near:
                extended, reached = extend(flow, seen, across[i], down[i])
                flow, known = torch.where(seen[..., None], flow, extended), seen | reached
            landing, inside = cells.nearest(cells.pixels + flow)
            back = cells.flow(backward).view(-1, 2)[landing]
            miss = (flow + back).norm(dim=-1)
            reliable = cells.consistent(backward).flatten()[landing] & inside & known
            here, there = i * per_frame + own, j * per_frame + landing
            if j > i:
                alike = seen & reliable & (miss < VISIBLE_PX + cell - 1)
                same.append(torch.stack([here[alike], there[alike]]))
            if near:
                hidden = ~seen & reliable & (miss > HIDDEN_PX + cell - 1)
                order.append(torch.stack([there[hidden], here[hidden]]))
    empty = torch.zeros((2, 0), dtype=torch.long, device=cells.device)
    return Evidence(torch.cat([empty, *same], 1), torch.cat([empty, *order], 1), across, down)


def camera_residual(flow):
    """Flow (N, h, w, 2) -> (N, h, w) pixels: distance to the affine motion that explains most of each frame."""
    frames, height, width, _ = flow.shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    basis = torch.stack([torch.ones_like(x), x, y], dim=-1).reshape(-1, 3).to(flow).expand(frames, -1, -1)
    target, weight = flow.reshape(frames, -1, 2), torch.ones(frames, height * width, 1, device=flow.device)
    for _ in range(FIT_STEPS):
        normal = (basis * weight).mT @ basis + 1e-6 * torch.eye(3, device=flow.device)  # 1e-6: one-pixel-wide grids
        affine = torch.linalg.solve(normal, (basis * weight).mT @ target)
        residual = (target - basis @ affine).norm(dim=-1, keepdim=True)
        weight = 1 / (1 + residual.square())  # Cauchy, scale 1 px
    return residual.reshape(frames, height, width)


def prior_depth(pool, cell, margin):
    """Depth where nothing else decides: what moves against the camera in front; frame to frame, or to the one before."""
    cells, last = Cells(pool, cell), pool.num_frames - 1
    numbers = pool.number(np.arange(last + 1), np.r_[1 : last + 1, last - 1])
    flow = torch.stack([cells.flow(int(number)) for number in numbers])
    return MIDDLE - 2 * margin * torch.tanh(camera_residual(flow) / MOVING_PX)


def total_variation(depth, weights):
    """Mean weighted absolute difference of neighbouring cells of depth (N, h, w)."""
    across, down = weights
    return ((depth[:, :, 1:] - depth[:, :, :-1]).abs() * across).mean() + (
        (depth[:, 1:] - depth[:, :-1]).abs() * down).mean()


def solve_depth(prior, evidence, margin, steps=SOLVER_STEPS):
    """The depth maps d (N, h, w) that minimise, over same places a, b, front f and behind b, neighbours n, m,

        SAME sum |d_a - d_b| + ORDER sum (margin - d_b + d_f)_+ + FLATNESS sum w_nm |d_n - d_m| + PRIOR sum |d - prior|

    by the diagonally preconditioned primal-dual method (Pock and Chambolle, ICCV 2011).
    """
    same, order, across, down = evidence
    size, steps_of = prior.shape, torch.zeros(prior.numel(), device=prior.device)
    for places, weight in ((same, SAME), (order, ORDER)):
        for side in places:
            steps_of.index_add_(0, side, torch.full(side.shape, weight, device=prior.device))
    steps_of = 1 / (steps_of.view(size) + FLATNESS * degree(across, down)).clamp(min=1e-3)
    depth, ahead = prior.clone(), prior.clone()
    dual = [torch.zeros(same.shape[1], device=prior.device), torch.zeros(order.shape[1], device=prior.device),
            torch.zeros_like(across), torch.zeros_like(down)]
    for _ in range(steps):
        flat, slope = ahead.flatten(), torch.zeros(prior.numel(), device=prior.device)
        dual[0] = (dual[0] + (flat[same[1]] - flat[same[0]]) / 2).clamp(-1, 1)
        dual[1] = (dual[1] + (flat[order[1]] - flat[order[0]] - margin) / 2).clamp(-1, 0)
        dual[2] = (dual[2] + ahead.diff(dim=2) / 2).clamp(-1, 1)
        dual[3] = (dual[3] + ahead.diff(dim=1) / 2).clamp(-1, 1)
        for places, pull, weight in ((same, dual[0], SAME), (order, dual[1], ORDER)):
            slope.index_add_(0, places[1], pull, alpha=weight).index_add_(0, places[0], pull, alpha=-weight)
        slope = slope.view(size)
        x, y = FLATNESS * across * dual[2], FLATNESS * down * dual[3]
        slope += F.pad(x, (1, 0)) - F.pad(x, (0, 1)) + F.pad(y, (0, 0, 1, 0)) - F.pad(y, (0, 0, 0, 1))
        away = depth - steps_of * slope - prior
        following = prior + away.sign() * (away.abs() - PRIOR * steps_of).clamp(min=0)
        following.clamp_(NEAR + margin / 2, FAR - margin / 2)
        depth, ahead = following, 2 * following - depth
    return depth


def degree(across, down):
    """(N, h, w): the sum of the weights between each cell and its neighbours."""
    return F.pad(across, (1, 0)) + F.pad(across, (0, 1)) + F.pad(down, (0, 0, 1, 0)) + F.pad(down, (0, 0, 0, 1))


def initial_depth(pool, cell, margin):
    """Depth maps (N, h, w) of the surfaces, each at a depth of its own, in the order in which they hide one another."""
    coarse = cell
    while pool.num_frames * np.prod(grid_size(pool.height, pool.width, coarse)) > MOST_CELLS:
        coarse += cell
    evidence = gather_evidence(pool, coarse)
    prior = prior_depth(pool, coarse, margin)
    depth = solve_depth(prior, evidence, margin)
    on_cpu = Evidence(*(tensor.cpu().numpy() for tensor in evidence))
    labels = surfaces(depth.cpu().numpy(), on_cpu)
    labels = still_as_one(labels, depth.cpu().numpy(), prior.cpu().numpy())
    depth = torch.from_numpy(separate(depth.cpu().numpy(), labels, margin)).to(depth)
    return depth if coarse == cell else refined(depth, Cells(pool, coarse), Cells(pool, cell))


def surfaces(depth, evidence):
    """Which surface each cell of depth (N, h, w) shows -> labels (N, h, w), -1 for what is too small to be one; numpy.

    First what is JOINED to all around it and CLOSE in depth, frame by frame; then through time, where a share LINKED of
    the smaller one is the same as the other; parts of at least LEAST_SHARE of the video grow to their rims.
    """
    pieces = np.full(depth.shape, -1)
    count = 0
    for i, (own, across, down) in enumerate(zip(depth, evidence.across, evidence.down)):
        piece = pieces_of_frame(own, across, down)
        pieces[i] = np.where(piece >= 0, piece + count, -1)
        count += piece.max(initial=-1) + 1
    if not count:
        return pieces
    flat, depths = pieces.ravel(), depth.ravel()
    a, b = evidence.same[:, np.abs(np.diff(depths[evidence.same], axis=0)[0]) < CLOSE]
    a, b = flat[a], flat[b]
    a, b = a[(a >= 0) & (b >= 0)], b[(a >= 0) & (b >= 0)]
    links = coo_matrix((np.ones(len(a)), (a, b)), (count, count)).tocsr()
    links = (links + links.T).tocoo()
    sizes = np.bincount(flat[flat >= 0], minlength=count)
    strong = links.data > LINKED * np.minimum(sizes[links.row], sizes[links.col])
    labels = components(links.row[strong], links.col[strong], count)
    labels = np.where(pieces >= 0, labels[pieces], -1)
    sizes = np.bincount(labels[labels >= 0])
    large = np.flatnonzero(sizes > LEAST_SHARE * depth.size)
    return grow(np.where(np.isin(labels, large), labels, -1), depth, evidence.across, evidence.down)


def components(a, b, count):
    """Labels (count,) of the connected components of the graph with edges between nodes a and b."""
    return connected_components(coo_matrix((np.ones(len(a), bool), (a, b)), (count, count)), directed=False)[1]


def pieces_of_frame(depth, across, down):
    """Connected parts (h, w) of a frame, from 0; -1 where neighbours are not JOINED, or next to that."""
    joined = np.ones(depth.shape, np.float32)
    for (to, other), weight in zip(sides(), (across, across, down, down)):
        joined[to] = np.minimum(joined[to], weight)
    core = -F.max_pool2d(-torch.from_numpy(joined)[None, None], 3, 1, 1)[0, 0].numpy() > JOINED
    index = np.arange(depth.size).reshape(depth.shape)
    ends = [(index[to][both], index[other][both]) for to, other in sides()[::2]
            if (both := core[to] & core[other] & (np.abs(depth[to] - depth[other]) < CLOSE)) is not None]
    labels = components(*map(np.concatenate, zip(*ends)), depth.size).reshape(depth.shape)
    found, labels = np.unique(np.where(core, labels, -1), return_inverse=True)
    return labels.reshape(depth.shape) - (found[0] < 0)


def sides():
    """Slices (to, from) of the last two axes, of cells and of their left, right, upper and lower neighbours."""
    return [(np.s_[..., 1:], np.s_[..., :-1]), (np.s_[..., :-1], np.s_[..., 1:]),
            (np.s_[..., 1:, :], np.s_[..., :-1, :]), (np.s_[..., :-1, :], np.s_[..., 1:, :])]  # fmt: skip


def grow(labels, depth, across, down):
    """Cells without a label (-1) take that of the neighbour of like depth that they are joined to most surely."""
    for step in range(GROW_STEPS):
        best, grown = np.zeros(labels.shape, np.float32), labels.copy()
        least = JOINED if step < GROW_JOINED_STEPS else 0
        for (to, other), weight in zip(sides(), (across, across, down, down)):
            near = np.abs(depth[to] - depth[other]) < CLOSE
            better = (labels[other] >= 0) & (labels[to] < 0) & near & (weight > np.maximum(best[to], least))
            best[to] = np.where(better, weight, best[to])
            grown[to] = np.where(better, labels[other], grown[to])
        labels = grown
    return labels


def still_as_one(labels, depth, prior):
    """labels (N, h, w) with one label for all surfaces that move with the camera and that no order moved away."""
    result = labels.copy()
    for label in np.unique(labels[labels >= 0]):
        own = labels == label
        if np.median(prior[own]) > MIDDLE - STILL and abs(np.median(depth[own]) - MIDDLE) < CLOSE:
            result[own] = labels.max() + 1
    return result


def separate(depth, labels, margin):
    """Depth (N, h, w) with each surface at its own depth, at least APART (or as far as there is room), order kept."""
    found = np.unique(labels[labels >= 0])
    if not len(found):
        return depth
    middle = np.array([np.median(depth[labels == label]) for label in found])
    order = np.argsort(middle, kind="stable")
    room = np.arange(len(found)) * min(APART, (FAR - NEAR - margin) / max(len(found) - 1, 1))
    own = nondecreasing(middle[order] - room) + room
    own = own - max(own[-1] - (FAR - margin / 2), 0)
    own = own + max(NEAR + margin / 2 - own[0], 0)
    result = np.interp(depth, middle[order] + 1e-6 * np.arange(len(found)), own)  # 1e-6: np.interp wants rising depths
    for label, value, median in zip(found[order], own, middle[order]):
        result[labels == label] = value + depth[labels == label] - median
    return result.clip(NEAR + margin / 2, FAR - margin / 2).astype(np.float32)


def nondecreasing(values):
    """The nondecreasing sequence nearest to values (n,) in least squares (pool adjacent violators)."""
    blocks = []  # [mean, length]
    for value in values:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, length = blocks.pop()
            before, count = blocks[-1]
            blocks[-1] = [(before * count + mean * length) / (count + length), count + length]
    return np.concatenate([np.full(length, mean) for mean, length in blocks])


def refined(depth, coarse, fine):
    """Depth (N, h, w) of coarse cells -> of fine ones: of the coarse cells around, that which moves as the cell does."""
    result = []
    base = (fine.pixels.double() / coarse.cell).floor().long()
    for i, values in enumerate(depth):
        partners = [number for _, number in fine.partners(i)]
        at_fine, at_coarse = (torch.cat([cells.flow(n) for n in partners], -1) for cells in (fine, coarse))
        best, chosen = None, None
        for x, y in ((0, 0), (1, 0), (0, 1), (1, 1), (-1, 0), (0, -1), (2, 0), (0, 2)):
            column = (base[..., 0] + x).clamp(0, coarse.size[1] - 1)
            row = (base[..., 1] + y).clamp(0, coarse.size[0] - 1)
            apart = (at_fine - at_coarse[row, column]).abs().sum(-1)
            nearer = torch.ones_like(apart, dtype=torch.bool) if best is None else apart < best
            best = apart if best is None else torch.minimum(best, apart)
            chosen = values[row, column] if chosen is None else torch.where(nearer, values[row, column], chosen)
        result.append(chosen)
    return torch.stack(result)


def edge_weights(pool, cell):
    """How alike neighbouring cells move from frame to frame, in (0, 1]: across (N, h, w - 1), down (N, h - 1, w)."""
    cells, last = Cells(pool, cell), pool.num_frames - 1
    numbers = pool.number(np.arange(last + 1), np.r_[1 : last + 1, last - 1])
    flow = torch.stack([cells.flow(int(number)) for number in numbers])
    return tuple(torch.exp(-flow.diff(dim=axis).norm(dim=-1)) for axis in (2, 1))
