"""Tracks that a person has pinned, and what lies near them: a correction of the tracks of any source.

Where a pinned track is, is known in its query's frame and at its pins, its anchors. It is followed from each anchor that
is seen; between two of them it passes from the one to the other where they agree best, so that neither is followed after
it was lost (known_tracks). From any frame, then, it is known how far tracks are off that start on it there: the way from
where they lead to where the pinned track is. A query near it in that frame, of a track that moves alike, is off by the
same, and is moved by that way; less the further off it starts, and not at all from `reach` on (correct).

Conventions: K pinned tracks, Q queries, N frames, n queries of one frame; pixels (x, y) with integer centres at the
processed size; numpy. `follow` is a source's track: frames (Q,), pixels (Q, 2) -> tracks (Q, N, 2), scores (Q, N), depth.
"""

from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from util import from_raster, pixel_grid


@dataclass(frozen=True)
class PinSettings:
    """What was tuned, on scenes with depth (benchmarks.pins)."""

    reach: float = 0.15  # of the longer side: queries further from a pinned track are not moved
    alike: float = 1.0  # px: by which tracks differ that move alike, and ...
    bend: float = 0.15  # ... by so much more for each pixel between them
    agree: float = 1.0  # px: by which two tracks of one point differ where both are right


SETTINGS = PinSettings()
HIDDEN = 0.5  # occlusion score of a pinned track above which nothing starts on it: another surface is seen there


@dataclass(frozen=True)
class Anchors:
    """Where a track is known: frames (A,) ascending, pixels (A, 2), visible (A,) bool, of which one at least is seen."""

    frames: np.ndarray
    pixels: np.ndarray
    visible: np.ndarray


def queries_of(pins):
    """Queries (K, 3), rows t, y, x, of the tracks of [Pin]: the first row of each."""
    firsts = [next(rows) for _, rows in groupby(pins, key=lambda pin: pin.track)]
    return np.array([[pin.frame, pin.y, pin.x] for pin in firsts], np.float32).reshape(-1, 3)


def rows_of(pins):
    """[(k, Pin)] of all pins but the queries, k the number of their track in queries_of."""
    return [(k, pin) for k, (_, rows) in enumerate(groupby(pins, key=lambda pin: pin.track)) for pin in list(rows)[1:]]


def put(pins, tracks):
    """Put the first tracks of Tracks, which are of the queries of [Pin], exactly where these have them."""
    for k, pin in rows_of(pins):
        tracks.tracks[k, pin.frame] = pin.x, pin.y
        tracks.occluded[k, pin.frame] = tracks.occlusion_score[k, pin.frame] = not pin.visible


def anchors_of(pins, size, video_size):
    """[Anchors] of the tracks of [Pin], which are in pixels of the original video."""
    found = []
    for _, rows in groupby(pins, key=lambda pin: pin.track):
        rows = sorted(rows, key=lambda pin: pin.frame)
        places = torch.tensor([[pin.x, pin.y] for pin in rows], dtype=torch.float32)
        found.append(Anchors(np.array([pin.frame for pin in rows]), from_raster(places, size, video_size).numpy(),
                             np.array([pin.visible for pin in rows], bool)))
    return found


def known_tracks(follow, anchors):
    """[Anchors] -> tracks (K, N, 2) that pass through them, occlusion scores (K, N), 0 or 1 at them."""
    starts = [(frame, pixel) for one in anchors for frame, pixel in zip(one.frames[one.visible], one.pixels[one.visible])]
    frames, pixels = np.array([frame for frame, _ in starts]), np.array([pixel for _, pixel in starts], np.float32)
    all_tracks, all_scores, _ = follow(frames, pixels)
    tracks, scores, row = [], [], 0
    for one in anchors:
        rows = slice(row, row + one.visible.sum())
        track, score = joined(one.frames[one.visible], all_tracks[rows], all_scores[rows])
        off = one.pixels - track[one.frames]  # 0 where it is seen
        times = np.arange(len(track))
        track = track + np.stack([np.interp(times, one.frames, off[:, c]) for c in (0, 1)], axis=-1)
        track[one.frames], score[one.frames] = one.pixels, ~one.visible
        tracks.append(track)
        scores.append(score)
        row = rows.stop
    return np.array(tracks, np.float32), np.array(scores, np.float32)


