"""Two processes of torchrun that train one model: what they compute, what they write, how they stop and go on."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import checkpoints
import losses
import train
from evaluation import held_out
from loaders.data_dir import DataDir
from loaders.surface_sampler import SurfaceBatch, SurfaceSampler
from tests.helpers.paths import ROOT
from tests.helpers.training_run import TINY, run
from training import ranks
from training.schedules import learning_rate_factor
from util import UserError, seed_everything

STEPS = 6
UNIFORM = ["--sampling", "uniform", "--log_every", "1", "--depth_start", "flat"]  # error maps are each rank's own
OF_ALL_POINTS = ("rgb", "depth_range", "depth_flatness")  # or of all cells; the other terms are of what is visible


def torchrun(data_dir, out_dir, *options):
    """Start train.py in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "train.py",
               "--data_dir", data_dir, "--out_dir", out_dir, *TINY, *options]
    return subprocess.Popen([str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)


@pytest.fixture(scope="module")
def of_two(data_dir, tmp_path_factory):
    """The folder of a run of STEPS steps with all terms, and what was printed."""
    folder = tmp_path_factory.mktemp("ranks") / "run"
    process = torchrun(data_dir, folder, *UNIFORM, "--num_iters", STEPS)
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return folder, output


def by_one_process(data_dir, out_dir):
    """The same run by hand: one process, both ranks' batches -> parts, [loss of each step].

    The loss is the mean of both batches'. Of terms that are means over all points that is the loss of the joined batch;
    others are means over what is visible, which each rank counts by itself.
    """
    arguments, config = train.parse(["--data_dir", str(data_dir), "--out_dir", str(out_dir), *TINY, *UNIFORM,
                                     "--num_iters", str(STEPS)])
    data = DataDir.open(data_dir)
    data = data.without(held_out.choose(data, config.held_out, config.seed))
    seed_everything(config.seed)
    parts, objective, _ = train.prepare(arguments, config, data, torch.device("cpu"))
    other = SurfaceSampler(parts.sampler.pool, ranks.seed_of(config.seed, 1, 0), hard=False)
    curve = []
    for step in range(STEPS):
        progress = step / STEPS
        batches = [sampler.sample(config.num_pairs, config.num_points, 5) for sampler in (parts.sampler, other)]
        assert not torch.equal(batches[0].pixels_1, batches[1].pixels_1)
        first, second = (objective(batch, objective.scales(progress))[0] for batch in batches)
        mean = {name: (first[name] + second[name]) / 2 for name in first}
        joined = objective(SurfaceBatch(*(torch.cat(both) for both in zip(*batches))), objective.scales(progress))[0]
        for name in OF_ALL_POINTS:
            for found, expected in zip(gradients(parts.model, joined[name]), gradients(parts.model, mean[name])):
                assert (found - expected).norm() <= 0.01 * expected.norm() + 1e-7, name
        loss = losses.total(mean, objective.weights(progress))
        loss.backward()
        parts.update(step, learning_rate_factor(progress, config), config.grad_clip)
        curve.append(loss.item())
    return parts, curve


def gradients(model, term):
    found = torch.autograd.grad(term, list(model.parameters()), retain_graph=True, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def test_two_ranks_equal_one_process_with_both_batches(of_two, data_dir, tmp_path):
    folder, _ = of_two
    parts, curve = by_one_process(data_dir, tmp_path)
    events = EventAccumulator(str(folder)).Reload()
    assert [event.value for event in events.Scalars("loss/total")] == pytest.approx(curve, rel=1e-4)
    saved = checkpoints.read(checkpoints.newest(folder))
    assert saved["step"] == STEPS
    for name, weight in parts.model.state_dict().items():
        apart = (saved["model"][name] - weight).abs() > 2e-5
        assert apart.float().mean() < 0.005, name  # not none: Adam enlarges the rounding of gradients that cancel out


def test_one_set_of_files_and_messages(of_two):
    folder, output = of_two
    names = sorted(path.name for path in folder.rglob("*") if path.is_file() and not path.name.startswith("events"))
    assert names == ["best.pt", "config.json", f"step_{STEPS:09d}.pt"]
    assert len(list(folder.glob("events*"))) == 1
    assert output.count("next: python track.py") == 1 and output.count(f"done: {STEPS} steps") == 1


def test_a_run_of_two_goes_on_with_two_and_with_one_and_a_signal_to_any_stops_all(of_two, data_dir):
    folder, _ = of_two
    endless = ["--num_iters", "1000000", "--save_every", "5", "--resume"]
    process = torchrun(data_dir, folder, *UNIFORM, *endless)
    newest = checkpoints.newest(folder)
    deadline = time.monotonic() + 100
    while checkpoints.newest(folder) == newest and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(second_rank(process.pid), signal.SIGTERM)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    stopped = checkpoints.read(checkpoints.newest(folder))["step"]
    assert stopped >= 10 and f"stopped by SIGTERM; go on with --resume: {stopped} steps" in output
    assert run(data_dir, folder, *UNIFORM, "--num_iters", stopped + 2, "--resume")["step"] == stopped + 2


def second_rank(parent):
    """Process id of the rank 1 that torchrun, with the id `parent`, started."""
    return next(child.pid for child in psutil.Process(parent).children() if child.environ().get("RANK") == "1")


def test_a_rank_has_its_own_gpu(monkeypatch):
    monkeypatch.setattr(ranks, "pick_device", lambda name: torch.device("cuda" if name == "auto" else name))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert ranks.own_device("auto") == torch.device("cuda:1") and ranks.own_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="take a GPU each"):
        ranks.own_device("cuda:1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(UserError, match="3 processes for 2 GPUs"):
        ranks.own_device("auto")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert ranks.own_device("cuda:1") == torch.device("cuda:1")


def test_alone_nothing_is_exchanged():
    tensor = torch.tensor([1.0, 2.0])
    ranks.average([tensor, None])
    assert tensor.tolist() == [1, 2] and ranks.is_first() and ranks.size() == 1
    assert ranks.agree(0.25, "SIGINT") == (0.25, "SIGINT")
    assert len({ranks.seed_of(0, rank, step) for rank in range(4) for step in (0, 500)}) == 8
