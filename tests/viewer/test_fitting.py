"""Fitting from the page: one at a time, cancelled whole, its errors in a line; with programs that only pretend."""

import json
import sys
import time

import pytest

from tests.helpers.page import served
from tests.viewer.test_app import answer, call, refused
from util import UserError
from viewer.fitting import Fitting, folder_of, new_folder

SAYS = "print('reading'); print('tracks: 2, pins: 3; 5.00 px off them on average before, 0.00 now')"
MAKES = "import os, sys; os.listdir(sys.argv[sys.argv.index('--out_dir') + 1])"
WAITS = "print('at it', flush=True); import time; time.sleep(600)"
FAILS = "print('reading'); sys.stderr.write('error: pins.csv line 3: frame 9 is outside\\n'); sys.exit(2)"


def fitting(tmp_path, *program, opened=lambda folder: None, pins=True):
    """Of a run in tmp_path / 'dog', by a program of these lines."""
    run = tmp_path / "dog"
    run.mkdir(exist_ok=True)
    if pins:
        (run / "pins.csv").write_text("track,frame,x,y,visible\n")
    return Fitting(run, run / "pins.csv", opened, program=(sys.executable, "-c", "\n".join([MAKES, *program])))


def until(condition):
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


def test_what_was_made_is_opened(tmp_path):
    opened = []
    found = fitting(tmp_path, SAYS, opened=opened.append)
    assert found.status()["state"] == "idle"
    found.start()
    until(lambda: found.status()["state"] != "running")
    assert found.status()["state"] == "done" and "5.00 px off them on average before" in found.status()["line"]
    assert opened == [tmp_path / "dog-pins-1"] and opened[0].is_dir()
    assert new_folder(tmp_path / "dog") == tmp_path / "dog-pins-2"  # made, so that nobody else takes it
    assert new_folder(tmp_path / "dog-pins-1") == tmp_path / "dog-pins-3"
    checkpoint = tmp_path / "dog" / "checkpoints" / "step_000000001.pt"
    assert folder_of(checkpoint) == folder_of(tmp_path / "dog") == tmp_path / "dog"
    assert folder_of(tmp_path / "models" / "best.pt") == tmp_path / "models"


def test_one_at_a_time_and_nothing_is_left_of_what_is_cancelled(tmp_path):
    found = fitting(tmp_path, WAITS)
    found.start()
    until(lambda: found.status()["line"] == "at it")
    with pytest.raises(UserError, match="fitted already"):
        found.start()
    found.cancel()
    assert found.status() == {"state": "cancelled", "line": "cancelled", "seconds": 0}
    assert found.process.returncode is not None and [path.name for path in tmp_path.iterdir()] == ["dog"]
    found.cancel()  # nothing runs: nothing to do


def test_what_fails_is_told_in_its_own_line(tmp_path):
    found = fitting(tmp_path, FAILS)
    found.start()
    until(lambda: found.status()["state"] == "failed")
    assert found.status()["line"] == "pins.csv line 3: frame 9 is outside" and not (tmp_path / "dog-pins-1").exists()

    def broken(folder):
        raise UserError(f"{folder}: no checkpoint")

    found = fitting(tmp_path, SAYS, opened=broken)
    found.start()
    until(lambda: found.status()["state"] == "failed")
    assert found.status()["line"].endswith("dog-pins-1: no checkpoint")


def test_without_pins_nothing_is_begun(tmp_path):
    with pytest.raises(UserError, match="nothing is pinned yet"):
        fitting(tmp_path, SAYS, pins=False).start()


def test_the_server_begins_tells_and_cancels(scene, tmp_path):
    ours = scene.fitting
    assert ours.run.name == "somewhere" and ours.pins == scene.pins
    with served(scene) as found:
        address = found.removeprefix("http://")
        scene.fitting = fitting(tmp_path, WAITS)
        assert answer(address, "/scene")["fits"] and answer(address, "/fit")["state"] == "idle"
        assert call(address, "/fit", method="POST", Origin="http://evil.example")[0] == 403
        assert answer(address, "/fit", method="POST")["state"] == "running"
        assert "fitted already" in refused(address, "/fit", method="POST")
        assert json.loads(call(address, "/fit", method="DELETE")[2])["state"] == "cancelled"
        scene.fitting = None
        assert not answer(address, "/scene")["fits"] and "--run" in refused(address, "/fit", method="POST")
    scene.fitting = ours
