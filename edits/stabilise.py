"""Hold a video still on a surface: each frame is moved so that the surface's points stay where they are in one frame.

A motion is a function from positions (..., 2) in the reference frame to those in another frame; it is fitted to points
that both show. Conventions: positions (x, y) with integer centres, n points, tracks (Q, N, 2).
"""

import cv2
import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from edits.warping import within
from flow.images import pixel_grid

FEWEST = {"translation": 1, "similarity": 2, "homography": 4, "warp": 4}  # points that a motion needs
INLIER = 0.004  # of the diagonal: points further off are not of the surface
MOST_KNOTS, NODES = 200, 32  # of a warp: points that it is fitted to, and nodes along the longer side of the frame
STIFFNESS = 1e-4  # of a warp against points' errors, lengths in units of the diagonal


def fit(model, start, end, size):
    """The motion that takes points start (n, 2) to end (n, 2), robustly; None of too few or degenerate points.

    model: one of FEWEST. translation, similarity (turn and scale, too), homography (a plane in perspective), or warp (a
    thin-plate spline, which bends). size: (H, W) of the frames.
    """
    if len(start) < FEWEST[model]:
        return None
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    if model == "translation":
        shift = np.median(end - start, axis=0)
        return lambda positions: positions + shift
    if model == "warp":
        return fit_warp(start, end, size)
    threshold = max(0.5, INLIER * np.hypot(*size))
    if model == "similarity":
        matrix = cv2.estimateAffinePartial2D(start, end, method=cv2.RANSAC, ransacReprojThreshold=threshold)[0]
        matrix = None if matrix is None else np.vstack([matrix, [0, 0, 1]])
    else:
        matrix = cv2.findHomography(start, end, cv2.RANSAC, threshold)[0]
    return None if matrix is None else lambda positions: project(matrix, positions)


def project(matrix, positions):
    """Positions (..., 2) through a homography (3, 3)."""
    moved = positions @ matrix[:, :2].T + matrix[:, 2]
    return moved[..., :2] / moved[..., 2:]


def fit_warp(start, end, size):
    """As fit: a thin-plate spline through most points; those that stand out from their neighbours are left out."""
    diagonal = np.hypot(*size)
    chosen = np.linspace(0, len(start) - 1, min(len(start), MOST_KNOTS)).round().astype(int)
    start, moved = start[chosen] / diagonal, (end - start)[chosen] / diagonal
    start, unique = np.unique(start, axis=0, return_index=True)
    good = like_neighbours(start, moved[unique])
    try:
        spline = RBFInterpolator(start[good], moved[unique][good], smoothing=STIFFNESS, degree=1)
    except (ValueError, np.linalg.LinAlgError):  # too few, or all on one line
        return None
    return lambda positions: positions + diagonal * spline(positions.reshape(-1, 2) / diagonal).reshape(positions.shape)


def like_neighbours(start, moved, count=8):
    """bool (n,): points whose motion (n, 2) is about the median of that of the `count` points nearest to them."""
    nearest = cKDTree(start).query(start, k=min(count + 1, len(start)))[1]
    off = np.linalg.norm(moved - np.median(moved[nearest], axis=1), axis=-1)
    return off <= max(4 * np.median(off), INLIER)


def motions(model, tracks, visible, frame, size):
    """[motion or None] of N frames: tracks (Q, N, 2) where visible (Q, N) in both a frame and in `frame`."""
    found = []
    for other in range(tracks.shape[1]):
        both = visible[:, frame] & visible[:, other]
        found.append(fit(model, tracks[both, frame], tracks[both, other], size))
    return found


def move(motions, frame, positions):
    """Positions (..., 2) of the reference frame in `frame`; a frame with no motion of its own lies between others."""
    known = [k for k, motion in enumerate(motions) if motion is not None]
    before = max((k for k in known if k <= frame), default=min(known))
    after = min((k for k in known if k >= frame), default=max(known))
    start = motions[before](positions)
    if before == after:
        return start
    return start + (frame - before) / (after - before) * (motions[after](positions) - start)


def dense(motions, frame, size, bends):
    """float32 (H, W, 2): where each pixel of the reference frame is in `frame`. bends: a warp, asked at nodes only."""
    grid = pixel_grid(tuple(size))
    if not bends:
        return move(motions, frame, grid.astype(np.float64)).astype(np.float32)
    step = max(1, max(size) / NODES)
    rows, columns = (max(2, round(side / step)) for side in size)
    y, x = ((np.arange(count) + 0.5) * side / count - 0.5 for count, side in ((rows, size[0]), (columns, size[1])))
    nodes = np.stack(np.meshgrid(x, y), axis=-1)
    shift = (move(motions, frame, nodes) - nodes).astype(np.float32)
    return grid + cv2.resize(shift, size[::-1])


def held_still(frame, positions):
    """The frame at positions (H, W, 2), bicubic, black where they are outside -> uint8 (H, W, 3)."""
    positions = positions.astype(np.float32)
    moved = cv2.remap(frame, positions, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return moved * within(positions, frame.shape)[..., None]


def largest_rectangle(inside):
    """(top, left, height, width) of the largest axis-parallel rectangle of set pixels of a mask (H, W)."""
    best, heights = (0, 0, 0, 0), np.zeros(inside.shape[1] + 1, int)
    for row, line in enumerate(inside):
        heights[:-1] = np.where(line, heights[:-1] + 1, 0)
        stack = []  # (left, height) of the bars that are still open, rising
        for column, height in enumerate(heights):  # the last bar has height 0 and closes all
            left = column
            while stack and stack[-1][1] >= height:
                left, tall = stack.pop()
                if tall * (column - left) > best[2] * best[3]:
                    best = row - tall + 1, left, int(tall), column - left
            stack.append((left, height))
    return best
