"""run.py on one video: what it makes, what the same command does again, and what is refused."""

import json
import shutil

import numpy as np
import pytest

import run
from benchmarks.scenes import make_scene
from tests.helpers.commands import call, refused
from tests.pipeline.conftest import FAST


@pytest.fixture
def results(undisturbed, tmp_path):
    return shutil.copytree(undisturbed.out, tmp_path / "results")


def test_what_is_made(undisturbed):
    folder = undisturbed.out / "a"
    found = json.loads((folder / "status.json").read_text())
    assert found["state"] == "done" and list(found["stages"]) == ["data", "fit", "tracks"]
    assert {path.name for path in folder.iterdir()} == {
        "data", "run", "tracks.npz", "log.txt", "status.json", "thumbnail.jpg", ".lock"}
    assert np.load(folder / "tracks.npz")["tracks"].shape[1] == 5
    assert "1 done" in (undisturbed.out / "index.html").read_text()


def test_the_same_command_does_only_what_a_change_asks_for(undisturbed, results, tmp_path, capsys):
    """Nothing; then, for other queries and a table, tracks and figures; the data directory is not kept any more."""
    log = results / "a" / "log.txt"
    before = log.read_text()
    arguments = undisturbed.video, "--out", results, *FAST
    call(run.main, *arguments)
    assert log.read_text() == before and "0 of them to do" in capsys.readouterr().out
    make_scene("occlusion", seed=0, num_frames=5, height=32, width=48).save(tmp_path / "truth" / "a", num_points=9)
    call(run.main, *arguments, "--queries", "grid:16", "--evaluate", tmp_path / "truth", "--keep", "run")
    commands = [line.split()[2] for line in log.read_text()[len(before) :].splitlines() if line.startswith("$ ")]
    assert commands == ["track.py", "evaluate.py"]
    assert len(np.load(results / "a" / "tracks.npz")["tracks"]) == 6  # 48 x 32 in steps of 16
    figures = json.loads((results / "scores.json").read_text())["videos"]["a"]["run"]
    assert 0 <= figures["AJ"] <= 100 and "| a " in capsys.readouterr().out
    assert f"{figures['AJ']:.2f}" in (results / "index.html").read_text()
    assert not (results / "a" / "data").exists() and (results / "a" / "run").exists()


def test_failures_are_listed_and_the_code_is_one(videos, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        call(run.main, videos / "broken.mp4", "--out", tmp_path / "out", *FAST)
    assert ended.value.code == 1
    assert "broken: " in capsys.readouterr().err and "failed" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize("options, expected", [
    (["--what", "smell"], "--what smell: expected some of tracks"),
    (["--export", "nonsense"], "--export nonsense: "),
    (["--partition", "gpu"], "--partition acts on --slurm"),
    (["--ray", "local", "--slurm"], "--ray and --slurm: expected one of them"),
    (["--config", "none.txt"], "none.txt: no such file"),
    (["--train_args", "--num_iters 0"], "num_iters = 0: expected a whole number from 1"),
    (["--preprocess_args", "--flow magic"], "--preprocess_args: argument --flow: invalid choice"),
    (["--preprocess_args", "--cuts split"], "--cuts split makes several data directories"),
    (["--queries", "grid:8", "grid:4"], "grid:8 and grid:4: expected one for all"),
    (["--queries", "a=none.npz"], "--queries a=none.npz: no such file"),
    (["--queries", "b=grid:4"], "--queries b=...: no video of that name; there are a"),
    (["--evaluate", "none.npz"], "none.npz: no such ground truth"),
])
def test_wrong_options(videos, tmp_path, capsys, options, expected):
    assert expected in refused(capsys, run.main, videos / "a.mp4", "--out", tmp_path / "out", *options)


def test_wrong_places(videos, undisturbed, tmp_path, capsys):
    assert "nothing that matches" in refused(capsys, run.main, tmp_path / "none", "--out", tmp_path / "out")
    assert "holds other files" in refused(capsys, run.main, videos / "a.mp4", "--out", videos)
    assert "another plan" in refused(capsys, run.main, videos / "b.mp4", "--out", undisturbed.out)
    assert not (tmp_path / "out" / "plan.json").exists()
