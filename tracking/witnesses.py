"""What evidence says of tracks: who is right where a model and flow disagree, and whether a point is seen.

The nearest point to a query that a tracker knows in both frames says where the query would be, by the affine motion of
the points around it (flow/point_tracks.py). It is near, not it, may be of another surface, or wrong; so it is not gone
after, but what is far from it is believed less. Matches of features are too coarse for that (benchmarks/NOTES.md).
What it says of visibility is asked of the points around the query that go as the query does.

Conventions: Q queries, N frames; pixels (x, y) with integer centres at the processed size; numpy.
"""

import numpy as np
from scipy.spatial import cKDTree

from flow.point_tracks import NEIGHBOURS, PointSettings, affine_motions

SETTINGS = PointSettings()
PLACES_AT_ONCE = 2**20  # of tracks around queries, which bounds the memory: tens of MB


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


def visibility_odds(evidence, frames, pixels, tracks, side):
    """Log odds (Q, N) that points of pixels (Q, 2) of frames (Q,) are seen where their tracks (Q, N, 2) have them.

    Of the points nearest to a query that are seen in its frame, near ones count most, and those that go as its track
    does vote, by whether their source says that it sees them (Laplace's rule of succession: none vote, 0). Who never
    says that a point is hidden does not know. evidence: [loaders.evidence.Evidence]; side: of the frame, the longer.
    """
    votes = np.zeros((2, *tracks.shape[:2]), np.float32)
    at_once = max(1, PLACES_AT_ONCE // (NEIGHBOURS * tracks.shape[1]))
    for one in evidence:
        if one.visible is None or one.visible.all():
            continue
        for frame in np.unique(frames).tolist():
            rows, known = np.flatnonzero(frames == frame), np.flatnonzero(one.visible[:, frame])
            if not len(known):
                continue
            tree = cKDTree(one.tracks[known, frame])
            for part in (rows[k : k + at_once] for k in range(0, len(rows), at_once)):
                away, near = tree.query(pixels[part], k=min(NEIGHBOURS, len(known)),
                                        distance_upper_bound=SETTINGS.reach * side)
                weight = 1 / (1 + np.square(away.reshape(len(part), -1) / (SETTINGS.spread * side)))  # 0 out of reach
                near = known[near.reshape(len(part), -1).clip(max=len(known) - 1)]
                votes[:, part] += votes_of(one.tracks[near], one.visible[near], weight, frame, tracks[part], side)
    return np.log((votes[0] + 1) / (votes[1] + 1))


def votes_of(known, visible, weight, frame, tracks, side):
    """(2, n, N): weight (n, k) of the tracks around each of n that go as it does: of those seen, of those hidden.

    tracks (n, N, 2) start in `frame`; known (n, k, N, 2), visible (n, k, N): the k around each.
    """
    motion = known - known[:, :, frame, None]
    missed = motion - (tracks - tracks[:, frame, None])[:, None]
    alike = np.einsum("qknc,qknc->qkn", missed, missed) < (SETTINGS.alike * side) ** 2
    seen, every = (np.einsum("qk,qkn->qn", weight, mask) for mask in (alike & visible, alike))
    return np.stack([seen, every - seen])
