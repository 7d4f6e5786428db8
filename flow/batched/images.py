"""Images and flow of several pairs at once: as flow/images.py, in torch.

Conventions: images float32 (B, C, H, W) in levels, 0 to 255; flow (B, 2, H, W), (x, y) in pixels of its images.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

import util
from flow.images import RETURN_WITHIN, STRIDE


@lru_cache(maxsize=32)  # sizes: a pyramid has a few
def pixel_grid(size, device):
    """(1, 2, H, W), not to be changed: each pixel's own position."""
    return util.pixel_grid(*size, device).permute(2, 0, 1)[None]


def sample(values, positions, mode="bilinear"):
    """values (B, C, H, W) at pixels (B, 2, h, w) -> (B, C, h, w); beyond the border as at the border."""
    height, width = values.shape[-2:]
    x, y = positions.unbind(1)
    grid = torch.stack([x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1], dim=-1)
    return F.grid_sample(values, grid, mode=mode, padding_mode="border", align_corners=True)


def sample_along(flow, values):
    """What is seen in values (B, C, H, W) where flow (B, 2, H, W) leads."""
    return sample(values, pixel_grid(flow.shape[-2:], flow.device) + flow)


def blur(values, side):
    """The mean over a window of so many pixels a side (odd); the border mirrors."""
    radius, (height, width) = side // 2, values.shape[-2:]
    mode = "reflect" if radius < min(height, width) else "replicate"
    values = F.pad(values, (radius,) * 4, mode=mode)
    return F.avg_pool2d(F.avg_pool2d(values, (side, 1), stride=1), (1, side), stride=1)


def shrink(values, size):
    """(B, C, H', W'), maybe NaN -> (B, C, *size), averaged over what falls into a pixel, as far as it does."""
    if values.shape[-2:] == tuple(size):
        return values
    if all(before % after == 0 for before, after in zip(values.shape[-2:], size)):
        return F.interpolate(values, size, mode="area")
    down, across = (shares(before, after, values.device) for before, after in zip(values.shape[-2:], size))
    unknown = values.isnan()
    averaged = down @ values.masked_fill(unknown, 0) @ across.T
    return averaged.masked_fill((down @ unknown.float() @ across.T) > 1e-3, torch.nan)  # less is rounding


@lru_cache(maxsize=32)  # sizes: a pyramid has a few
def shares(before, after, device):
    """(after, before): what each of so many pixels along a side counts in each of fewer ones."""
    start, end = (np.arange(before)[None] + step for step in (0, 1))
    low, high = ((np.arange(after)[:, None] + step) * before / after for step in (0, 1))
    overlap = (np.minimum(end, high) - np.maximum(start, low)).clip(min=0)
    return torch.from_numpy(np.float32(overlap * after / before)).to(device)


def resize(values, size):
    """(B, C, H, W) -> (B, C, *size), bilinear."""
    same = values.shape[-2:] == tuple(size)
    return values if same else F.interpolate(values, size, mode="bilinear", align_corners=False)


def resize_flow(flow, size, how=resize):
    """Flow (B, 2, H, W), maybe NaN, as that of images of another size, in their pixels."""
    x, y = how(flow, size).unbind(1)
    return torch.stack([x * (size[1] / flow.shape[3]), y * (size[0] / flow.shape[2])], dim=1)


def shrink_flow(flow, size):
    """Flow of larger images as that of images of size (H, W), averaged."""
    return resize_flow(flow, size, shrink)


def exposure(image, target):
    """gain, offset (B, 1, 1, 1) that bring images (B, 1, H, W) to their targets' luminance, ignoring what differs."""
    x, y = (v[:, 0, ::STRIDE, ::STRIDE].flatten(1) for v in (image, target))
    off = y - x
    off = off - middle(off)
    matching = (off.abs() <= 2 * middle(off.abs()) + 1).float()  # 1: where all differences are alike
    matching = matching / matching.sum(1, keepdim=True)
    mean_x, mean_y = ((matching * v).sum(1, keepdim=True) for v in (x, y))
    covariance, variance = ((matching * (x - mean_x) * (v - mean)).sum(1, keepdim=True)
                            for v, mean in ((y, mean_y), (x, mean_x)))
    gain = ((covariance + 1) / (variance + 1)).clamp(0.5, 2.0)
    return tuple(v.view(-1, 1, 1, 1) for v in (gain, mean_y - gain * mean_x))


def middle(values):
    """The median of each row of values (B, n) -> (B, 1), as numpy has it: the mean of the two in the middle."""
    ordered, count = values.sort(dim=1).values, values.shape[1]
    return (ordered[:, (count - 1) // 2] + ordered[:, count // 2])[:, None] / 2


def at_exposure(image, gain, offset):
    """Whole levels at another exposure."""
    return (image * gain + offset).round().clamp(0, 255)


def comes_back(there, back, within=RETURN_WITHIN):
    """bool (B, H, W): pixels that flow there and back leads to within so many pixels of their start."""
    return (there + sample_along(there, back)).square().sum(1) < within**2
