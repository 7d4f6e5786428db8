"""Keypoints find again what the flow lost, say nothing of what it knows, and survive frames without any."""

import cv2
import numpy as np
import pytest

from flow.dis import DisFlow
from flow.keypoints import find_keypoints, match, moving_together, predicted

HEIGHT, WIDTH, SIDE = 96, 128, 32


def texture(seed, height, width):
    """uint8 (height, width, 3), of blobs a few pixels wide."""
    noise = np.random.default_rng(seed).integers(0, 256, (-(-height // 4), -(-width // 4), 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def frame_with(object_matrix):
    """A still ground with a textured square, SIDE wide, put on it by an affine matrix (2, 3), or none where None."""
    frame = texture(0, HEIGHT, WIDTH)
    if object_matrix is not None:
        square = texture(1, SIDE, SIDE)
        mask = cv2.warpAffine(np.ones((SIDE, SIDE), np.uint8), object_matrix, (WIDTH, HEIGHT))
        frame = np.where(mask[..., None] > 0, cv2.warpAffine(square, object_matrix, (WIDTH, HEIGHT)), frame)
    return frame


def placed(x, y, degrees=0.0):
    """Matrix (2, 3) that turns the square about its centre and puts that at (x, y)."""
    matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), degrees, 1.0)
    matrix[:, 2] += (x - SIDE / 2, y - SIDE / 2)
    return matrix


BEFORE, AFTER = placed(30, 40), placed(92, 56, degrees=-25)
STILL = np.zeros((HEIGHT, WIDTH, 2), np.float32)


def true_motion(position):
    """Motion (n, 2) of points (n, 2) of the square from BEFORE to AFTER."""
    local = np.linalg.solve(BEFORE[:, :2], (position - BEFORE[:, 2]).T)
    return (AFTER[:, :2] @ local).T + AFTER[:, 2] - position


def keypoints_of(frame):
    return find_keypoints(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), 1)


def test_what_a_keypoint_predicts():
    start, end = np.float32([[0, 0, 4, 0.5]]), np.float32([[9, 9, 6, 0.5 + np.pi / 2]])
    np.testing.assert_allclose(predicted(start, end, np.float32([[[2, 0], [0, 2]]])), [[[0, 3], [-3, 0]]], atol=1e-5)


def test_an_object_that_jumped_and_turned_is_found():
    groups = moving_together(keypoints_of(frame_with(BEFORE)), keypoints_of(frame_with(AFTER)), STILL)
    position, motion = max(groups, key=lambda group: len(group[0]))
    assert len(position) >= 8
    assert np.median(np.linalg.norm(motion - true_motion(position), axis=-1)) < 0.5


def test_positions_are_those_of_the_frame_also_when_it_was_enlarged():
    frame = cv2.cvtColor(frame_with(BEFORE), cv2.COLOR_RGB2GRAY)
    plain = find_keypoints(frame, 1)
    large = find_keypoints(cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), 2)
    rows, partners = match(plain, large)
    offset = large[partners, :2] - plain[rows, :2]
    assert len(rows) > 30 and np.abs(np.median(offset, axis=0)).max() < 0.1


def test_nothing_new_where_the_flow_is_right():
    known = STILL.copy()
    y, x = np.mgrid[24:57, 14:47]
    known[y, x] = true_motion(np.stack([x.ravel(), y.ravel()], -1)).reshape(*x.shape, 2)
    groups = moving_together(keypoints_of(frame_with(BEFORE)), keypoints_of(frame_with(AFTER)), known)
    assert sum(len(position) for position, _ in groups) < 8


@pytest.mark.parametrize("size", [(3, 40), (48, 64)])
def test_frames_without_keypoints(size):
    plain = find_keypoints(np.full(size, 128, np.uint8), 1)
    assert plain.shape == (0, 132)
    assert moving_together(plain, plain, np.zeros((*size, 2), np.float32)) == []
    assert moving_together(keypoints_of(frame_with(BEFORE)), plain, STILL) == []


def test_an_object_is_found_again_after_it_was_hidden():
    frames = np.stack([frame_with(m) for m in (BEFORE, placed(36, 41), None, None, placed(88, 55, -23), AFTER)])
    estimator = DisFlow()
    estimator.load_frames(frames)
    y, x = np.mgrid[30:51, 20:41]
    found = estimator.flow_from(0, [1, 2, 3, 4, 5])[-1][y, x].reshape(-1, 2)
    wanted = true_motion(np.stack([x.ravel(), y.ravel()], -1))
    assert np.median(np.linalg.norm(found - wanted, axis=-1)) < 0.5
