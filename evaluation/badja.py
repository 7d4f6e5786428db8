"""BADJA: animals' joints, clicked by hand in some frames of DAVIS videos (Biggs et al. 2018).

A sequence is a JSON list of {image_path, joints [37][2] (y, x) at 1920 x 1080, visibility [37]}. Joints visible in the
first annotated frame are tracked from there; one is right within 0.2 * sqrt(area of the object's mask)
(PCK; others in use: metrics.keypoint_metrics).
"""

import re

import numpy as np

from files import UserError, read_json

JOINTS = [8, 9, 10, 12, 13, 14, 15, 18, 19, 20, 22, 23, 24, 25, 28, 31, 32, 33, 35, 36]
ANNOTATED_SIZE = (1080, 1920)  # H, W
RADIUS = 0.2  # of the square root of the mask's area


def read_badja(path, masks):
    """A sequence's annotations, at the size of its masks (N, H, W).

    Returns query_points (Q, 3) t, y, x; target_points (Q, N, 2) x, y; occluded (Q, N), True where a joint is hidden, or
    the frame is not annotated or is the queries' own; radius (N,) in pixels.
    """
    frames, joints, visible = read_annotations(path)
    num_frames, height, width = masks.shape
    if frames.max() >= num_frames:
        raise UserError(f"{path}: annotates frame {frames.max()}, but there are only {num_frames} masks")
    scale = np.array([width / ANNOTATED_SIZE[1], height / ANNOTATED_SIZE[0]])
    tracked = np.flatnonzero(visible[0])
    positions = joints[:, tracked] * scale
    target_points = np.zeros((len(tracked), num_frames, 2), np.float32)
    occluded = np.ones((len(tracked), num_frames), bool)
    target_points[:, frames] = positions.transpose(1, 0, 2)
    occluded[:, frames[1:]] = ~visible[1:, tracked].T
    time = np.full((len(tracked), 1), frames[0])
    query_points = np.concatenate([time, positions[0, :, ::-1]], axis=1).astype(np.float32)
    return query_points, target_points, occluded, RADIUS * np.sqrt(masks.sum((1, 2)))


def read_annotations(path):
    """Frame numbers (A,), joints (A, J, 2) as x, y at 1920 x 1080, visibility (A, J), in the order of the frames."""
    try:
        entries = read_json(path, "a BADJA annotation")
        frames = [int(re.search(r"(\d+)\.\w+$", entry["image_path"]).group(1)) for entry in entries]
        joints = np.array([[entry["joints"][j] for j in JOINTS] for entry in entries], float)[..., ::-1]
        visible = np.array([[entry["visibility"][j] for j in JOINTS] for entry in entries], bool)
    except UserError:
        raise
    except (ValueError, OverflowError, KeyError, IndexError, TypeError, AttributeError) as error:
        expected = "a list of image_path, joints, visibility"
        raise UserError(f"{path}: not a BADJA annotation ({expected}): {error!r}") from None
    if joints.shape != (len(frames), len(JOINTS), 2) or not np.isfinite(joints).all():
        raise UserError(f"{path}: not a BADJA annotation: joints {joints.shape}, expected numbers")
    order = np.argsort(frames)
    return np.array(frames)[order], joints[order], visible[order]
