"""Many plans on the executor of this process: order, retries, failures, what is left afterwards."""

import multiprocessing
import time
from types import SimpleNamespace

import pytest

from pipeline import engine, status, tasks
from pipeline.executors import InProcess
from pipeline.plan import left
from pipeline.resources import Need
from pipeline.tasks import Outcome
from tests.helpers.drivers import is_gone, wait_for
from tests.helpers.stub_plans import COUNT, MAKE, calls, stub_plan


@pytest.fixture(autouse=True)
def no_thumbnails(monkeypatch):
    monkeypatch.setattr(tasks, "write_thumbnail", lambda plan: None)


def carry_out(plans, retries=0):
    """{name: reason} as they settle, in that order."""
    settled = {}
    engine.carry_out_all(plans, InProcess(), retries, settled.__setitem__)
    return settled


def test_each_stage_once_and_nothing_twice(tmp_path):
    plans = [stub_plan(tmp_path, name) for name in ("b", "a")]
    assert carry_out(plans) == {"b": None, "a": None}
    assert carry_out(plans) == {"b": None, "a": None}
    assert calls(tmp_path, "a") == calls(tmp_path, "b") == ["data", "run", "out"]
    found = status.read(tmp_path / "a")
    assert found["state"] == "done" and "stage" not in found
    assert all(entry["memory"] > 10**6 and entry["seconds"] > 0 for entry in found["stages"].values())


def test_a_failure_is_one_line_and_stops_no_other(tmp_path):
    wrong = "import sys; print('so far'); print('error: a.mp4: no frames', file=sys.stderr); sys.exit(2)"
    plans = [stub_plan(tmp_path, "a", {"data": wrong}), stub_plan(tmp_path, "b")]
    assert carry_out(plans, retries=3) == {"a": "a.mp4: no frames", "b": None}
    assert (tmp_path / "a" / "log.txt").read_text().count("$ python") == 1  # it would fail again
    found = status.read(tmp_path / "a")
    assert (found["state"], found["stage"], found["reason"]) == ("failed", "data", "a.mp4: no frames")


def test_a_crash_is_tried_again_as_often_as_asked(tmp_path):
    second = MAKE + "mark = path.parents[1] / 'mark'; ok = mark.exists(); mark.touch(); path.mkdir(); 1 / ok"
    plans = [stub_plan(tmp_path, name, {"fit": second}) for name in ("a", "b")]
    assert carry_out(plans[:1], retries=0)["a"].endswith("ZeroDivisionError: division by zero")
    assert left(plans[0]) == ["fit", "tracks"]
    assert carry_out(plans, retries=1) == {"a": None, "b": None}
    assert (tmp_path / "b" / "log.txt").read_text().count("$ python") == 4


def test_want_of_memory_asks_for_more_and_takes_less(tmp_path):
    killed = MAKE + ("path.touch() if 'frugal' in sys.argv else "
                     "__import__('os').kill(__import__('os').getpid(), 9)")
    plan = stub_plan(tmp_path, "a", {"tracks": killed})
    assert carry_out([plan], retries=0) == {"a": "-S was killed (for want of memory?)"}
    assert carry_out([plan], retries=1) == {"a": None}
    task = engine.next_task(stub_plan(tmp_path, "b"))
    again = engine.once_more(task, Outcome("memory", "killed"), 1)
    assert again.need == Need(task.need.cores, 2 * task.need.memory, task.need.gpus) and again.frugal
    assert engine.once_more(again, Outcome("memory", "killed"), 1) is None
    assert engine.once_more(task, Outcome("input", "no"), 9) is None
    assert engine.once_more(task, Outcome("crash", "lost"), 1).need == task.need


def test_what_is_not_kept_goes_and_is_made_again_only_where_needed(tmp_path):
    plan = stub_plan(tmp_path, "a", keep="tracks")
    carry_out([plan])
    assert not (tmp_path / "a" / "data").exists() and not (tmp_path / "a" / "run").exists()
    assert left(plan) == []
    (tmp_path / "a" / "out" / "t").unlink()
    assert left(plan) == ["data", "fit", "tracks"]
    kept = stub_plan(tmp_path, "b", keep="run")
    carry_out([kept])
    assert not (tmp_path / "b" / "data").exists() and (tmp_path / "b" / "run" / "checkpoints").exists()
    (tmp_path / "b" / "out" / "t").unlink()
    assert left(kept) == ["data", "tracks"]


def test_a_command_ends_with_whoever_started_it(tmp_path):
    """A process that is killed takes its command along; the next one has the video at once."""
    slow = MAKE + "(path.parent / 'pid').write_text(str(__import__('os').getpid())); __import__('time').sleep(60)"
    plan = stub_plan(tmp_path, "a", {"fit": slow})
    process = multiprocessing.get_context("spawn").Process(target=tasks.carry_out, args=(plan, ("fit",)))
    (tmp_path / "a" / "data").mkdir(parents=True)
    (tmp_path / "a" / "data" / "manifest.json").touch()
    stages = {"data": {"key": "data-key", "state": "done"}}
    status.begin(tmp_path / "a", state="waiting", stages=stages)
    process.start()
    pid_file = tmp_path / "a" / "run" / "pid"
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    pid = int(pid_file.read_text())
    process.kill()
    process.join()
    wait_for(lambda: is_gone(pid))
    assert tasks.carry_out(stub_plan(tmp_path, "a"), ("fit", "tracks")) == Outcome()


def test_memory_and_time_of_many_videos_stay_flat(tmp_path):
    """What the engine adds for each of many videos, beside what its commands take, and that it does not grow."""
    plans = [stub_plan(tmp_path, f"v{k}", dict.fromkeys(("data", "fit", "tracks"), COUNT)) for k in range(20)]
    began = time.process_time()
    assert set(carry_out(plans).values()) == {None}
    assert (time.process_time() - began) / len(plans) < 0.2  # seconds of this process for a video


@pytest.mark.parametrize("code, words, expected", [
    (2, "bar 1\rbar 2\nerror: x.mp4: cut\n", ("input", "x.mp4: cut")),
    (2, "error: out of GPU memory: lower --chunk\n", ("memory", "out of GPU memory: lower --chunk")),
    (2, "error: a worker process ended (stopped by the system for want of memory?): ...", ("memory", None)),
    (-9, "half a ba", ("memory", "train was killed (for want of memory?)")),
    (137, "", ("memory", "train was killed (for want of memory?)")),
    (1, "Traceback\n  File\nMemoryError\n", ("memory", "train ended with exit code 1: MemoryError")),
    (-11, "", ("crash", "train ended with signal 11: nothing was said")),
    (0, "stopped by SIGTERM; go on with --resume: 3 steps\nnext: ...\n",
     ("crash", "train: stopped by SIGTERM; go on with --resume: 3 steps")),
])
def test_what_failed(code, words, expected):
    kind, reason = tasks.what_failed(code, words, "train")
    assert kind == expected[0] and expected[1] in (None, reason)


def test_a_machine_that_does_not_see_the_results(tmp_path):
    plan = SimpleNamespace(folder=str(tmp_path / "elsewhere" / "a"))
    outcome = tasks.carry_out(plan, ("data",))
    assert outcome.kind == "input" and "does not see" in outcome.reason


def test_preprocessing_takes_the_cores_that_it_was_given(tmp_path):
    tasks.carry_out(stub_plan(tmp_path, "a"), ("data", "fit"), cores=3)
    lines = [line for line in (tmp_path / "a" / "log.txt").read_text().splitlines() if line.startswith("$ ")]
    assert [line.endswith("--workers 3") for line in lines] == [True, False]
