"""Motions that flow missed, from keypoints: an object that comes back after it was hidden, or that moved too far.

Keypoints (SIFT: Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004) are matched over the
whole frame. Each match predicts, by the position, size and angle of its two keypoints, where everything around it
goes; matches that predict one another move together. Those that the flow explains already are left out: few are left,
and wrong ones rarely agree.

Conventions: keypoints float32 (n, 4 + 128): x, y in pixels of the frame, size, angle in radians, descriptor.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np


@dataclass(frozen=True)
class KeypointSettings:
    """Which keypoints there are, and which of their matches make a motion."""

    contrast_threshold: float = 0.01  # SIFT's least contrast, a quarter of the usual: objects are small
    edge_threshold: float = 20.0  # SIFT's largest ratio of curvatures, twice the usual
    most_keypoints: int = 2000  # keypoints: the strongest are kept
    known_distance: float = 6.0  # pixels from the flow, not a share: a match that is no further is explained by it
    agree_distance: float = 3.0  # pixels, not a share, by which matches may miss one another's predictions ...
    agree_share: float = 0.1  # ... and share of their distance that is added to it
    near_share: float = 1 / 3  # of the long side: matches that are further apart say nothing of one another
    least_matches: int = 4  # matches that make a motion
    most_groups: int = 8  # motions at most
    refits: int = 3  # fits to the matches that follow a motion


class Group(NamedTuple):
    """Matches that move together by one motion, which flow does not explain."""

    position: np.ndarray  # (m, 2), in the first frame
    motion: np.ndarray  # (m, 2)


def find_keypoints(image, factor, settings=KeypointSettings()):
    """Keypoints of an image (uint8), which is the frame enlarged by `factor`."""
    detector = cv2.SIFT_create(settings.most_keypoints, contrastThreshold=settings.contrast_threshold,
                               edgeThreshold=settings.edge_threshold, enable_precise_upscale=True)
    points, descriptors = detector.detectAndCompute(image, None)
    if not points:
        return np.zeros((0, 4 + 128), np.float32)
    place = np.float32([(*point.pt, point.size, np.deg2rad(point.angle)) for point in points])
    place[:, :2] = (place[:, :2] + 0.5) / factor - 0.5
    descriptors = np.sqrt(descriptors / descriptors.sum(1, keepdims=True).clip(1))  # Arandjelović and Zisserman 2012
    return np.concatenate([place, descriptors], axis=1)


def match(first, second):
    """Pairs of keypoints that are each other's nearest by descriptor: two arrays of rows."""
    if not len(first) or not len(second):
        return np.zeros((2, 0), int)
    alike = first[:, 4:] @ second[:, 4:].T
    nearest = alike.argmax(1)
    mutual = alike.argmax(0)[nearest] == np.arange(len(first))
    return np.flatnonzero(mutual), nearest[mutual]


def moving_together(first, second, flow, settings=KeypointSettings()):
    """Groups of matches of keypoints that flow (H, W, 2) does not explain: a list of Group."""
    start, end = unexplained_matches(first, second, flow, settings)
    side = max(flow.shape[:2])
    near, agree = agreement(start, end, side, settings)
    position, motion = start[:, :2], end[:, :2] - start[:, :2]
    homogeneous = np.concatenate([position / side, np.ones((len(start), 1))], axis=1)
    free, groups = np.ones(len(start), bool), []
    for _ in range(2 * settings.most_groups):
        votes = (agree & free).sum(1) * free
        if len(groups) == settings.most_groups or votes.max(initial=0) < settings.least_matches:
            break
        leader = votes.argmax()
        members = refitted(agree[leader] & free, near[leader] & free, homogeneous, motion, settings)
        free[leader] = False
        if members.sum() >= settings.least_matches:
            groups.append(Group(position[members], motion[members]))
            free &= ~members
    return groups


def unexplained_matches(first, second, flow, settings):
    """Keypoints of both frames, (n, 132) each, that match, and move otherwise than flow (H, W, 2) says."""
    height, width = flow.shape[:2]
    rows, partners = match(first, second)
    start, end = first[rows], second[partners]
    x, y = start[:, :2].round().astype(int).clip(0, (width - 1, height - 1)).T
    new = np.linalg.norm(end[:, :2] - start[:, :2] - flow[y, x], axis=-1) > settings.known_distance
    return start[new], end[new]


def agreement(start, end, side, settings):
    """bool (n, n), twice: which matches are near to which, and which of these each one predicts rightly."""
    between = start[None, :, :2] - start[:, None, :2]
    apart = np.linalg.norm(between, axis=-1)
    near = apart < settings.near_share * side
    missed = np.linalg.norm(predicted(start, end, between) + end[:, None, :2] - end[None, :, :2], axis=-1)
    return near, near & (missed < settings.agree_distance + settings.agree_share * apart)


def predicted(start, end, offset):
    """Offsets (n, m, 2) from n keypoints, turned and scaled as each keypoint was between start and end (n, 132)."""
    angle, scale = end[:, 3] - start[:, 3], (end[:, 2] / start[:, 2]).clip(0.5, 2)  # beyond an octave it is wrong
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], axis=-2)
    return offset @ turn


def refitted(members, near, homogeneous, motion, settings):
    """The matches (n,) `near` that follow the affine motion of `members`, fitted again to those that do."""
    for _ in range(settings.refits):
        basis = homogeneous[members]
        lean = 1e-3 * np.diag([1, 1, 0])  # linear parts lean to zero: matches may lie in a row
        affine = np.linalg.solve(basis.T @ basis + lean, basis.T @ motion[members])
        members = near & (np.linalg.norm(homogeneous @ affine - motion, axis=-1) < settings.agree_distance)
        if members.sum() < settings.least_matches:
            break
    return members
