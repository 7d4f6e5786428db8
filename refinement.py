"""Tracks from the stored flow, alone (flow_tracks) or to sharpen a model's tracks (refine).

Flow between two frames is exact where it can be trusted, but loses a point behind the first thing that hides it. The
model knows where the point is all along, hidden or not, mostly to a fraction of a pixel, but sometimes it is pulled
along by another surface. So each track is walked outwards from its query: into every frame from all the frames where it
has been seen so far (as Neoral et al. chain flow in "MFT: Long-Term Tracking of Every Pixel", WACV 2024), the model
deciding between flows that disagree, and standing alone where no flow arrives; where both agree, their mean is taken.
How many of these flows agree, and whether the colour there is the query's, also tells whether the point is seen.
Without a model the walk is the same; where no flow arrives a point goes with the pixels around it, by flow from the
frames before and after in which it was seen. Last, tracks are smoothed in time, robustly, as true ones rarely jump.

Conventions: Q points, N frames; pixels (x, y) with integer centres at the processed size; numpy arrays.
"""

import cv2
import numpy as np
from scipy.linalg import solveh_banded
from scipy.ndimage import map_coordinates

from loaders.data_dir import DataDir
from util import UserError, inside_image

SAME_MOTION_PX = 1.0  # neighbouring pixels whose flow differs by less are of one surface
AGREE_PX = 1.25  # flow there and back, and flow by different ways, agree to within this
BLEND_PX, MODEL_PX, FLOW_PX = 1.0, 0.5, 0.05  # flow and model as near to one another are averaged; their usual errors
HOP_COST = 0.3  # pixels of error that one more hop on the way is worth
MODEL_WEIGHT, MODEL_REACH = 0.25, 10.0  # cost of a pixel away from the model, up to this many pixels
USUAL_SHARE = 0.3  # a point is seen where this share of the flows that could arrive does, if the model is undecided
MODEL_SHARE = 0.3  # how far the model's own occlusion score, from 0 to 1, moves that share
ALIKE, UNLIKE, COLOUR_BLUR = 30, 60, 1.0  # levels between colours of one point, and of two; pixels
SEEN_SCORE = 0.4  # what colour lets a score fall to, or, from the other side, rise to
STIFFNESS, STANDS_OUT_PX = 0.05, 2.0  # of acceleration against position, both squared; what is smoothed over
HIDDEN_WEIGHT, SMOOTHINGS, PINNED = 0.1, 8, 1e3  # of a position that is not seen, against a seen one; at the query


class Hops:
    """The stored flow of a data directory, at single points; only what is asked for is read from the disk."""

    def __init__(self, data):
        self.width, self.height, self.step = data.width, data.height, data.flow_step
        self.rows = [{j: row for row, j in enumerate(data.partners(i))} for i in range(data.num_frames)]
        self.flow = [data.flow_fixed(i) for i in range(data.num_frames)]
        self.bits = [data.valid_bits(i) for i in range(data.num_frames)]

    def sources(self, frame, target):
        """Frames from `frame` up to, not including, `target` that have flow there and back."""
        step = 1 if target > frame else -1
        return [i for i in range(frame, target, step) if target in self.rows[i] and i in self.rows[target]]

    def move(self, i, j, points):
        """Points (n, 2) of frame i carried to frame j by bilinear flow -> (n, 2).

        Of the four pixels around a point only those that move as the nearest one does: between two surfaces there is
        no motion half-way.
        """
        flow = self.flow[i][self.rows[i][j]]
        x, y = points[:, 0].clip(0, self.width - 1), points[:, 1].clip(0, self.height - 1)
        left, top = x.astype(int).clip(max=max(self.width - 2, 0)), y.astype(int).clip(max=max(self.height - 2, 0))
        right, below = np.minimum(left + 1, self.width - 1), np.minimum(top + 1, self.height - 1)
        wx, wy = (x - left).astype(np.float32), (y - top).astype(np.float32)
        weight = np.stack([(1 - wx) * (1 - wy), wx * (1 - wy), (1 - wx) * wy, wx * wy])
        places = np.stack([top, top, below, below]) * self.width + np.stack([left, right, left, right])
        around = flow.reshape(-1, 2).take(places, axis=0).astype(np.float32)
        apart = around - around[weight.argmax(0), np.arange(len(points))]
        weight *= np.einsum("knc,knc->kn", apart, apart) < (SAME_MOTION_PX / self.step) ** 2
        return points + np.einsum("kn,knc->nc", weight / weight.sum(0), around) * self.step

    def trusted(self, i, j, points):
        """bool (n,): points of frame i whose flow to frame j passed the filter."""
        x, y = (points[:, c].round().astype(int).clip(0, side - 1) for c, side in ((0, self.width), (1, self.height)))
        index = y * self.width + x
        return (self.bits[i][self.rows[i][j], 0][index >> 3] >> (7 - (index & 7)) & 1).astype(bool)


