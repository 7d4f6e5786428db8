"""Several pairs of frames at equal exposure, and how badly flow explains what is seen: flow/pair.py, in torch.

Conventions: as in flow.batched.images; errors (B, 1, H, W). Candidates are {name: flow (B, 2, H, W)}.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from flow.batched.images import at_exposure, blur, exposure, pixel_grid, resize_flow, sample, sample_along, shrink
from flow.layers import UNKNOWN
from flow.pair import SMALL_WINDOW, make_frame


class Frames(NamedTuple):
    """Frames and the images made of them: uint8 of one, float32 of several together; see flow.pair.Frame."""

    pixels: torch.Tensor  # (B, 3, H, W)
    luminance: torch.Tensor  # (B, 1, H', W')
    colours: torch.Tensor  # (B, 3, H', W')
    labels: torch.Tensor | None  # (B, 1, H, W), UNKNOWN where no layer is known

    @property
    def nbytes(self):
        return sum(part.nbytes for part in self if part is not None)

    @classmethod
    def of(cls, pixels, factor, labels, device):
        """Of one: pixels uint8 (H, W, 3), labels uint8 (H, W), or None where no frame has any; see make_frame."""
        images = (image if image is None else torch.from_numpy(np.atleast_3d(image)).to(device).permute(2, 0, 1)[None]
                  for image in make_frame(pixels, factor, labels))
        return cls(*images)

    @classmethod
    def together(cls, frames):
        """Of several that are each of one."""
        return cls(*(None if parts[0] is None else torch.cat(parts).float() for parts in zip(*frames)))


class Pairs:
    """First and second Frames, the second brought to the first ones' exposure by gain and offset (B, 1, 1, 1)."""

    def __init__(self, first, second, gain, offset, settings):
        self.first, self.second, self.gain, self.offset, self.settings = first, second, gain, offset, settings
        self.size, self.searched_size = first.pixels.shape[-2:], first.luminance.shape[-2:]

    @classmethod
    def along(cls, first, second, flow, settings):
        """Pairs at the exposure of what is seen where flow (B, 2, H, W) leads."""
        seen = sample_along(resize_flow(flow, first.luminance.shape[-2:]), second.luminance)
        return cls(first, second, *exposure(seen, first.luminance), settings)

    @cached_property
    def second_luminance(self):
        return at_exposure(self.second.luminance, self.gain, self.offset)

    @cached_property
    def second_colours(self):
        return at_exposure(self.second.colours, self.gain, self.offset)

    def luminance_error(self, flow):
        """The difference of luminance where the flow leads, averaged over a window."""
        seen = sample_along(resize_flow(flow, self.searched_size), self.second.luminance)
        error = (self.gain * seen + self.offset - self.first.luminance).abs().clamp(max=self.settings.largest_error)
        return shrink(blur(error, self.settings.window), self.size) + self.crossed(flow)

    def colour_error(self, flow):
        """The channels' largest difference where the flow leads, averaged over a small window."""
        seen = sample_along(resize_flow(flow, self.searched_size), self.second_colours)
        off = (seen - self.first.colours).abs().amax(1, keepdim=True).clamp(max=self.settings.largest_error)
        return blur(shrink(off, self.size), SMALL_WINDOW) + self.crossed(flow)

    def colour_error_around(self, flow):
        """The same averaged over a window."""
        return blur(self.colour_error(flow), self.settings.window)

    def crossed(self, flow):
        """What the flow costs where it leads from one layer to another; 0 where there are no layers."""
        if self.first.labels is None:
            return 0
        return self.settings.largest_error * crossing(self.first, self.second, flow).float()


def crossing(first, second, flow):
    """bool (B, 1, H, W): flow leads from one layer to another: both are known, and differ."""
    positions = pixel_grid(flow.shape[-2:], flow.device) + flow
    there = sample(second.labels, positions, mode="nearest")
    there = torch.where(inside(positions), there, UNKNOWN)
    return (first.labels != there) & (first.labels != UNKNOWN) & (there != UNKNOWN)


def inside(positions):
    """bool (B, 1, H, W): positions (B, 2, H, W) lie within an image of the same size."""
    height, width = positions.shape[-2:]
    x, y = positions.split(1, dim=1)
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def fuse(candidates, error):
    """Flow: at each pixel that of the candidate of least error(flow); of equals, of the one named first."""
    flow, *others = candidates.values()
    least = error(flow)
    for other in others:
        cost = error(other)
        lower = cost < least  # not true for NaN
        flow, least = torch.where(lower, other, flow), torch.where(lower, cost, least)
    return flow
