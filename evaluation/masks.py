"""Object masks carried through a video by tracks, scored as DAVIS does: region similarity J and boundary accuracy F.

A point takes its label from the first frame's mask; in every other frame a pixel takes the label of the nearest point
that is visible there, unless that is further away than the points' spacing on the object (ground that was uncovered
since the first frame has no point of its own: it is not the object). As in DAVIS, the first and the last frame are not
scored. Conventions: masks (N, H, W) bool; tracks (Q, N, 2) in raster pixels of the masks (centres at +0.5); J and F in
percent.
"""

import cv2
import numpy as np

BOUNDARY_TOLERANCE = 0.008  # of the image's diagonal (Perazzi et al. 2016)


def query_grid(video_size, stride):
    """(Q, 3) queries t, y, x on a regular grid of the first frame, at pixel centres."""
    height, width = video_size
    y, x = np.mgrid[(stride - 1) // 2 : height : stride, (stride - 1) // 2 : width : stride]
    return np.stack([np.zeros(y.size), y.ravel() + 0.5, x.ravel() + 0.5], axis=-1).astype(np.float32)


def carry_mask(first_mask, tracks, occluded):
    """Masks (N, H, W) bool that the first frame's mask (H, W) becomes when tracks (Q, N, 2) carry it."""
    height, width = first_mask.shape
    columns, rows, inside = cells_of(tracks[:, 0], height, width)
    labels = first_mask[rows, columns]
    spacing = np.sqrt(height * width / max(inside.sum(), 1)) * growth(tracks[inside & labels])
    carried = np.zeros((tracks.shape[1], height, width), bool)
    for frame in range(tracks.shape[1]):
        columns, rows, inside_now = cells_of(tracks[:, frame], height, width)
        used = inside & inside_now & ~occluded[:, frame]
        carried[frame] = nearest_label(rows, columns, labels, used, height=height, width=width, reach=spacing[frame])
    return carried


def growth(tracks):
    """(N,) factor >= 1 by which the spread of an object's points (Q, N, 2) has grown since the first frame."""
    if len(tracks) < 2:
        return np.ones(tracks.shape[1])
    with np.errstate(invalid="ignore"):
        spread = np.linalg.norm(tracks - np.median(tracks, axis=0), axis=-1)
    spread = np.median(spread, axis=0)
    return np.nan_to_num(np.maximum(spread / max(spread[0], 1e-6), 1), nan=1, posinf=1)


def cells_of(positions, height, width):
    """Pixel columns and rows (Q,) of raster positions (Q, 2), clipped into the image; whether they were inside it."""
    finite = np.isfinite(positions).all(-1)
    cells = np.floor(np.where(finite[:, None], positions, -1)).astype(np.int64)
    inside = ((cells >= 0) & (cells < [width, height])).all(-1)
    return cells[:, 0].clip(0, width - 1), cells[:, 1].clip(0, height - 1), inside


def nearest_label(rows, columns, labels, used, height, width, reach):
    """(H, W) bool: at each pixel the label of the nearest used point; False further than `reach` from any."""
    if not used.any():
        return np.zeros((height, width), bool)
    sources = np.ones((height, width), np.uint8)
    label_map = np.zeros((height, width), bool)
    sources[rows[used], columns[used]] = 0
    # Objects last: where a point of each falls on one pixel the object, which is in front more often, wins.
    for value in (False, True):
        chosen = used & (labels == value)
        label_map[rows[chosen], columns[chosen]] = value
    distance, nearest = cv2.distanceTransformWithLabels(
        sources, cv2.DIST_L2, cv2.DIST_MASK_PRECISE, labelType=cv2.DIST_LABEL_PIXEL
    )
    lookup = np.zeros(nearest.max() + 1, bool)
    lookup[nearest[sources == 0]] = label_map[sources == 0]
    return lookup[nearest] & (distance <= reach)


def region_j(truth, predicted):
    """Intersection over union of two masks (H, W), percent; 100 when both are empty."""
    union = (truth | predicted).sum()
    return 100.0 * float((truth & predicted).sum() / union) if union else 100.0


def boundary_f(truth, predicted):
    """F-measure of two masks' boundaries (H, W), percent, matched within 0.8 % of the diagonal."""
    radius = int(np.ceil(BOUNDARY_TOLERANCE * np.hypot(*truth.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    true_edge, edge = boundary(truth), boundary(predicted)
    if not true_edge.any() and not edge.any():
        return 100.0
    if not true_edge.any() or not edge.any():
        return 0.0
    precision = (edge & (cv2.dilate(true_edge.astype(np.uint8), disc) > 0)).sum() / edge.sum()
    recall = (true_edge & (cv2.dilate(edge.astype(np.uint8), disc) > 0)).sum() / true_edge.sum()
    return 100.0 * float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def boundary(mask):
    """(H, W) bool: pixels whose right, lower or lower right neighbour has another label."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != padded[:-1, 1:]) | (mask != padded[1:, :-1]) | (mask != padded[1:, 1:])


def mask_metrics(masks, tracks, occluded):
    """J, F and their mean of true masks (N, H, W) against the first one carried by tracks (Q, N, 2)."""
    carried = carry_mask(masks[0], tracks, occluded)
    frames = range(1, len(masks) - 1)
    scores = {
        "J": [region_j(masks[frame], carried[frame]) for frame in frames],
        "F": [boundary_f(masks[frame], carried[frame]) for frame in frames],
    }
    means = {name: float(np.mean(values)) if values else float("nan") for name, values in scores.items()}
    return {**means, "J&F": (means["J"] + means["F"]) / 2}
