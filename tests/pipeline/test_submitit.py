"""submitit for real, with processes of this machine in place of SLURM's; and what it would hand to SLURM."""

import importlib.util
import re

import pytest

import run
from pipeline import engine
from pipeline.executors import BySubmitit
from pipeline.resources import Need
from tests.helpers import drivers
from tests.helpers.commands import refused
from tests.helpers.stub_plans import stub_plan
from tests.pipeline.conftest import FAST

needs_submitit = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None, reason="needs requirements-slurm.txt")
PROGRAMS = {  # that a machine of SLURM has
    "sbatch": 'cp "$1" "$0.$$"; echo Submitted batch job 77',
    "sinfo": "printf 'cpu 64 1000\\ngpu 4 16000+\\n'", "srun": "exit 1", "sacct": "exit 1", "scontrol": "exit 1",
}


@needs_submitit
def test_killed_worker_and_killed_driver(undisturbed, tmp_path):
    """The job that trains is killed, then the driver: its job goes on, and the same command waits for it."""
    out, log = tmp_path / "results", tmp_path / "log"
    command = [undisturbed.video, "--out", out, "--slurm", "local", *FAST]
    driver = drivers.start(log, *command)
    try:
        process, worker, _ = drivers.wait_for(lambda: drivers.training(out), driver)
        drivers.kill(worker)
        drivers.wait_for(lambda: drivers.is_gone(process))
        drivers.wait_for(lambda: drivers.training(out), driver)  # tried again
    finally:
        driver.kill()
        driver.wait()
    driver = drivers.start(log, *command)
    assert driver.wait(900) == 0, log.read_text()
    assert "--resume" in (out / "a" / "log.txt").read_text()
    quiet = (undisturbed.out / "a" / "tracks.npz").read_bytes()
    assert (out / "a" / "tracks.npz").read_bytes() == quiet


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Programs of SLURM's names on the path; their folder, in which sbatch leaves what it was given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, line in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@needs_submitit
def test_tasks_that_ask_for_the_same_are_one_array(slurm, tmp_path):
    executor = BySubmitit(tmp_path / "out", "slurm", "gpu", minutes=30, gpus=1)
    for name in ("a", "b", "c"):
        executor.submit(engine.next_task(stub_plan(tmp_path / "out", name)))
    executor.submit_queue()
    large = engine.Task(stub_plan(tmp_path / "out", "d"), ("data",), Need(16, 2**36, 0.5), 0)
    assert executor.largest == (4, 16000 * 2**20)  # of that partition
    scripts = [path.read_text() for path in slurm.glob("sbatch.*")]
    assert len(scripts) == 1 and len(executor.jobs) == 3
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", scripts[0], re.MULTILINE))
    assert asked["array"].startswith("0-2") and asked["partition"] == "gpu" and asked["time"] == "30"
    assert asked["cpus-per-task"] == "1" and asked["mem"] == "2GB" and "gpus-per-node" not in asked
    assert [job.job_id for _, job in executor.jobs] == ["77_0", "77_1", "77_2"]
    for path in slurm.glob("sbatch.*"):
        path.unlink()
    executor.submit(large)
    executor.submit_queue()
    (script,) = [path.read_text() for path in slurm.glob("sbatch.*")]
    for line in ("--cpus-per-task=4", "--mem=15GB", "--gpus-per-node=1"):  # no more than there is, whole GPUs
        assert f"#SBATCH {line}\n" in script


def test_what_slurm_would_refuse(videos, slurm, tmp_path, capsys, monkeypatch):
    arguments = videos / "a.mp4", "--out", tmp_path / "out", "--slurm"
    if importlib.util.find_spec("submitit") is None:
        assert "requirements-slurm.txt" in refused(capsys, run.main, *arguments)
        return
    line = refused(capsys, run.main, *arguments, "--partition", "huge")
    assert "--partition huge: unknown here; expected one of cpu, gpu" in line
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no sbatch and sinfo here" in refused(capsys, run.main, *arguments)
