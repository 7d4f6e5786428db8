"""Splatting, look-ups and what finishes them, against loops and numbers by hand."""

import numpy as np
import pytest

from edits.warping import fetch, fill_smoothly, look_up, splat, within
from flow.images import pixel_grid
from flow.rims import guided

RANDOM = np.random.default_rng(0)


def splat_by_a_loop(values, positions, weights):
    total, sums, shares = np.zeros(values.shape), np.zeros(weights.shape), np.zeros(weights.shape)
    height, width = weights.shape
    for index in np.ndindex(weights.shape):
        x, y = positions[index]
        for row in range(height):
            for column in range(width):
                share = max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row))
                total[row, column] += share * weights[index] * values[index]
                sums[row, column] += share * weights[index]
                shares[row, column] += share
    return np.where(shares[..., None] > 0, total / np.maximum(sums, 1e-9)[..., None], 0), shares


def test_splat_is_the_loop():
    values, weights = RANDOM.uniform(size=(4, 5, 2)), RANDOM.uniform(0.1, 1, (4, 5))
    positions = pixel_grid((4, 5)) + RANDOM.normal(0, 1.5, (4, 5, 2))
    for found, expected in zip(splat(values, positions, weights), splat_by_a_loop(values, positions, weights)):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_of_two_pixels_at_one_place_the_heavier_wins():
    values = np.array([[[10.0], [20.0], [0.0]]])
    positions = np.array([[[2.0, 0], [2, 0], [9, 9]]])
    average, share = splat(values, positions, np.array([[1.0, 3.0, 1.0]]))
    assert average[0, 2, 0] == pytest.approx(17.5) and share[0].tolist() == [0, 0, 2]


def test_a_rim_that_is_off_moves_to_the_edge_of_the_frame():
    frame = np.full((40, 40, 3), 60, np.uint8)
    frame[:, 20:] = 200
    values = np.zeros((40, 40), np.float32)
    values[:, 19:] = 1
    found = guided(values, frame, 4) > 0.5
    assert (found[8:-8] == (np.arange(40) >= 20)).all()


def test_on_a_frame_without_edges_guided_is_two_blurs():
    values = RANDOM.uniform(size=(12, 12, 2)).astype(np.float32)
    padded = np.pad(values, ((2, 2), (2, 2), (0, 0)), mode="symmetric")
    once = np.mean([padded[y : y + 12, x : x + 12] for y in range(5) for x in range(5)], axis=0)
    padded = np.pad(once, ((2, 2), (2, 2), (0, 0)), mode="symmetric")
    twice = np.mean([padded[y : y + 12, x : x + 12] for y in range(5) for x in range(5)], axis=0)
    np.testing.assert_allclose(guided(values, np.full((12, 12, 3), 99, np.uint8), 2), twice, atol=1e-5)


def test_filling_keeps_what_is_known_and_continues_it():
    values, known = np.full((17, 23, 2), 5.0), RANDOM.random((17, 23)) < 0.2
    values[..., 1] = pixel_grid((17, 23))[..., 0]
    hidden = np.where(known[..., None], values, 777)
    filled = fill_smoothly(hidden, known)
    np.testing.assert_allclose(filled[known], values[known], atol=1e-5)
    np.testing.assert_allclose(filled[..., 0], 5, atol=1e-4)
    assert np.abs(filled - values)[..., 1].mean() < 1.5  # a ramp: neighbours, not some far mean


def test_looking_up():
    image = RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    shifted = fetch(image, pixel_grid((6, 8)) + np.float32([2, 1]))
    assert (shifted[:5, :6] == image[1:, 2:]).all() and (shifted[5] == shifted[4]).all()
    values = look_up(image[..., 0].astype(np.float32), pixel_grid((6, 8)) + np.float32([0.5, 0]))
    np.testing.assert_allclose(values[:, :7], (image[:, :7, 0].astype(float) + image[:, 1:, 0]) / 2)
    assert within(np.array([[[-0.5, 0], [7.5, 5.5]], [[-0.6, 0], [7, 5.6]]]), (6, 8)).tolist() == [[True] * 2,
                                                                                                   [False] * 2]
