"""Tracks bound to pins, on tracks whose errors are known."""

import cv2
import numpy as np
import pytest

from loaders.pins import Pin
from tracking import pins
from tracking.pins import Anchors, correct, correct_flow, joined, known_tracks

NUM_FRAMES, SIZE = 9, (60, 80)
WAY = np.stack([np.arange(NUM_FRAMES) * -2.0, np.arange(NUM_FRAMES) * -1.0], axis=-1)  # of the object, exact
LOST = 5  # the frame in which all that was followed forwards over it goes astray
ASTRAY = np.array([7.0, 3.0])


def make_images():
    """The object, left of x = 60 in frame 0, before what rests; each with a texture of its own."""
    random = np.random.default_rng(0)
    behind, front = (cv2.resize(random.integers(0, 256, (20, 40, 3), dtype=np.uint8), (160, 80)) for _ in range(2))
    images = []
    for x, y in WAY.astype(int):
        image = behind[: SIZE[0], : SIZE[1]].copy()
        image[:, : 60 + x] = front[-y : SIZE[0] - y, -x : 60]
        images.append(image)
    return images


IMAGES = pins.smoothed(make_images())


def follow(frames, pixels):
    """Points of one object; those from before LOST are off by ASTRAY from then on, those from after it before it.

    A point of frame 0 with x > 60 is of the background, which rests, and is never lost.
    """
    tracks = np.array([pixel + WAY - WAY[frame] for frame, pixel in zip(frames, pixels)])
    times = np.arange(NUM_FRAMES)
    for track, frame, pixel in zip(tracks, frames, pixels):
        if frame == 0 and pixel[0] > 60:
            track[:] = pixel
        else:
            track[(times >= LOST) != (frame >= LOST)] += ASTRAY
    scores = np.full(tracks.shape[:2], 0.1, np.float32)
    return tracks.astype(np.float32), scores, np.zeros(scores.shape, np.float32)


def truth(frame, pixel):
    return np.asarray(pixel) + WAY - WAY[frame]


def pinned(*frames, start=(40, 30), hidden=()):
    """A track known in frame 0 and in these -> tracks, scores of known_tracks."""
    frames = np.array([0, *frames])
    anchors = Anchors(frames, np.float32(truth(0, start))[frames], ~np.isin(frames, hidden))
    return known_tracks(follow, [anchors])


def ask(known, frames, pixels):
    tracks, scores, depth = correct(follow, IMAGES, *known, np.array(frames), np.float32(pixels))
    assert tracks.shape == (len(frames), NUM_FRAMES, 2) and scores.shape == depth.shape == tracks.shape[:2]
    return tracks, scores


def test_a_pinned_track_passes_through_its_pins_and_is_right_between_them():
    tracks, scores = pinned(8)
    np.testing.assert_array_equal(tracks[0, [0, 8]], np.float32(truth(0, (40, 30)))[[0, 8]])
    assert (scores[0, [0, 8]] == 0).all()
    # followed from both ends, it is lost in the midst: what was followed from the nearer end stands, nearly
    assert np.linalg.norm(tracks[0] - truth(0, (40, 30)), axis=-1).max() < 4
    assert np.linalg.norm(follow([0], [(40, 30)])[0][0] - truth(0, (40, 30)), axis=-1).max() > 7


def test_the_query_comes_back_as_it_was_asked():
    known = pinned(8)
    tracks, scores = ask(known, [0], [(40, 30)])
    np.testing.assert_allclose(tracks[0], known[0][0], atol=1e-4)
    np.testing.assert_allclose(scores[0], known[1][0], atol=1e-4)


def test_two_tracks_change_where_they_agree():
    there, back = np.zeros((2, NUM_FRAMES, 2))
    there[6:] = 50  # lost from frame 6 on
    back[:4] = -30  # lost before frame 4
    track, score = joined(np.array([0, 8]), np.array([there, back]), np.array([[0.0] * 9, [1.0] * 9]))
    assert np.abs(track).max() < 0.2
    assert score[3] < 0.05 and score[7] > 0.95 and score[0] == 0 and score[8] == pytest.approx(1)


