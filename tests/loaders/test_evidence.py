"""Evidence: rows come back between the frames they are of, in either direction; files whole or refused."""

import numpy as np
import pytest

from loaders.evidence import evidence_of, of_tracks, read_evidence, write_evidence
from util import UserError

ROWS = [  # frame_1, x, y, frame_2, x, y, weight; the second and fourth stand backwards
    (0, 1, 2, 3, 4, 5, 1.0),
    (3, 9, 8, 0, 7, 6, 0.5),
    (1, 5, 5, 2, 6, 6, 0.25),
    (2, 3, 3, 1, 2, 2, 0.75),
]


def small():
    rows = np.array(ROWS)
    return evidence_of("small", rows[:, [0, 3]], rows[:, [1, 2, 4, 5]].reshape(-1, 2, 2), rows[:, 6], "by hand")


def expected(i, j):
    """By a loop: {(x_1, y_1, x_2, y_2, weight)}."""
    there = {(*row[1:3], *row[4:]) for row in ROWS if (row[0], row[3]) == (i, j)}
    return there | {(*row[4:6], *row[1:3], row[6]) for row in ROWS if (row[3], row[0]) == (i, j)}


def test_between_frames_in_both_directions():
    evidence = small()
    for i in range(4):
        for j in range(4):
            first, second, weight = evidence.between(i, j)
            assert {(*a, *b, w) for a, b, w in zip(first.tolist(), second.tolist(), weight.tolist())} == expected(i, j)


def test_tracks_are_evidence_where_they_are_visible_twice():
    random = np.random.default_rng(0)
    positions, visible = random.random((5, 4, 2)).astype(np.float32), random.random((5, 4)) < 0.6
    evidence = of_tracks("t", positions, visible, {(0, 1), (0, 3), (2, 3)})
    for i, j in ((0, 1), (0, 3), (2, 3), (3, 2), (1, 2)):
        both = [q for q in range(5) if visible[q, i] and visible[q, j]] if (i, j) != (1, 2) else []
        first, second, _ = evidence.between(i, j)
        assert np.array_equal(first, positions[both, i]) and np.array_equal(second, positions[both, j])


def test_no_more_rows_than_asked_and_of_all_pairs():
    positions = np.random.default_rng(0).random((200, 4, 2))
    pairs = {(i, j) for i in range(4) for j in range(i + 1, 4)}
    evidence = of_tracks("t", positions, np.ones((200, 4), bool), pairs, most=300)
    assert 290 < len(evidence.frames) <= 300 and len(np.unique(evidence.frames, axis=0)) == 6
    assert evidence.tracks.shape == (75, 4, 2) and evidence.visible.shape == (75, 4)  # 300 places
    assert {tuple(track.ravel()) for track in evidence.tracks} < {tuple(row.ravel()) for row in np.float32(positions)}
    assert len(evidence_of("t", evidence.frames, evidence.points, evidence.weight, most=7).frames) == 7


def test_file_and_back(tmp_path):
    write_evidence(tmp_path, small())
    (back,) = read_evidence(tmp_path, 4)
    assert (back.name, back.source) == ("small", "by hand")
    assert all(np.array_equal(getattr(back, name), getattr(small(), name)) for name in ("frames", "points", "weight"))
    assert not back.followed and read_evidence(tmp_path / "elsewhere", 4) == []
    assert back.tracks is None and back.visible is None
    positions, visible = np.arange(24.0).reshape(3, 4, 2), np.arange(12).reshape(3, 4) % 3 > 0
    write_evidence(tmp_path, of_tracks("t", positions, visible, {(0, 1)}))
    followed = read_evidence(tmp_path, 4)[1]
    assert followed.followed and np.array_equal(followed.tracks, positions)
    assert np.array_equal(followed.visible, visible)


@pytest.mark.parametrize("changes, words", [
    ({"weight": np.ones(2)}, "expected frames (M, 2)"),
    ({"frames": np.array([[0, 9]] * 4)}, "expected 0 to 3"),
    ({"points": None}, "it has no points"),
    ({"tracks": np.zeros((2, 5, 2)), "visible": np.ones((2, 5), bool)}, "expected tracks (Q, 4, 2)"),
    ({"visible": np.ones((2, 4), bool)}, "got (), (2, 4)"),
    ({"tracks": np.zeros((2, 4, 2))}, "got (2, 4, 2), ()"),
    ({"tracks": np.zeros((2, 4, 2)), "visible": np.ones((2, 4))}, "of float64"),
    ({"tracks": np.full((2, 4, 2), np.nan), "visible": np.eye(2, 4) > 0}, "has no place"),
])
def test_damaged_file(tmp_path, changes, words):
    arrays = {"frames": small().frames, "points": small().points, "weight": small().weight, "source": np.array("")}
    (tmp_path / "evidence").mkdir()
    np.savez(tmp_path / "evidence" / "x.npz", **{k: v for k, v in (arrays | changes).items() if v is not None})
    with pytest.raises(UserError, match="x.npz") as caught:
        read_evidence(tmp_path, 4)
    assert words in str(caught.value)
