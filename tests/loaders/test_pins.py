"""pins.csv: what is written comes back, and what is wrong in it is named."""

from types import SimpleNamespace

import pytest

from loaders.pins import Pin, as_pin, check_pins, read_pins, revision, write_pins
from util import UserError

ANSWERS = SimpleNamespace(name="tracks.npz", num_frames=5, video_size=(51, 71), known=lambda track: 0 <= track < 9)
PINS = [Pin(3, 0, 20.5, 10.25, 1), Pin(3, 4, 71.0, 51.0, 0), Pin(1, 2, 0.0, 0.0, 1), Pin(1, 0, 1.125, 2.0, 1)]


def test_the_file_is_a_table_that_comes_back(tmp_path):
    path = tmp_path / "pins.csv"
    assert read_pins(path, ANSWERS) == [] and revision(path) == ""
    write_pins(path, PINS)
    assert path.read_text().split("\n")[:3] == ["track,frame,x,y,visible", "3,0,20.500,10.250,1", "3,4,71.000,51.000,0"]
    assert read_pins(path, ANSWERS) == PINS
    first = revision(path)
    write_pins(path, PINS[:2])
    assert revision(path) != first
    write_pins(path, [])
    assert list(tmp_path.iterdir()) == []  # nothing is pinned: there is no file, nor any leftover of writing it


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("9,0,1,1,1\n9,1,1,1,1", "line 2: there is no track 9 in tracks.npz"),
        ("3,0,1,1,1\n3,5,1,1,1", "line 3: frame 5 is outside the video, which has frames 0 to 4"),
        ("3,0,1,1,1\n3,1,71.5,1,1", r"line 3: x, y = 71.5, 1 is outside the frame; expected x in \[0, 71\], y in "),
        ("3,0,1,1,1\n3,1,nan,1,1", "line 3: expected track,frame,x,y,visible"),
        ("3,0,1,1,1\n3,1,1,1,2", "line 3: expected track,frame,x,y,visible"),
        ("3,0,1,1,1\n3,1.5,1,1,1", "line 3: expected"),
        ("3,0,1,1,1\n3,1,1,1", "line 3: expected"),
        ("3,0,1,1,1", "line 2: track 3 has one row; expected its query and at least one pin"),
        ("3,0,1,1,1\n3,1,1,1,1\n3,1,2,2,1", "line 4: a second row of track 3 in frame 1"),
        ("3,0,1,1,1\n3,1,1,1,1\n4,0,1,1,1\n4,1,1,1,1\n3,2,1,1,1\n3,3,1,1,1", "line 6: expected all rows of track 3"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, rows, says):
    path = tmp_path / "pins.csv"
    path.write_text(f"track,frame,x,y,visible\n{rows}\n")
    with pytest.raises(UserError, match=f"pins.csv {says}"):
        read_pins(path, ANSWERS)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "pins.csv"
    path.write_text("query,frame,x,y\n")
    with pytest.raises(UserError, match="expected the first line track,frame,x,y,visible"):
        read_pins(path, ANSWERS)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not text in UTF-8"):
        read_pins(path, ANSWERS)


@pytest.mark.parametrize("values", [
    None, 7, [1, 2, 3], [1, 2, "a", 3, 1], [1, 2.5, 3, 3, 1], [1, 2, None, 3, 1], [True, 0, 1, 1, 1],
])
def test_what_a_page_sends_is_checked(values):
    with pytest.raises(UserError, match="pin 4: expected track,frame,x,y,visible"):
        as_pin(values, "pin 4")


def test_rows_of_a_right_file_pass():
    check_pins(PINS, str, ANSWERS)
