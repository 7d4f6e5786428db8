"""A first guess of the order of surfaces, from the occlusions that the flow itself shows, before any training.

Where a pixel of frame i has no consistent flow to frame j, but what is seen at its landing place is seen in both, that
surface hides the pixel and lies in front of it. Where the flow is consistent, both pixels show one surface, at one
depth. Depth maps that obey both minimise a convex function of the maps (absolute differences and hinges), so a few
hundred steps of Adam find the order without being caught in a wrong one, which training from a flat start is.
"""

import torch

from networks.rendering import FAR, NEAR
from networks.surface import MIDDLE, grid_size, sample_grid

PAIRS, POINTS, LONGEST = 64, 256, 4  # pairs and points a step; frames apart: near enough for the flow to be right
FLATNESS = 1.0  # weight of the total variation against the evidence
CENTRING = 0.0005  # weight of the pull to the middle: keeps what nothing orders where it starts


def edge_weights(pool, cell):
    """How alike neighbouring cells move, in (0, 1]: across (N, h, w - 1) and down (N, h - 1, w); 0.37 at 1 px."""
    height, width = grid_size(pool.height, pool.width, cell)
    y = (torch.arange(height, device=pool.device) * cell).clamp(max=pool.height - 1)
    x = (torch.arange(width, device=pool.device) * cell).clamp(max=pool.width - 1)
    index = (y[:, None] * pool.width + x).flatten()
    across, down = [], []
    for i in range(pool.num_frames):
        row = pool.row(i, i + 1 if i + 1 < pool.num_frames else i - 1)
        flow = pool.flow_at([(i, row)], index[None]).view(height, width, 2)
        across.append(torch.exp(-(flow[:, 1:] - flow[:, :-1]).norm(dim=-1)))
        down.append(torch.exp(-(flow[1:] - flow[:-1]).norm(dim=-1)))
    return torch.stack(across), torch.stack(down)


def total_variation(depth, weights):
    """Mean weighted absolute difference of neighbouring cells of depth (N, h, w)."""
    across, down = weights
    return ((depth[:, :, 1:] - depth[:, :, :-1]).abs() * across).mean() + (
        (depth[:, 1:] - depth[:, :-1]).abs() * down).mean()


def initial_depth(sampler, cell, margin, weights, steps=400, rate=0.02):
    """Depth maps (N, h, w) in [NEAR, FAR] that put hidden pixels at least `margin` behind what hides them."""
    pool = sampler.pool
    shape = (pool.num_frames, *grid_size(pool.height, pool.width, cell))
    depth = torch.full(shape, MIDDLE, device=pool.device, requires_grad=True)
    optimizer = torch.optim.Adam([depth], lr=rate)
    for step in range(steps):
        batch = sampler.sample(PAIRS, POINTS, LONGEST)
        hidden, _ = sampler.evidence(batch, batch.pixels_2)
        hidden = batch.hidden | (hidden & ~batch.covisible)
        gap = sample_grid(depth, batch.frames_1, batch.pixels_1 / cell) - sample_grid(
            depth, batch.frames_2, batch.pixels_2 / cell)
        same = (gap.abs() * batch.covisible).sum() / batch.covisible.sum().clamp(min=1)
        order = ((margin - gap).clamp(min=0) * hidden).sum() / hidden.sum().clamp(min=1)
        loss = same + order + FLATNESS * total_variation(depth, weights) + CENTRING * (depth - MIDDLE).abs().mean()
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            depth.clamp_(NEAR + margin / 2, FAR - margin / 2)
    return depth.detach()
