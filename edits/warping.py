"""Move images along flow, forwards and backwards.

Conventions: frames uint8 (H, W, 3) RGB; flow float32 (H, W, 2), (x, y) in pixels of the same size, from the frame that
it is defined on; positions (H, W, 2) with integer centres; maps (H, W) or (H, W, C) float32.
"""

import cv2
import numpy as np


def within(positions, size):
    """bool (H, W): positions (H, W, 2) on a frame of `size` (H, W, ...), to its very edges."""
    x, y = positions[..., 0], positions[..., 1]
    return (x >= -0.5) & (x <= size[1] - 0.5) & (y >= -0.5) & (y <= size[0] - 0.5)


def look_up(values, positions):
    """values (H, W) or (H, W, C) at positions (H', W', 2), bilinear, 0 outside."""
    return cv2.remap(values, positions.astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def fetch(frame, positions):
    """A frame at positions (H', W', 2): bicubic, which keeps it sharp; beyond the border as at the border -> uint8."""
    return cv2.remap(frame, positions.astype(np.float32), None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def splat(values, positions, weights):
    """Values (H, W, C) put down at positions (H, W, 2), each on the four pixels around, averaged by weights (H, W).

    Returns: the averages (H, W, C), 0 where nothing arrives, and the bilinear shares (H, W) that arrived, unweighted.
    """
    height, width = weights.shape
    left_top = np.floor(positions).astype(np.int64)
    share_x, share_y = np.moveaxis(positions - left_top, -1, 0)
    total = np.zeros((values.shape[-1] + 2, height * width))
    for x, y in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = left_top[..., 0] + x, left_top[..., 1] + y
        share = (share_x if x else 1 - share_x) * (share_y if y else 1 - share_y)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        index, part = (row * width + column)[inside], share[inside]
        weighed = part * weights[inside]
        for channel in range(values.shape[-1]):
            total[channel] += np.bincount(index, weighed * values[..., channel][inside], height * width)
        total[-2] += np.bincount(index, weighed, height * width)
        total[-1] += np.bincount(index, part, height * width)
    total = total.reshape(-1, height, width).astype(np.float32)
    average = total[:-2] / np.maximum(total[-2], 1e-9)
    return np.where(total[-1] > 0, average, 0).transpose(1, 2, 0), total[-1]


def fill_smoothly(values, known):
    """values (H, W, C) where `known` (H, W) bool, elsewhere a smooth continuation of them (pull-push) -> (H, W, C)."""
    return pull_push(values.astype(np.float32), known.astype(np.float32))


def pull_push(values, weight):
    """Values (H, W, C) kept by weight (H, W) from 0 to 1, the rest from the same at half the size."""
    height, width = weight.shape
    if min(height, width) == 1 or (weight >= 1).all() or not (weight > 0).any():
        return values
    size = (width + 1) // 2, (height + 1) // 2
    half_weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    half = cv2.resize(values * weight[..., None], size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], -1)
    half = half / np.maximum(half_weight, 1e-9)[..., None]
    coarse = pull_push(half, np.minimum(4 * half_weight, 1))  # one known pixel of four is enough to know a half
    coarse = cv2.resize(coarse, (width, height)).reshape(values.shape)
    return weight[..., None] * values + (1 - weight[..., None]) * coarse

