"""pins.csv: where a person says that points are.

    track,frame,x,y,visible
    3,0,120.500,64.250,1        the first row of a track is its query: the point that was followed
    3,17,131.000,66.750,1       each further row is a pin: here the point is, seen (1) or hidden (0)

Positions are pixels of the original video, centres at +0.5. Rows of one track stand together. Who pins knows what the
pins are of: `video`, which has num_frames, video_size (H, W), a name, and known(track), whether there is such a track.
"""

import csv
import hashlib
import math
from itertools import groupby
from typing import NamedTuple

from files import UserError, atomic_path, read_table

MOST_BYTES = 2**24  # of a file: half a million rows
COLUMNS = ["track", "frame", "x", "y", "visible"]


class PinnedVideo(NamedTuple):
    """What pins are of where any track may be pinned, as each brings its query along."""

    name: str
    num_frames: int
    video_size: tuple

    def known(self, track):
        return track >= 0


class Pin(NamedTuple):
    """A row of the file."""

    track: int
    frame: int
    x: float
    y: float
    visible: int


def as_pin(values, where):
    """Five numbers, or their texts -> Pin. UserError, which names `where`, when they are not."""
    try:
        track, frame, x, y, visible = values
        track, frame, visible = (int(str(value)) for value in (track, frame, visible))
        pin = Pin(track, frame, float(x), float(y), visible)
        right = math.isfinite(pin.x) and math.isfinite(pin.y) and pin.visible in (0, 1)
    except (TypeError, ValueError, OverflowError):
        right = False
    if not right:
        raise UserError(f"{where}: expected {','.join(COLUMNS)} (visible 0 or 1), got {values!r}")
    return pin


def check_pins(pins, where, video):
    """UserError for the first of [Pin] that is of no frame, place or track of the video.

    where: function of a pin's index -> what it is called.
    """
    height, width = video.video_size
    for row, pin in enumerate(pins):
        if not video.known(pin.track):
            raise UserError(f"{where(row)}: there is no track {pin.track} in {video.name}")
        if not 0 <= pin.frame < video.num_frames:
            raise UserError(f"{where(row)}: frame {pin.frame} is outside the video, which has frames 0 to "
                            f"{video.num_frames - 1}")
        if not (0 <= pin.x <= width and 0 <= pin.y <= height):
            raise UserError(f"{where(row)}: x, y = {pin.x:g}, {pin.y:g} is outside the frame; expected x in "
                            f"[0, {width}], y in [0, {height}]")
    check_rows(pins, where)


def check_rows(pins, where):
    """UserError for a track whose rows are apart, are not a query and pins, or say two things of one frame."""
    done, row = set(), 0
    for track, rows in groupby(pins, key=lambda pin: pin.track):
        frames = [pin.frame for pin in rows]
        if track in done:
            raise UserError(f"{where(row)}: expected all rows of track {track} together")
        if len(frames) < 2:
            raise UserError(f"{where(row)}: track {track} has one row; expected its query and at least one pin")
        if not pins[row].visible:
            raise UserError(f"{where(row)}: the query of track {track} is hidden; expected first where it is seen")
        twice = next((k for k, frame in enumerate(frames) if frame in frames[:k]), None)
        if twice is not None:
            raise UserError(f"{where(row + twice)}: a second row of track {track} in frame {frames[twice]}")
        done.add(track)
        row += len(frames)


def read_pins(path, video):
    """The rows of a file, [] when there is none. UserError that names file and line when something is wrong in it."""
    if not path.exists():
        return []
    lines = read_table(path, f"rows of {','.join(COLUMNS)}", MOST_BYTES)
    if not lines or lines[0] != COLUMNS:
        raise UserError(f"{path}: expected the first line {','.join(COLUMNS)}")
    numbered = [(number, line) for number, line in enumerate(lines[1:], start=2) if line]
    pins = [as_pin(line, f"{path} line {number}") for number, line in numbered]
    check_pins(pins, lambda row: f"{path} line {numbered[row][0]}", video)
    return pins


def write_pins(path, pins):
    """Write [Pin], whole or not at all; with none of them the file goes."""
    if not pins:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for pin in pins:
            writer.writerow([pin.track, pin.frame, f"{pin.x:.3f}", f"{pin.y:.3f}", pin.visible])


def revision(path):
    """A text that differs when the file's content does."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""
