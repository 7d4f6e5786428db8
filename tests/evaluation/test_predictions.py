"""Tracks of whatever size, layout and source, compared with a truth."""

from types import SimpleNamespace

import numpy as np
import pytest

from evaluation.ground_truth import read_truths
from evaluation.predictions import (
    TracksFile,
    mark_outside,
    rescale,
    rescale_queries,
    track_truth,
)
from evaluation.scoring import score
from tests.helpers.evaluation import as_tracks, write_npz


def test_query_modes_count_different_frames(truth_file):
    frames = np.load(truth_file)["query_points"][:, 0]
    wrong_before = np.load(truth_file)["target_points"].copy()
    wrong_before[np.arange(7)[None] < frames[:, None]] += 100
    for mode, expected in (("first", 100), ("strided", 0)):
        truth = next(read_truths(truth_file, mode))
        prediction = TracksFile.__new__(TracksFile)
        prediction.tracks, prediction.occluded, prediction.video_size = wrong_before, truth.occluded, (40, 56)
        found = score(truth, prediction, mode)["delta_avg"]
        assert found == 100 if expected else found < 100


def test_tracks_of_another_video_size_are_rescaled(truth_file, tmp_path):
    truth = next(read_truths(truth_file))
    large = dict(np.load(as_tracks(truth_file, tmp_path / "a.npz")))
    large["tracks"], large["video_size"] = large["tracks"] * 3, large["video_size"] * 3
    large["query_points"][:, 1:] *= 3
    found = score(truth, TracksFile(write_npz(tmp_path / "large.npz", **large)).predict(truth))
    assert found["AJ"] == pytest.approx(100)


def test_positions_between_sizes_that_are_no_multiples_of_one_another():
    """From 20 x 10 pixels to 60 x 50: x three times, y five times; the corners stay corners."""
    points = np.array([[2.5, 0.5], [20.0, 10.0], [0.0, 0.0]])
    assert rescale(points, (10, 20), (50, 60)).tolist() == [[7.5, 2.5], [60, 50], [0, 0]]
    assert rescale(points, None, (50, 60)) is points
    found = rescale_queries(np.array([[3, 0.5, 2.5], [0, 10, 20]]), (10, 20), (50, 60))
    assert found.tolist() == [[3, 2.5, 7.5], [0, 50, 60]]  # t, y, x


def test_scores_outside_a_frame_that_is_wider_than_high():
    tracks = np.array([[[19.9, 9.9], [15.0, 11.0], [-0.1, 5.0], [0.2, 0.2], [20.1, 5.0], [5.0, 15.0]]])
    found = mark_outside(np.full((1, 6), 0.25), tracks, (10, 20))
    assert found.tolist() == [[0.25, np.inf, np.inf, 0.25, np.inf, np.inf]]


def test_a_source_is_asked_and_answers_in_its_own_videos_pixels():
    """The truth's video is 20 x 10, the source's 60 x 50 and processed at 30 x 20: 3/2 of x and twice y."""
    asked = []

    def track(frames, pixels):
        asked.extend(zip(frames.tolist(), pixels.tolist()))
        tracks = np.array([[[0.5, 0.5], [29.6, 3.0]]])
        return tracks, np.array([[0.1, 0.1]]), np.array([[1.0, 2.0]])

    source = SimpleNamespace(num_frames=2, size=(20, 30), video_size=(50, 60), fps=1, threshold=0.5, track=track)
    truth = SimpleNamespace(name="t", num_frames=2, video_size=(10, 20), query_points=np.array([[1, 5.0, 8.0]]))
    found = track_truth(source, truth, "here")
    assert asked == [(1, [pytest.approx(8 * 30 / 20 - 0.5), pytest.approx(5 * 20 / 10 - 0.5)])]
    assert found.tracks[0].tolist() == [[2.0, 2.5], [24.0, 25.0]]  # the query itself in its own frame
    assert found.occluded[0].tolist() == [False, False] and found.video_size == (50, 60)


def test_cotracker_layout(truth_file, tmp_path):
    truth = next(read_truths(truth_file))
    queries = truth.query_points[:, [0, 2, 1]] - [0, 0.5, 0.5]
    arrays = {
        "tracks": truth.target_points.transpose(1, 0, 2)[None] - 0.5,
        "visibility": ~truth.occluded.T[None],
    }
    for extra in ({}, {"queries": queries}):
        prediction = TracksFile(write_npz(tmp_path / "co.npz", **arrays, **extra)).predict(truth)
        found = score(truth, prediction)
        assert found["AJ"] == 100 and found["OA"] == 100
        np.testing.assert_allclose(prediction.tracks, truth.target_points, atol=1e-4)
