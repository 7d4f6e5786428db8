"""A first guess of the order of surfaces, from the occlusions that the flow itself shows, before any training.

Where a pixel of frame i has no consistent flow to frame j, but what is seen at its landing place is seen in both, that
surface hides the pixel and lies in front of it. Where the flow is consistent, both pixels show one surface, at one
depth. Depth maps that obey both minimise a convex function of the maps (absolute differences and hinges), so a few
hundred steps of Adam find the order without being caught in a wrong one, which training from a flat start is. Where
there is none, what moves against the camera is put in front: separating it helps the mapping even if that is wrong.
"""

import numpy as np
import torch

import util
from losses import masked_mean, total_variation
from networks.rendering import FAR, NEAR
from networks.surface import MIDDLE, grid_size, sample_grid
from training.evidence import evidence
from training.mono_depth import rank_order

STEPS, RATE = 400, 0.02  # of Adam, its rate falling to 0: the problem is convex, and more do not better
PAIRS, POINTS = 64, 128  # a step
FIT_STEPS = 8  # reweighted least squares; converges in a few


def grid_flow(pool, cell):
    """Flow to the next frame (of the last: to the one before) at the cells' corners -> (N, h, w, 2) pixels."""
    height, width = grid_size(pool.height, pool.width, cell)
    y = (torch.arange(height, device=pool.device) * cell).clamp(max=pool.height - 1)
    x = (torch.arange(width, device=pool.device) * cell).clamp(max=pool.width - 1)
    index = (y[:, None] * pool.width + x).flatten()
    frames = np.arange(pool.num_frames)
    numbers = torch.from_numpy(pool.number(frames, np.r_[frames[1:], frames[-2]])).to(pool.device)
    return pool.flow_at(numbers, index.expand(len(numbers), -1)).view(-1, height, width, 2)


def edge_weights(pool, cell):
    """How alike neighbouring cells move, in (0, 1]: across (N, h, w - 1) and down (N, h - 1, w); 0.37 at 1 px."""
    flow = grid_flow(pool, cell)
    across = torch.exp(-(flow[:, :, 1:] - flow[:, :, :-1]).norm(dim=-1))
    return across, torch.exp(-(flow[:, 1:] - flow[:, :-1]).norm(dim=-1))


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


def initial_depth(sampler, cell, margin, weights, steps=None, hint=None):
    """Depth maps (N, h, w) in [NEAR, FAR] that put hidden pixels at least `margin` behind what hides them.

    hint: DepthHint, whose order is followed, too, as far as it is believed.
    """
    start = MIDDLE - 2 * margin * torch.tanh(camera_residual(grid_flow(sampler.pool, cell)) / util.SAME_MOTION)
    depth = start.requires_grad_(True)
    steps, rate = steps or STEPS, RATE
    optimizer = torch.optim.Adam([depth], lr=rate)
    for step in range(steps):
        batch = sampler.sample(PAIRS, POINTS, sampler.pool.num_frames - 1)
        hidden, _ = evidence(sampler.pool, batch, batch.pixels_2)
        hidden = hidden & ~batch.covisible
        here = sample_grid(depth, batch.frames_1, batch.pixels_1 / cell)
        gap = here - sample_grid(depth, batch.frames_2, batch.pixels_2 / cell)
        same = masked_mean(gap.abs(), batch.covisible)
        order = masked_mean((margin - gap).clamp(min=0), hidden)
        loss = same + order + total_variation(depth, weights)
        if hint is not None:
            ranks = hint.at(batch.frames_1, batch.pixels_1)
            loss = loss + hint.belief * rank_order(here, ranks, margin)
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            depth.clamp_(NEAR + margin / 2, FAR - margin / 2)
    return depth.detach()
