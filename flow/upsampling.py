"""Flow found between shrunk frames, finished at the frames' own size: rims by colour, then what is less than a pixel.

Conventions: frames (H, W), shrunk ones (h, w); flow float32 (H, W, 2) or (h, w, 2), (x, y) in pixels of its own frames.
"""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class UpsamplingSettings:
    """Of the step from a shrunk frame to the frame."""

    working_side: int = 320  # pixels on the long side, about: larger frames are searched shrunk, at no less than this
    rim: float = 0.5  # pixels of the shrunk frame by which the flow of neighbours differs where surfaces meet


def times_shrunk(size, settings=UpsamplingSettings()):
    """The whole factor by which frames of size (H, W) are shrunk."""
    return max(1, max(size) // settings.working_side)


def shrunk_size(size, factor):
    """(h, w) of frames of size (H, W)."""
    return tuple(-(-side // factor) for side in size)


def upsample(flow, pixels, shrunk_pixels, settings=UpsamplingSettings()):
    """Flow (h, w, 2) between shrunk frames -> (H, W, 2), in pixels of the frames.

    pixels (H, W, 3), shrunk_pixels (h, w, 3): the first frame, uint8. Where surfaces meet, each pixel goes with that of
    the four shrunk pixels around it that is most of its colour, and with those of the four that move alike.
    """
    (height, width), (h, w) = pixels.shape[:2], flow.shape[:2]
    full = cv2.resize(flow, (width, height))
    rims = cv2.resize(at_rims(flow, settings.rim).view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    y, x = np.nonzero(rims)
    if len(y):
        (top, bottom, wy), (left, right, wx) = (neighbours(at, *sides) for at, sides in (
            (y, (height, h)), (x, (width, w))))
        around = np.stack([top * w + left, top * w + right, bottom * w + left, bottom * w + right])  # (4, n)
        weight = np.stack([(1 - wy) * (1 - wx), (1 - wy) * wx, wy * (1 - wx), wy * wx])
        colours, flows = shrunk_pixels.reshape(-1, 3)[around], flow.reshape(-1, 2)[around]
        unlike = np.abs(colours.astype(np.int16) - pixels[y, x].astype(np.int16)).sum(-1)
        apart = flows - np.take_along_axis(flows, unlike.argmin(0)[None, :, None], axis=0)
        weight *= np.square(apart).sum(-1) < settings.rim**2
        full[y, x] = np.einsum("kn,knc->nc", weight / weight.sum(0), flows)
    return full * np.float32([width / w, height / h])


def at_rims(flow, distance):
    """bool (h, w): pixels whose flow (h, w, 2) differs from that of one of the eight around by `distance` or more."""
    kernel = np.ones((3, 3), np.uint8)
    return (cv2.dilate(flow, kernel) - cv2.erode(flow, kernel)).max(-1) >= distance


def neighbours(at, side, shrunk_side):
    """The two shrunk pixels (n,) beside pixels (n,) along one side, and the weight of the second of them."""
    place = ((at + np.float32(0.5)) * np.float32(shrunk_side / side) - np.float32(0.5)).clip(0, shrunk_side - 1)
    first = np.floor(place).astype(int)
    return first, np.minimum(first + 1, shrunk_side - 1), (place - first).clip(1e-3, 1 - 1e-3)  # no weight is 0
