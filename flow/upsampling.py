"""From flow between shrunk frames to what the flow between the frames may be.

Conventions: frames (H, W), shrunk ones (h, w); flow float32 (H, W, 2) or (h, w, 2), (x, y) in pixels of its own frames.
Candidates are {name: flow}, as in flow.fusion.
"""

import itertools

import cv2
import numpy as np

from flow.images import WORKING_SIDE


def times_shrunk(size):
    """The whole factor by which frames of size (H, W) are shrunk."""
    return max(1, max(size) // WORKING_SIDE)


def shrunk_size(size, factor):
    """(h, w) of frames of size (H, W)."""
    return tuple(-(-side // factor) for side in size)


def upsampled(flow, size):
    """Candidates for the flow of frames of size (H, W), of flow (h, w, 2) between shrunk ones.

    Within a surface flow is that between the shrunk pixels; where surfaces meet, that is the flow of neither, and each
    of the four shrunk pixels around may be of the same surface: their flow as it is.
    """
    (height, width), (h, w) = size, flow.shape[:2]
    scale = np.float32([width / w, height / h])
    rows, columns = around(height, h), around(width, w)
    each = {f"{vertical} {horizontal}": flow[y][:, x] * scale for (vertical, y), (horizontal, x) in itertools.product(
        zip(("upper", "lower"), rows), zip(("left", "right"), columns))}
    return {"between": cv2.resize(flow, (width, height)) * scale, **each}


def around(side, shrunk_side):
    """The shrunk pixels before and after the middle of each pixel along a side: two int (side,)."""
    place = (np.arange(side) + 0.5) * shrunk_side / side - 0.5
    return tuple(np.floor(place + step).astype(int).clip(0, shrunk_side - 1) for step in (0, 1))
