"""Files of flow (Middlebury, KITTI) and of the frames that go with them, and flow as colours.

Conventions: flow is float32 (H, W, 2), (x, y) displacement in pixels; a component larger than 1e9 means unknown.
"""

import cv2
import numpy as np

import util
from files import read_bytes, read_pixels

MAGIC = 202021.25  # first float of a .flo file ("PIEH" read as bytes)
UNKNOWN = 1e9


def read_image(path):
    """uint8 RGB (H, W, 3). util.UserError when it is missing or no image."""
    return np.ascontiguousarray(read_pixels(path, cv2.IMREAD_COLOR, "an image (png, jpg ...)")[..., ::-1])


def read_flo(path):
    """Read a .flo file -> float32 (H, W, 2). UserError when it is missing, no .flo file, or truncated."""
    data = read_bytes(path, 2**30, "a .flo file")
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != np.float32(MAGIC):
        raise util.UserError(f"{path}: not a .flo file (expected the Middlebury format, which begins with PIEH)")
    width, height = (int(size) for size in np.frombuffer(data, "<i4", 2, offset=4))
    if width <= 0 or height <= 0 or len(data) != 12 + 8 * width * height:
        expected = 12 + 8 * width * height
        raise util.UserError(f"{path}: damaged: {len(data)} bytes, expected {expected} for {width}x{height}")
    return np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).astype(np.float32)


def read_kitti_flow(path):
    """Read KITTI's 16-bit PNG -> (float32 (H, W, 2), known (H, W) bool). UserError when it is no such file."""
    image = read_pixels(path, expected="flow as a 16-bit RGB PNG (KITTI's format)")
    if image.dtype != np.uint16 or image.ndim != 3:
        raise util.UserError(f"{path}: expected flow as a 16-bit RGB PNG (KITTI's format)")
    u_v_known = image[..., ::-1].astype(np.float32)  # OpenCV reads BGR
    return (u_v_known[..., :2] - 2**15) / 64, u_v_known[..., 2] > 0


def write_flo(path, flow):
    """Write flow (H, W, 2) as a .flo file, atomically."""
    flow = np.asarray(flow)
    if flow.ndim != 3 or flow.shape[-1] != 2:
        raise ValueError(f"write_flo: expected flow of shape (H, W, 2), got {flow.shape}")
    height, width = flow.shape[:2]
    header = np.array([MAGIC], "<f4").tobytes() + np.array([width, height], "<i4").tobytes()
    with util.atomic_path(path) as temporary:
        temporary.write_bytes(header + np.ascontiguousarray(flow, dtype="<f4").tobytes())


def write_kitti_flow(path, flow):
    """Write flow (H, W, 2) as KITTI's 16-bit PNG, in steps of 1/64 pixel; what is beyond 512 pixels as unknown."""
    levels = np.round(np.asarray(flow, np.float64) * 64) + 2**15
    known = ((levels >= 0) & (levels < 2**16)).all(axis=-1, keepdims=True)
    image = np.concatenate([np.where(known, levels, 0), known], axis=-1).astype(np.uint16)
    with util.atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", image[..., ::-1])[1].data)


def color_wheel():
    """(55, 3) float64 RGB in [0, 255]: the hues of Baker et al., "A Database ... for Optical Flow" (IJCV 2011)."""
    lengths = {"RY": 15, "YG": 6, "GC": 4, "CB": 11, "BM": 13, "MR": 6}
    red, green, blue = np.eye(3) * 255
    corners = {"R": red, "Y": red + green, "G": green, "C": green + blue, "B": blue, "M": blue + red}
    segments = []
    for (start, end), length in lengths.items():
        along = np.arange(length)[:, None] / length
        segments.append(corners[start] * (1 - along) + corners[end] * along)
    return np.concatenate(segments)


def flow_to_color(flow, max_norm=None):
    """Flow (..., H, W, 2) -> uint8 (..., H, W, 3) on the Middlebury wheel: hue is direction, saturation length.

    max_norm: the length (pixels) of full saturation, by default the longest known flow. Unknown flow is black.
    """
    flow = np.asarray(flow, dtype=np.float64)
    unknown = ~(np.abs(flow) < UNKNOWN).all(axis=-1)  # also true for NaN
    x, y = np.where(unknown[..., None], 0, flow).transpose(-1, *range(flow.ndim - 1))
    norm = np.hypot(x, y)
    norm = norm / max(max_norm if max_norm is not None else norm.max(initial=0), 1e-9)
    wheel = color_wheel() / 255
    position = (np.arctan2(-y, -x) / np.pi + 1) / 2 * (len(wheel) - 1)
    below = np.floor(position).astype(int)
    fraction = (position - below)[..., None]
    hue = (1 - fraction) * wheel[below] + fraction * wheel[(below + 1) % len(wheel)]
    color = np.where(norm[..., None] <= 1, 1 - norm[..., None] * (1 - hue), hue * 0.75)
    color[unknown] = 0
    return np.floor(color * 255).astype(np.uint8)
