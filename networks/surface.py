"""The one-sample limit of the volume: every ray has a single sample, at a learned depth of its pixel.

The mapping and the colour field are the volume's; a depth map per frame replaces density. What a frame sees is what
its depth map says, so a point is hidden in a frame where it lies behind that frame's depth map. This costs 1/K of the
volume and sharpens quickly; what it cannot do is keep several hypotheses along a ray, so it wants a first guess of the
order of surfaces (training/depth_order.py) and terms that keep that order (training/surface.py).
"""

import torch
from torch import nn

from networks.model import Prediction, Rays, VideoModel

MIDDLE = 1.0  # depth of the start, half way between NEAR and FAR
CELLS = 128  # of the depth maps along the longer side, unless a cell's size is given: a step costs the same at any size
FINEST_CELL = 2  # pixels


class SurfaceModel(VideoModel):
    """VideoModel with one sample a ray; depth (N, h, w), one value per cell of `cell` pixels, bilinear between.

    cell 0: as many pixels as leave CELLS cells along the longer side.
    """

    refined_by_flow = True

    def __init__(self, num_frames, height, width, mapping, field, cell=0, margin=0.2):
        super().__init__(num_frames, height, width, mapping, field, num_samples=1)
        self.cell = cell or max(FINEST_CELL, round(max(height, width) / CELLS))
        self.margin = margin
        self.depth = nn.Parameter(torch.full((num_frames, *grid_size(height, width, self.cell)), MIDDLE))

    def surface_depth(self, frame_ids, pixels):
        """Depth of the visible surface of frames (F,) at pixels (F, n, 2) -> (F, n); the border's value outside."""
        return sample_grid(self.depth, frame_ids, pixels / self.cell)

    def lift(self, frame_ids, pixels):
        """Pixels (F, n, 2) -> the surface's points (F, n, 1, 3) in the frame's volume and in the canonical one."""
        points = torch.cat([self.normalise(pixels), self.surface_depth(frame_ids, pixels)[..., None]], dim=-1)
        points = points[..., None, :]
        return points, self.to_canonical(points, frame_ids)

    def cast(self, frame_ids, pixels, jitter=None, near_fraction=0.0):
        points, canonical = self.lift(frame_ids, pixels)
        rgb, _ = self.field(canonical)
        depths = points[..., 2]
        return Rays(depths, points, canonical, rgb, torch.ones_like(depths))

    def describe(self, frame_ids, points):
        pixels = self.to_pixels(points)
        behind = points[..., 2] - self.surface_depth(frame_ids, pixels)
        # 0.5 at half the margin that training leaves between a surface and what it hides
        score = torch.sigmoid((behind - self.margin / 2) / (self.margin / 8))
        return Prediction(pixels, points[..., 2], score)


def grid_size(height, width, cell):
    """Cells of `cell` pixels, with a value at both borders."""
    return -(-(height - 1) // cell) + 1, -(-(width - 1) // cell) + 1


def sample_grid(grids, ids, positions):
    """Bilinear values of grids (N, h, w)[ids (F,)] at positions (F, n, 2), in cells, clamped to the grid -> (F, n)."""
    _, height, width = grids.shape
    positions = positions.nan_to_num()  # NaN has no cell; the loss that made it is reported by the trainer
    x, y = positions[..., 0].clamp(0, width - 1), positions[..., 1].clamp(0, height - 1)
    left, top = x.floor().clamp(max=max(width - 2, 0)), y.floor().clamp(max=max(height - 2, 0))
    wx, wy = x - left, y - top
    index = (ids[:, None] * height + top.long()) * width + left.long()
    right, below = int(width > 1), width * int(height > 1)
    corners = torch.stack([index, index + right, index + below, index + below + right])
    # one look-up of all corners: the gradient of each is a tensor as large as the grids
    values = grids.flatten().index_select(0, corners.flatten()).view_as(corners)
    upper = values[0] * (1 - wx) + values[1] * wx
    lower = values[2] * (1 - wx) + values[3] * wx
    return upper * (1 - wy) + lower * wy
