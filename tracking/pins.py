"""Tracks that a person has pinned, and what lies near them: a correction of the tracks of any source.

Where a pinned track is, is known in its query's frame and at its pins, its anchors. It is followed from each anchor
that is seen; between two of them it passes from the one to the other where they agree best, so that neither is followed
after it was lost (known_tracks). From any frame, then, it is known how far tracks are off that start on it there: the
way from where they lead to where the pinned track is. Queries near it in that frame are off as far, if they are of the
same surface. Whether they are, the frames decide: what is around the query is to be found rather where it goes when it
is moved than where it goes by itself (taken_along).

Conventions: K pinned tracks, Q queries, N frames, n queries of one frame; pixels (x, y) with integer centres at the
processed size; numpy. `follow` is a source's track: frames (Q,), pixels (Q, 2) -> tracks (Q, N, 2), scores (Q, N),
depth.
"""

from dataclasses import dataclass
from itertools import groupby

import cv2
import numpy as np
import torch
from scipy.special import expit

import util
from flow.motions import MotionSettings
from flow.pair import ErrorSettings
from flow.point_tracks import PointSettings
from util import from_raster, inside_image, pixel_grid


@dataclass(frozen=True)
class PinSettings:
    """What was tuned, on two scenes with depth (docs/evidence.md)."""

    favour: float = 3.0  # log odds that what starts further off is of the same surface; a level of colour adds one


SETTINGS = PinSettings()
# Of the longer side: queries further from a pinned track stay; up to half of it they go along whole, and what starts
# much nearer than a quarter of it, or than a patch, goes along whatever the picture shows.
REACH = PointSettings().reach
UNLIKE = ErrorSettings().largest_error  # levels: more says nothing more
LIKE = MotionSettings().colour_contrast  # levels: a pixel that differs so from the query's counts 1 / e around it
BLUR, PATCH = 0.7, 5  # px: of images; side of what is compared of them
MOST = 100.0  # times the log odds of what starts further off: certainty
HIDDEN = 0.5  # occlusion score of a pinned track above which nothing starts on it: another surface is seen there


@dataclass(frozen=True)
class Anchors:
    """Where a track is known: frames (A,) ascending, pixels (A, 2), visible (A,) bool, at least once."""

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
    frames, pixels = (np.concatenate([getattr(one, name)[one.visible] for one in anchors])
                      for name in ("frames", "pixels"))
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
        steps = 1 / (util.SAME_MOTION**2 + (apart[:-1] + apart[1:]) / 2)
        share = np.concatenate([[0], steps.cumsum() / steps.sum(), np.ones(len(track) - last - 1)])
        track[first:] += share[:, None] * (tracks[k, first:] - track[first:])
        score[first:] += share * (scores[k, first:] - score[first:])
    return track, score


def correct(follow, images, known, known_scores, frames, pixels):
    """What `follow` says of queries, corrected by pinned tracks (K, N, 2) and their scores (K, N).

    images: see smoothed.
    """
    starts = {int(s): np.flatnonzero(known_scores[:, s] <= HIDDEN) for s in np.unique(frames)}
    also = [np.full(len(rows), s, frames.dtype) for s, rows in starts.items()]
    places = [known[rows, s] for s, rows in starts.items()]
    tracks, scores, depth = follow(np.concatenate([frames, *also]), np.float32(np.concatenate([pixels, *places])))
    tracks, scores, end = tracks.copy(), scores.copy(), len(frames)
    for s, pinned in starts.items():
        begin, end, rows = end, end + len(pinned), np.flatnonzero(frames == s)
        given = known[pinned], known_scores[pinned], tracks[begin:end], scores[begin:end]
        tracks[rows], scores[rows] = taken_along(images, s, tracks[rows], scores[rows], *given)
    return tracks[: len(frames)], scores[: len(frames)], depth[: len(frames)]


def correct_flow(images, flow, score, known, known_scores, led, led_scores):
    """Dense flow (H, W, 2) between two frames and its scores (H, W), corrected by pinned tracks there.

    images (2, H, W, 3): see smoothed; known (K, 2, 2), known_scores (K, 2): in the two frames; led, led_scores: where
    the source of that flow leads them.
    """
    seen = known_scores[:, 0] <= HIDDEN
    grid = pixel_grid(*score.shape).reshape(-1, 2).numpy()
    tracks, scores = np.stack([grid, grid + flow.reshape(-1, 2)], axis=1), np.repeat(score.reshape(-1, 1), 2, axis=1)
    given = (values[seen] for values in (known, known_scores, led, led_scores))
    tracks, scores = taken_along(images, 0, tracks, scores, *given)
    return (tracks[:, 1] - grid).reshape(flow.shape), scores[:, 1].reshape(score.shape)


