"""RAFT's correlation look-up: how alike cells of one image are to those around a position in another.

Conventions: as in networks/raft.py: features (B, C, h, w) of cells of 8 pixels; centres (B, 2, h, w), (x, y) in cells.
"""

import torch
import torch.nn.functional as F

LEVELS = 4  # of the correlation pyramid: cells of 8, 16, 32 and 64 pixels
LOCAL_LOOKUP_BYTES = 256 * 2**20  # the local lookup gathers at most this much at once


def make_correlation(features_1, features_2, radius, max_volume_bytes):
    """The all-pairs volume when it fits in max_volume_bytes, else the lookup that computes only what is read."""
    batch, _, height, width = features_1.shape
    volume_bytes = 4 * batch * (height * width) ** 2 * 4 / 3  # float32, all levels
    kind = AllPairsCorrelation if volume_bytes <= max_volume_bytes else LocalCorrelation
    return kind(features_1, features_2, radius)


class AllPairsCorrelation:
    """Dot products of all pairs of cells, pooled in the second image; looked up around where each cell has moved."""

    def __init__(self, features_1, features_2, radius):
        """features (B, C, h, w)."""
        batch, channels, height, width = features_1.shape
        volume = torch.matmul(features_1.flatten(2).transpose(1, 2), features_2.flatten(2)) / channels**0.5
        volume = volume.view(batch * height * width, 1, height, width)
        self.radius = radius
        self.levels = [volume]
        for _ in range(LEVELS - 1):
            self.levels.append(F.avg_pool2d(self.levels[-1], kernel_size=2))

    def __call__(self, positions):
        """Cells' positions in the second image (B, 2, h, w) -> correlations (B, LEVELS * (2r + 1)^2, h, w).

        Within a level x is the slow and y the fast index of the window, as in the reference.
        """
        batch, _, height, width = positions.shape
        centres = positions.permute(0, 2, 3, 1).reshape(-1, 2)  # (B h w, 2)
        looked_up = [
            read_windows(volume[:, 0], centres / 2**level, self.radius) for level, volume in enumerate(self.levels)
        ]
        return torch.cat(looked_up, dim=-1).view(batch, height, width, -1).permute(0, 3, 1, 2)


def read_windows(maps, centres, radius):
    """maps (M, h, w), centres (M, 2) -> (M, (2r + 1)^2) bilinear samples at offsets -r..r, x slow, zeros outside."""
    steps = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    offsets = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)  # (2r + 1, 2r + 1, 2): x slow
    size = maps.new_tensor([maps.shape[-1], maps.shape[-2]])
    # normalised for align_corners=False; centres and offsets apart, as they are far smaller than their sum
    grid = ((centres * 2 + 1) / size - 1)[:, None, None] + offsets * (2 / size)
    return F.grid_sample(maps[:, None], grid, align_corners=False).flatten(1)


class LocalCorrelation:
    """The same numbers as AllPairsCorrelation without its volume: dot products only with the cells that are read.

    Pooling the volume equals pooling the second features. Slower per lookup, but memory grows with h w, not (h w)^2.
    """

    def __init__(self, features_1, features_2, radius):
        """features (B, C, h, w)."""
        self.radius = radius
        self.features_1 = features_1.flatten(2).transpose(1, 2) / features_1.shape[1] ** 0.5  # (B, h w, C)
        self.levels = [features_2]
        for _ in range(LEVELS - 1):
            self.levels.append(F.avg_pool2d(self.levels[-1], kernel_size=2))
        self.levels = [level.permute(0, 2, 3, 1).contiguous() for level in self.levels]  # (B, h_l, w_l, C)

    def __call__(self, positions):
        """As AllPairsCorrelation.__call__."""
        batch, _, height, width = positions.shape
        centres = positions.flatten(2).transpose(1, 2)  # (B, h w, 2)
        chunk = max(1, LOCAL_LOOKUP_BYTES // (4 * self.features_1.shape[-1] * (2 * self.radius + 2) ** 2))
        looked_up = [
            torch.cat([self.read(b, level, centres[b, k : k + chunk], k) for k in range(0, height * width, chunk)])
            for b in range(batch)
            for level in range(LEVELS)
        ]
        stacked = torch.stack(looked_up).view(batch, LEVELS, height, width, -1)
        return stacked.permute(0, 1, 4, 2, 3).flatten(1, 2)

    def read(self, b, level, centres, first_cell):
        """Correlations of image b's cells from first_cell on with the windows at centres (M, 2) -> (M, (2r + 1)^2)."""
        features_1 = self.features_1[b, first_cell : first_cell + len(centres)]
        features_2 = self.levels[level][b]
        height, width = features_2.shape[:2]
        corner = (centres / 2**level).floor()
        fraction_x, fraction_y = (centres / 2**level - corner).T[..., None, None]
        steps = torch.arange(-self.radius, self.radius + 2, device=centres.device)
        x = corner[:, 0, None].long().clamp(-(2**20), 2**20) + steps  # (M, 2r + 2)
        y = corner[:, 1, None].long().clamp(-(2**20), 2**20) + steps
        inside = ((x >= 0) & (x < width))[:, :, None] & ((y >= 0) & (y < height))[:, None, :]
        cells = features_2[y.clamp(0, height - 1)[:, None, :], x.clamp(0, width - 1)[:, :, None]]  # (M, x, y, C)
        dots = torch.matmul(cells, features_1[:, None, :, None])[..., 0] * inside
        along_x = torch.lerp(dots[:, :-1], dots[:, 1:], fraction_x)
        return torch.lerp(along_x[:, :, :-1], along_x[:, :, 1:], fraction_y).flatten(1)