def test_what_is_near_and_moves_alike_goes_along():
    known = pinned(8)
    before, after = follow([0], [(43, 30)])[0][0], ask(known, [0], [(43, 30)])[0][0]
    off = [np.linalg.norm(tracks - truth(0, (43, 30)), axis=-1)[8] for tracks in (before, after)]
    assert off[0] > 7 and off[1] < 0.3 * off[0]
    np.testing.assert_allclose(after[0], (43, 30), atol=1e-4)


def test_it_is_so_for_queries_of_other_frames():
    known, place = pinned(8), truth(0, (40, 30))
    for frame in (3, 8):
        tracks, _ = ask(known, [frame], [known[0][0, frame]])
        np.testing.assert_allclose(tracks[0], known[0][0], atol=1e-3)
    after = ask(known, [8], [place[8] + (3, 0)])[0][0]
    assert np.linalg.norm(after - truth(8, place[8] + (3, 0)), axis=-1)[0] < 1


def test_what_is_far_or_moves_otherwise_stays():
    known = pinned(8, start=(58, 30))
    far, other = (58 - 10, 30), (62, 30)  # further than 0.12 of 80; 4 px off, on the background
    tracks, scores = ask(known, [0, 0], [far, other])
    expected, expected_scores, _ = follow([0, 0], [far, other])
    np.testing.assert_array_equal(tracks[0], expected[0])
    assert np.linalg.norm(tracks[1] - expected[1], axis=-1).max() < 0.2
    np.testing.assert_allclose(scores[:, 1:], expected_scores[:, 1:], atol=0.02)


def test_where_a_pin_is_hidden_the_track_is_and_nothing_there_goes_along():
    tracks, scores = pinned(4, 8, hidden=(4,))
    np.testing.assert_allclose(tracks[0, 4], truth(0, (40, 30))[4], atol=1e-4)
    assert scores[0, 4] == 1 and scores[0, 8] == 0
    there = truth(0, (40, 30))[4]
    found, _ = ask((tracks, scores), [4], [there])
    np.testing.assert_array_equal(found, follow([4], [there])[0])


def test_the_last_hidden_pin_holds():
    tracks, _ = pinned(6, hidden=(6,))
    np.testing.assert_allclose(tracks[0, 6:], truth(0, (40, 30))[6:], atol=1e-4)


def test_each_of_two_tracks_near_one_another_passes_through_its_own_pins():
    ends = np.float32([(24, 25), (31, 20)])
    anchors = [Anchors(np.array([0, 8]), np.float32([start, end]), np.ones(2, bool))
               for start, end in zip([(40, 30), (44, 30)], ends)]
    tracks, _ = ask(known_tracks(follow, anchors), [0, 0], [(40, 30), (44, 30)])
    np.testing.assert_allclose(tracks[:, 8], ends, atol=1e-2)


def test_dense_flow_is_corrected_at_the_pinned_track():
    flow, score = np.zeros((*SIZE, 2), np.float32), np.full(SIZE, 0.2, np.float32)
    known, led = np.float32([[(20, 30), (25, 31)]]), np.float32([[(20, 30), (20, 30)]])
    found, scores = correct_flow(IMAGES[:2], flow, score, known, np.float32([[0, 0.9]]), led, np.float32([[0, 0.2]]))
    np.testing.assert_allclose(found[30, 20], (5, 1), atol=1e-3)
    assert scores[30, 20] == pytest.approx(0.9, abs=1e-3)
    assert found[30, 21, 0] > 4 and (found[30, 30:] == 0).all() and (found[41:] == 0).all()


def test_pins_are_of_the_original_video():
    rows = [Pin(7, 3, 20.0, 10.0, 1), Pin(7, 1, 41.0, 5.0, 0), Pin(2, 0, 1.0, 2.0, 1), Pin(2, 4, 3.0, 4.0, 1)]
    first, second = pins.anchors_of(rows, (10, 20), (20, 40))
    np.testing.assert_array_equal(first.frames, [1, 3])
    np.testing.assert_allclose(first.pixels, [(20, 2), (9.5, 4.5)])
    assert first.visible.tolist() == [False, True] and second.visible.all()
    np.testing.assert_array_equal(pins.queries_of(rows), [(3, 10, 20), (0, 2, 1)])
    assert pins.rows_of(rows) == [(0, rows[1]), (1, rows[3])]
    assert pins.queries_of([]).shape == (0, 3)
