"""Features planted on a grid are matched, wrong ones thrown away, and what is seen again is placed to sub-pixels."""

import cv2
import numpy as np
import pytest

from flow.candidates import walked_with_matches
from flow.dis import DisFlow
from flow.features import (
    OF_SIFT,
    MatchSettings,
    Places,
    SiftPlaces,
    correspondences,
    find_keypoints,
    match,
    places_of_map,
    search,
    support,
)
from tests.helpers.jumping_square import AFTER, BEFORE, frame_with, true_motion

SIZE, CELL = (96, 128), 8
ROWS, COLUMNS = 12, 16


@pytest.fixture
def features():
    """(ROWS, COLUMNS, 64): each cell is like no other."""
    return np.random.default_rng(0).normal(size=(ROWS, COLUMNS, 64))


def cell_of(points):
    return np.floor((points + 0.5) / CELL).astype(int)


def test_cells_are_where_they_tile_the_frame(features):
    points = places_of_map(features, SIZE).points.reshape(ROWS, COLUMNS, 2)
    assert points[0, 0].tolist() == [3.5, 3.5] and points[2, 5].tolist() == [43.5, 19.5]
    assert places_of_map(features, (48, 128)).points[-1].tolist() == [123.5, 45.5]  # flat cells


def test_a_grid_that_moved_is_matched_and_what_is_wrong_is_not(features):
    random, second = np.random.default_rng(1), np.roll(features, (2, 3), (0, 1)).reshape(-1, 64)
    noisy = second + random.normal(0, 0.3, second.shape)
    wrong = random.random(len(noisy)) < 0.2
    noisy[wrong] = noisy[wrong][random.permutation(wrong.sum())]
    first, other = places_of_map(features, SIZE), places_of_map(noisy.reshape(ROWS, COLUMNS, 64), SIZE)
    rows, partners = match(first, other)
    moved = cell_of(other.points[partners]) - cell_of(first.points[rows])
    right = (moved % [COLUMNS, ROWS] == [3, 2]).all(-1)
    assert right.mean() > 0.93 and len(rows) > 0.7 * ROWS * COLUMNS
    alone, _ = match(first, other, MatchSettings(agree=1e3))  # without neighbours that agree, the wrong ones stay
    assert len(alone) > ROWS * COLUMNS - 8


def test_only_what_is_alike_enough(features):
    random = np.random.default_rng(2)
    away = random.normal(size=features.shape)
    for share, expected in ((0.3, 1.0), (1.5, 0.0)):  # cosines of about 0.96 and 0.55
        second = places_of_map(features + share * away, SIZE)
        share = len(match(places_of_map(features, SIZE), second)[0]) / (ROWS * COLUMNS)
        assert share == pytest.approx(expected, abs=0.05)


def test_texture_that_repeats_is_thrown_away(features):
    features[:, :4] = features[0, 0]  # a quarter of the frame looks the same
    features[:, :4] += 0.1 * np.random.default_rng(3).normal(size=features[:, :4].shape)
    places = places_of_map(features, SIZE)
    rows, partners = match(places, places)
    assert np.array_equal(rows, partners) and cell_of(places.points[rows])[:, 0].min() == 4
    assert len(match(*[places_of_map(features, SIZE, MatchSettings(most_alike=0.5))] * 2)[0]) == ROWS * COLUMNS


def test_support_is_of_neighbours_that_move_alike():
    start = np.float32([[0, 0], [8, 0], [0, 8], [60, 60], [68, 60]])
    end = start + np.float32([[20, 0], [21, 1], [19, 0], [5, 5], [5, 5]])
    assert support(start, end, CELL).all()
    end[2] += 40
    assert support(start, end, CELL).tolist() == [True, True, False, True, True]
    assert support(start[2:4], end[2:4], CELL).tolist() == [False, False]  # nothing near
    assert support(start[:0], end[:0], CELL).tolist() == []
    twice = np.float32([[5, 5], [5, 5]])  # a keypoint of two angles
    assert support(twice, twice + 9, CELL).tolist() == [False, False]


