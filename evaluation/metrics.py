"""The numbers of a point tracking table, from arrays.

TAP-Vid's metrics (Doersch et al. 2022) and the temporal coherence of OmniMotion (Wang et al. 2023). Conventions: tracks
(Q, N, 2) are (x, y) in raster pixels of a 256 x 256 image; occluded (Q, N) bool; query_frames (Q,) integers. Shares are
in percent, TC and distances in pixels of the 256 x 256 image. A mean over an empty set is nan. Q queries, N frames.
"""

import numpy as np

RESOLUTION = 256  # side of the square image on which errors are measured
THRESHOLDS = (1, 2, 4, 8, 16)  # pixels of that image
QUERY_MODES = ("strided", "first")
SUMMARY = ("AJ", "delta_avg", "OA", "TC")
HIDDEN = ("hidden_median", "hidden_over_4")  # figures of positions that are hidden
KEYPOINT_PIXELS = 3  # of the video
HIDDEN_THRESHOLD = 4  # pixels: the middle one of THRESHOLDS
TIME_BINS = ((1, 3), (4, 7), (8, 15), (16, None))  # frames from the query, both ends included


def to_metric_scale(tracks, video_size):
    """Raster tracks (..., 2) of a video of size (H, W) -> raster tracks of the 256 x 256 image."""
    height, width = video_size
    return np.asarray(tracks, np.float64) * [RESOLUTION / width, RESOLUTION / height]


def evaluated(query_frames, num_frames, query_mode):
    """(Q, N) bool: the frames that count. strided: all but the query's own; first: those after it."""
    frames, queries = np.arange(num_frames)[None], np.asarray(query_frames)[:, None]
    if query_mode == "strided":
        return frames != queries
    if query_mode == "first":
        return frames > queries
    raise ValueError(f"query mode {query_mode!r}: expected one of {', '.join(QUERY_MODES)}")


def share(count, total):
    """100 * count / total, nan where the total is 0."""
    count, total = np.asarray(count, float), np.asarray(total, float)
    return np.divide(100 * count, total, out=np.full(count.shape, np.nan), where=total > 0)


def tapvid_metrics(query_frames, true_tracks, true_occluded, tracks, occluded, query_mode, per_track=False):
    """AJ, delta_avg, OA, and delta_T and jaccard_T at each threshold T, in percent, over one video.

    delta_T: of the points that are truly visible, the share closer than T, whatever occlusion was predicted.
    jaccard_T: true positives / (visible points + false positives); a true positive is visible, predicted visible and
    closer than T; a false positive is predicted visible but hidden or not that close. OA: share of right occlusions.
    Strictly closer; a prediction that is not finite is never close. With per_track every value is an array (Q,).
    """
    counted = evaluated(query_frames, true_tracks.shape[1], query_mode)
    return counted_metrics(counted, true_tracks, true_occluded, tracks, occluded, axis=1 if per_track else None)


def counted_metrics(counted, true_tracks, true_occluded, tracks, occluded, axis=None):
    """tapvid_metrics of the positions that are `counted` (Q, N); axis 1: per track."""
    visible, predicted = ~true_occluded & counted, ~occluded & counted
    squared = np.square(tracks - true_tracks).sum(-1)
    metrics = {"OA": share(((occluded == true_occluded) & counted).sum(axis), counted.sum(axis))}
    for threshold in THRESHOLDS:
        with np.errstate(invalid="ignore"):
            close = squared < threshold**2
        positives = (visible & predicted & close).sum(axis)
        false_positives = (predicted & ~(visible & close)).sum(axis)
        metrics[f"delta_{threshold}"] = share((visible & close).sum(axis), visible.sum(axis))
        metrics[f"jaccard_{threshold}"] = share(positives, visible.sum(axis) + false_positives)
    metrics["AJ"] = np.mean([metrics[f"jaccard_{t}"] for t in THRESHOLDS], axis=0)
    metrics["delta_avg"] = np.mean([metrics[f"delta_{t}"] for t in THRESHOLDS], axis=0)
    return metrics


def seen_again(query_frames, true_occluded):
    """(Q, N) bool: visible, but hidden in at least one frame between the query's and this one."""
    frames, queries = np.arange(true_occluded.shape[1])[None], np.asarray(query_frames)[:, None]
    later = np.logical_or.accumulate(true_occluded & (frames > queries), axis=1)
    earlier = np.logical_or.accumulate((true_occluded & (frames < queries))[:, ::-1], axis=1)[:, ::-1]
    return ~true_occluded & np.where(frames > queries, later, earlier)


def reappearance_metrics(query_frames, true_tracks, true_occluded, tracks, occluded, query_mode="strided"):
    """{AJ_RD: AJ of the positions that are seen again after having been hidden}; empty where there are none."""
    counted = evaluated(query_frames, true_tracks.shape[1], query_mode) & seen_again(query_frames, true_occluded)
    if not counted.any():
        return {}
    return {"AJ_RD": float(counted_metrics(counted, true_tracks, true_occluded, tracks, occluded)["AJ"])}


def hidden_metrics(counted, true_tracks, true_occluded, tracks):
    """Error at positions that are `counted` (Q, N), truly hidden, and inside the picture; empty where there are none.

    hidden_median: pixels; hidden_over_4: share in percent further off than 4 pixels. What is not finite is far off.
    Only for truths that know where a hidden point is.
    """
    inside = ((true_tracks >= 0) & (true_tracks <= RESOLUTION)).all(-1)
    error = np.linalg.norm(tracks - true_tracks, axis=-1)[counted & true_occluded & inside]
    if not len(error):
        return {}
    error = np.nan_to_num(error, nan=np.inf, posinf=np.inf)
    return {
        "hidden_median": float(np.median(error)),
        "hidden_over_4": float(share((error > HIDDEN_THRESHOLD).sum(), len(error))),
    }


