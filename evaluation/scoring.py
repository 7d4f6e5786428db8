"""One video's truth against one method's prediction -> a dict of figures."""

import numpy as np

from evaluation.masks import mask_metrics
from evaluation.metrics import (
    evaluated,
    group_metrics,
    hidden_metrics,
    keypoint_metrics,
    object_masks,
    point_metrics,
    reappearance_metrics,
    time_masks,
    to_metric_scale,
)
from evaluation.predictions import rescale


def score(truth, prediction, query_mode="strided", per_track=False):
    """Figures of a prediction: those of points, PCK of keypoints, or J and F of masks, by what the truth is.

    Of points there are also AJ_RD, and, where the truth knows them, the errors of hidden positions; and an entry `by`,
    {time: {bin: figures}, object: {name: figures}}, of the positions at some distance in time from the query, or on an
    object. With per_track the dict has a further entry `tracks`, the points' figures track by track (lists of Q).
    """
    size = truth.video_size
    tracks = rescale(np.asarray(prediction.tracks, np.float64), prediction.video_size, size)
    if truth.mask_images is not None:
        return mask_metrics(truth.mask_images, tracks, prediction.occluded)
    if truth.radius is not None:
        return keypoint_metrics(truth.target_points, ~truth.occluded, tracks, truth.radius, size)
    arguments = metric_arguments(truth, tracks, size)
    metrics = point_metrics(*arguments, prediction.occluded, query_mode)
    counted = evaluated(arguments[0], truth.num_frames, query_mode)
    metrics |= reappearance_metrics(*arguments, prediction.occluded, query_mode)
    if truth.hidden_positions_known:
        metrics |= hidden_metrics(counted, *arguments[1:])
    metrics["by"] = {
        kind: group_metrics(groups, counted, *arguments[1:], occluded=prediction.occluded,
                            hidden_known=truth.hidden_positions_known)
        for kind, groups in position_groups(truth, arguments[0]).items()
    }
    if per_track:
        metrics["tracks"] = point_metrics(*arguments, prediction.occluded, query_mode, per_track=True)
    return metrics


def position_groups(truth, frames):
    """{time: {bin: (Q, N) bool}, object: {name: (Q, N) bool}} of the truth's positions; object only if they are known.

    frames (Q,): those of the queries.
    """
    groups = {"time": time_masks(frames, truth.num_frames)}
    if truth.object_ids is not None:
        groups["object"] = object_masks(truth.object_ids, truth.object_names, truth.num_frames)
    return groups


def metric_arguments(truth, tracks, size):
    """query frames, true tracks, true occlusion and tracks, at 256 x 256."""
    frames = np.round(truth.query_points[:, 0]).astype(int)
    return frames, to_metric_scale(truth.target_points, size), truth.occluded, to_metric_scale(tracks, size)


def errors_by_distance(truth, prediction, query_mode="strided"):
    """Errors in 256 x 256 pixels of all truly visible points that count, and their distances in frames to the query."""
    size = truth.video_size
    tracks = rescale(np.asarray(prediction.tracks, np.float64), prediction.video_size, size)
    frames, true_tracks, occluded, tracks = metric_arguments(truth, tracks, size)
    counted = evaluated(frames, truth.num_frames, query_mode) & ~occluded
    distance = np.abs(np.arange(truth.num_frames)[None] - frames[:, None])
    return np.linalg.norm(tracks - true_tracks, axis=-1)[counted], distance[counted]
