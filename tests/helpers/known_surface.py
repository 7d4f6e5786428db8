"""A surface model whose depths and motion are known in closed form."""

import torch

from networks.grids import GridMapping
from networks.surface import SurfaceModel


class PositionAsColour(torch.nn.Module):
    def forward(self, points):
        return points, torch.zeros_like(points[..., 0])


def known_model():
    """3 frames of 9 x 5 pixels, cell 2. Points move by 1 pixel in x from frame 0 to 1, and by a pixel that depends on y
    from frame 1 to 2. Depth is 0.5 + x / 4 in frame 0, 1.5 - y / 2 in frame 1, 1 in frame 2."""
    model = SurfaceModel(3, 5, 9, GridMapping(3), PositionAsColour(), cell=2, margin=0.8)
    with torch.no_grad():
        shift = model.mapping.levels[-1][0, 1]  # of x, over frame, y and depth, in units of half the width: 4 pixels
        shift[1] = 0.25
        shift[2] = 0.25 + torch.linspace(-1.5, 1.5, 16)[:, None]
        model.depth[0] = 0.5 + 0.5 * torch.arange(5.0)
        model.depth[1] = 1.5 - 1.0 * torch.arange(3.0)[:, None]
    return model
