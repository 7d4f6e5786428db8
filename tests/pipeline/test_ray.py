"""Ray for real, on this machine: a worker and the driver killed in mid-training, and what cannot be reached."""

import importlib.util
import json
import socket

import pytest

import run
from tests.helpers import drivers
from tests.helpers.commands import refused
from tests.pipeline.conftest import FAST

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs requirements-ray.txt")


@needs_ray
def test_killed_worker_and_killed_driver(videos, undisturbed, tmp_path):
    """Three videos, one broken and one of another's name, on Ray's workers; the results are those of a quiet run."""
    out, log = tmp_path / "results", tmp_path / "log"
    command = [videos / "a.mp4", videos / "broken.mp4", videos / "more", "--out", out, "--ray", "local", *FAST]
    driver = drivers.start(log, *command)
    try:
        killed, worker, first = drivers.wait_for(lambda: drivers.training(out), driver)
        drivers.kill(worker)
        drivers.wait_for(lambda: drivers.is_gone(killed))
        words = out / first / "log.txt"
        drivers.wait_for(lambda: "--resume" in words.read_text(), driver)  # Ray has begun it again

        def another():
            found = drivers.training(out)
            return found if found and found[0] != killed else None

        process, worker, _ = drivers.wait_for(another, driver)
    finally:
        driver.kill()
        driver.wait()
    drivers.wait_for(lambda: drivers.is_gone(process) and drivers.is_gone(worker))

    driver = drivers.start(log, *command)
    assert driver.wait(900) == 1, log.read_text()
    assert "broken: " in log.read_text() and "not a readable video" in log.read_text()
    assert "2 of 3 videos are done" in log.read_text()
    found = {path.parent.name: json.loads(path.read_text())["state"] for path in out.glob("*/status.json")}
    assert found == {"a": "done", "a-2": "done", "broken": "failed"}
    quiet = (undisturbed.out / "a" / "tracks.npz").read_bytes()
    assert all((out / name / "tracks.npz").read_bytes() == quiet for name in ("a", "a-2"))  # of the same frames


def test_what_cannot_be_reached(videos, tmp_path, capsys):
    arguments = videos / "a.mp4", "--out", tmp_path / "out"
    if importlib.util.find_spec("ray") is None:
        assert "requirements-ray.txt" in refused(capsys, run.main, *arguments, "--ray", "local")
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert f"--ray {address}: not reachable" in refused(capsys, run.main, *arguments, "--ray", address)
    assert "expected local, auto or HOST:PORT" in refused(capsys, run.main, *arguments, "--ray", "somewhere")
    assert "--ray auto: " in refused(capsys, run.main, *arguments, "--ray", "auto")