def flow_at_hand(run, wanted):
    """The data directory to refine a run's tracks with, or None. wanted: 'on', 'off', or 'auto', as --refine has it.

    'auto' refines tracks of surface models, of volumes never. UserError: 'on' and there is none, or of another video.
    """
    if wanted == "off" or (wanted == "auto" and run.config["rendering"] != "surface"):
        return None
    try:
        data = DataDir.open(run.flow_dir)
        if data.fingerprint != run.video["fingerprint"]:
            raise UserError(f"{data.path}: made from another video than the run")
    except UserError as error:
        if wanted == "on":
            raise
        print(f"tracks of the model alone, not refined by flow: {error}")
        return None
    return data


def refine(data, frames, pixels, tracks, scores, progress=None):
    """Tracks (Q, N, 2) and occlusion scores (Q, N) of pixels (Q, 2) of frames (Q,), sharpened -> the same.

    progress: called with the number of positions done.
    """
    walked, reached = walk_all(data, frames, pixels, range(data.num_frames), (tracks, scores), progress)
    return finish(data, frames, pixels, walked, reached, scores)


def flow_tracks(data, frames, pixels, progress=None, window=None):
    """Tracks (Q, N, 2) and occlusion scores (Q, N) of pixels (Q, 2) of frames (Q,) by the stored flow, with no model.

    progress: called with the number of positions done. window: a range of frames that holds all of `frames`, to which
    the walk keeps, in place of all N of them.
    """
    window = range(data.num_frames) if window is None else window
    walked, reached = walk_all(data, frames, pixels, window, None, progress)
    return finish(data, frames, pixels, walked, reached, np.full(reached.shape, 0.5, np.float32), window.start)


def walk_all(data, frames, pixels, window, model, progress):
    """walk for queries of any frames: pixels (Q, 2) of frames (Q,) -> tracks (Q, M, 2), scores (Q, M) in the window.

    model: (tracks (Q, M, 2), scores (Q, M)), or None.
    """
    hops, shape = Hops(data), (len(frames), len(window))
    tracks, scores = np.empty((*shape, 2), np.float32), np.empty(shape, np.float32)
    for frame in np.unique(frames):
        rows = np.flatnonzero(frames == frame)
        of_rows = None if model is None else (model[0][rows], model[1][rows])
        tracks[rows], scores[rows] = walk(hops, int(frame), pixels[rows], window, of_rows)
        if progress is not None:
            progress(len(rows) * len(window))
    return tracks, scores


def finish(data, frames, pixels, tracks, scores, undecided, first=0):
    """Walked tracks (Q, M, 2), scores (Q, M) -> the same, corrected by colour, and smooth.

    undecided (Q, M): what the model's scores say, 0.5 without one. The M frames start at `first`.
    """
    difference = colour_difference(data, frames, pixels, tracks, first)  # decides where flow and model leave it open
    scores = np.where((difference < ALIKE) & (undecided < 0.5), np.minimum(scores, SEEN_SCORE), scores)
    scores = np.where(difference > UNLIKE, np.maximum(scores, 1 - SEEN_SCORE), scores)
    return smooth(tracks, frames - first, scores < 0.5), scores


