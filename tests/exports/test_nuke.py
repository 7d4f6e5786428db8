"""Nuke's nodes, read by The Foundry's grammar of curves and Tcl's of lists."""

import re

import numpy as np
import pytest

from exports import nuke
from tests.helpers.known_tracks import (
    FPS,
    HIDDEN,
    NUM_FRAMES,
    SIZE,
    assert_keys,
    known_tracks,
    many_tracks,
    options,
    seen,
)
from tracking.tracks_file import Tracks

HEIGHT, WIDTH = SIZE


def words(text):
    """A Tcl list as nested Python lists: braces nest, quotes hold a word."""
    stack = [[]]
    for opens, closes, quoted, word in re.findall(r'(\{)|(\})|"([^"]*)"|([^\s{}"]+)', text):
        if opens:
            stack.append([])
        elif closes:
            inner = stack.pop()
            stack[-1].append(inner)
        else:
            stack[-1].append(quoted or word)
    (top,) = stack
    return top


def keys_of(curve):
    """{frame: value} of a curve: a key's frame is x<frame>, or one step on from the last two where it has none."""
    assert curve[0] == "curve"
    keys, frame, step = {}, None, 1
    for word in curve[1:]:
        if word in "KLSRC":
            continue
        if word.startswith("x"):
            following = int(word[1:])
            step = following - frame if frame is not None else 1
            frame, named = following, True
        else:
            if not named:
                frame = frame + step
            keys[frame], named = float(word), False
    return keys


def rows_of(text):
    tree = words(text)
    knobs = tree[tree.index("Tracker4") + 1]
    (header, columns, rows), = [knobs[knobs.index("tracks") + 1]]
    assert header[0] == "1" and int(header[1]) == len(columns) == 31 and int(header[2]) == len(rows)
    assert all(len(row) == 31 for row in rows)
    return rows


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


def quad(order):
    """Tracks of a square's corners, in the given order of LL, LR, UR, UL, that moves to the right."""
    corners = np.array([[10, 30.5], [20, 31], [21, 11], [11, 10]])[list(order)]
    positions = (corners[:, None] + np.array([[0, 0], [2, 0]])).astype(np.float32)
    queries = np.column_stack([np.zeros(4), corners[:, ::-1]]).astype(np.float32)
    flags = np.zeros((4, 2), bool)
    return Tracks(queries, positions, flags, flags * np.float32(0), flags * np.float32(0), SIZE, SIZE, FPS)


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
