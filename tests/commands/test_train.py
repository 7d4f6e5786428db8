"""Training on tiny clips: it learns, resumes to the bit, stops on what is wrong, and its options say what they take."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

import checkpoints
import preprocess
import train
from benchmarks.scenes import SceneFlow, make_scene
from configs.options import OPTIONS, read_preset
from networks import query
from tests.helpers.paths import ROOT
from tests.helpers.training_run import RENDERING, TINY, assert_equal, run
from training import volume
from training.schedules import interval, learning_rate_factor, periods, ramp, robust_scale
from training.state import Average
from training.volume import loss_weights
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


def test_averaged_weights_by_hand():
    model = torch.nn.BatchNorm1d(1, affine=True)  # a weight, a bias, and buffers, which are not averaged
    average = Average(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(3.0)
        average.update(model, 0)  # warming up: decay 1 / 10
        assert average.state_dict(model)["weight"].item() == pytest.approx(0.1 * 1 + 0.9 * 3)
        model.weight.fill_(5.0)
        model.running_mean.fill_(8.0)
        average.update(model, 1000)  # decay 0.9
    state = average.state_dict(model)
    assert state["weight"].item() == pytest.approx(0.9 * 2.8 + 0.1 * 5)
    assert state["running_mean"].item() == 8 and model.weight.item() == 5 and state["bias"].item() == 0
    again = Average(model, 0.9)
    again.load(state)
    assert again.state_dict(model)["weight"].item() == state["weight"].item()
    assert Average(model, 0.0).state_dict(model) is None


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


@pytest.mark.parametrize("rendering, terms", [("volume", VOLUME_TERMS), ("surface", SURFACE_TERMS)])
def test_it_learns_the_motion(data_dir, tmp_path, rendering, terms):
    run(data_dir, tmp_path / "run", *RENDERING[rendering], "--num_iters", 300, "--log_every", 25)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run")).Reload()
    errors = [event.value for event in events.Scalars("flow_error_px/all")]
    assert len(errors) == 12
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


def test_non_finite_loss_stops_with_step_and_term(data_dir, tmp_path, monkeypatch):
    original, calls = volume.volume_terms, []

    def poisoned(*arguments):
        terms, statistics, error = original(*arguments)
        calls.append(1)
        if len(calls) == 6:
            terms["smoothness"] = terms["smoothness"] * float("nan")
        return terms, statistics, error

    monkeypatch.setattr(volume, "volume_terms", poisoned)
    with pytest.raises(UserError, match=r"step 5: non-finite .*loss/smoothness"):
        run(data_dir, tmp_path / "run", *RENDERING["volume"], "--num_iters", 20, "--log_every", 4)
    saved = checkpoints.read(checkpoints.newest(tmp_path / "run"))
    assert saved["step"] == 4
    assert all(torch.isfinite(value).all() for value in saved["model"].values())


def test_sigterm_saves_and_exits_cleanly(data_dir, tmp_path):
    command = [sys.executable, "train.py", "--data_dir", data_dir, "--out_dir", tmp_path / "run", *TINY,
               "--num_iters", "100000", "--save_every", "20"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not checkpoints.saved_steps(tmp_path / "run") and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "SIGTERM" in output
    assert checkpoints.read(checkpoints.newest(tmp_path / "run"))["step"] > 0


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


@pytest.mark.parametrize("line, message", [
    ("num_itres = 5", "unknown key num_itres"),
    ("num_iters = many", "num_iters = many: expected a whole number from 1"),
    ("lr_code = 7", "lr_code = 7: expected a number from 0 to 1"),
    ("sampling = soft", "sampling = soft: expected one of hard, uniform"),
    ("affine = perhaps", "affine = perhaps: expected true or false"),
])
def test_bad_preset_names_key_file_and_expectation(tmp_path, line, message):
    path = tmp_path / "my preset.txt"
    path.write_text(line + "\n")
    with pytest.raises(UserError) as error:
        read_preset(path)
    assert message in str(error.value) and str(path) in str(error.value)


def exit_of(*arguments):
    command = [sys.executable, "train.py", *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return result.returncode, result.stderr.strip().splitlines()


@pytest.mark.parametrize("name", ["default.txt", "volume.txt", "paper.txt"])
def test_presets_are_valid(name):
    assert read_preset(ROOT / "configs" / name)


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


def test_run_without_checkpoint_and_foreign_files(tmp_path):
    with pytest.raises(UserError, match="no checkpoint there"):
        checkpoints.load_run(tmp_path)
    (tmp_path / "x.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        checkpoints.read(tmp_path / "x.pt")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "y.pt")
    with pytest.raises(UserError, match="not a checkpoint of this program"):
        checkpoints.read(tmp_path / "y.pt")


def test_schedules_at_both_ends():
    _, config = train.parse(["--data_dir", "d", "--out_dir", "o", "--config", str(ROOT / "configs/paper.txt")])
    assert ramp(-0.1, 0, 0.5, 4.0) == 0 and ramp(0.25, 0, 0.5, 4.0) == 2 and ramp(1, 0, 0.5, 4.0) == 4
    assert interval(0, 20, 0.02, 79) == 20 and interval(0.019, 20, 0.02, 79) == 20
    assert interval(0.02, 20, 0.02, 79) == 21 and interval(1, 20, 0.02, 59) == 59 and interval(0, 0, 0.02, 79) == 79
    assert [periods(step / 10, 0.2) for step in range(11)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    first, last = loss_weights(0, config), loss_weights(1, config)
    assert (first["rgb"], first["flow_gradient"], first["distortion"]) == (0, 0, 0)
    assert (last["rgb"], last["flow_gradient"], last["distortion"]) == (10, pytest.approx(0.1), 10)
    assert loss_weights(0.5, config)["distortion"] == pytest.approx(5)  # half way from 0.4 to 0.6
    assert learning_rate_factor(0.19999, config) == 1 and learning_rate_factor(0.2, config) == 0.5
    config.flow_robust_start, config.flow_robust_px = 18.0, 2.0
    assert [robust_scale(progress, config) for progress in (0, 0.25, 0.5, 1)] == pytest.approx([18, 6, 2, 2])
    config.lr_schedule = "cosine"
    assert learning_rate_factor(0, config) == 1 and learning_rate_factor(1, config) == pytest.approx(0)


def test_the_published_numbers():
    """The paper's section 5 and the released configuration, all that differs from none: not our defaults' own word."""
    _, config = train.parse(["--data_dir", "d", "--out_dir", "o", "--config", str(ROOT / "configs/paper.txt")])
    expected = {
        "rendering": "volume", "mapping": "invertible", "num_iters": 100_000, "num_pairs": 8, "num_points": 256,
        "num_samples": 32, "coupling_layers": 6, "coupling_width": 256, "coupling_hidden": 3, "affine": True,
        "field_width": 512, "field_layers": 3, "sampling": "hard", "count_map": True, "error_map": "render",
        "error_map_every": 20_000 / 1e5, "interval_start": 20, "interval_every": 2000 / 1e5, "pair_weight": "cos",
        "w_flow": 1, "w_rgb": 10, "w_rgb_ramp": 50_000 / 1e5, "w_flow_gradient": 0.1,
        "w_flow_gradient_ramp": 50_000 / 1e5, "w_depth_range": 10, "w_distortion": 10,
        "w_distortion_start": 40_000 / 1e5, "w_distortion_ramp": 20_000 / 1e5, "w_smoothness": 20, "w_unit_sphere": 0,
        "mask_near": 0, "lr_code": 1e-3, "lr_mapping": 1e-4, "lr_field": 3e-4, "lr_schedule": "halve",
        "lr_every": 20_000 / 1e5, "lr_warmup": 0, "grad_clip": 0, "ema": 0, "amp": False, "held_out": 0,
        "photometric": True, "swap": True,
    }  # fmt: skip
    assert {key: vars(config)[key] for key in expected} == expected


@pytest.mark.parametrize("options, message", [
    (["--swap", "false"], "command line: swap acts on rendering volume; here it is surface"),
    (["--mask_near", "0.1"], "mask_near acts on rendering volume"),
    (["--zero_init", "true"], "zero_init acts on mapping invertible; here it is grid"),
    (["--interval_every", "0.1"], "interval_every acts on interval_start other than 0; here it is 0"),
    (["--error_map_every", "0.1"], "error_map_every acts on error_map render; here it is online"),
    (["--photometric", "false", "--w_rgb", "3"], "w_rgb acts on photometric true; here it is false"),
    (["--rendering", "volume", "--depth_cell", "4"], "depth_cell acts on rendering surface; here it is volume"),
])
def test_an_option_that_cannot_act_is_refused(options, message):
    with pytest.raises(UserError) as error:
        train.parse(["--data_dir", "d", "--out_dir", "o", *TINY, *options])
    assert message in str(error.value)


def test_presets_are_refused_what_cannot_act_and_drop_it_beside_another_model(tmp_path):
    (tmp_path / "mine.txt").write_text("rendering = surface\nnum_samples = 8\n")
    with pytest.raises(UserError, match=r"mine.txt: num_samples acts on rendering volume"):
        train.parse(["--data_dir", "d", "--out_dir", "o", "--config", str(tmp_path / "mine.txt")])
    _, config = train.parse(["--data_dir", "d", "--out_dir", "o", *TINY, *RENDERING["volume"]])
    assert config.w_depth_same == 10 and config.num_samples == 6 and config.w_smoothness == 5


def test_learning_rates_warm_up():
    config = SimpleNamespace(lr_warmup=0.2, lr_schedule="halve", lr_every=1)
    factors = [learning_rate_factor(progress, config) for progress in (0, 0.05, 0.1, 0.2, 0.9)]
    assert factors == pytest.approx([5e-5, 0.25, 0.5, 1, 1], rel=1e-3)  # not 0 at the start
    config.lr_schedule = "cosine"
    factors = [learning_rate_factor(progress, config) for progress in (0.1, 0.25, 0.5, 1)]
    assert factors == pytest.approx([0.5 * 0.97553, 0.85355, 0.5, 0], rel=1e-3)
    config.lr_schedule, config.lr_every = "halve", 0.1  # both at once
    assert learning_rate_factor(0.15, config) == pytest.approx(0.75 * 0.5, rel=1e-3)
    config.lr_warmup = 0
    assert learning_rate_factor(0, config) == 1


def test_every_option_has_a_valid_default_and_a_help():
    for option in OPTIONS:
        assert option.convert(option.default, "default") == option.default
        assert len(option.help) > 10


@pytest.mark.parametrize("rendering", ["volume", "surface"])
def test_two_frames_of_odd_size(tmp_path, rendering):
    scene = make_scene("demo", seed=1, num_frames=2, height=17, width=23)
    preprocess.build(scene.video, tmp_path / "data", flow=SceneFlow(scene), quiet=True)
    run(tmp_path / "data", tmp_path / "run", *RENDERING[rendering], "--num_iters", 3)
    flow, score = query.dense_flow(checkpoints.load_run(tmp_path / "run").model, 1, 0)
    assert flow.shape == (17, 23, 2) and torch.isfinite(flow).all()
    assert ((score >= 0) & (score <= 1 + 1e-6)).all()
