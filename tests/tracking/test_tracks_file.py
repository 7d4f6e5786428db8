"""The tracks file: what is written is read, and what is none of ours is named."""

import numpy as np

from tracking.tracks_file import Tracks, from_positions, read_tracks, write_tracks


def test_tracks_survive_the_file(tmp_path):
    random = np.random.default_rng(0)
    tracks = Tracks(random.random((6, 3)), random.random((6, 4, 2)), random.random((6, 4)) > 0.5,
                    random.random((6, 4)), random.random((6, 4)), (3, 5), (30, 50), 29.97)
    write_tracks(tmp_path / "t.npz", tracks)
    back = read_tracks(tmp_path / "t.npz")
    for name in Tracks.__dataclass_fields__:
        assert np.allclose(getattr(back, name), getattr(tracks, name)), name


def test_visibility_codes_at_their_limits():
    """Unknown before outside, outside before doubt, and only what is hidden is outside."""
    nan = np.nan
    positions = np.array([[[1, 1], [9, 1], [9, 1], [nan, 1], [1, 1], [1, 1], [1, 1]]])
    occluded = np.array([[False, True, False, True, True, True, False]])
    score = np.array([[0.3, 0.5, 0.1, 1, 0.7, 0.66, 0.34]])
    tracks = Tracks(np.zeros((1, 3)), positions, occluded, score, score, (4, 8), (4, 8), 1)
    assert tracks.visibility.tolist() == [[0, 2, 0, 3, 1, 3, 3]]


def test_a_query_is_where_a_point_is_surest_to_be_seen():
    positions = np.arange(12.0).reshape(2, 3, 2)
    positions[1] = np.nan
    score = np.array([[0.4, 0.2, 0.1], [0, 0, 0]])
    tracks = from_positions(positions, np.array([[False, False, True], [False] * 3]), score, (50, 60), 24)
    assert tracks.query_points.tolist() == [[1, 3, 2]], "the point that is never seen is left out"
    assert tracks.frame_size == (50, 60) and np.isnan(tracks.depth).all()
