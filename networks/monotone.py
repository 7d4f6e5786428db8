"""Monotone couplings (prototype)."""
import torch
import torch.nn.functional as F
from torch import nn
from networks.rendering import FAR
SPAN = 1.5
LEAST_SLOPE = 0.1


class Condition:
    def __init__(self, grids, frames):
        self.grids, self.frames = grids, frames

    def __getitem__(self, frames):
        return Condition(self.grids, self.frames[frames])


class MonotoneMapping(nn.Module):
    def __init__(self, num_frames, num_layers=3, levels=((8, 5, 5), (2, 11, 9), (1, 21, 17))):
        super().__init__()
        self.axes = [i % 2 for i in range(num_layers)]
        self.num_frames = num_frames
        self.size = (max(l[2] for l in levels), max(l[1] for l in levels), max(l[1] for l in levels))
        self.levels = nn.ParameterList(
            torch.zeros(-(-(num_frames - 1) // frames) + 1, num_layers, depths, knots, knots)
            for frames, knots, depths in levels)
        for k, level in enumerate(self.levels):
            self.register_buffer(f"time{k}", time_weights(num_frames, len(level)), persistent=False)
        self.step = 2 * SPAN / (self.size[2] - 1)
        self.register_buffer("knots", torch.linspace(-SPAN, SPAN, self.size[2]), persistent=False)

    def condition(self, frame_ids):
        total = 0
        for k, level in enumerate(self.levels):
            weights = getattr(self, f"time{k}")
            of_frames = (weights @ level.flatten(1)).view(self.num_frames, *level.shape[1:])
            if level.shape[2:] != self.size:
                of_frames = F.interpolate(of_frames, self.size, mode="trilinear", align_corners=True)
            total = total + of_frames
        rise = (1 - LEAST_SLOPE) * self.knots
        rising = (total + rise).cummax(-1).values - rise
        return Condition(rising, frame_ids)  # displacement (N, layers, Z, B, A)

    def places(self, condition, layer, b, z):
        """Flat index (F, M) of the row of knots at floor(z), floor(b), and weights of the four rows around."""
        grids = condition.grids
        _, layers, depths, knots, width = grids.shape
        y = (b.nan_to_num() * ((knots - 1) / (2 * SPAN)) + (knots - 1) / 2).clamp(0, knots - 1)
        w = (z.nan_to_num() * ((depths - 1) / FAR)).clamp(0, depths - 1)
        y0, w0 = y.detach().floor().clamp(max=knots - 2), w.detach().floor().clamp(max=depths - 2)
        fy, fw = y - y0, w - w0
        base = (((condition.frames[:, None] * layers + layer) * depths + w0.long()) * knots + y0.long()) * width
        rows = torch.stack([base, base + width, base + knots * width, base + (knots + 1) * width], -1)
        gy, gw = 1 - fy, 1 - fw
        return rows, torch.stack([gw * gy, gw * fy, fw * gy, fw * fy], -1)

    def at(self, flat, rows, weights, column, share):
        """Displacement at a point between two knots: column (F, M) and share (F, M) of the way to the next."""
        index = rows + column[..., None]
        left, right = flat[index], flat[index + 1]
        return ((left + (right - left) * share[..., None]) * weights).sum(-1)

    def cell(self, a):
        x = (a.nan_to_num() * (1 / self.step) + (self.size[2] - 1) / 2).clamp(0, self.size[2] - 1)
        column = x.detach().floor().clamp(max=self.size[2] - 2)
        return column.long(), x - column

    def to_canonical(self, points, condition):
        xy, z = list(points[..., :2].unbind(-1)), points[..., 2]
        flat = condition.grids.flatten()
        for layer, axis in enumerate(self.axes):
            rows, weights = self.places(condition, layer, xy[1 - axis], z)
            xy[axis] = xy[axis] + self.at(flat, rows, weights, *self.cell(xy[axis]))
        return torch.stack([*xy, z], dim=-1)

    def to_frame(self, points, condition):
        xy, z = list(points[..., :2].unbind(-1)), points[..., 2]
        flat = condition.grids.flatten()
        for layer in reversed(range(len(self.axes))):
            axis = self.axes[layer]
            rows, weights = self.places(condition, layer, xy[1 - axis], z)
            with torch.no_grad():
                start, slope = self.search(flat, xy[axis], rows, weights)
            xy[axis] = start - (start + self.at(flat, rows, weights, *self.cell(start)) - xy[axis]) / slope
        return torch.stack([*xy, z], dim=-1)

    def search(self, flat, u, rows, weights):
        """a and the slope there, of a + d(a, b, z) = u; exact, by halving."""
        last = self.size[2] - 1
        u = u.nan_to_num()
        value = lambda k: (flat[rows + k[..., None]] * weights).sum(-1) + self.knots[k]  # noqa: E731
        low = torch.zeros_like(u, dtype=torch.long)
        size = 1 << max((last - 1).bit_length() - 1, 0)
        while size:
            k = (low + size).clamp(max=last - 1)
            low = torch.where(value(k) <= u, k, low)
            size >>= 1
        left, right = value(low), value(low + 1)
        share = (u - left) / (right - left)
        outside = torch.where(share < 0, u - left, u - right)
        inside = (share >= 0) & (share <= 1)
        start = self.knots[low] + share.clamp(0, 1) * self.step + torch.where(inside, 0, outside)
        return start, torch.where(inside, (right - left) / self.step, 1.0)


def time_weights(num_frames, count):
    """(N, count): linear interpolation in time between `count` knots."""
    if count == 1:
        return torch.ones(num_frames, 1)
    t = torch.linspace(0, count - 1, num_frames)[:, None]
    return (1 - (t - torch.arange(count)).abs()).clamp(min=0)
