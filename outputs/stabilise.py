"""Undo the camera's motion, as the background's points show it."""

import numpy as np


def camera_motion(background, visible):
    """(N, 2) displacement of the background from frame 0 to each frame: the median over the points, frame to frame.

    Args:
        background: (Q, N, 2) positions; visible: (Q, N) bool. A step counts where both its ends are visible; between
            frames that share no visible point the camera is taken to rest.
    The medians of single steps are added up, since points seen in both of two neighbouring frames are many, while few
    are seen in both the first and the last frame.
    """
    steps = np.zeros((background.shape[1], 2))
    for frame in range(1, background.shape[1]):
        both = visible[:, frame - 1] & visible[:, frame]
        if both.any():
            steps[frame] = np.median(background[both, frame] - background[both, frame - 1], axis=0)
    return np.cumsum(steps, axis=0)


def stabilised_history(positions, motion, now):
    """Where the camera of frame `now` would see the past: (A, Q, 2) -> (A, Q, 2), motion (A, 2) of the same frames."""
    return positions + (motion[now] - motion)[:, None]
