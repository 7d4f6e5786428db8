"""Two frames of a video at equal exposure, and how badly a flow from one to the other explains what is seen.

Conventions: flow float32 (H, W, 2), (x, y) in pixels of the frame; errors (H, W) in levels of luminance or colour, 0
to 255. Images are searched and compared at the frame's size or enlarged by a whole factor: (H', W').
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

from flow.images import at_exposure, enlarge, enlarge_flow, exposure, luminance, sample_along, shrink
from flow.layers import crossing

SMALL_WINDOW = 3  # pixels: one and its neighbours, where surfaces meet
BLUR = 0.7  # pixels, standard deviation: of colours in frames that are not enlarged


@dataclass(frozen=True)
class ErrorSettings:
    """How frames are compared along a flow. Lengths are in pixels, not in shares: what windows blur is pixel noise."""

    largest_error: int = 30  # levels: larger differences count as this, as does flow from one layer to another
    window: int = 9  # pixels that a difference is averaged over, of the images that are searched, or of the frame


class Frame(NamedTuple):
    """A frame and the images made of it."""

    pixels: np.ndarray  # uint8 (H, W, 3)
    luminance: np.ndarray  # uint8 (H', W'), enlarged
    colours: np.ndarray  # uint8 (H', W', 3), enlarged, or blurred
    labels: np.ndarray | None = None  # uint8 (H, W): the layers that are known, see flow.layers

    @property
    def nbytes(self):
        return sum(image.nbytes for image in self if image is not None)


def make_frame(pixels, factor, labels=None):
    """Frame of pixels uint8 (H, W, 3), labels (H, W).

    Colours that are not enlarged, and so smooth, are blurred: where they are sharp, whole pixels would look more alike
    than what is interpolated between them.
    """
    pixels = np.ascontiguousarray(pixels)
    colours = enlarge(pixels, factor) if factor > 1 else cv2.GaussianBlur(pixels, (0, 0), BLUR)
    return Frame(pixels, enlarge(luminance(pixels), factor), colours, labels)


class FramePair:
    """Two Frames, the second brought to the exposure of the first by `gain` and `offset`."""

    def __init__(self, first, second, gain=1.0, offset=0.0, settings=ErrorSettings()):
        self.first, self.second, self.gain, self.offset = first, second, np.float32(gain), np.float32(offset)
        self.size, self.settings = first.pixels.shape[:2], settings
        self.factor = first.luminance.shape[0] // self.size[0]

    @cached_property
    def second_luminance(self):
        """uint8 (H', W')."""
        return at_exposure(self.second.luminance, self.gain, self.offset)

    @cached_property
    def second_colours(self):
        """uint8 (H', W', 3)."""
        return at_exposure(self.second.colours, self.gain, self.offset)

    def luminance_error(self, flow):
        """float32 (H, W): the difference of luminance where the flow leads, averaged over a window."""
        seen = sample_along(enlarge_flow(flow, self.factor), self.second.luminance.astype(np.float32))
        error = np.abs(self.gain * seen + self.offset - self.first.luminance.astype(np.float32))
        window = (self.settings.window,) * 2
        return shrink(cv2.blur(np.minimum(error, self.settings.largest_error), window), self.size) + self.crossed(flow)

    def colour_error(self, flow):
        """float32 (H, W): the channels' largest difference where the flow leads, averaged over a small window."""
        seen = sample_along(enlarge_flow(flow, self.factor), self.second_colours)
        red, green, blue = cv2.split(cv2.absdiff(seen, self.first.colours))
        largest = np.minimum(cv2.max(cv2.max(red, green), blue), self.settings.largest_error).astype(np.float32)
        return cv2.blur(shrink(largest, self.size), (SMALL_WINDOW,) * 2) + self.crossed(flow)

    def colour_error_around(self, flow):
        """The same averaged over a window."""
        return cv2.blur(self.colour_error(flow), (self.settings.window,) * 2)

    def crossed(self, flow):
        """What the flow costs where it leads from one layer to another: float32 (H, W), or 0 where none are known."""
        if self.first.labels is None or self.second.labels is None:
            return np.float32(0)
        return np.float32(self.settings.largest_error) * crossing(self.first.labels, self.second.labels, flow)


def exposure_along(flow, first, second):
    """gain, offset that bring the luminance of one Frame, where flow (H', W', 2) leads, to that of another."""
    return exposure(sample_along(flow, second.luminance.astype(np.float32)), first.luminance)
