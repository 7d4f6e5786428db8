"""Training on tiny clips: it learns, resumes to the bit, and stops on what is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch

import checkpoints
import preprocess
import train
from benchmarks.scenes import SceneFlow, make_scene
from loaders.data_dir import write_image
from networks import query
from tests.helpers.paths import ROOT
from tests.helpers.training_run import RENDERING, TINY, assert_equal, run
from training import volume
from util import UserError

VOLUME = RENDERING["volume"]
VOLUME_TERMS = ("total", "flow", "rgb", "rgb_gradient", "flow_gradient", "depth_range", "distortion", "smoothness",
                "unit_sphere")
SURFACE_TERMS = ("total", "flow", "rgb", "smoothness", "depth_range", "depth_same", "depth_front", "depth_behind",
                 "depth_flatness")


@pytest.mark.parametrize("rendering, error_map", [("surface", "online"), ("volume", "online"), ("volume", "render")])
def test_resume_equals_an_uninterrupted_run(data_dir, tmp_path, rendering, error_map):
    options = [*RENDERING[rendering], "--error_map", error_map, "--log_every", 4, "--num_iters", 12, "--ema", 0.9]
    whole = run(data_dir, tmp_path / "run", *options, "--save_every", 7)
    checkpoints.newest(tmp_path / "run").unlink()  # as if it had been killed after step 7
    resumed = run(data_dir, tmp_path / "run", *options, "--save_every", 6, "--resume")
    for key in ("model", "ema", "optimizer", "sampler", "rng", "step"):
        assert_equal(resumed[key], whole[key])


def test_a_step_warms_up_and_averages_and_queries_take_the_average(data_dir, tmp_path):
    options = [*RENDERING["volume"], "--ema", 0.9, "--lr_warmup", 1, "--lr_schedule", "halve", "--lr_every", 1,
               "--lr_mapping", 0.004, "--num_iters", 4, "--save_every", 1, "--keep", 9]
    run(data_dir, tmp_path / "run", *options)
    checkpoints.newest(tmp_path / "run").unlink()
    first, second = (checkpoints.read(path) for path in checkpoints.saved_steps(tmp_path / "run")[1:])
    rates = [{group["name"]: group["lr"] for group in state["optimizer"]["param_groups"]} for state in (first, second)]
    assert [rate["mapping"] for rate in rates] == pytest.approx([0.001, 0.002], rel=1e-3)  # a quarter and half of it
    opened = checkpoints.load_run(tmp_path / "run").model.state_dict()
    moved = 0
    for name, weight in second["model"].items():
        expected = (3 * first["ema"][name] + 9 * weight) / 12  # decay (1 + 2) / (10 + 2)
        assert torch.allclose(second["ema"][name].double(), expected.double(), atol=1e-6), name
        assert torch.equal(opened[name], second["ema"][name])
        moved += (weight - second["ema"][name]).abs().max().item()
    assert moved > 1e-4


def test_queries_take_the_weights_where_nothing_was_averaged(data_dir, tmp_path):
    state = run(data_dir, tmp_path / "run", *RENDERING["volume"], "--ema", 0, "--num_iters", 1)
    assert state["ema"] is None
    assert_equal(dict(checkpoints.load_run(tmp_path / "run").model.state_dict()), dict(state["model"]))


@pytest.mark.parametrize("rendering, terms, steps", [("volume", VOLUME_TERMS, 200), ("surface", SURFACE_TERMS, 100)])
def test_it_learns_the_motion(data_dir, tmp_path, rendering, terms, steps):
    run(data_dir, tmp_path / "run", *RENDERING[rendering], "--num_iters", steps, "--log_every", 25)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run")).Reload()
    errors = [event.value for event in events.Scalars("flow_error_px/all")]
    assert len(errors) == steps // 25
    scene = make_scene("occlusion", seed=0, num_frames=6, height=32, width=48)
    flow, visible = scene.flow(0, 3)
    found, _ = query.dense_flow(checkpoints.load_run(tmp_path / "run").model, 0, 3)
    error = (found - torch.from_numpy(flow)).norm(dim=-1)[torch.from_numpy(visible)].mean()
    still = torch.from_numpy(flow).norm(dim=-1)[torch.from_numpy(visible)].mean()
    assert error < 0.65 * still, (error, still)
    tags = set(events.Tags()["scalars"])
    assert {f"loss/{name}" for name in terms} <= tags
    assert {"learning_rate/mapping", "speed/steps_per_second", "max_interval", "flow_error_px/non_adjacent",
            "weights/max", "gradient_norm"} <= tags


def test_checkpoints_are_pruned_and_the_best_is_kept(data_dir, tmp_path):
    run(data_dir, tmp_path / "run", "--num_iters", 10, "--save_every", 2, "--log_every", 2, "--keep", 2)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["best.pt", "step_000000008.pt", "step_000000010.pt"]
    opened = checkpoints.load_run(tmp_path / "run")
    assert opened.step == 10 and opened.video["num_frames"] == 6
    assert json.loads((tmp_path / "run" / "config.json").read_text())["num_iters"] == 10


def poison_calls(monkeypatch, poison):
    """Let one term of the loss be NaN in calls of these numbers, from 1."""
    original, calls = volume.volume_terms, []

    def poisoned(*arguments, **scales):
        terms, statistics, error = original(*arguments, **scales)
        calls.append(1)
        if len(calls) in poison:
            terms["smoothness"] = terms["smoothness"] * float("nan")
        return terms, statistics, error

    monkeypatch.setattr(volume, "volume_terms", poisoned)


def test_non_finite_losses_halve_the_rates_from_the_last_sound_state_on(data_dir, tmp_path, monkeypatch, capsys):
    poison_calls(monkeypatch, [6, 11])
    options = [*RENDERING["volume"], "--num_iters", 12, "--log_every", 4, "--lr_schedule", "halve", "--lr_every", 1]
    state = run(data_dir, tmp_path / "run", *options, "--lr_mapping", 0.008, "--ema", 0, "--lr_warmup", 0)
    assert (state["step"], state["halvings"]) == (12, 2)
    assert {group["name"]: group["lr"] for group in state["optimizer"]["param_groups"]}["mapping"] == 0.002
    said = [line for line in capsys.readouterr().out.splitlines() if "non-finite" in line]
    assert len(said) == 2 and "step 5: non-finite" in said[0] and "the state after step 4" in said[1]
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_non_finite_loss_at_last_stops_with_step_and_term(data_dir, tmp_path, monkeypatch):
    poison_calls(monkeypatch, range(6, 1000))
    with pytest.raises(UserError, match=r"step 4: non-finite .*loss/smoothness.* halved 3 times"):
        run(data_dir, tmp_path / "run", *RENDERING["volume"], "--num_iters", 20, "--log_every", 4, "--save_every", 1)
    saved = checkpoints.read(checkpoints.newest(tmp_path / "run"))
    assert saved["step"] == 4
    assert all(torch.isfinite(value).all() for value in saved["model"].values())


def test_sigterm_saves_and_exits_cleanly(data_dir, tmp_path):
    command = [sys.executable, "train.py", "--data_dir", data_dir, "--out_dir", tmp_path / "run", *TINY,
               "--num_iters", "100000", "--save_every", "20", "--depth_start", "flat"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not checkpoints.saved_steps(tmp_path / "run") and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "SIGTERM" in output
    assert checkpoints.read(checkpoints.newest(tmp_path / "run"))["step"] > 0


def test_a_signal_in_the_midst_of_something_long_saves_in_time(data_dir, tmp_path, monkeypatch):
    maps = "--error_map", "render", "--error_map_every", 0.5
    options = [*RENDERING["volume"], *maps, "--log_every", 2, "--num_iters", 8]
    whole = run(data_dir, tmp_path / "whole", *options)

    def without_end(*_):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(100)

    with monkeypatch.context() as patch:
        patch.setattr(train, "render_error_maps", without_end)
        patch.setattr(train, "GRACE", 0.2)
        began = time.monotonic()
        assert run(data_dir, tmp_path / "run", *options)["step"] == 2  # maps were due after step 4, before its log
        assert time.monotonic() - began < 20
    resumed = run(data_dir, tmp_path / "run", *options, "--resume")
    for key in ("model", "optimizer", "sampler", "rng", "step"):
        assert_equal(resumed[key], whole[key])


def test_time_limit_ends_the_schedule(data_dir, tmp_path):
    state = run(data_dir, tmp_path / "run", "--max_minutes", 0.05, "--num_iters", 10**6)
    assert 0 < state["step"] < 10**5
    assert state["optimizer"]["param_groups"][0]["lr"] < 1e-3 * 3  # the cosine has come down


def test_init_from_another_run(data_dir, tmp_path):
    run(data_dir, tmp_path / "first", "--num_iters", 3)
    frozen = [x for name in ("mapping", "field", "depth") for x in (f"--lr_{name}", 0)]
    second = run(data_dir, tmp_path / "second", "--num_iters", 1, *frozen,
                 "--init_from", checkpoints.newest(tmp_path / "first"))
    assert_equal(second["model"], checkpoints.read(checkpoints.newest(tmp_path / "first"))["model"])
    with pytest.raises(UserError, match="does not fit"):
        run(data_dir, tmp_path / "third", "--num_iters", 1, "--coupling_layers", 2,
            "--init_from", checkpoints.newest(tmp_path / "first"))


@pytest.mark.parametrize("options", [
    [*VOLUME[:2], "--mapping", "separate", "--coupling_width", "16"], [*VOLUME[:2], "--mapping", "grid"],
    [*VOLUME, "--affine", "true"], [*VOLUME, "--photometric", "false"], [*VOLUME, "--sampling", "uniform"],
    [*VOLUME, "--mask_near", "0.5"], [*VOLUME, "--num_samples", "3"], ["--sampling", "uniform"],
    ["--mapping", "separate", "--coupling_width", "16"], ["--photometric", "false"],
])
def test_ablations_run(data_dir, tmp_path, options):
    state = run(data_dir, tmp_path / "run", *options, "--num_iters", 2)
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def exit_of(*arguments):
    command = [sys.executable, "train.py", *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return result.returncode, result.stderr.strip().splitlines()


def test_bad_input_exits_with_2_and_one_line(data_dir, tmp_path):
    assert exit_of("--data_dir", tmp_path / "none", "--out_dir", tmp_path / "o")[0] == 2
    code, lines = exit_of("--data_dir", data_dir, "--out_dir", tmp_path / "o", "--num_iters", "-3")
    assert code == 2 and len(lines) == 1 and "num_iters = -3" in lines[0] and "command line" in lines[0]
    if not torch.cuda.is_available():
        code, lines = exit_of("--data_dir", data_dir, "--out_dir", tmp_path / "o", "--device", "cuda")
        assert code == 2 and len(lines) == 1 and "cuda" in lines[0].lower()
    assert not (tmp_path / "o").exists()  # nothing half-written


def test_a_second_run_in_the_same_folder_is_refused(data_dir, tmp_path):
    run(data_dir, tmp_path / "run", "--num_iters", 1)
    with pytest.raises(UserError, match="holds a run already"):
        run(data_dir, tmp_path / "run", "--num_iters", 1)
    with pytest.raises(UserError, match="lr_depth is 0.5 here but"):
        run(data_dir, tmp_path / "run", "--num_iters", 2, "--resume", "--lr_depth", 0.5)


def test_a_run_does_not_go_on_with_what_was_preprocessed_otherwise(tmp_path):
    scene = make_scene("demo", seed=1, num_frames=3, height=20, width=24)
    build = partial(preprocess.build, scene.video, tmp_path / "data", flow=SceneFlow(scene), quiet=True)
    build()
    run(tmp_path / "data", tmp_path / "run", "--num_iters", 1)
    build(masks=scene_masks(tmp_path, scene))  # which nothing is trained by
    run(tmp_path / "data", tmp_path / "run", "--num_iters", 2, "--resume")
    build(cycle_threshold=2.0)
    with pytest.raises(UserError, match="--resume: .* was preprocessed anew since, with other settings"):
        run(tmp_path / "data", tmp_path / "run", "--num_iters", 3, "--resume")
    assert checkpoints.read(checkpoints.newest(tmp_path / "run"))["step"] == 2


def scene_masks(folder, scene):
    """Masks of all frames, as images in a folder."""
    for i in range(scene.num_frames):
        write_image(folder / f"masks/{i:05d}.png", scene.mask(i).astype(np.uint8) * 255)
    return folder / "masks"


@pytest.mark.parametrize("rendering", ["volume", "surface"])
def test_two_frames_of_odd_size(tmp_path, rendering):
    scene = make_scene("demo", seed=1, num_frames=2, height=17, width=23)
    preprocess.build(scene.video, tmp_path / "data", flow=SceneFlow(scene), quiet=True)
    run(tmp_path / "data", tmp_path / "run", *RENDERING[rendering], "--num_iters", 3)
    flow, score = query.dense_flow(checkpoints.load_run(tmp_path / "run").model, 1, 0)
    assert flow.shape == (17, 23, 2) and torch.isfinite(flow).all()
    assert ((score >= 0) & (score <= 1 + 1e-6)).all()
