"""Rims of maps that flow blurs, drawn to the frame's own edges.

Conventions: frames uint8 (H, W, 3) RGB; maps (H, W) or (H, W, C) float32.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from flow.images import luminance


@dataclass(frozen=True)
class RimSettings:
    """How rims that flow blurs are drawn to the frame's own edges."""

    radius: float = 0.012  # of the diagonal: twice as far as flow is off there, about
    contrast: float = 0.02  # of the range of luminance: weaker edges are noise


def rim_radius(size, settings=RimSettings()):
    """Whole pixels, at least 1, within which the true rim lies around that of flow. size: (H, W, ...)."""
    return max(1, int(settings.radius * np.hypot(*size[:2])))


def guided(values, frame, radius, settings=RimSettings()):
    """Maps (H, W) or (H, W, C) smoothed within `radius` but not across edges of the frame's luminance -> the same.

    The guided filter (He et al., PAMI 2013): in each window the values are the best linear function of the luminance.
    """
    guide = luminance(frame).astype(np.float32) / 255

    def mean(maps):
        return cv2.blur(maps, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    centre, variance = mean(guide), mean(guide * guide) - mean(guide) ** 2
    smoothed = []
    for channel in np.atleast_3d(values.astype(np.float32)).transpose(2, 0, 1):
        slope = (mean(guide * channel) - centre * mean(channel)) / (variance + settings.contrast**2)
        smoothed.append(mean(slope) * guide + mean(mean(channel) - slope * centre))
    return np.stack(smoothed, axis=-1).reshape(values.shape)
