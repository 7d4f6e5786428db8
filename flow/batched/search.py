"""Dense inverse search for many pairs at once (Kroeger et al., "Fast Optical Flow using DIS", ECCV 2016), in torch.

From coarse to fine: patches of the first image are moved over the second by Gauss-Newton steps, their flow is averaged
where they overlap, and refined by a variational method (Brox et al., ECCV 2004), whose weights are those of OpenCV's
DISOpticalFlow. Other than there, patches look at their neighbours' flow all at once, so that a GPU has something to do;
their steps are not shortened, so that fewer will do; and they stand 4 pixels apart, for 2 to 4.

Conventions: images float32 (B, 1, H, W) in levels, 0 to 255; flow (B, 2, H, W), (x, y) in pixels; n patches (B, n).
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F

from flow.batched.images import pixel_grid, resize_flow, sample_along, shrink

PATCH, STRIDE = 8, 4  # pixels
ROUNDS, STEPS = 3, 5  # a round: patches take their neighbours' flow where it is better, then so many steps
DAMPING, LONGEST = 1.0, 2.0  # squared levels of a patch, without which nothing moves; pixels of a step, at most
ALPHA, DELTA, GAMMA = 20.0, 5.0, 10.0  # weights of smoothness, brightness and its gradient
FIXED_POINTS, SWEEPS, OMEGA = 5, 5, 1.6  # of the variational method; its sweeps overrelax by omega
ZETA, EPSILON = 0.1, 0.001  # what gradients are at least; below it differences count squared
PIXELS_AT_ONCE = 2**22  # of all pairs together, which bounds the memory


class InverseSearch:
    """Flow from one image to another. finest_scale: of the pyramid, 0 the images' own; finer ones are interpolated."""

    def __init__(self, finest_scale=0):
        self.finest = finest_scale

    def __call__(self, first, second, start):
        """Images (B, 1, H, W) and a first guess (B, 2, H, W) -> flow (B, 2, H, W)."""
        at_once = max(1, PIXELS_AT_ONCE // first[0].numel())
        parts = (part.split(at_once) for part in (first, second, start))
        return torch.cat([self.search(*part) for part in zip(*parts)])

    def search(self, first, second, start):
        pyramid = [(first, second)]
        for _ in range(coarsest_scale(*first.shape[-2:])):
            half = [side // 2 for side in pyramid[-1][0].shape[-2:]]
            pyramid.append(tuple(shrink(image, half) for image in pyramid[-1]))
        finest, flow = min(self.finest, len(pyramid) - 1), None
        for images in reversed(pyramid[finest:]):
            guess = resize_flow(start, images[0].shape[-2:])
            flow = guess if flow is None else resize_flow(flow, images[0].shape[-2:])
            flow = refine(*images, from_patches(*images, flow, guess))
        return resize_flow(flow, first.shape[-2:])


def coarsest_scale(height, width):
    """The scale at which an image is about four patches long, or hardly one high: OpenCV's rule."""
    by_length = int(math.log2(max(height, width) / (4 * PATCH)) + 0.5)
    by_height = int(math.log2(min(height, width) / PATCH))
    return max(0, min(by_length, by_height))


# Patches


def from_patches(first, second, flow, guess):
    """Flow of patches that start from what is better, flow or guess, averaged where they overlap."""
    (height, width), padded = first.shape[-2:], padding(*first.shape[-2:])
    first, second, flow, guess = (F.pad(v, padded, mode="replicate") for v in (first, second, flow, guess))
    patches = Patches(first, second)
    start = patches.better(patches.at_centres(flow), patches.at_centres(guess))
    found = start
    for _ in range(ROUNDS):
        found = patches.moved(patches.propagated(found), STEPS)
    astray = (found - start).norm(dim=1, keepdim=True) > PATCH
    return patches.averaged(torch.where(astray, start, found))[..., :height, :width]


def padding(height, width):
    """What brings both sides to whole patches: for F.pad."""
    right, below = (max(PATCH - side, -(side - PATCH) % STRIDE) for side in (width, height))
    return 0, right, 0, below


class Patches:
    """Patches of an image, looked for in another; flow of patches is (B, 2, rows, columns)."""

    def __init__(self, first, second):
        self.second, self.size, count = second, first.shape[-2:], len(first)
        self.grid = [(side - PATCH) // STRIDE + 1 for side in self.size]
        gradients = torch.cat([(shifted(first, -1, axis) - shifted(first, 1, axis)) / 2 for axis in (3, 2)], dim=1)
        self.image = self.unfolded(first)[:, 0]  # (B, PATCH^2, n)
        self.x, self.y = self.unfolded(gradients).unbind(1)
        self.x_0, self.y_0 = (v - v.mean(1, keepdim=True) for v in (self.x, self.y))
        xx, xy, yy = (self.x_0 * self.x_0).sum(1), (self.x_0 * self.y_0).sum(1), (self.y_0 * self.y_0).sum(1)
        xx, yy = xx + DAMPING, yy + DAMPING
        self.inverse = torch.stack([yy, -xy, xx], dim=1) / (xx * yy - xy * xy)[:, None]
        places = self.unfolded(pixel_grid(self.size, first.device))  # (1, 2, PATCH^2, n)
        self.places = places.expand(count, -1, -1, -1)

    def unfolded(self, values):
        """(B, C, H, W) -> (B, C, PATCH^2, n)."""
        return F.unfold(values, PATCH, stride=STRIDE).unflatten(1, (values.shape[1], PATCH * PATCH))

    def at_centres(self, flow):
        """Flow (B, 2, H, W) at the patches' centres."""
        first = PATCH // 2
        return flow[:, :, first::STRIDE, first::STRIDE][:, :, : self.grid[0], : self.grid[1]]

    def differences(self, flow):
        """What patches see where their flow leads less what they are -> (B, PATCH^2, n)."""
        x, y = (self.places + flow.flatten(2)[:, :, None]).unbind(1)
        height, width = self.size
        grid = torch.stack([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], dim=-1)
        seen = F.grid_sample(self.second, grid, padding_mode="border", align_corners=True)[:, 0]
        return seen - self.image

    def error(self, flow):
        """(B, 1, rows, columns): the variance of the differences, so that brightness does not matter."""
        return self.differences(flow).var(1, correction=0).unflatten(1, self.grid)[:, None]

    def better(self, flow, other):
        return torch.where(self.error(other) < self.error(flow), other, flow)

    def propagated(self, flow):
        """Each patch's flow, or that of the neighbour that explains it best."""
        around = F.pad(flow, (1, 1, 1, 1), mode="replicate")
        rows, columns = self.grid
        best, least = flow, self.error(flow)
        for y, x in ((0, 1), (2, 1), (1, 0), (1, 2)):
            other = around[:, :, y : y + rows, x : x + columns]
            error = self.error(other)
            best = torch.where(error < least, other, best)
            least = torch.minimum(least, error)
        return best

    def moved(self, flow, steps):
        """Flow after so many Gauss-Newton steps; of all that were seen on the way the best."""
        best, least = flow, torch.full_like(flow[:, :1], torch.inf)
        for step in range(steps + 1):
            off = self.differences(flow)
            error = off.var(1, correction=0).unflatten(1, self.grid)[:, None]
            best, least = torch.where(error < least, flow, best), torch.minimum(least, error)
            if step < steps:
                flow = flow - self.step(off)
        return best

    def step(self, off):
        """The Gauss-Newton step (B, 2, rows, columns) against differences (B, PATCH^2, n), at most LONGEST."""
        along_x, along_y = (self.x_0 * off).sum(1), (self.y_0 * off).sum(1)
        a, b, c = self.inverse.unbind(1)
        step = torch.stack([a * along_x + b * along_y, b * along_x + c * along_y], dim=1)
        return step.clamp(-LONGEST, LONGEST).unflatten(2, self.grid)

    def averaged(self, flow):
        """Flow (B, 2, H, W) of pixels: the mean over patches, of which those count more that explain the pixel."""
        weight = 1 / self.differences(flow).abs().clamp(min=1)
        flow = flow.flatten(2)
        parts = torch.cat([weight, weight * flow[:, :1], weight * flow[:, 1:]], dim=1)
        total = F.fold(parts, self.size, PATCH, stride=STRIDE)
        return total[:, 1:] / total[:, :1]


def shifted(values, by, axis):
    """Values moved along an axis by one pixel forth (1) or back (-1); the border repeats."""
    side = values.shape[axis]
    if by > 0:
        return torch.cat([values.narrow(axis, 0, 1), values.narrow(axis, 0, side - 1)], dim=axis)
    return torch.cat([values.narrow(axis, 1, side - 1), values.narrow(axis, side - 1, 1)], dim=axis)


# The variational method


def refine(first, second, flow):
    """Flow that explains brightness and its gradient, robustly, and is smooth but for a few edges."""
    warped = sample_along(flow, second)
    mean, t = (first + warped) / 2, warped - first
    x, y = slopes(mean)
    (xx, xy), (_, yy), (xt, yt) = slopes(x), slopes(y), slopes(t)
    bright = x * x + y * y + ZETA**2
    across, down = xx * xx + xy * xy + ZETA**2, xy * xy + yy * yy + ZETA**2
    change = torch.zeros_like(flow)
    checks = checkerboard(flow.shape[-2:], flow.device)
    for _ in range(FIXED_POINTS):
        u, v = change.split(1, dim=1)
        off = t + x * u + y * v
        weight = DELTA / (off * off / bright + EPSILON**2).sqrt() / bright
        off_x, off_y = xt + xx * u + xy * v, yt + xy * u + yy * v
        slope = GAMMA / (off_x * off_x / across + off_y * off_y / down + EPSILON**2).sqrt()
        a, d = slope / across, slope / down
        data = (weight * x * x + a * xx * xx + d * xy * xy + ZETA**2, weight * x * y + a * xx * xy + d * xy * yy,
                weight * y * y + a * xy * xy + d * yy * yy + ZETA**2)
        pull = (weight * x * t + a * xx * xt + d * xy * yt, weight * y * t + a * xy * xt + d * yy * yt)
        change = relax(flow, change, data, -torch.cat(pull, dim=1), checks)
    return flow + change


def relax(flow, change, data, pull, checks):
    """Sweeps of overrelaxation over the linearised problem, every second pixel at once."""
    xx, xy, yy = data
    edges = smooth_edges(flow + change)
    total = edges[0] + edges[1] + edges[2] + edges[3]
    xx, yy = xx + total, yy + total
    determinant = xx * yy - xy * xy
    own, crossed = torch.cat([yy, xx], dim=1) / determinant, -xy / determinant  # the inverse of each pixel's own part
    pull = from_neighbours(flow, edges, pull - total * flow)
    for _ in range(SWEEPS):
        for check in checks:
            around = from_neighbours(change, edges, pull)
            new = torch.addcmul(own * around, crossed, around.flip(1))
            change = torch.lerp(change, new, check)
    return change


def from_neighbours(values, edges, start):
    """start (B, 2, H, W) and the values to the right, to the left, below and above of it, each times its edge."""
    padded, (height, width) = F.pad(values, (1, 1, 1, 1)), values.shape[-2:]
    for edge, (y, x) in zip(edges, ((1, 2), (1, 0), (2, 1), (0, 1))):
        start = torch.addcmul(start, edge, padded[:, :, y : y + height, x : x + width])
    return start


def smooth_edges(flow):
    """How stiffly each pixel is bound to the pixel to the right, to the left, below and above: 0 beyond the border."""
    right, below = flow.diff(dim=3), flow.diff(dim=2)
    squared = F.pad(right.square().sum(1, keepdim=True), (0, 1))
    squared = squared + F.pad(below.square().sum(1, keepdim=True), (0, 0, 0, 1))
    stiff = ALPHA * (squared + EPSILON**2).rsqrt()
    right, below = stiff[..., :-1], stiff[..., :-1, :]
    return F.pad(right, (0, 1)), F.pad(right, (1, 0)), F.pad(below, (0, 0, 0, 1)), F.pad(below, (0, 0, 1, 0))


def slopes(image):
    """Differences across and down, in levels a pixel."""
    return [(shifted(image, -1, axis) - shifted(image, 1, axis)) / 2 for axis in (3, 2)]


@lru_cache(maxsize=32)  # sizes: a pyramid has a few
def checkerboard(size, device):
    """(H, W): how far every second pixel is overrelaxed, and then the others."""
    down, across = (torch.arange(side, device=device) for side in size)
    odd = (down[:, None] + across) % 2
    return OMEGA * (1 - odd).float(), OMEGA * odd.float()
