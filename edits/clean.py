"""Remove what a mask covers: the background behind it, as other frames see it.

What the background does under the mask is not to be seen in the frame itself. Its motion to another frame is that
around the mask: a homography that most of it follows, and what the pixels near the mask differ from that, continued.

Conventions: frames uint8 (H, W, 3); masks bool (H, W), set on what is to go, rims included; flow and visible from the
frame that is cleaned to another; n pixels under the mask, S other frames, the nearest in time first.
"""

import cv2
import numpy as np

from edits.stabilise import INLIER, project
from edits.warping import fetch, fill_smoothly, within
from flow.images import pixel_grid

NEVER = 65535  # in a map of sources: seen in no frame
KEPT = 0  # in a map of sources: the frame's own pixel; k + 1: frame k
MARK = (255, 0, 255)  # the colour of what was never seen
VOTES = 5  # frames that are asked what a pixel looks like, when there are more


def grown(mask, pixels):
    """A mask (H, W) grown by a disc of this radius."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return cv2.dilate(mask.astype(np.uint8), disc) > 0


def frames_around(frame, num_frames):
    """Other frames, the nearest first: 1, 2, 3, 4, 6, 8, 12, 16, ... before and after."""
    distances = sorted({max(1, round(2 ** (k / 2))) for k in range(2 * num_frames.bit_length() + 1)})
    return [other for distance in distances for other in (frame - distance, frame + distance)
            if 0 <= other < num_frames]


def background_flow(flow, visible, mask, mask_there):
    """Flow (H, W, 2) of the background, also under the mask (H, W). mask_there (H, W): of the frame it leads to."""
    grid = pixel_grid(mask.shape)
    known = visible & ~mask & ~landed(mask_there, grid + flow)
    if not known.any():
        return None
    start = grid[known][:: max(1, known.sum() // 5000)].astype(np.float64)
    end = (grid + flow)[known][:: max(1, known.sum() // 5000)].astype(np.float64)
    matrix = None
    if len(start) >= 4:
        matrix = cv2.findHomography(start, end, cv2.RANSAC, max(0.5, INLIER * np.hypot(*mask.shape)))[0]
    shift = np.median(end - start, axis=0)
    common = (grid + shift if matrix is None else project(matrix, grid.astype(np.float64))) - grid
    return (common + fill_smoothly(flow - common, known)).astype(np.float32)


def landed(mask, positions):
    """bool (H, W): positions (H, W, 2) whose pixel is set in the mask."""
    return cv2.remap(mask.astype(np.uint8), positions.astype(np.float32), None, cv2.INTER_LINEAR) > 0


def agreed(colours, valid):
    """Of S colours (S, n, 3), of which some are valid (S, n): the index (n,) of the one nearest to their median.

    Of the first VOTES valid ones; -1 where there is none.
    """
    asked = valid & (valid.cumsum(0) <= VOTES)
    values = np.where(asked[..., None], colours.astype(np.float32), np.nan)
    median = np.full(values.shape[1:], np.nan, np.float32)
    some = asked.any(0)
    median[some] = np.nanmedian(values[:, some], axis=0)
    distance = np.abs(values - median).sum(-1)
    return np.where(some, np.where(asked, distance, np.inf).argmin(0), -1)


def clean_frame(frames, masks, flow, frame):
    """One frame with what others see behind its mask.

    Args: frames: N frames; masks (N, H, W); flow(i, j) -> flow, visible.
    Returns: uint8 (H, W, 3), MARK where no frame sees it, and uint16 (H, W) where it is from: KEPT, k + 1 or NEVER.
    """
    mask, image = masks[frame], frames[frame].copy()
    origin = np.where(mask, NEVER, KEPT).astype(np.uint16)
    image[mask] = MARK
    others, colours, valid = [], [], []
    for other in frames_around(frame, len(frames)) if mask.any() else ():
        found = background_flow(*flow(frame, other), mask, masks[other])
        if found is not None:
            positions = pixel_grid(mask.shape) + found
            free = within(positions, mask.shape) & ~landed(masks[other], positions)
            others.append(other)
            colours.append(fetch(frames[other], positions)[mask])
            valid.append(free[mask])
    if others:
        chosen = agreed(np.stack(colours), np.stack(valid))
        seen = np.flatnonzero(chosen >= 0)
        rows, columns = (axis[seen] for axis in np.nonzero(mask))
        image[rows, columns] = np.stack(colours)[chosen[seen], seen]
        origin[rows, columns] = np.array(others)[chosen[seen]] + 1
    return image, origin


def inpainted(image, origin, radius=3):
    """The image with what was never seen guessed from around it (OpenCV, Telea 2004)."""
    return cv2.inpaint(np.ascontiguousarray(image), (origin == NEVER).astype(np.uint8), radius, cv2.INPAINT_TELEA)
