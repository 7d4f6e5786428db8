"""Images and flow as OpenCV takes them: exposure, size, and looking up where a flow leads.

Conventions: frames uint8 RGB (H, W, 3); images luminance (H, W); flow float32 (H, W, 2), (x, y) in pixels. Images may
be the frames enlarged by a whole factor; flow of enlarged images is in their pixels.
"""

from functools import lru_cache

import cv2
import numpy as np

import util

WORKING_SIDE = 320  # pixels on the long side: smaller frames are searched doubled, larger shrunk to no less
STRIDE = 3  # pixels: every so many tell the exposure
RETURN_WITHIN = 1.0  # pixels: flow that misses its start by less, there and back, comes back


def luminance(frame):
    """(H, W, 3) uint8 RGB -> (H, W) uint8."""
    return cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)


def exposure(image, target):
    """gain, offset that bring the luminance of image (H, W) or (n,) to that of its target, ignoring what differs."""
    image, target = (v[(np.s_[::STRIDE],) * v.ndim].astype(np.float32) for v in (image, target))
    off = target - image - np.median(target - image)
    matching = np.abs(off) <= 2 * np.median(np.abs(off)) + 1  # 1: where all differences are alike
    x, y = image[matching], target[matching]
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    gain = np.clip((covariance + 1) / (x.var() + 1), 0.5, 2.0)  # 1: rounding alone is no gain; more is another scene
    return np.float32(gain), np.float32(y.mean() - gain * x.mean())


def at_exposure(image, gain, offset):
    """A uint8 image at another exposure."""
    return cv2.addWeighted(image, float(gain), image, 0, float(offset))


def enlarge(image, factor):
    """(H, W) or (H, W, C) -> (factor * H, factor * W), or the same with C."""
    return image if factor == 1 else cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def shrink(values, size):
    """(H', W') or (H', W', C) -> (H, W) or (H, W, C), averaged over what falls into a pixel."""
    return cv2.resize(values, size[::-1], interpolation=cv2.INTER_AREA)


def resize(values, size):
    """(H, W) or (H, W, C) -> (*size, C), bilinear; C at most 4."""
    return cv2.resize(values, size[::-1]).reshape(*size, -1)


def enlarge_flow(flow, factor):
    """Flow (H, W, 2) of frames -> (factor * H, factor * W, 2), of images enlarged by `factor`."""
    height, width = flow.shape[:2]
    return resize(flow, (height * factor, width * factor)) * np.float32(factor)


def shrink_flow(flow, size):
    """Flow (H', W', 2), maybe NaN, in its own pixels -> (H, W, 2), of images of size (H, W), averaged, in theirs."""
    if flow.shape[:2] == tuple(size):
        return flow
    return shrink(flow, size) * np.float32([size[1] / flow.shape[1], size[0] / flow.shape[0]])


@lru_cache(maxsize=4)  # a video has two sizes: its own, and that of the images that are searched
def pixel_grid(size):
    """(H, W, 2) float32, read-only: each pixel's own position. size: a tuple (H, W)."""
    grid = util.pixel_grid(*size).numpy()
    grid.flags.writeable = False
    return grid


def sample(values, pixels):
    """values (H, W) or (H, W, C) at pixels (H', W', 2), bilinear; beyond the border as at the border."""
    return cv2.remap(values, pixels, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def sample_along(flow, values):
    """What is seen in values, (H, W) or (H, W, C), where flow (H, W, 2) leads."""
    return sample(values, pixel_grid(flow.shape[:2]) + flow)


def comes_back(there, back, within=RETURN_WITHIN):
    """bool (H, W): pixels that flow (H, W, 2) there and back leads to within so many pixels of their start."""
    return np.square(there + sample_along(there, back)).sum(-1) < within**2