@pytest.mark.parametrize("gain", [1.0, 0.6])  # whatever the exposure
def test_the_search_is_exact_to_a_fraction_of_a_pixel(gain):
    y, x = np.mgrid[:96, :128]

    def picture(dx, dy):
        u, v = x - dx, y - dy
        return (128 + gain * (30 * np.sin(u / 3.1 + v / 7) + 30 * np.cos(v / 2.7 - u / 9))).astype(np.float32)

    start = np.float32([[40, 40], [64, 32], [100, 70]])
    coarse = start + np.float32([[12, -4], [16, -10], [9, -8]])
    end, found = search(picture(0, 0).round().astype(np.uint8), picture(12.3, -7.6).round().astype(np.uint8), start,
                        coarse, CELL)
    assert found.all() and np.abs(end - start - [12.3, -7.6]).max() < 0.15


def test_what_is_not_seen_again_or_plain_stays_coarse():
    random = np.random.default_rng(4)
    first, second = random.integers(0, 256, (2, 96, 128), dtype=np.uint8)
    start, end = np.float32([[40, 40], [90, 50]]), np.float32([[48.5, 40], [90, 58]])
    for images in ((first, second), (np.full_like(first, 90), np.full_like(first, 90))):
        stayed, found = search(*images, start, end, CELL)
        assert not found.any() and np.array_equal(stayed, end)


def test_correspondences_of_cells_are_exact_where_the_picture_tells(features):
    pictures = [frame_with(matrix)[..., 0] for matrix in (BEFORE, BEFORE)]
    points, weight = correspondences(places_of_map(features, SIZE), places_of_map(features, SIZE), pictures)
    assert len(points) == ROWS * COLUMNS and (weight == 1).mean() > 0.9
    assert np.abs(points[:, 0] - points[:, 1])[weight == 1].max() < 1e-3
    flat = [np.full(SIZE, 90, np.uint8)] * 2
    assert set(correspondences(places_of_map(features, SIZE), places_of_map(features, SIZE), flat)[1]) == {
        MatchSettings().coarse_weight}


def test_sift_finds_an_object_that_jumped_and_turned():
    frames = [frame_with(BEFORE), frame_with(AFTER)]
    describe = SiftPlaces()
    points, _ = correspondences(*(describe(i, frame) for i, frame in enumerate(frames)), [f[..., 0] for f in frames],
                                describe.settings)
    motion = points[:, 1] - points[:, 0]
    moved = np.linalg.norm(motion, axis=-1) > 10
    assert moved.sum() > 10 and (~moved).sum() > 50
    assert np.median(np.linalg.norm(motion - true_motion(points[:, 0]), axis=-1)[moved]) < 1


def test_a_frame_without_any_place_matches_nothing():
    none = Places(np.zeros((0, 2)), np.zeros((0, 128)), 4)
    plain = SiftPlaces()(0, np.full((*SIZE, 3), 90, np.uint8))
    assert not len(plain.points) and not len(match(none, plain)[0])


def test_two_frames_are_enough_to_follow_what_jumped_and_turned():
    frames, missed = np.stack([frame_with(BEFORE), frame_with(AFTER)]), []
    y, x = np.mgrid[30:51, 20:41]
    wanted, alone = true_motion(np.stack([x.ravel(), y.ravel()], -1)), DisFlow()
    alone.load_frames(frames)
    for estimator in (alone, walked_with_matches(frames, DisFlow())):
        found = estimator.flow_from(0, [1])[0][y, x].reshape(-1, 2)
        missed.append(np.median(np.linalg.norm(found - wanted, axis=-1)))
    assert missed[0] > 10 and missed[1] < 0.5


def test_keypoints_are_where_they_are_also_when_the_frame_was_enlarged():
    frame = cv2.cvtColor(frame_with(BEFORE), cv2.COLOR_RGB2GRAY)
    plain, large = (Places(*find_keypoints(cv2.resize(frame, None, fx=k, fy=k, interpolation=cv2.INTER_CUBIC), k), 4,
                           settings=OF_SIFT) for k in (1, 2))
    rows, partners = match(plain, large, OF_SIFT)
    offset = large.points[partners] - plain.points[rows]
    assert len(rows) > 30 and np.abs(np.median(offset, axis=0)).max() < 0.1
