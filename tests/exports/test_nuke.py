"""Nuke's nodes, read by The Foundry's grammar of curves and Tcl's of lists."""

import numpy as np
import pytest

from exports import nuke
from tests.helpers.known_tracks import (
    HIDDEN,
    NUM_FRAMES,
    SIZE,
    assert_keys,
    known_tracks,
    many_tracks,
    options,
    quad,
    seen,
)
from tests.helpers.nuke_reader import keys_of, rows_of, words

HEIGHT, WIDTH = SIZE


@pytest.mark.parametrize("first_frame", [1, 1001])
def test_every_key_is_on_its_frame(first_frame):
    tracks = known_tracks()
    rows = rows_of(nuke.tracker(tracks, options(tracks, first_frame=first_frame)))
    found, errors = {}, {}
    for q, row in enumerate(rows):
        x, y, error = keys_of(row[2]), keys_of(row[3]), keys_of(row[9])
        assert x.keys() == y.keys() == error.keys()
        found |= {(q, frame - first_frame): (x[frame], HEIGHT - y[frame]) for frame in x}
        errors |= {(q, frame - first_frame): error[frame] for frame in x}
    assert_keys(found, seen(tracks))
    assert_keys(errors, {(q, frame): tracks.occlusion_score[q, frame] for q, frame in seen(tracks)})
    assert [row[1] for row in rows] == [f"track_00{q}" for q in range(1, 6)]


def test_enable_is_off_where_a_point_is_hidden():
    tracks = known_tracks()
    for q, row in enumerate(rows_of(nuke.tracker(tracks, options(tracks, first_frame=1)))):
        assert row[0][1] == "K"
        keys, state, hidden = keys_of(row[0]), None, set()
        for frame in range(1, NUM_FRAMES + 1):  # a constant curve holds its value
            state = keys.get(frame, state)
            hidden |= set() if state else {frame - 1}
        assert hidden == set(HIDDEN.get(q, ()))


def test_hidden_positions_can_be_kept():
    tracks = known_tracks()
    row = rows_of(nuke.tracker(tracks, options(tracks, keep_hidden=True)))[2]
    assert list(keys_of(row[2])) == list(range(NUM_FRAMES)) and keys_of(row[0]) == {0: 1}


def test_thousands_of_points_stay_apart():
    tracks = many_tracks()
    rows = rows_of(nuke.tracker(tracks, options(tracks)))
    assert len({row[1] for row in rows}) == 5000
    frames = np.flatnonzero(~tracks.occluded[4321])
    assert_keys(keys_of(rows[4321][2]), dict(zip(frames.tolist(), tracks.tracks[4321, frames, 0].tolist())))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1), (3, 2, 1, 0)])
def test_a_corner_pin_knows_its_corners(order):
    tracks = quad(order)
    tree = words(nuke.corner_pin(tracks, options(tracks, first_frame=1001)))
    knobs = tree[tree.index("CornerPin2D") + 1]
    knobs = {name: knobs[knobs.index(name) + 1] for name in knobs if isinstance(name, str) and name[:-1] in
             ("to", "from")}
    assert [knobs[f"from{k}"] for k in (1, 2, 3, 4)] == [["0", "0"], ["60", "0"], ["60", "40"], ["0", "40"]]
    for place, (x, y) in enumerate([(10, 30.5), (20, 31), (21, 11), (11, 10)], 1):
        across, up = map(keys_of, knobs[f"to{place}"])
        assert across == {1001: x, 1002: x + 2} and up == {1001: HEIGHT - y, 1002: HEIGHT - y}