def joined(frames, tracks, scores):
    """One point's tracks (A, N, 2) and scores (A, N) from A frames in which it is known -> track (N, 2), scores (N,).

    Each stands in its own frame and beyond the outermost. Between two frames it passes from the one to the other, in
    steps that are the larger, the nearer both are.
    """
    track, score = tracks[0].astype(np.float64), scores[0].astype(np.float64)
    for k in range(1, len(frames)):
        first, last = frames[k - 1], frames[k]
        apart = np.square(tracks[k - 1, first : last + 1] - tracks[k, first : last + 1]).sum(-1)
        steps = 1 / (SETTINGS.agree**2 + (apart[:-1] + apart[1:]) / 2)
        share = np.concatenate([[0], steps.cumsum() / steps.sum(), np.ones(len(track) - last - 1)])
        track[first:] += share[:, None] * (tracks[k, first:] - track[first:])
        score[first:] += share * (scores[k, first:] - score[first:])
    return track, score


def correct(follow, known, known_scores, frames, pixels, size):
    """What `follow` says of queries, corrected by pinned tracks (K, N, 2) and their scores (K, N)."""
    reach = SETTINGS.reach * max(size)
    starts = {int(s): np.flatnonzero(known_scores[:, s] <= HIDDEN) for s in np.unique(frames)}
    count = len(frames)
    extra = [np.full(len(rows), s, frames.dtype) for s, rows in starts.items()]
    places = [known[rows, s] for s, rows in starts.items()]
    tracks, scores, depth = follow(np.concatenate([frames, *extra]), np.concatenate([pixels, *places]).astype(np.float32))
    tracks, scores, end = tracks.copy(), scores.copy(), count
    for s, pinned in starts.items():
        begin, end = end, end + len(pinned)
        rows = np.flatnonzero(frames == s)
        errors = known[pinned] - tracks[begin:end], known_scores[pinned] - scores[begin:end]
        move, change = spread(tracks[rows], s, tracks[begin:end], *errors, reach)
        tracks[rows] += move
        scores[rows] = (scores[rows] + change).clip(0, 1)
    return tracks[:count], scores[:count], depth[:count]


def correct_flow(flow, score, known, known_scores, led, led_scores):
    """Dense flow (H, W, 2) between two frames and its scores (H, W), corrected by pinned tracks there.

    known (K, 2, 2), known_scores (K, 2): in the two frames; led, led_scores: the same by the source of that flow.
    """
    size, seen = flow.shape[:2], known_scores[:, 0] <= HIDDEN
    grid = pixel_grid(*size).reshape(-1, 2).numpy()
    tracks = np.stack([grid, grid + flow.reshape(-1, 2)], axis=1)
    errors = (known - led)[seen], (known_scores - led_scores)[seen]
    move, change = spread(tracks, 0, led[seen], *errors, SETTINGS.reach * max(size))
    score = (score + change[:, 1].reshape(size)).clip(0, 1)
    return (flow + move[:, 1].reshape(flow.shape)).astype(np.float32), score.astype(np.float32)


def spread(tracks, frame, theirs, errors, score_errors, reach):
    """Errors (K, N, 2), (K, N) of the tracks `theirs` (K, N, 2) -> those of tracks (n, N, 2); all start in `frame`."""
    total = np.zeros(tracks.shape[:2])
    move, change = np.zeros(tracks.shape), np.zeros(tracks.shape[:2])
    for their, error, score_error in zip(theirs, errors, score_errors):
        start = tracks[:, frame] - their[frame]
        distance = np.linalg.norm(start, axis=-1)
        near = np.square((1 - np.square(distance / reach)).clip(min=0))
        rows = np.flatnonzero(near)
        if not len(rows):
            continue
        away = np.linalg.norm(tracks[rows] - their - start[rows, None], axis=-1)
        away = outwards(away, frame) / (SETTINGS.alike + SETTINGS.bend * distance[rows, None])
        part = near[rows, None] / (1 + np.square(away))
        weight = part / (np.square(distance[rows, None]) + 1e-6)
        total[rows] += weight
        move[rows] += (weight * part)[..., None] * error
        change[rows] += weight * part * score_error
    total = np.where(total > 0, total, 1)
    return move / total[..., None], change / total


def outwards(values, frame):
    """The largest so far of values (n, N), frame by frame outwards from one."""
    after = np.maximum.accumulate(values[:, frame:], axis=1)
    before = np.maximum.accumulate(values[:, : frame + 1][:, ::-1], axis=1)[:, ::-1]
    return np.concatenate([before[:, :-1], after], axis=1)
