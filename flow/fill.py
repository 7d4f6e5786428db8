"""Motion of what is hidden: that of what is seen around it of the same surface.

Conventions: flow and motion float32 (H, W, 2), (x, y) in pixels. Works on a coarse grid of h x w cells.
"""

import numpy as np

import util
from flow.images import resize

CELLS = 48  # on the long side
LEAST_GAIN = 1e-3  # of the mass of any cell: with less, all is reached that will be


def fill(motion, flow, sure):
    """Motion (H, W, 2), replaced where it is not sure (H, W) by that of sure pixels around, of the same surface.

    Of the same surface are pixels whose flow so far is alike. What no sure pixel reaches keeps its motion.
    """
    if sure.all():
        return motion
    cell = max(1, round(max(sure.shape) / CELLS))
    coarse = np.s_[::cell, ::cell]
    value, mass = spread(motion[coarse], flow[coarse], sure[coarse])
    filled = resize(value / np.maximum(mass, 1e-12)[..., None], sure.shape)
    reached = resize(mass[..., None], sure.shape)[..., 0] > 1e-3  # less is rounding
    return np.where((sure | ~reached)[..., None], motion, filled).astype(np.float32)


def spread(motion, flow, sure):
    """Motion of sure cells, spread step by step -> the same times its mass (h, w, 2), and its mass (h, w).

    Mass is 1 where cells are sure, and falls with every edge of a surface on the way.
    """
    steps = (np.square(np.diff(flow, axis=axis)).sum(-1) for axis in (1, 0))
    across, down = (np.exp(-step / (2 * util.SAME_MOTION**2)) for step in steps)
    fixed, mass = np.where(sure[..., None], motion, 0), sure.astype(np.float32)
    value = fixed
    for _ in range(sum(mass.shape)):  # enough to reach every cell; mostly far fewer do
        total, share, strongest = value.copy(), mass.copy(), mass.copy()
        for ahead, behind, alike in ((np.s_[:, 1:], np.s_[:, :-1], across), (np.s_[1:], np.s_[:-1], down)):
            for to, source in ((ahead, behind), (behind, ahead)):
                total[to] += alike[..., None] * value[source]
                share[to] += alike * mass[source]
                np.maximum(strongest[to], alike * mass[source], out=strongest[to])
        gained = (strongest - mass).max()
        mass = np.where(sure, 1, strongest).astype(np.float32)
        mean = total / np.maximum(share, 1e-12)[..., None]  # 1e-12: nothing has come yet
        value = np.where(sure[..., None], fixed, mean * mass[..., None]).astype(np.float32)
        if gained < LEAST_GAIN:
            break
    return value, mass
