"""Tracks from the stored flow, alone (flow_tracks) or together with a model's tracks (refine).

First each track is walked outwards from its query: into every frame by flow from all the frames where it has been found
so far (as Neoral et al. chain flow in "MFT: Long-Term Tracking of Every Pixel", WACV 2024). Then every frame is reached
once more, now from the frames on both sides of it. How far flow there and back misses its start tells well how far the
flow is off, so ends of flow are averaged by that error, robustly, and errors add up along the way.

A model is trained from the same flow and is off by about a pixel where flow is exact, but it knows of points that no
flow finds. So its track is averaged with the flow's by their errors, counts less the further it is away (near given
tracks: from what they say, as the flow does), and stands alone where no flow arrives, unless given tracks lead on from
there. Without a model, points that no flow finds go with the pixels around them, by flow from the frames before and
after in which they were found. A point is seen where many of the flows that could have arrived agree, with a small
error, and near the model. Last, tracks are smoothed in time, robustly, as true ones rarely jump.

Conventions: n or Q points, S sources, M or N frames; pixels (x, y) with integer centres at the processed size; numpy.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded

import util
from loaders.data_dir import DataDir, mask_bit, mask_byte
from loaders.evidence import read_evidence
from tracking.witnesses import companions, contradicted, distances_from
from util import UserError, inside_image, length_unit


@dataclass(frozen=True)
class TrackingSettings:
    """What was tuned, on scenes (docs/method.md); python -m benchmarks.sensitivity shows what it does.

    Lengths in pixels of frames of up to 256 pixels a side, and in larger ones in proportion (util.length_unit).
    """

    flow_error: float = 0.25  # px: of flow to the next frame that comes back to its start exactly
    share_odds: float = 2.8  # log odds that a point is seen: of flows that all agree
    error_odds: float = 1.5  # the same, per log of their error
    away_odds: float = 0.4  # the same, per log of the model's distance from flow, where a model that sees it adds one
    stiffness: float = 0.05  # of acceleration against position, both squared, in smoothing


SETTINGS = TrackingSettings()
SMOOTHINGS = 8  # reweightings, which converge in fewer
KNOWN, HIDDEN = 1e3, 1e-3  # weight of the query, which is known, and of positions that are not seen, which give way
LOST = 8.0  # px, where lengths are: an error that counts as much as if no flow arrived, in what is said of visibility
POINTS_AT_ONCE = 2**13  # that flow carries, of all sources: few enough for the processor's cache


@dataclass
class Walk:
    """Where flow has n points in M frames.

    places (n, M, 2): pixels; the query's where no flow arrived. error (n, M): usual distance from the truth in pixels;
    0 at the query, inf where no flow arrived. share (n, M): of the flows that could have arrived, those that agree,
    from 0 to 1; 1 at the query, 0 where no flow arrived.
    """

    places: np.ndarray
    error: np.ndarray
    share: np.ndarray

    @classmethod
    def start(cls, pixels, columns, num_frames):
        """Pixels (n, 2) known in the columns (n,) only."""
        shape, rows = (len(pixels), num_frames), np.arange(len(pixels))
        walk = cls(np.repeat(pixels[:, None], num_frames, axis=1).astype(np.float32),
                   np.full(shape, np.inf, np.float32), np.zeros(shape, np.float32))
        walk.error[rows, columns], walk.share[rows, columns] = 0, 1
        return walk

    def put(self, rows, other):
        """Rows replaced by those of another walk."""
        self.places[rows], self.error[rows], self.share[rows] = other.places, other.error, other.share

    def enter(self, rows, column, places, error, share):
        """What reach() says of the rows (n,) in one column; where no flow arrived, places stay."""
        found = np.isfinite(error)
        self.places[rows[found], column] = places[found]
        self.error[rows, column], self.share[rows, column] = error, share


@dataclass
class Hops:
    """The stored flow of a data directory, at single points; only what is asked for is read from the disk.

    step: pixels per integer of the flow. Of each of N frames: rows {partner: row}, flow (P_i, H, W, 2) integers, and
    the bits (P_i, 2, B) of the filter, see loaders.data_dir.
    """

    step: float
    rows: list
    flow: list
    bits: list

    @classmethod
    def of(cls, data):
        """Those of a data directory."""
        frames = range(data.num_frames)
        flow, bits = ([np.asarray(read(i)) for i in frames] for read in (data.flow_fixed, data.valid_bits))
        return cls(data.flow_step, [data.rows(i) for i in frames], flow, bits)

    @property
    def unit(self):
        """See util.length_unit."""
        return length_unit(*self.flow[0].shape[1:3])

    def linked(self, target, frames):
        """Those of `frames` that have flow to `target` and back."""
        return [i for i in frames if target in self.rows[i] and i in self.rows[target]]

    def move(self, sources, targets, points):
        """Points (S, n, 2) of the frames `sources` carried to the frames `targets`, pair by pair -> (S, n, 2)."""
        return moved([self.flow[i][self.rows[i][j]] for i, j in zip(sources, targets)], self.step, points)

    def trusted(self, sources, targets, points):
        """bool (S, n): points (S, n, 2) of the frames `sources` whose flow to `targets` passed the filter."""
        bits = [self.bits[i][self.rows[i][j], 0] for i, j in zip(sources, targets)]
        return set_at(bits, self.flow[0].shape[1:3], points)

    def inside(self, points):
        """bool (...): points (..., 2) on the frame, to its very edges."""
        return inside_image(points, *self.flow[0].shape[1:3], margin=0.5)


def moved(flows, step, points):
    """Points (S, n, 2) moved by S bilinear flows (H, W, 2), integers of `step` pixels -> (S, n, 2).

    Of the four pixels around a point only those that move as the nearest one does: between two surfaces there is no
    motion half-way.
    """
    height, width = flows[0].shape[:2]
    x, y = points[..., 0].clip(0, width - 1), points[..., 1].clip(0, height - 1)
    left, top = x.astype(int).clip(max=max(width - 2, 0)), y.astype(int).clip(max=max(height - 2, 0))
    right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    wx, wy = (x - left).astype(np.float32), (y - top).astype(np.float32)
    weight = np.stack([(1 - wx) * (1 - wy), wx * (1 - wy), (1 - wx) * wy, wx * wy], axis=1)  # (S, 4, n)
    places = np.stack([top, top, below, below], axis=1) * width + np.stack([left, right, left, right], axis=1)
    around = np.stack([flow.reshape(-1, 2).take(at, axis=0) for flow, at in zip(flows, places)]).astype(np.float32)
    apart = around - np.take_along_axis(around, weight.argmax(1)[:, None, :, None], axis=1)
    weight *= np.einsum("sknc,sknc->skn", apart, apart) < (util.SAME_MOTION / step) ** 2
    return points + np.einsum("skn,sknc->snc", weight / weight.sum(1, keepdims=True), around) * step


def nearest_pixels(points, size):
    """Rows and columns, (...) each, of the pixels of a frame (H, W) that are nearest to points (..., 2)."""
    return tuple(points[..., c].round().astype(int).clip(0, size[1 - c] - 1) for c in (1, 0))


def set_at(bits, size, points):
    """bool (S, n): whether S masks of bits (B,) and size (H, W) are set at the pixels nearest to points (S, n, 2)."""
    y, x = nearest_pixels(points, size)
    index = y * size[1] + x
    found = np.stack([of_mask.take(at) for of_mask, at in zip(bits, mask_byte(index))])
    return mask_bit(found, index).astype(bool)


def flow_at_hand(run, wanted):
    """The data directory to refine a run's tracks with, or None. wanted: 'on', 'off', or 'auto', as --refine has it.

    'auto' refines tracks of surface models, of volumes never. UserError: 'on' and there is none, or of another video.
    """
    if wanted == "off" or (wanted == "auto" and not run.model.refined_by_flow):
        return None
    try:
        data = DataDir.open(run.flow_dir)
        data.check_same_video(run.video)
    except UserError as error:
        if wanted == "on":
            raise
        print(f"tracks of the model alone, not refined by flow: {error}")
        return None
    return data


def refine(data, frames, pixels, tracks, scores, progress=None):
    """Tracks (Q, N, 2) and occlusion scores (Q, N) of pixels (Q, 2) of frames (Q,), with flow's -> the same.

    progress: called with the number of positions done.
    """
    hops = Hops.of(data)
    walk = walk_all(hops, frames, pixels, range(data.num_frames), progress)
    evidence = [one for one in read_evidence(data.path, data.num_frames) if one.followed]
    witnessed, led = (), None
    if evidence:
        size = data.height, data.width
        led = companions(evidence, frames, pixels, walk.places, walk.share, max(size))
        witnessed = distances_from(evidence, frames, pixels, (walk.places, tracks), size, led)
    merged, away = merge(walk, tracks, witnessed, led)
    model_odds = 1 - scores - SETTINGS.away_odds * np.log(0.5 + away / hops.unit)
    odds = flow_odds(walk, hops.unit) + model_odds
    if evidence:
        odds += led.odds
    scores = occlusion(odds)
    seen = scores < 0.5
    kept = seen | np.isfinite(witnessed[1]) if witnessed else seen
    merged = np.where(kept[..., None], merged, tracks)  # what flow says of a hidden point is of what hides it
    return smooth(merged, frames, seen, hops.unit), scores


def flow_tracks(data, frames, pixels, progress=None, window=None):
    """Tracks (Q, N, 2) and occlusion scores (Q, N) of pixels (Q, 2) of frames (Q,) by the stored flow, with no model.

    progress: called with the number of positions done. window: a range of frames that holds all of `frames`, to which
    the walk keeps, in place of all N of them.
    """
    window = range(data.num_frames) if window is None else window
    hops = Hops.of(data)
    walk = walk_all(hops, frames, pixels, window, progress)
    tracks = carry_hidden(hops, walk.places, np.isfinite(walk.error), window.start)
    scores = occlusion(flow_odds(walk, hops.unit))
    return smooth(tracks, frames - window.start, scores < 0.5, hops.unit), scores


def walk_all(hops, frames, pixels, window, progress=None):
    """The Walk of pixels (Q, 2) of frames (Q,) through the M frames of the window: outwards, then from both sides."""
    walk = Walk.start(pixels, frames - window.start, len(window))
    for frame in np.unique(frames):
        rows = np.flatnonzero(frames == frame)
        walk.put(rows, walk_outwards(hops, int(frame), pixels[rows], window))
    return walk_again(hops, frames, walk, window, progress)


def walk_outwards(hops, frame, pixels, window):
    """The Walk of pixels (n, 2) of one frame: each frame is reached from those between it and the query's."""
    first, rows = window.start, np.arange(len(pixels))
    walk = Walk.start(pixels, np.full(len(pixels), frame - first), len(window))
    for target in sorted(window, key=lambda t: abs(t - frame)):
        sources = hops.linked(target, range(frame, target, 1 if target > frame else -1))
        if sources:
            walk.enter(rows, target - first, *reach(hops, sources, target, walk, first))
    return walk


