"""What evidence says of tracks: who is right where a model and flow disagree.

The nearest point to a query that a tracker knows in both frames says where the query would be, by the affine motion of
the points around it (flow/point_tracks.py). It is near, not it, may be of another surface, or wrong; so it is not gone
after, but what is far from it is believed less. Matches of features are too coarse for that (benchmarks/NOTES.md).

Conventions: Q queries, N frames; pixels (x, y) with integer centres at the processed size; numpy.
"""

import numpy as np
from scipy.spatial import cKDTree

from flow.point_tracks import PointSettings, affine_motions

SETTINGS = PointSettings()


def distances_from(evidence, frames, pixels, tracks, size):
    """How far tracks [(Q, N, 2)] of pixels (Q, 2) of frames (Q,) are from what evidence says -> [(Q, N)] in pixels.

    evidence: [loaders.evidence.Evidence]; size: (H, W). NaN where no point is within reach, and at the query.
    """
    found = [np.full(track.shape[:2], np.nan, np.float32) for track in tracks]
    for frame in np.unique(frames):
        rows = np.flatnonzero(frames == frame)
        for target in range(tracks[0].shape[1]):
            ends = expected(evidence, int(frame), target, pixels[rows], max(size))
            for distance, track in zip(found, tracks):
                distance[rows, target] = np.linalg.norm(track[rows, target] - ends, axis=-1)
    return found


def expected(evidence, frame, target, pixels, side):
    """Where the points known in both frames would have pixels (n, 2) go -> (n, 2), NaN where none is within reach."""
    start, end = (np.concatenate(points) for points in zip(*(one.between(frame, target)[:2] for one in evidence)))
    start, motion, slope = affine_motions(start, end - start, side, SETTINGS)
    if not len(start):
        return np.full(pixels.shape, np.nan)
    distance, near = cKDTree(start).query(pixels)
    moved = pixels + motion[near] + np.einsum("nab,nb->na", slope[near], pixels - start[near])
    return np.where(distance[:, None] < SETTINGS.reach * side, moved, np.nan)
