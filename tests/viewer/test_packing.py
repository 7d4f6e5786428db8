"""Numbers as the page reads them, decoded here by struct alone."""

import base64
import struct

import numpy as np
import pytest

from tracking.tracks_file import Tracks
from viewer.packing import pack, pack_tracks, place_step

LETTERS = {"float32": "f", "int16": "h", "uint8": "B"}


def unpack(packed):
    data = base64.b64decode(packed["data"])
    letter = LETTERS[packed["type"]]
    numbers = struct.unpack(f"<{len(data) // struct.calcsize(letter)}{letter}", data)
    if packed["type"] == "int16":
        numbers = [float("nan") if number == -32768 else number * packed["step"] for number in numbers]
    return list(numbers)


def test_floats_and_flags_come_back_as_they_were():
    assert unpack(pack(np.float32([[1.5, -2.25], [3e-8, 1e6]]))) == [1.5, -2.25, np.float32(3e-8), 1e6]
    assert unpack(pack(np.array([True, False]))) == [1, 0]
    assert np.isnan(unpack(pack(np.float32([np.nan])))[0])


def test_rounded_numbers_are_off_by_half_a_step_and_unknown_ones_stay_unknown():
    values = np.float32([0.3, -7.77, 1e9, -1e9, np.nan, np.inf])
    found = unpack(pack(values, 1 / 8))
    np.testing.assert_allclose(found[:2], values[:2], atol=1 / 16)
    assert found[2:4] == [32767 / 8, -32767 / 8] and np.isnan(found[4]) and found[5] == 32767 / 8


@pytest.mark.parametrize(("size", "step"), [((144, 256), 1 / 32), ((480, 854), 1 / 16), ((2160, 3840), 1 / 4)])
def test_a_place_two_images_away_fits(size, step):
    assert place_step(size) == step
    assert 32767 * step >= 2 * max(size) and 32767 * step / 2 < 2 * max(size) or step == 1 / 32


def test_tracks_are_packed_in_the_order_of_the_page():
    rng = np.random.default_rng(0)
    tracks = Tracks(np.float32([[0, 5, 6], [2, 7, 8]]), rng.uniform(0, 60, (2, 3, 2)), rng.random((2, 3)) < 0.5,
                    rng.random((2, 3)), rng.uniform(0, 2, (2, 3)), (30, 40), (60, 80), 24.0)
    for rounded, atol in ((False, 1e-5), (True, 1 / 64)):
        packed = pack_tracks(tracks, rounded)
        assert packed["count"] == 2
        for name, array in (("query", tracks.query_points), ("place", tracks.tracks), ("score", tracks.occlusion_score),
                            ("depth", tracks.depth), ("occluded", tracks.occluded)):
            np.testing.assert_allclose(unpack(packed[name]), array.ravel(), atol=atol, err_msg=name)
