"""Tracks with all that makes formats differ: gaps, corners, points outside the picture, doubt, one frame only."""

import numpy as np

from exports.options import Options, default_names
from tracking.tracks_file import Tracks

SIZE, NUM_FRAMES, FPS = (40, 60), 7, 25.0  # H, W
HIDDEN = {1: (2, 3), 2: (0, 1, 6), 3: (5,), 4: (0, 1, 2, 4, 5, 6)}  # point: frames


def known_tracks(count=5):
    """The first `count` points: in the first pixel's centre, behind something, outside, doubted, seen once."""
    step = 0.25 * np.arange(NUM_FRAMES)
    starts = np.array([[0.5, 0.5], [20.125, 30.375], [50, 10], [59.5, 39.5], [7.3, 8.7]])
    slopes = np.array([[0, 0], [1, -2], [7.9, 0], [-0.5, -0.5], [1, 1]])
    positions = (starts[:, None] + slopes[:, None] * step[:, None]).astype(np.float32)
    occluded, score = np.zeros((5, NUM_FRAMES), bool), np.full((5, NUM_FRAMES), 0.125, np.float32)
    for q, frames in HIDDEN.items():
        occluded[q, frames], score[q, frames] = True, 0.6 if q == 3 else 0.875
    frames = np.array([0, 0, 4, 1, 3])
    score[np.arange(5), frames] = 0
    queries = np.column_stack([frames, positions[np.arange(5), frames][:, ::-1]]).astype(np.float32)
    depth = np.linspace(0, 2, 5 * NUM_FRAMES, dtype=np.float32).reshape(5, NUM_FRAMES)
    arrays = (array[:count] for array in (queries, positions, occluded, score, depth))
    return Tracks(*arrays, frame_size=(20, 30), video_size=SIZE, fps=FPS)


def many_tracks(count=5000, num_frames=8):
    """Random tracks, a third of their positions hidden."""
    random = np.random.default_rng(0)
    positions = random.uniform(0, SIZE[::-1], (count, num_frames, 2)).astype(np.float32)
    score = random.choice(np.float32([0.125, 0.25, 0.875]), (count, num_frames))
    score[:, 0] = 0
    queries = np.column_stack([np.zeros(count), positions[:, 0, ::-1]]).astype(np.float32)
    return Tracks(queries, positions, score > 0.5, score, np.full_like(score, np.nan), SIZE, SIZE, FPS)


def quad(order):
    """Tracks of a square's corners, in the given order of LL, LR, UR, UL, that moves to the right."""
    corners = np.array([[10, 30.5], [20, 31], [21, 11], [11, 10]])[list(order)]
    positions = (corners[:, None] + np.array([[0, 0], [2, 0]])).astype(np.float32)
    queries = np.column_stack([np.zeros(4), corners[:, ::-1]]).astype(np.float32)
    flags = np.zeros((4, 2), bool)
    return Tracks(queries, positions, flags, flags * np.float32(0), flags * np.float32(0), SIZE, SIZE, FPS)


def options(tracks, **changes):
    return Options(**{"names": default_names(len(tracks.tracks))} | changes)


def seen(tracks):
    """{(q, frame): (x, y)} of what is visible, by a loop."""
    return {(q, frame): tuple(tracks.tracks[q, frame].astype(float)) for q in range(len(tracks.tracks))
            for frame in range(tracks.tracks.shape[1]) if not tracks.occluded[q, frame]}


def assert_keys(found, expected, atol=1e-6):
    """Two {key: numbers} have the same keys and nearly the same numbers."""
    assert found.keys() == expected.keys()
    a, b = (np.array([dictionary[key] for key in expected]) for dictionary in (found, expected))
    np.testing.assert_allclose(a, b, atol=atol, rtol=0)