def walk_again(hops, frames, walk, window, progress=None):
    """A new Walk of the queries of frames (Q,): each frame is reached from all others. Tells the progress of all."""
    columns = frames - window.start
    result = Walk.start(walk.places[np.arange(len(frames)), columns], columns, len(window))
    for target in window:
        rows, sources = np.flatnonzero(frames != target), hops.linked(target, window)
        if sources and len(rows):
            part = Walk(walk.places[rows], walk.error[rows], walk.share[rows])
            result.enter(rows, target - window.start, *reach(hops, sources, target, part, window.start))
        if progress is not None:
            progress(len(frames))
    return result


def reach(hops, sources, target, walk, first):
    """Frame `target` by flow from the frames `sources` of a walk -> places (n, 2), error (n,), share (n,).

    first: the frame that the walk's first column is of.
    """
    columns = np.array(sources) - first
    ends, errors = arrivals(hops, sources, target, walk.places[:, columns], walk.error[:, columns])
    weights = walk.share[:, columns].T
    places, error, agreement = consensus(ends, errors, weights)
    return places, error, (weights * agreement).sum(0) / weights.sum(0).clip(1e-9)


def arrivals(hops, sources, target, places, error):
    """Flow from S frames, where points are at places (n, S, 2), to one -> ends (S, n, 2), their errors (S, n).

    error (n, S): of the places, in pixels. The ends' is inf where flow is not trusted, does not come back to its start,
    or leads out of the frame.
    """
    at_once = max(1, POINTS_AT_ONCE // len(places))
    parts = [slice(k, k + at_once) for k in range(0, len(sources), at_once)]
    found = (arrivals_at_once(hops, sources[part], target, places[:, part], error[:, part]) for part in parts)
    ends, errors = zip(*found)
    return np.concatenate(ends), np.concatenate(errors)


def arrivals_at_once(hops, sources, target, places, error):
    """arrivals of few sources, in one piece."""
    begin, targets = places.swapaxes(0, 1), [target] * len(sources)
    end = hops.move(sources, targets, begin)
    missed = np.square(hops.move(targets, sources, end) - begin).sum(-1)
    apart = np.abs(np.array(sources) - target)[:, None]
    further = np.float32((1 + apart) / 2)  # what is wrong in the same way both ways is likelier far apart
    errors = np.sqrt(np.square(error.T) + further * (hops.unit * SETTINGS.flow_error) ** 2 + missed)
    good = hops.trusted(sources, targets, begin) & hops.inside(end) & (missed < (hops.unit * util.SAME_MOTION) ** 2)
    return end, np.where(good, errors, np.inf)


def consensus(ends, errors, weights):
    """Where S flows lead that end in (S, n, 2), with errors and weights (S, n).

    -> places (n, 2); error (n,), inf where none arrives; agreement (S, n) of each flow with the best, from 0 to 1.
    """
    arrived = np.isfinite(errors)
    variance = np.square(np.where(arrived, errors, 1))
    weights = np.where(arrived, weights / variance, 0)
    best = weights.argmax(0)[None]
    best_end, best_variance = np.take_along_axis(ends, best[..., None], axis=0), np.take_along_axis(variance, best, 0)
    apart = np.square(ends - best_end).sum(-1) / (variance + best_variance)
    agreement = arrived / np.square(1 + apart)
    part = weights * agreement
    part = part / part.sum(0).clip(1e-12)
    error = np.where(weights.any(0), np.sqrt((part * variance).sum(0)), np.inf)
    return np.einsum("sn,snc->nc", part, ends), error, agreement


def merge(walk, tracks, witnessed=(), led=None):
    """A walk and a model's tracks (n, M, 2) averaged -> tracks, and pixels (n, M) that they are apart, 0 with no flow.

    The model's error is its point's median distance from flow. Its squared distance from flow counts as an
    error of it too, so that flow stands where they disagree; where there is no flow the model does. Where evidence says
    who is right, the distance of each from that counts in place of it. witnessed: those distances (n, M), of flow's
    places and of the model's, NaN where nothing is known (tracking/witnesses.py). led: Companions: they have
    a track that flow does not find, or has clearly elsewhere.
    """
    found = np.isfinite(walk.error)
    away = np.linalg.norm(walk.places - tracks, axis=-1)
    apart = np.where(found & (walk.error > 0), away, np.nan)  # but for the query
    apart[np.isnan(apart).all(1), 0] = 0  # no flow at all: the model stands alone, whatever its error
    usual = np.square(np.nanmedian(apart, axis=1))[:, None]
    variance, of_model = np.square(np.where(found, walk.error, 1)), away
    if len(witnessed):
        known = np.isfinite(witnessed[1])
        variance, of_model = variance + np.where(known, witnessed[0], 0) ** 2, np.where(known, witnessed[1], away)
    total = (variance + usual + np.square(of_model)).clip(1e-12)  # 0 at the query of a model that is never off
    to_model = np.where(found, variance / total, 1)[..., None]
    merged = walk.places + to_model * (tracks - walk.places)
    if led is not None:
        merged = np.where(contradicted(walk.places, walk.error, led)[..., None], led.places, merged)
    return merged.astype(np.float32), np.where(found, away, 0)


def flow_odds(walk, unit=1.0):
    """Log odds (n, M) that a point is seen, and where the walk has it; negative where no flow arrived."""
    error = (walk.error / unit).clip(SETTINGS.flow_error, LOST)
    return SETTINGS.share_odds * walk.share - SETTINGS.error_odds * np.log(error)


def occlusion(log_odds):
    """Occlusion scores, float32 from 0 to 1, of the log odds that points are seen."""
    return (1 / (1 + np.exp(log_odds))).astype(np.float32)


def smooth(tracks, frames, seen, unit=1.0):
    """Tracks (Q, N, 2) of queries in frames (Q,) with small accelerations, near the given ones where they are `seen`.

    Whittaker's smoother, its weights adapted to what stands out by eight times the error of flow (iteratively
    reweighted least squares, Cauchy).
    """
    num_frames = tracks.shape[1]
    if num_frames < 3:
        return tracks
    weights = np.where(seen, 1.0, HIDDEN)
    weights[np.arange(len(tracks)), frames] = KNOWN
    second = np.diff(np.eye(num_frames), 2, axis=0)
    stiff = SETTINGS.stiffness * second.T @ second
    bands = np.stack([np.pad(np.diag(stiff, k), (k, 0)) for k in (2, 1, 0)])
    result = tracks.astype(np.float64)
    for row, (track, weight) in enumerate(zip(tracks.astype(np.float64), weights)):
        trust = weight
        for _ in range(SMOOTHINGS):
            system = bands.copy()
            system[2] += trust
            result[row] = solveh_banded(system, trust[:, None] * track, overwrite_ab=True, check_finite=False)
            trust = weight / (1 + np.square(result[row] - track).sum(-1) / (8 * unit * SETTINGS.flow_error) ** 2)
        result[row, frames[row]] = track[frames[row]]
    return result.astype(tracks.dtype)


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
                    total[rows] += weight * hops.move([first + start], [first + t], tracks[rows, start][None])[0]
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
