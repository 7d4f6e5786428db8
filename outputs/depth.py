"""Pseudo-depth maps as files."""

import cv2
import numpy as np

from files import write_file, write_npz
from networks.rendering import FAR

PNG_SCALE = FAR / 65535  # pseudo-depth of one grey level of the 16-bit images
CONVENTION = (
    "Pseudo-depth along each pixel's ray, 0 nearest, 2 farthest; it orders surfaces and has no metric unit. "
    "depth (N, H, W) float32 at the size the model was fitted at (frame_size); the 16-bit PNGs beside this file have "
    "the original video's size (video_size): depth = grey level * png_scale."
)


def write_depth_png(path, depth):
    """Write depth (H, W) in [0, 2] as a 16-bit grey image, grey level = depth / PNG_SCALE."""
    levels = np.round(np.clip(depth, 0, FAR) / PNG_SCALE).astype(np.uint16)
    write_file(path, cv2.imencode(".png", levels)[1].data)


def write_depth_npz(path, depth, video_size):
    """Write depth (N, H, W) of all frames, unrounded."""
    write_npz(
        path,
        depth=depth.astype(np.float32),
        frame_size=np.array(depth.shape[1:], np.int32),
        video_size=np.array(video_size, np.int32),
        png_scale=np.float32(PNG_SCALE),
        convention=np.array(CONVENTION),
    )
