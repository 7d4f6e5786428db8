"""Optical flow between any two frames of a video: OpenCV's DIS.

Conventions: frames are uint8 RGB (H, W, 3); flow is float32 (H, W, 2), (x, y) displacement in pixels of the frame.
An estimator has .description (dict, goes into the manifest), .load_frames(frames) and .flow_from(i, partners).
"""

import cv2
import numpy as np

import util


class DisFlow:
    """OpenCV's dense inverse search, on luminance; every pair on its own.

    finest_scale 0 computes the flow at full resolution (the preset stops at a quarter).
    """

    def __init__(self, finest_scale=0):
        self.dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        if finest_scale is not None:
            self.dis.setFinestScale(finest_scale)
        self.description = {"method": "dis", "preset": "medium", "finest_scale": self.dis.getFinestScale()}

    def load_frames(self, frames):
        """Take the frames of a video: (N, H, W, 3) uint8, or a sequence of (H, W, 3)."""
        self.frames = frames

    def flow_from(self, i, partners):
        """Flow from frame i to each of `partners` -> float32 (len(partners), H, W, 2)."""
        source = luminance(self.frames[i])
        flows = [self.dis.calc(source, luminance(self.frames[j]), None) for j in partners]
        return np.stack(flows) if flows else np.zeros((0, *source.shape, 2), np.float32)


def luminance(frame):
    """(H, W, 3) uint8 RGB -> (H, W) uint8."""
    return cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)


def make_estimator(
    name="auto", raft_weights=None, iterations=20, device="auto", image_size=None, num_pairs=1, fast=False
):
    """The flow estimator for `name` (auto, raft or dis); prints which one and why."""
    if name not in ("auto", "dis"):
        raise util.UserError(f"--flow {name}: expected auto, raft or dis")
    print("flow: DIS (finest scale 0)")
    return DisFlow()
