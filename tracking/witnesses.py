"""What evidence says of tracks: who is right where a model and flow disagree, and whether a point is seen.

The nearest point to a query that a tracker knows in both frames says where the query would be, by the affine motion of
the points around it (flow/point_tracks.py). It is near, not it, may be of another surface, or wrong; so it is not gone
after, but what is far from it is believed less. Matches of features are too coarse for that (benchmarks/NOTES.md).
Points that go as the query does where flow follows it are its companions: likely of its surface, and not wrong. Where
flow leads elsewhere than several of them the query is where they are. And they say whether it is seen.

Conventions: Q queries, N frames; pixels (x, y) with integer centres at the processed size; numpy.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from flow.point_tracks import NEIGHBOURS, PointSettings, affine_motions

SETTINGS = PointSettings()
PLACES_AT_ONCE = 2**20  # of tracks around queries, which bounds the memory: tens of MB


def distances_from(evidence, frames, pixels, tracks, size, led=None):
    """How far tracks [(Q, N, 2)] of pixels (Q, 2) of frames (Q,) are from what evidence says -> [(Q, N)] in pixels.

    evidence: [loaders.evidence.Evidence]; size: (H, W); led: Companions, which go first. NaN where no
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
            np.copyto(distance, np.linalg.norm(track - led.places, axis=-1), where=np.isfinite(led.error))
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


class Companions(NamedTuple):
    """What companions of Q queries say: where each is, that place's error in pixels, and the log odds that it is seen.

    places (Q, N, 2); error (Q, N), inf at the query and where they do not say where it is; odds (Q, N), 0: no vote.
    """

    places: np.ndarray
    error: np.ndarray
    odds: np.ndarray


def companions(evidence, frames, pixels, places, share, side):
    """The Companions of pixels (Q, 2) of frames (Q,), among the points around them that are seen in their frame.

    places (Q, N, 2), share (Q, N): where flow has the queries, and how much of it agrees, 0 where none arrives. Near
    points count most, and as often as they went as flow has it. In each frame the largest group that agrees says where
    a query is, of those that are seen there, if more is said for it than for flow; all of them whether it is seen, each
    with one to its log odds: as who is right in 73 % of cases. Who never says that a point is hidden does not know.
    evidence: [loaders.evidence.Evidence], all of their points together; side: of the frame, the longer.
    """
    known, shape = [one for one in evidence if one.tracks is not None], share.shape
    found = Companions(np.zeros(places.shape, np.float32), np.full(shape, np.inf, np.float32), np.zeros(shape))
    if not known:
        return found
    tracks, visible = (np.concatenate([getattr(one, name) for one in known]) for name in ("tracks", "visible"))
    says = np.concatenate([np.full(one.visible.shape, not one.visible.all()) for one in known])
    says, tracks = says * np.where(visible, 1, -1), np.where(visible[..., None], tracks, 0)  # hidden: maybe NaN
    at_once = max(1, PLACES_AT_ONCE // (NEIGHBOURS**2 * shape[1]))
    for frame in np.unique(frames).tolist():
        rows, here = np.flatnonzero(frames == frame), np.flatnonzero(visible[:, frame])
        tree = cKDTree(tracks[here, frame])
        for part in (rows[k : k + at_once] for k in range(0, len(rows) if len(here) else 0, at_once)):
            away, near = tree.query(pixels[part], k=min(NEIGHBOURS, len(here)),
                                    distance_upper_bound=SETTINGS.reach * side)
            away, near = away.reshape(len(part), -1), here[near.reshape(len(part), -1).clip(max=len(here) - 1)]
            motion = tracks[near] - tracks[near, frame, None]
            agree, off = agreement(motion, places[part] - pixels[part][:, None],
                                   share[part] * (np.arange(shape[1]) != frame), visible[near], side)
            weight = agree / (1 + np.square(away / (SETTINGS.spread * side)))  # 0 out of reach
            there = pixels[part][:, None, None] + motion - off[:, :, None]
            found.odds[part] = np.einsum("qk,qkn->qn", weight, says[near])
            place, error, said = largest_group(there, weight[..., None] * visible[near], SETTINGS.alike * side)
            found.places[part], found.error[part] = place, np.where(said > share[part], error, np.inf)
        found.error[rows, frame] = np.inf  # where it is itself
    return found


def contradicted(places, error, led):
    """bool (Q, N): companions, `led`, have a track clearly elsewhere than flow: by more than three errors of both.

    places (Q, N, 2), error (Q, N): flow's; inf where it finds nothing, which companions then do, 0 at the query.
    """
    apart = np.square(places - led.places).sum(-1)
    far = apart > 9 * (np.square(error) + np.square(led.error))  # not true where either is inf
    return np.isfinite(led.error) & (error > 0) & (np.isinf(error) | far)


def agreement(motion, flow, share, seen, side):
    """How often k points around each of n move (n, k, N, 2) as flow (n, N, 2) has it -> (n, k) from 0 to 1, and by what
    they are off all the time (n, k, 2): where a point is at the start is as noisy as elsewhere.

    share (n, N): what flow counts; seen (n, k, N): where the points are. Who is never compared: half of the time.
    """
    missed, counts = motion - flow[:, None], share[:, None] * seen
    off = np.zeros((*motion.shape[:2], 2))
    for within in (2, 1):
        alike = counts * (np.linalg.norm(missed - off[:, :, None], axis=-1) < within * SETTINGS.alike * side)
        off = np.einsum("qkn,qknc->qkc", alike, missed) / alike.sum(-1, keepdims=True).clip(1e-9)
    alike = counts * (np.linalg.norm(missed - off[:, :, None], axis=-1) < SETTINGS.alike * side)
    return (alike.sum(-1) + 0.5) / (counts.sum(-1) + 1), off


def largest_group(places, weight, within):
    """Those that agree most of k places (n, k, N, 2), weights (n, k, N) -> their mean (n, N, 2), its error (n, N), inf
    where they count for less than two, and their weight (n, N).
    """
    apart = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1)
    votes = np.einsum("qjn,qkjn->qkn", weight, apart < 2 * within) * (weight > 0)
    best = np.take_along_axis(places, votes.argmax(1)[:, None, :, None], axis=1)
    weight = weight * (np.linalg.norm(places - best, axis=-1) < 2 * within)
    total, squared = weight.sum(1), np.square(weight).sum(1)
    mean = np.einsum("qkn,qknc->qnc", weight, places) / total.clip(1e-9)[..., None]
    spread = np.einsum("qkn,qkn->qn", weight, np.square(places - mean[:, None]).sum(-1)) / total.clip(1e-9)
    count = np.square(total) / squared.clip(1e-18)  # of points, were they to count alike
    return mean, np.where(count >= 2, np.sqrt(spread / (count - 1).clip(1)), np.inf), total
