"""What evidence says of tracks: who is right where a model and flow disagree, and whether a point is seen.

The nearest point to a query that a tracker knows in both frames says where the query would be, by the affine motion of
the points around it (flow/point_tracks.py). It is near, not it, may be of another surface, or wrong; so it is not gone
after, but what is far from it is believed less. Matches of features are too coarse for that (benchmarks/NOTES.md).
Points that go as the query does wherever flow follows it are its companions: of its surface, then, and not wrong. Where
flow leads elsewhere than several of them the query is where they are. And they say whether it is seen.

Conventions: Q queries, N frames; pixels (x, y) with integer centres at the processed size; numpy.
"""

import numpy as np
from scipy.spatial import cKDTree

from flow.point_tracks import NEIGHBOURS, PointSettings, affine_motions

SETTINGS = PointSettings()
NOISE = 0.5  # px: of a point of which others say the same
PLACES_AT_ONCE = 2**20  # of tracks around queries, which bounds the memory: tens of MB


def distances_from(evidence, frames, pixels, tracks, size, led=None):
    """How far tracks [(Q, N, 2)] of pixels (Q, 2) of frames (Q,) are from what evidence says -> [(Q, N)] in pixels.

    evidence: [loaders.evidence.Evidence]; size: (H, W); led: what `companions` says, which goes first. NaN where no
    point is within reach, and at the query.
    """
    found = [np.full(track.shape[:2], np.nan, np.float32) for track in tracks]
    for frame in np.unique(frames):
        rows = np.flatnonzero(frames == frame)
        for target in range(tracks[0].shape[1]):
            ends = expected(evidence, int(frame), target, pixels[rows], max(size))
            for distance, track in zip(found, tracks):
                distance[rows, target] = np.linalg.norm(track[rows, target] - ends, axis=-1)
    if led is not None:
        for distance, track in zip(found, tracks):
            np.copyto(distance, np.linalg.norm(track - led[0], axis=-1), where=np.isfinite(led[1]))
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


def companions(evidence, frames, pixels, places, share, side):
    """Where companions of pixels (Q, 2) of frames (Q,) say that they are -> places (Q, N, 2), error (Q, N) in pixels.

    places (Q, N, 2), share (Q, N): where flow has them, and how much of it agrees, 0 where none arrives. A companion is
    one of the points around a pixel, seen in its frame: near ones count most, and as often as they went as it did. Of
    those seen in another frame the largest group that agrees is asked. error: inf where that is no more than one point.
    evidence: [loaders.evidence.Evidence]; side: of the frame, the longer.
    """
    known = [one for one in evidence if one.tracks is not None]
    result, error = np.full(places.shape, np.nan, np.float32), np.full(share.shape, np.inf, np.float32)
    if not known:
        return result, error
    tracks, visible = (np.concatenate([getattr(one, name) for one in known]) for name in ("tracks", "visible"))
    at_once = max(1, PLACES_AT_ONCE // (NEIGHBOURS**2 * share.shape[1]))
    for frame in np.unique(frames).tolist():
        rows, here = np.flatnonzero(frames == frame), np.flatnonzero(visible[:, frame])
        for part in (rows[k : k + at_once] for k in range(0, len(rows) if len(here) else 0, at_once)):
            away, near = around(tracks[here, frame], pixels[part], side)
            nearness, near = 1 / (1 + np.square(away / (SETTINGS.spread * side))), here[near]
            motion = tracks[near] - tracks[near, frame, None]
            agree, off = agreement(motion, places[part] - pixels[part][:, None],
                                   share[part] * (np.arange(share.shape[1]) != frame), visible[near], side)
            there = pixels[part][:, None, None] + motion - off[:, :, None]
            weight = np.where(visible[near], (nearness * agree)[..., None], 0)
            result[part], error[part] = largest_group(there, weight, SETTINGS.alike * side)
    return result, error


def contradicted(places, error, led):
    """bool (Q, N): companions, `led`, have a track clearly elsewhere than flow: by more than three errors of both.

    places (Q, N, 2), error (Q, N): flow's; inf where it finds nothing, which companions then do, 0 at the query.
    """
    apart = np.square(places - led[0]).sum(-1)
    return np.isfinite(led[1]) & (error > 0) & (
        np.isinf(error) | (apart > 9 * (np.square(error) + np.square(led[1]))))


def around(points, pixels, side):
    """The points (m, 2) around pixels (n, 2) -> distances (n, k), inf of those out of reach, and which they are."""
    away, near = cKDTree(points).query(pixels, k=min(NEIGHBOURS, len(points)),
                                       distance_upper_bound=SETTINGS.reach * side)
    return away.reshape(len(pixels), -1), near.reshape(len(pixels), -1).clip(max=len(points) - 1)


def agreement(motion, flow, share, seen, side):
    """How often k points around each of n move (n, k, N, 2) as flow (n, N, 2) has it -> (n, k) from 0 to 1, and by what
    they are off all the time (n, k, 2): where a point is at the start is as noisy as elsewhere.

    share (n, N): what flow counts; seen (n, k, N): where the points are. Laplace's rule: who is never compared, never.
    """
    missed, counts = motion - flow[:, None], share[:, None] * seen
    off = np.zeros((*motion.shape[:2], 2))
    for within in (2, 1):
        alike = counts * (np.linalg.norm(missed - off[:, :, None], axis=-1) < within * SETTINGS.alike * side)
        off = np.einsum("qkn,qknc->qkc", alike, missed) / alike.sum(-1, keepdims=True).clip(1e-9)
    alike = counts * (np.linalg.norm(missed - off[:, :, None], axis=-1) < SETTINGS.alike * side)
    return alike.sum(-1) / (counts.sum(-1) + 1), off


def largest_group(places, weight, within):
    """The mean of those that agree most, of k places (n, k, N, 2) of weights (n, k, N) -> (n, N, 2), error (n, N)."""
    apart = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1)
    votes = np.einsum("qjn,qkjn->qkn", weight, apart < 2 * within) * (weight > 0)
    best = np.take_along_axis(places, votes.argmax(1)[:, None, :, None], axis=1)
    weight = weight * (np.linalg.norm(places - best, axis=-1) < 2 * within)
    total, squared = weight.sum(1), np.square(weight).sum(1)
    mean = np.einsum("qkn,qknc->qnc", weight, places) / total.clip(1e-9)[..., None]
    spread = np.einsum("qkn,qkn->qn", weight, np.square(places - mean[:, None]).sum(-1)) / total.clip(1e-9)
    count = np.square(total) / squared.clip(1e-18)  # of points, were they to count alike
    several = count >= 2
    error = np.sqrt((spread * count / (count - 1).clip(1) + NOISE**2) / count.clip(1))
    return np.where(several[..., None], mean, np.nan), np.where(several, error, np.inf)


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
            for part in (rows[k : k + at_once] for k in range(0, len(rows), at_once)):
                away, near = around(one.tracks[known, frame], pixels[part], side)
                weight, near = 1 / (1 + np.square(away / (SETTINGS.spread * side))), known[near]  # 0 out of reach
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
