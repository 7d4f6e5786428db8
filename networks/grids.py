"""The mapping as couplings that look their scale and shift up in grids per frame, instead of computing them by MLPs.

A coupling layer changes one of x and y by a scale and a shift that depend on the other one and on depth (RealNVP); here
both are bilinear in a grid over (other coordinate, depth) of the frame. A look-up costs a hundredth of the MLP, and
what one object does in one frame has its own parameters, so they need not be unlearnt for another object. Each grid is
the sum of levels that are finer and finer in time, space and depth: coarse levels move together what has no evidence of
its own (hidden stretches of a track, untextured parts), fine ones follow the details.
Depth is kept: what lies in front of what is the depth maps' business (networks/surface.py).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from networks.rendering import FAR


@dataclass(frozen=True)
class Level:
    """How fine a grid is: frames per knot, knots over x or y, knots over depth."""

    frames: int
    knots: int
    depths: int


SPAN = 1.5  # the grids cover [-SPAN, SPAN] of x and y, whose frame is [-1, 1]; beyond, as at the border
LEVELS = Level(8, 3, 9), Level(2, 6, 17), Level(1, 16, 33)  # coarse, middle, fine


class GridMapping(nn.Module):
    """Bijection between a frame's volume and the canonical one; the interface of mapping.InvertibleMapping."""

    def __init__(self, num_frames, num_layers=4, max_log_scale=1.0):
        super().__init__()
        self.axes = [i % 2 for i in range(num_layers)]
        self.num_frames, self.max_log_scale = num_frames, max_log_scale
        self.size = max(level.knots for level in LEVELS), max(level.depths for level in LEVELS)
        self.levels = nn.ParameterList(
            torch.zeros(1, 2 * num_layers, -(-(num_frames - 1) // level.frames) + 1, level.knots, level.depths)
            for level in LEVELS
        )

    def condition(self, frame_ids):
        """(F,) long -> scales and shifts of all layers (F, 2 * layers, knots, depths)."""
        return sum(self.level_at(level[0].transpose(0, 1), frame_ids) for level in self.levels)

    def level_at(self, level, frame_ids):
        """A level (T, 2 * layers, k, d) at frames (F,), linear between its knots -> (F, 2 * layers, knots, depths).

        Space and depth first, then time: a coarse level is made fine at its few knots in time only.
        """
        if level.shape[2:] != self.size:
            level = F.interpolate(level, self.size, mode="bilinear", align_corners=True)
        if len(level) == self.num_frames:
            return level.index_select(0, frame_ids)
        place = frame_ids.to(level) * ((len(level) - 1) / (self.num_frames - 1))
        before = place.floor().clamp(max=len(level) - 2)
        share = (place - before).view(-1, 1, 1, 1)
        return torch.lerp(level.index_select(0, before.long()), level.index_select(0, before.long() + 1), share)

    def scale_and_shift(self, kept, z, grid):
        """Coordinates kept, z (F, M) -> s, t (F, M)."""
        places = torch.stack([z * (2 / FAR) - 1, kept / SPAN], dim=-1)[:, None]
        places = places.nan_to_num()  # torch 2.13's backward pass crashes over NaN on a CPU; the points stay NaN
        found = F.grid_sample(grid, places, padding_mode="border", align_corners=True)[:, :, 0]
        return self.max_log_scale * torch.tanh(found[:, 0] / self.max_log_scale), found[:, 1]

    def to_canonical(self, points, condition):
        """Frame -> canonical, (F, M, 3) -> (F, M, 3)."""
        xy, z = list(points[..., :2].unbind(-1)), points[..., 2]
        for axis, grid in zip(self.axes, condition.split(2, dim=1)):
            s, t = self.scale_and_shift(xy[1 - axis], z, grid)
            xy[axis] = (xy[axis] - t) * torch.exp(-s)
        return torch.stack([*xy, z], dim=-1)

    def to_frame(self, points, condition):
        """Canonical -> frame, (F, M, 3) -> (F, M, 3): the exact inverse of to_canonical."""
        xy, z = list(points[..., :2].unbind(-1)), points[..., 2]
        for axis, grid in zip(reversed(self.axes), reversed(condition.split(2, dim=1))):
            s, t = self.scale_and_shift(xy[1 - axis], z, grid)
            xy[axis] = xy[axis] * torch.exp(s) + t
        return torch.stack([*xy, z], dim=-1)
