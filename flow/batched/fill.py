"""Motion of what is hidden, of several walks at once: flow/fill.py, in torch."""

import torch

import util
from flow.batched.images import resize
from flow.fill import CELLS, LEAST_GAIN

STEPS_BETWEEN_LOOKS = 8  # each look waits for the device


def fill(motion, flow, sure):
    """Motion (B, 2, H, W), where it is not sure (B, 1, H, W) that of sure pixels around whose flow so far is alike.

    What no sure pixel reaches keeps its motion.
    """
    size = sure.shape[-2:]
    cell = max(1, round(max(size) / CELLS))
    value, mass = spread(*(part[..., ::cell, ::cell] for part in (motion, flow, sure)))
    filled = resize(value / mass.clamp(min=1e-12), size)
    reached = resize(mass, size) > 1e-3  # less is rounding
    return torch.where(sure | ~reached, motion, filled)


def spread(motion, flow, sure):
    """Motion of sure cells, spread step by step -> the same times its mass (B, 2, h, w), and its mass (B, 1, h, w).

    Each walk ends when little is gained, whatever the others do; all of them when the last one does.
    """
    links = [(axis, torch.exp(-flow.diff(dim=axis).square().sum(1, keepdim=True) / (2 * util.SAME_MOTION**2)))
             for axis in (3, 2)]  # how alike cells are to the next along an axis
    mass, ended = sure.float(), torch.zeros_like(sure[:, :, :1, :1])
    fixed = value = motion * mass
    for step in range(sum(sure.shape[-2:])):  # enough to reach every cell
        total, share, strongest = value.clone(), mass.clone(), mass.clone()
        for axis, alike in links:
            last = value.shape[axis] - 1
            for to, source in ((1, 0), (0, 1)):
                carried = alike * mass.narrow(axis, source, last)
                total.narrow(axis, to, last).add_(alike * value.narrow(axis, source, last))
                share.narrow(axis, to, last).add_(carried)
                of = strongest.narrow(axis, to, last)
                of.copy_(torch.maximum(of, carried))
        gained = (strongest - mass).amax((1, 2, 3), keepdim=True)
        strongest = torch.where(sure, 1, strongest)
        mean = total / share.clamp(min=1e-12)
        value = torch.where(ended, value, torch.where(sure, fixed, mean * strongest))
        mass = torch.where(ended, mass, strongest)
        ended = ended | ~(gained >= LEAST_GAIN)
        if step % STEPS_BETWEEN_LOOKS == 0 and ended.all():
            break
    return value, mass
