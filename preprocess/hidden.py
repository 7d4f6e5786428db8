"""What is hidden during a walk over a video: how it moves on, and where it may be seen again.

What looks alike is no proof: grass is seen where grass is hidden. But adjacent flow backwards tells what each pixel of
the frame that was reached shows: a pixel of the first frame, or something that appeared on the way. So what was lost is
not found again where another pixel is, and it goes where its surface goes: pixels of the first frame that move
together, joined by what is surely seen of them. Measured on scenes with depth: benchmarks/NOTES.md.

Conventions: flow float32 (H, W, 2), (x, y) in pixels; masks bool (H, W); joined: two arrays in [0, 1] on a grid of
cells, how surely each cell's neighbour to the right, and below, is of its own surface.
"""

from typing import NamedTuple

import cv2
import numpy as np

from preprocess.images import pixel_grid, resize

CELLS, STEPS, LEAST = 96, 30, 1e-3  # cells on the long side; reach in cells; joined by less is not reached
TOGETHER_PX, COLOUR = 1.0, 6.0  # differences between neighbours of one surface: of their flow, and in levels
OWN_PX, DRIFT_PX = 2.0, 0.1  # backward flow that leads so near to a pixel leads back to it; more for every step


class Walk(NamedTuple):
    """What a walk from one frame knows of its pixels in the frame that it has reached, `steps` frames away.

    flow, and motion of the last step, (H, W, 2); seen (H, W). Of the pixels of the frame reached: origin (H, W, 2),
    where in the first frame they come from, if they are not new (H, W): what they show appeared on the way.
    """

    steps: int
    flow: np.ndarray
    motion: np.ndarray
    seen: np.ndarray
    origin: np.ndarray
    new: np.ndarray
    joined: tuple

    @classmethod
    def begin(cls, flow, seen, joined):
        """With the first step's flow (H, W, 2); `followed_back` makes the step complete."""
        flow, size = fill(flow, joined, seen), flow.shape[:2]
        return cls(0, flow, flow, seen, pixel_grid(size), np.zeros(size, bool), joined)

    def carried(self, motion, sure):
        """The flow carried on by the motion (H, W, 2) of what is surely still seen (H, W), and the rest with it."""
        motion = fill(np.where(sure[..., None], motion, self.motion), self.joined, sure)
        return self._replace(flow=self.flow + motion, motion=motion, seen=sure)

    def followed_back(self, back, returns):
        """One step further: flow (H, W, 2) from the frame now reached to the one before, and where it returns."""
        place, rest = nearest(back)
        return self._replace(steps=self.steps + 1, origin=self.origin[place] + rest, new=self.new[place] | ~returns)

    def taken(self, flow):
        """Where flow (H, W, 2) leads to what is another pixel of the first frame that is seen; and where to the own."""
        size = flow.shape[:2]
        place, rest = nearest(flow)
        missed = np.square(self.origin[place] + rest - pixel_grid(size)).sum(-1)
        own = missed < (OWN_PX + DRIFT_PX * self.steps) ** 2
        old = ~self.new[place]
        return old & ~own & self.seen[within(self.origin[place], size)], old & own

    def corrected(self, flow, alike):
        """With corrected flow (H, W, 2) of what is seen, as far as it leads to what looks alike (H, W).

        What is lost, or leads to another pixel, goes where the surely seen parts of its surface go.
        """
        other, own = self.taken(flow)
        visible = alike & (self.seen | ~other)
        sure = cv2.erode((visible & self.seen & own).view(np.uint8), np.ones((3, 3))) > 0  # rims mix two surfaces
        filled = fill(np.where(sure[..., None], flow, self.flow), self.joined, sure)
        unseen = np.where((self.seen & ~other)[..., None], self.flow, filled)
        return self._replace(flow=np.where(visible[..., None], flow, unseen), seen=visible)


def nearest(flow):
    """The pixels (rows, columns) nearest to where flow (H, W, 2) leads, inside the frame, and the rest (H, W, 2)."""
    arrived = pixel_grid(flow.shape[:2]) + flow
    rows, columns = within(arrived, flow.shape[:2])
    return (rows, columns), arrived - np.stack([columns, rows], axis=-1).astype(np.float32)


def within(positions, size):
    """Rows and columns of the pixels nearest to positions (H, W, 2), inside the frame."""
    x, y = np.moveaxis(positions.round().astype(int), -1, 0)
    return y.clip(0, size[0] - 1), x.clip(0, size[1] - 1)


def cell_of(size):
    """Pixels on the side of a cell."""
    return max(1, round(max(size) / CELLS))


def joined_by(frame, flows):
    """How surely neighbours in a frame (H, W, 3) are of one surface: by flow, and by colour where none tells.

    flows: pairs of flow (H, W, 2) and of where it is known; the first leads, others only part what it joins.
    """
    cell, axes = cell_of(frame.shape[:2]), (1, 0)
    colours = cv2.GaussianBlur(np.float32(frame), (0, 0), 1)[::cell, ::cell]
    joined = [np.exp(-np.square(np.abs(np.diff(colours, axis=a)).mean(-1) / COLOUR)) for a in axes]
    for k, (flow, known) in enumerate(flows):
        flow, known = flow[::cell, ::cell], known[::cell, ::cell]
        for a in axes:
            together = np.exp(-np.square(np.diff(flow, axis=a)).sum(-1) / (2 * TOGETHER_PX**2))
            both = known[:, 1:] & known[:, :-1] if a else known[1:] & known[:-1]
            before = joined[1 - a]
            joined[1 - a] = np.where(both, np.minimum(together, before) if k else together, before)
    return tuple(values.astype(np.float32) for values in joined)


def fill(values, joined, known):
    """Replace values (H, W, C) where they are not known (H, W) by those of known pixels around, of the same surface.

    Works on the cells; what no known cell reaches is left.
    """
    if known.all():
        return values
    cell, (across, down) = cell_of(known.shape), joined
    source = known[::cell, ::cell]
    fixed = np.where(source[..., None], values[::cell, ::cell], 0).astype(np.float32)
    value, mass = fixed, source.astype(np.float32)  # value is what spreads, times its weight; mass its weight
    for _ in range(STEPS):
        total, share, strongest = value.copy(), mass.copy(), mass.copy()
        for ahead, behind, alike in ((np.s_[:, 1:], np.s_[:, :-1], across), (np.s_[1:], np.s_[:-1], down)):
            for to, from_ in ((ahead, behind), (behind, ahead)):
                total[to] += alike[..., None] * value[from_]
                share[to] += alike * mass[from_]
                np.maximum(strongest[to], alike * mass[from_], out=strongest[to])
        mass = np.where(source, 1, strongest).astype(np.float32)
        mean = total / np.maximum(share, 1e-12)[..., None]
        value = np.where(source[..., None], fixed, mean * mass[..., None]).astype(np.float32)
    spread = resize(value / np.maximum(mass, 1e-12)[..., None], known.shape)
    reached = resize(mass[..., None], known.shape)[..., 0] > LEAST
    return np.where((known | ~reached)[..., None], values, spread).astype(np.float32)