def colour_difference(data, frames, pixels, tracks, first=0):
    """(Q, N) levels: largest difference of the channels between where tracks (Q, N, 2) lead and where they start.

    first: the frame that the tracks' first column is of.
    """

    def colours(frame, places):
        image = cv2.GaussianBlur(data.frame(frame).astype(np.float32), (0, 0), COLOUR_BLUR)
        rows_columns = places.T[::-1]  # not cv2.remap, which takes fewer than 32767 points
        found = [map_coordinates(channel, rows_columns, order=1, mode="nearest") for channel in cv2.split(image)]
        return np.stack(found, axis=1)

    wanted = np.empty((len(frames), 3), np.float32)
    for frame in np.unique(frames):
        wanted[frames == frame] = colours(int(frame), pixels[frames == frame])
    return np.stack([np.abs(colours(first + j, tracks[:, j]) - wanted).max(-1) for j in range(tracks.shape[1])], axis=1)


def smooth(tracks, frames, seen):
    """Tracks (Q, N, 2) of queries in frames (Q,) with small accelerations, near the given ones where they are `seen`.

    Whittaker's smoother, its weights adapted to what stands out (iteratively reweighted least squares, Cauchy).
    """
    num_frames = tracks.shape[1]
    if num_frames < 3:
        return tracks
    weights = np.where(seen, 1.0, HIDDEN_WEIGHT)
    weights[np.arange(len(tracks)), frames] = PINNED
    second = np.diff(np.eye(num_frames), 2, axis=0)
    stiff = STIFFNESS * second.T @ second
    bands = np.stack([np.pad(np.diag(stiff, k), (k, 0)) for k in (2, 1, 0)])
    result = tracks.astype(np.float64)
    for row, (track, weight) in enumerate(zip(tracks.astype(np.float64), weights)):
        trust = weight
        for _ in range(SMOOTHINGS):
            system = bands.copy()
            system[2] += trust
            result[row] = solveh_banded(system, trust[:, None] * track, overwrite_ab=True, check_finite=False)
            trust = weight / (1 + np.square(result[row] - track).sum(-1) / STANDS_OUT_PX**2)
        result[row, frames[row]] = track[frames[row]]
    return result.astype(tracks.dtype)


def walk(hops, frame, pixels, window, model=None):
    """Tracks (n, M, 2) and scores (n, M) in the M frames of the window, of pixels (n, 2) of one of them.

    model: (tracks (n, M, 2), scores (n, M)) to go by, or None.
    """
    first, start, shape = window.start, frame - window.start, (len(pixels), len(window))
    walked = np.repeat(pixels[:, None], len(window), axis=1).astype(np.float32) if model is None else model[0].copy()
    seen, cost = np.zeros(shape, bool), np.full(shape, np.inf, np.float32)
    spread, share = cost.copy(), np.zeros(shape, np.float32)
    walked[:, start], seen[:, start], cost[:, start], spread[:, start], share[:, start] = pixels, True, 0, 0, 1
    for target in sorted(window, key=lambda t: abs(t - frame)):
        if target != frame:
            guide = None if model is None else model[0][:, target - first]
            sources = hops.sources(frame, target)
            arrive(hops, sources, target, guide, (walked, seen, cost, spread, share), first)
    said = 0.5 if model is None else model[1]
    scores = np.clip(0.5 + MODEL_SHARE * (said - 0.5) + USUAL_SHARE - share, 0, 1)
    if model is None:
        return carry_hidden(hops, walked, seen, first), scores
    return blend(model[0], fill_hidden(model[0], walked, seen), spread, start), scores


def blend(tracks, refined, spread, frame):
    """Tracks where model and flow are near one another: their mean, weighted by the inverse of their variances.

    spread (n, N) is how far the flows that arrived lie apart, inf where none did; the query's `frame` stays as refined.
    """
    flow_weight = 1 / (1 + (np.square(spread) + FLOW_PX**2) / MODEL_PX**2)
    near = np.linalg.norm(refined - tracks, axis=-1) < BLEND_PX
    near[:, frame] = False
    return np.where(near[..., None], tracks + flow_weight[..., None] * (refined - tracks), refined)