def taken_along(images, frame, tracks, scores, known, known_scores, led, led_scores):
    """Tracks (n, N, 2) and scores (n, N) that start in `frame`, corrected by pinned ones of which that is known.

    known (K, N, 2), known_scores (K, N): the pinned tracks; led, led_scores: where the same source leads them from
    there. Of several that are near, the nearest counts most, and on a pinned track that alone.
    """
    total, move, change = np.zeros(tracks.shape[:1]), np.zeros(tracks.shape), np.zeros(scores.shape)
    reach = REACH * max(images[0].shape[:2])
    for one, its_scores, wrong, wrong_scores in zip(known, known_scores, led, led_scores):
        distance = np.linalg.norm(tracks[:, frame] - one[frame], axis=-1)
        rows = np.flatnonzero(distance < reach)
        near = np.minimum(2 - 2 * distance[rows] / reach, 1)
        ways = moves(tracks[rows], frame, one, wrong)
        part = near**2 * (3 - 2 * near) * belongs(images, frame, tracks[rows], ways, distance[rows], its_scores)
        weight = part / (np.square(distance[rows]) + 1e-6)
        total[rows] += weight
        move[rows] += (weight * part)[:, None, None] * ways
        change[rows] += (weight * part)[:, None] * (its_scores - wrong_scores)
    total = np.where(total > 0, total, 1)
    tracks = tracks + (move / total[:, None, None]).astype(tracks.dtype)
    return tracks, (scores + change / total[:, None]).clip(0, 1).astype(scores.dtype)


def moves(tracks, frame, known, led):
    """By how much tracks (n, N, 2) are off if they are of the surface that a pinned track (N, 2) is of -> (n, N, 2).

    By as much as where the pinned one was led, as long as that is little; where it was led astray, by what keeps them
    as far from it as they start.
    """
    error, start = known - led, tracks[:, frame] - known[frame]
    astray = np.square(error).sum(-1, keepdims=True)
    astray = astray / (astray + util.SAME_MOTION**2)
    return (1 - astray) * error + astray * (known + start[:, None] - tracks)


def belongs(images, frame, tracks, ways, distance, pinned_scores):
    """Odds, from 0 to 1, that tracks (n, N, 2) from `frame` are of a pinned track's surface, `distance` (n,) from it.

    They are the better, the nearer they are, and the more the picture around them, of their own colour mainly, is
    found where they go if moved by `ways` (n, N, 2), rather than where they go by themselves, in the frames in which
    the pinned track is seen.
    """
    size, look = images[0].shape[:2], patches(images[frame], tracks[:, frame])
    weight = np.exp(-np.abs(look - look[:, look.shape[1] // 2, None]).mean(-1) / LIKE)
    weight /= weight.sum(1, keepdims=True)
    evidence, count = np.zeros(len(tracks)), np.zeros(len(tracks))
    for t in np.flatnonzero(pinned_scores <= HIDDEN):
        moved = tracks[:, t] + ways[:, t]
        tells = np.linalg.norm(ways[:, t], axis=-1) > util.SAME_MOTION
        tells &= inside_image(moved, *size) & inside_image(tracks[:, t], *size)
        here, there = ((np.abs(patches(images[t], places[tells]) - look[tells]).mean(-1) * weight[tells]).sum(1)
                       .clip(max=UNLIKE) for places in (tracks[:, t], moved))
        evidence[tells] += here - there
        count[tells] += 1
    evidence, close = evidence / count.clip(1), max(REACH / 4 * max(size), PATCH)
    return expit(SETTINGS.favour * np.square(close / distance.clip(1e-3)).clip(1, MOST) + evidence)


def patches(image, places):
    """The pixels (n, PATCH * PATCH, 3) of an image around places (n, 2), the nearest one in the middle."""
    height, width = image.shape[:2]
    x, y = np.rint(places).astype(int).T
    dy, dx = np.indices((PATCH, PATCH)).reshape(2, -1) - PATCH // 2
    return image[(y[:, None] + dy).clip(0, height - 1), (x[:, None] + dx).clip(0, width - 1)].astype(np.float32)


def smoothed(frames):
    """uint8 (H, W, 3) of each frame -> [the same with less noise]: the images that tell what belongs to what."""
    return [cv2.GaussianBlur(frame, (0, 0), BLUR) for frame in frames]
