"""Source frames shared out among processes: equal bytes, and nothing lost or left when one of them dies."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import cv2
import numpy as np
import psutil
import pytest
import torch

from loaders.data_dir import write_image
from preprocess import build, stages
from preprocess.workers import Workers
from tests.helpers.moving_clip import MovingFlow, moving_clip
from tests.helpers.paths import ROOT
from util import UserError

COUNT, SIZE = 7, (48, 72)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A folder of frames of blurred noise that moves by (3, 1) pixels a frame."""
    folder = tmp_path_factory.mktemp("clip")
    noise = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (90, 120, 3)), (0, 0), 1.5)
    noise = ((noise - noise.mean()) / noise.std() * 50 + 128).clip(0, 255).astype(np.uint8)
    for k in range(COUNT):
        write_image(folder / f"{k}.png", noise[20 - k : 20 - k + SIZE[0], 30 - 3 * k : 30 - 3 * k + SIZE[1]])
    return folder


@pytest.fixture(scope="module")
def undisturbed(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("alone") / "data"
    build(clip, path, flow="dis", device="cpu", workers=1, quiet=True)
    return contents(path)


def contents(path):
    """{file: bytes} of a data directory."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def start(clip, path):
    """`python -m preprocess` with two workers, as its own process; returns once a first frame's flow is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "preprocess", str(clip), "--data_dir", str(path), "--flow", "dis", "--workers", "2",
         "--device", "cpu"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a shell's background jobs ignore Ctrl-C
    wait_for(lambda: any((path / "flow").glob("0*.npy")), process)
    return process


def wait_for(condition, process=None, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end and (process is None or process.poll() is None)
        time.sleep(0.01)


def children_of(process):
    """Pids of the worker processes, the longest running first (the resource tracker of Python is none)."""
    return [child.pid for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]


def is_running(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_the_bytes_do_not_depend_on_the_number_of_workers(clip, undisturbed, tmp_path):
    build(clip, tmp_path / "data", flow="dis", device="cpu", workers=3, quiet=True)
    assert contents(tmp_path / "data") == undisturbed


def test_a_worker_that_is_killed_is_told_and_what_is_done_is_kept(clip, undisturbed, tmp_path):
    process = start(clip, tmp_path / "data")
    os.kill(children_of(process)[0], signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    last = told.strip().splitlines()[-1]
    assert process.returncode == 2 and "a worker process ended while doing" in last and "--workers (now 2)" in last
    build(clip, tmp_path / "data", flow="dis", device="cpu", quiet=True)
    assert contents(tmp_path / "data") == undisturbed


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_the_command(clip, undisturbed, tmp_path, number):
    process = start(clip, tmp_path / "data")
    workers = children_of(process)
    assert len(workers) == 2
    process.send_signal(number)
    process.communicate(timeout=60)
    wait_for(lambda: not any(map(is_running, workers)), seconds=10)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    build(clip, tmp_path / "data", flow="dis", device="cpu", quiet=True)
    assert contents(tmp_path / "data") == undisturbed


class Threads:
    """A state that says how many threads its process uses."""

    def of(self, library):
        return {"torch": torch.get_num_threads, "opencv": cv2.getNumThreads}[library]()


def test_each_worker_has_one_thread():
    with Workers(2, Threads) as workers:
        assert list(workers.do("of", [("torch",), ("opencv",)] * 2)) == [1] * 4


def test_tasks_are_taken_as_they_are_needed():
    taken = []

    def tasks():
        for k in range(40):
            taken.append(k)
            yield (str(k),)

    with Workers(1, str) as workers:  # state: ""
        results = workers.do("join", tasks())
        next(results)
        assert len(taken) < 6
        assert len(list(results)) == 39


def test_none_is_refused(clip, tmp_path):
    with pytest.raises(UserError, match=r"--workers 0: expected at least 1 process"):
        build(clip, tmp_path / "data", flow="dis", workers=0, quiet=True)
    assert not (tmp_path / "data").exists()


class OnGpu(MovingFlow):
    """One that finds flow of several source frames together, in the first process alone."""

    def flow_from_many(self, sources):
        self.together = [*getattr(self, "together", []), [i for i, _ in sources]]
        return [torch.from_numpy(self.flow_from(*source)) for source in sources]

    def for_workers(self):
        return None


def test_on_a_gpu_several_frames_are_estimated_together_in_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "at_once", lambda frames, *_: [frames[:2], frames[2:]] if frames else [])
    estimator = OnGpu()
    build(moving_clip(), tmp_path / "together", flow=estimator, workers=2, device="cpu", quiet=True)
    build(moving_clip(), tmp_path / "alone", flow=MovingFlow(), workers=1, device="cpu", quiet=True)
    assert estimator.together == [[0, 1], [2, 3, 4, 5]]
    together, alone = ({name: bytes for name, bytes in contents(tmp_path / where).items() if name.startswith("flow")}
                       for where in ("together", "alone"))
    assert together == alone and together


@pytest.mark.parametrize("device, workers, held, pairs, expected", [
    ("cpu", None, 1, 10, [1] * 20), ("cuda", 2, 1, 10, [1] * 20), ("cuda", None, 1, 10, [8, 8, 4]),
    ("cuda", None, 3, 10, [5, 5, 5, 5]), ("cuda", None, 1, 1000, [1] * 20)])
def test_frames_at_once_are_for_a_gpu_as_far_as_their_flow_fits(device, workers, held, pairs, expected):
    """854 x 480: 10 pairs are 33 MB of flow a frame, 98 with two candidates: 512 MB hold five of these, and 16."""
    data = SimpleNamespace(height=480, width=854)
    work = SimpleNamespace(data=data, estimator=SimpleNamespace(flows_held=held),
                           reader=SimpleNamespace(device=torch.device(device)))
    groups = stages.at_once(list(range(20)), pairs, work, workers)
    assert [len(group) for group in groups] == expected and sum(groups, []) == list(range(20))
