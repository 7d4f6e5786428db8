"""Motions that flow missed, from keypoints: an object that comes back after it was hidden, or that moved too far.

Keypoints (SIFT: Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004) are matched over the
whole frame. Each match foretells, by the position, size and angle of its two keypoints, where everything around it
goes; matches that foretell one another move together. Those that the flow explains already are left out: few are left,
and wrong ones rarely agree.

Conventions: keypoints float32 (n, 4 + 128): x, y in pixels of the frame, size, angle in radians, descriptor.
"""

import cv2
import numpy as np

CONTRAST, EDGE, MOST = 0.01, 20, 2000  # weaker keypoints than usual count: objects are small; the strongest are kept
KNOWN_PX = 6.0  # a match that is no further from the flow is explained by it
AGREE_PX, AGREE_SHARE, NEAR = 3.0, 0.1, 1 / 3  # pixels, and share of their distance, by which matches agree; long sides
LEAST, GROUPS, REFITS = 4, 8, 3  # matches that make a motion; motions; fits to the matches that follow one


def find_keypoints(image, factor):
    """Keypoints of an image (uint8), which is the frame enlarged by `factor`."""
    detector = cv2.SIFT_create(MOST, contrastThreshold=CONTRAST, edgeThreshold=EDGE, enable_precise_upscale=True)
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


def moving_together(first, second, flow):
    """Groups of matches that flow (H, W, 2) does not explain: a list of (positions (m, 2), their motion (m, 2))."""
    height, width = flow.shape[:2]
    rows, partners = match(first, second)
    start, end = first[rows], second[partners]
    x, y = start[:, :2].round().astype(int).clip(0, (width - 1, height - 1)).T
    new = np.linalg.norm(end[:, :2] - start[:, :2] - flow[y, x], axis=-1) > KNOWN_PX
    start, end = start[new], end[new]
    position, motion = start[:, :2], end[:, :2] - start[:, :2]
    between = position[None] - position[:, None]
    apart = np.linalg.norm(between, axis=-1)
    near = apart < NEAR * max(height, width)
    missed = np.linalg.norm(foretold(start, end, between) + end[:, None, :2] - end[None, :, :2], axis=-1)
    agree, free, groups = near & (missed < AGREE_PX + AGREE_SHARE * apart), np.ones(len(start), bool), []
    homogeneous = np.concatenate([position / max(height, width), np.ones((len(start), 1))], axis=1)
    for _ in range(2 * GROUPS):
        votes = (agree & free).sum(1) * free
        if len(groups) == GROUPS or votes.max(initial=0) < LEAST:
            break
        leader = votes.argmax()
        members = agree[leader] & free
        for _ in range(REFITS):
            basis = homogeneous[members]
            affine = np.linalg.solve(basis.T @ basis + 1e-3 * np.diag([1, 1, 0]), basis.T @ motion[members])
            members = near[leader] & free & (np.linalg.norm(homogeneous @ affine - motion, axis=-1) < AGREE_PX)
            if members.sum() < LEAST:
                break
        free[leader] = False
        if members.sum() >= LEAST:
            groups.append((position[members], motion[members]))
            free &= ~members
    return groups


def foretold(start, end, offset):
    """Offsets (n, m, 2) from n keypoints, turned and scaled as each keypoint was between start and end (n, 132)."""
    angle, scale = end[:, 3] - start[:, 3], (end[:, 2] / start[:, 2]).clip(0.5, 2)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], axis=-2)
    return offset @ turn
