"""A textured square that jumps and turns on a still ground of another texture."""

import cv2
import numpy as np

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


def true_motion(position):
    """Motion (n, 2) of points (n, 2) of the square from BEFORE to AFTER."""
    local = np.linalg.solve(BEFORE[:, :2], (position - BEFORE[:, 2]).T)
    return (AFTER[:, :2] @ local).T + AFTER[:, 2] - position