def time_masks(query_frames, num_frames):
    """{'1-3': (Q, N) bool, ...}: positions by their distance in frames from the query, see TIME_BINS."""
    distance = np.abs(np.arange(num_frames)[None] - np.asarray(query_frames)[:, None])
    return {
        f"{low}-{high}" if high else f"{low}+": (distance >= low) & (distance <= (high or num_frames))
        for low, high in TIME_BINS
    }


def object_masks(object_ids, object_names, num_frames):
    """{name: (Q, N) bool}: positions by the object that each query (Q,) is on; names in the order of the ids."""
    return {
        str(name): np.repeat((np.asarray(object_ids) == index)[:, None], num_frames, axis=1)
        for index, name in enumerate(object_names)
    }


def group_metrics(groups, counted, true_tracks, true_occluded, tracks, occluded, hidden_known):
    """{group: {points, AJ, delta_avg, OA, and HIDDEN if known}} of groups {name: (Q, N) bool}; none of empty ones."""
    found = {}
    for name, mask in groups.items():
        chosen = counted & mask
        if chosen.any():
            metrics = counted_metrics(chosen, true_tracks, true_occluded, tracks, occluded)
            found[name] = {"points": int(chosen.sum())} | {key: float(metrics[key]) for key in SUMMARY[:3]}
            if hidden_known:
                found[name] |= hidden_metrics(chosen, true_tracks, true_occluded, tracks)
    return found


def temporal_coherence(query_frames, true_tracks, true_occluded, tracks, query_mode, per_track=False):
    """Mean distance between the accelerations (second differences) of predicted and true tracks, over visible points.

    A second difference counts where the point is truly visible in all of its three frames, and, in the mode `first`,
    none of them lies before the query. Per track (Q,) on request.
    """
    difference = np.linalg.norm(np.diff(tracks - true_tracks, n=2, axis=1), axis=-1)
    used = ~true_occluded
    if query_mode == "first":
        used = used & (np.arange(used.shape[1]) >= np.asarray(query_frames)[:, None])
    used = used[:, :-2] & used[:, 1:-1] & used[:, 2:]
    axis = 1 if per_track else None
    total = np.where(used, difference, 0).sum(axis)
    return share(total, used.sum(axis)) / 100


def point_metrics(query_frames, true_tracks, true_occluded, tracks, occluded, query_mode="strided", per_track=False):
    """Everything above, as one dict of floats, or of lists of Q floats."""
    options = {"query_mode": query_mode, "per_track": per_track}
    metrics = tapvid_metrics(query_frames, true_tracks, true_occluded, tracks, occluded, **options)
    metrics["TC"] = temporal_coherence(query_frames, true_tracks, true_occluded, tracks, **options)
    return {name: values.tolist() for name, values in metrics.items()}


def keypoint_share(true_tracks, true_visible, tracks, radius):
    """PCK: the percentage of visible keypoints no further than the frame's radius (N,) from the prediction."""
    error = np.linalg.norm(tracks - true_tracks, axis=-1)
    return float(share(((error <= radius) & true_visible).sum(), true_visible.sum()))


def keypoint_metrics(true_tracks, true_visible, tracks, radius, video_size):
    """The three figures in use for keypoints, percent of the visible ones, whatever occlusion was predicted.

    PCK: no further than the frame's radius (N,), which is 0.2 * sqrt(area) for BADJA (DINO-Tracker's delta_seg).
    delta_3px: no further than 3 px of the video (the same paper). delta_avg: as of TAP-Vid's points, at 256 x 256.
    """
    at_scale = [to_metric_scale(positions, video_size) for positions in (true_tracks, tracks)]
    of_points = counted_metrics(true_visible, at_scale[0], ~true_visible, at_scale[1], ~true_visible)
    return {"PCK": keypoint_share(true_tracks, true_visible, tracks, radius),
            "delta_3px": keypoint_share(true_tracks, true_visible, tracks, np.full(len(radius), KEYPOINT_PIXELS)),
            "delta_avg": float(of_points["delta_avg"])}


def occlusion_curve(scores, true_occluded, counted, thresholds):
    """Precision, recall and accuracy, in percent, of `occluded = score > threshold` at each threshold (T,)."""
    scores, truth = scores[counted], true_occluded[counted]
    curve = {"precision": [], "recall": [], "OA": []}
    for threshold in thresholds:
        predicted = scores > threshold
        hits = (predicted & truth).sum()
        curve["precision"].append(float(share(hits, predicted.sum())))
        curve["recall"].append(float(share(hits, truth.sum())))
        curve["OA"].append(float(share((predicted == truth).sum(), truth.size)))
    return curve


def mean_metrics(per_video):
    """Mean over videos of a list of dicts, ignoring nan; nan where no video has a value. Only numbers are averaged."""
    means = {}
    for name in dict.fromkeys(name for metrics in per_video for name in metrics):
        values = [metrics[name] for metrics in per_video if isinstance(metrics.get(name), (int, float))]
        finite = [value for value in values if np.isfinite(value)]
        if values:
            means[name] = float(np.mean(finite)) if finite else float("nan")
    return means
