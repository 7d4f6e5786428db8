"""A clip in which everything moves alike, its true flow, and preprocessing of both; interruptions of it."""

import os

import numpy as np

from flow.estimator import Estimator
from preprocess import build

SIZE, NUM_FRAMES, STEP = (24, 40), 6, np.array([3.0, 1.0], np.float32)  # pixels a frame


def moving_clip(num_frames=NUM_FRAMES, seed=0):
    """A random texture seen through a window: everything moves by STEP a frame."""
    random = np.random.default_rng(seed)
    canvas = random.integers(0, 256, (SIZE[0] + num_frames, SIZE[1] + 3 * num_frames, 3), dtype=np.uint8)
    starts = [(num_frames - i, 3 * (num_frames - i)) for i in range(num_frames)]
    return np.stack([canvas[y : y + SIZE[0], x : x + SIZE[1]] for y, x in starts])


class MovingFlow(Estimator):
    """The true flow of moving_clip; fails where `wrong(i, j)`; records what it was asked."""

    reason = "true"

    def __init__(self, wrong=lambda i, j: False, version=1):
        self.wrong, self.asked, self.description = wrong, [], {"method": "true", "version": version}

    def load_frames(self, frames, adjacent=None):
        self.frames = frames
        assert frames[len(frames) - 1].shape == (*SIZE, 3)

    def flow_from(self, i, partners):
        self.asked.append(i)
        flow = np.stack([np.broadcast_to(STEP * (j - i), (*SIZE, 2)) for j in partners])
        flow[[self.wrong(i, j) for j in partners]] = 7.3
        return flow


def stays_inside(steps):
    """bool (H, W): pixels that `steps` frames of motion leave in the image."""
    grid = np.stack(np.meshgrid(np.arange(SIZE[1]), np.arange(SIZE[0])), axis=-1) + STEP * steps
    return ((grid >= 0) & (grid <= np.array(SIZE[::-1]) - 1)).all(-1)


def files_of(path):
    """Every file's content, the manifest without what may differ between equal results."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def make(path, estimator=None, **options):
    return build(moving_clip(), path, flow=estimator or MovingFlow(), **{"device": "cpu", "quiet": True, **options})


class Interrupted(Exception):  # noqa: N818
    pass


def interrupt_after(monkeypatch, writes, error=Interrupted):
    """Let file number `writes` fail when it is about to be complete."""
    real, left = os.fsync, [writes]

    def fsync(descriptor):
        left[0] -= 1
        if left[0] < 0:
            raise error
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