def arrive(hops, sources, target, model, state, first=0):
    """Reach `target` from the frames `sources`: sets that column of (walked, seen, cost, spread, share).

    model (n, 2): where the model has the points, or None. spread: standard deviation of the ends of the flows that
    agree; of a single flow its cost. first: the frame that the first column is of.
    """
    walked, seen, cost, spread, share = state
    ends, costs, starts = [], [], []
    for source in sources:
        column = source - first
        begin = walked[:, column]
        end = hops.move(source, target, begin)
        error = np.linalg.norm(hops.move(target, source, end) - begin, axis=-1)
        inside = inside_image(end, hops.height, hops.width, margin=0.5)
        good = seen[:, column] & hops.trusted(source, target, begin) & (error < AGREE_PX) & inside
        ends.append(end)
        costs.append(np.where(good, cost[:, column] + error + HOP_COST, np.inf))
        starts.append(np.where(seen[:, column], share[:, column], 0))
    if not ends:
        return
    ends, costs, starts = np.stack(ends), np.stack(costs), np.stack(starts)
    away = 0 if model is None else MODEL_WEIGHT * np.linalg.norm(ends - model, axis=-1).clip(max=MODEL_REACH)
    best = np.argmin(costs + away, axis=0)[None]
    best_end = np.take_along_axis(ends, best[..., None], axis=0)
    agree = np.isfinite(costs) & (np.linalg.norm(ends - best_end, axis=-1) < AGREE_PX)
    found = agree.any(0)
    ends, costs, starts, agree, best = (values[:, found] for values in (ends, costs, starts, agree, best))
    weight = np.where(agree, starts / (np.where(agree, costs, 0) + HOP_COST), 0)
    weight /= weight.sum(0).clip(1e-9)
    mean = (weight[..., None] * ends).sum(0)
    deviation = np.sqrt((weight * np.square(ends - mean).sum(-1)).sum(0))
    column = target - first
    walked[found, column], seen[:, column] = mean, found
    cost[found, column] = np.take_along_axis(costs, best, 0)[0]
    spread[found, column] = np.where(agree.sum(0) > 1, deviation, cost[found, column])
    share[found, column] = (agree * starts).sum(0) / starts.sum(0).clip(1e-9)


def fill_hidden(tracks, refined, seen):
    """Where nothing was seen: the model's track, moved as much as around that, so that nothing jumps."""
    moved, result = refined - tracks, refined.copy()
    for row in np.flatnonzero(~seen.all(1)):
        there, hidden = np.flatnonzero(seen[row]), np.flatnonzero(~seen[row])
        for c in (0, 1):
            result[row, hidden, c] = tracks[row, hidden, c] + np.interp(hidden, there, moved[row, there, c])
    return result


def carry_hidden(hops, tracks, seen, first=0):
    """Tracks (n, M, 2) where they are not `seen` (n, M): as the pixels move from the nearest frames that saw the point.

    Flow of whole surfaces carries what is hidden along, so it is taken unfiltered; from before and after the gap, the
    nearer in time the more. Where none is stored: straight on between what is known, and at the ends at rest.
    """
    result, known, times = tracks.copy(), seen.copy(), np.arange(seen.shape[1])
    before = np.maximum.accumulate(np.where(seen, times, -1), axis=1)
    after = np.minimum.accumulate(np.where(seen, times, len(times))[:, ::-1], axis=1)[:, ::-1]
    for t in np.flatnonzero(~seen.all(0)):
        total, weights = np.zeros((len(seen), 2)), np.zeros(len(seen))
        for side in (before[:, t], after[:, t]):
            for start in np.unique(side[~seen[:, t]]):
                if 0 <= start < len(times) and first + t in hops.rows[first + start]:
                    rows = np.flatnonzero(~seen[:, t] & (side == start))
                    weight = 1 / abs(t - start)
                    total[rows] += weight * hops.move(first + start, first + t, tracks[rows, start])
                    weights[rows] += weight
        known[:, t] |= weights > 0
        carried = ~seen[:, t] & known[:, t]
        result[carried, t] = total[carried] / weights[carried, None]
    return between(result, known)


def between(tracks, known):
    """Tracks (n, M, 2) where not `known` (n, M): linear between the known frames around, at rest beyond them."""
    result, times = tracks.copy(), np.arange(known.shape[1])
    for row in np.flatnonzero(~known.all(1)):
        for c in (0, 1):
            result[row, :, c] = np.interp(times, times[known[row]], tracks[row, known[row], c])
    return result
