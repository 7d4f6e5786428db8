"""What the frames show where a point is put: the surface it is on, or another one in front of it."""

import torch

import util
from loaders.surface_sampler import nearest_index
from util import inside_image


def evidence(pool, batch, pixels):
    """What the frames show where the model puts the points: pixels (P, n, 2) in frames 2 -> hidden, visible (P, n).

    The reliable backward flow of the pixel there leads elsewhere (another surface is seen), or back to the start.
    """
    back, reliable = led_back(pool, batch, pixels)
    miss = (back - batch.pixels_1).norm(dim=-1)
    return reliable & (miss > util.SAME_MOTION), reliable & (miss <= util.SAME_MOTION)


def occluders(pool, batch):
    """Points that another surface surely hides in frames 2 (P, n), and where that surface is in frames 1 (P, n, 2)."""
    back, reliable = led_back(pool, batch, batch.pixels_2)
    miss = (back - batch.pixels_1).norm(dim=-1)
    numbers = pool.number(*(frames.cpu().numpy() for frames in (batch.frames_1, batch.frames_2)))
    index = nearest_index(batch.pixels_1, pool.height, pool.width).to(pool.device)
    occluded = pool.occluded_at(torch.from_numpy(numbers).to(pool.device), index).to(back.device)
    return reliable & occluded & (miss > util.SAME_MOTION), back


def led_back(pool, batch, pixels):
    """Where the flow leads from pixels (P, n, 2) of frames 2 back in frames 1, and whether it is reliable (P, n)."""
    pixels = pixels.detach().nan_to_num().to(pool.device)
    index = nearest_index(pixels, pool.height, pool.width)
    inside = inside_image(pixels.round(), pool.height, pool.width)
    stored = batch.backward.to(pool.device)
    numbers = stored.clamp(min=0)
    back = pixels + pool.flow_at(numbers, index)
    reliable = pool.cycle_at(numbers, index) & inside & (stored >= 0)[:, None]
    device = batch.pixels_1.device
    return back.to(device), reliable.to(device)
