"""Carry an edit of one frame to all frames: a layer with opacity that sticks to the surfaces it was painted on.

A pixel of another frame looks back along its flow to the edited frame and takes what the layer has there, if its
surface is seen there. Conventions: layers float32 (H, W, 4), red, green and blue in levels of 0 to 255 multiplied by
the opacity, which is 0 to 1; flow and visible as in edits.warping, from the frame painted on to the edited one.
"""

import cv2
import numpy as np

from edits.warping import look_up, within
from flow.images import luminance, pixel_grid, sample
from flow.rims import guided, rim_radius

SHADE_WIDTH = 0.02  # of the diagonal: finer differences of brightness are texture, not light
MOST_GAIN = 3.0  # and its inverse: more is another surface


def premultiplied(rgba):
    """uint8 (H, W, 4) -> a layer."""
    opacity = rgba[..., 3:].astype(np.float32) / 255
    return np.concatenate([rgba[..., :3] * opacity, opacity], axis=-1).astype(np.float32)


def as_rgba(layer):
    """A layer -> uint8 (H, W, 4), colours no longer multiplied by the opacity."""
    opacity = layer[..., 3:]
    colours = layer[..., :3] / np.maximum(opacity, 1e-6)
    return np.round(np.concatenate([colours, opacity * 255], axis=-1).clip(0, 255)).astype(np.uint8)


def carried_layer(layer, flow, visible, frame):
    """The layer as `frame` shows it: along flow (H, W, 2), gone where not visible (H, W), rims as in the frame."""
    positions = pixel_grid(flow.shape[:2]) + flow
    seen = (visible & within(positions, flow.shape)).astype(np.float32)
    seen = guided(seen, frame, rim_radius(frame.shape)).clip(0, 1)
    return look_up(layer, positions) * seen[..., None]


def relit(layer, frame, edited, flow, visible):
    """The carried layer as much brighter or darker as its surface is in `frame` than in the edited frame -> layer."""
    then = sample(luminance(edited).astype(np.float32), pixel_grid(flow.shape[:2]) + flow)
    weight = visible.astype(np.float32) + 1e-3
    sigma = SHADE_WIDTH * float(np.hypot(*flow.shape[:2]))
    now, then = (cv2.GaussianBlur(weight * light, (0, 0), sigma) for light in (luminance(frame) + 1.0, then + 1.0))
    gain = np.clip(now / then, 1 / MOST_GAIN, MOST_GAIN)[..., None]
    colours = np.minimum(layer[..., :3] * gain, 255 * layer[..., 3:])
    return np.concatenate([colours, layer[..., 3:]], axis=-1).astype(np.float32)


def over(layer, frame):
    """The layer on the frame -> uint8 (H, W, 3)."""
    return np.round(layer[..., :3] + (1 - layer[..., 3:]) * frame).clip(0, 255).astype(np.uint8)
