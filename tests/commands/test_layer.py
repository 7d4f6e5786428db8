"""A surface fitted to one object alone: train.py --layer, and what track.py says of it and of what is beside it."""

import numpy as np
import pytest

import checkpoints
import preprocess
import track
import train
from benchmarks.scenes import SceneFlow, make_scene
from flow.formats import read_flo
from loaders.data_dir import DataDir, write_image
from tests.helpers.commands import refused
from tests.helpers.paths import ROOT
from tracking.tracks_file import read_tracks

STEPS = ["--field_width", "16", "--num_iters", "20", "--num_pairs", "8", "--num_points", "16", "--held_out", "0",
         "--depth_start", "flat"]


@pytest.fixture(scope="module")
def layered(tmp_path_factory):
    """A data directory with the object of all frames as layer 1, and a run that is fitted to it."""
    folder = tmp_path_factory.mktemp("layered")
    scene = make_scene("occlusion", seed=0, num_frames=6, height=32, width=48)
    for i in range(6):
        write_image(folder / f"masks/{i:05d}.png", scene.mask(i).astype(np.uint8))
    preprocess.build(scene.video, folder / "data", flow=SceneFlow(scene), layers=folder / "masks", quiet=True)
    train.main(["--config", str(ROOT / "configs/default.txt"), "--data_dir", str(folder / "data"), "--out_dir",
                str(folder / "run"), "--quiet", "--layer", "1", *STEPS])
    return folder


def test_what_is_beside_the_object_is_tracked_by_flow_alone(layered):
    for name, options in (("of_run", ["--run", layered / "run"]), ("of_flow", ["--data_dir", layered / "data"])):
        track.main([*map(str, options), "--queries", "grid:3@2", "--out", str(layered / f"{name}.npz")])
    run, flow = (read_tracks(layered / f"{name}.npz") for name in ("of_run", "of_flow"))
    y, x = run.query_points[:, 1:].T.astype(int)
    on_it = DataDir.open(layered / "data").layers(2)[0][y, x] == 1
    assert 5 < on_it.sum() < len(on_it) - 5
    assert np.array_equal(run.tracks[~on_it], flow.tracks[~on_it]) and np.isnan(run.depth[~on_it]).all()
    assert np.array_equal(run.occlusion_score[~on_it], flow.occlusion_score[~on_it])
    assert np.isfinite(run.depth[on_it]).all()
    assert (run.tracks[on_it] != flow.tracks[on_it]).any((1, 2)).all()  # 20 steps: it adds its errors to each


def test_dense_flow_beside_the_object_is_that_of_flow_alone(layered):
    for name, options in (("of_run", ["--run", layered / "run"]), ("of_flow", ["--data_dir", layered / "data"])):
        track.main([*map(str, options), "--flow", "1", "4", "--out", str(layered / f"{name}.flo")])
    run, flow = (read_flo(layered / f"{name}.flo") for name in ("of_run", "of_flow"))
    on_it = DataDir.open(layered / "data").layers(1)[0] == 1
    assert np.array_equal(run[~on_it], flow[~on_it]) and (run[on_it] != flow[on_it]).any(-1).all()


def test_only_the_object_is_in_the_cloud(layered, capsys):
    out = layered / "cloud.ply"
    track.main(["--run", str(layered / "run"), "--canonical", "3", "--stride", "1", "--out", str(out)])
    count = (DataDir.open(layered / "data").layers(3)[0] == 1).sum()
    assert f"{out}: {count} points seen from frames 3" in capsys.readouterr().out


def test_what_is_refused(layered, capsys):
    arguments = ["--data_dir", layered / "data", "--out_dir", layered / "other", *STEPS]
    default = ["--config", ROOT / "configs/default.txt"]
    assert "layer 9: in no frame of" in refused(capsys, train.main, *default, *arguments, "--layer", "9")
    volume = ["--data_dir", layered / "data", "--out_dir", layered / "other", "--layer", "1"]
    assert "layer acts on rendering surface" in refused(capsys, train.main, *volume)
    resumed = ["--data_dir", layered / "data", "--out_dir", layered / "run", *STEPS, "--resume"]
    assert "layer is -1 here but 1 in the run" in refused(capsys, train.main, *default, *resumed)
    newest = checkpoints.newest(layered / "run")
    state = checkpoints.read(newest)
    del state["config"]["layer"]  # as runs were from before there was any such
    checkpoints.save(newest, state)
    assert "layer is 1 here but -1 in the run" in refused(capsys, train.main, *default, *resumed, "--layer", "1")
