"""Whether everything is right on a GPU, and what it costs there: python -m benchmarks.gpu, or `make gpu-check`.

First each part on a small synthetic clip, on the device and on the CPU from the same state: how far they differ, and
how far they may. Then the stages on a clip as people have them, as benchmarks.stages measures them. Exit code 1 where
something differs by more than it may.
"""

import argparse
import functools
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import checkpoints
import losses
import train
from benchmarks import stages
from benchmarks.experiments import RAFT_SMALL, command_line, publish
from benchmarks.scenes import SceneFlow, make_scene
from evaluation import report
from flow.appearance import make_appearance
from flow.batched.walk import BatchedWalk
from flow.dis import DisFlow
from flow.raft import RaftFlow
from flow.raft_weights import load_raft
from loaders.correspondences import CorrespondencePool
from networks import query
from preprocess import build
from training.graphs import differentiation
from training.volume import volume_terms
from util import UserError, command, pick_device

SMALL = {  # networks for which a CPU needs a second
    "default.txt": ["--field_width", "32"],
    "volume.txt": ["--coupling_width", "32", "--field_width", "32", "--num_samples", "8"],
}
STEPS = 30  # of the small training


class Check(NamedTuple):
    """What was compared, how far the device is off the CPU, how far it may be, and the unit."""

    name: str
    found: float
    allowed: float
    unit: str

    @property
    def passed(self):
        return self.found <= self.allowed  # not true for NaN


# The parts; each yields Checks


def check_raft(scene, device, weights):
    """RAFT in half precision against RAFT in float32 on the CPU."""
    if not weights.exists():
        print(f"no RAFT weights at {weights}: RAFT is not checked (--raft_weights)")
        return
    flows = []
    for where, half in ((torch.device("cpu"), False), (device, True)):
        estimator = RaftFlow(*load_weights(weights), iterations=8, device=where, half=half)
        estimator.load_frames(scene.video)
        flows.append(estimator.flow_from_many([(0, [1, 2]), (3, [2, 4])]))
    apart = [(a - b.cpu()).norm(dim=-1) for a, b in zip(*flows)]
    yield Check("RAFT small: mean distance of flow", float(torch.stack(apart).mean()), 0.1, "px")


def load_weights(path):
    model, digest = load_raft(path)
    return model, path.name, digest


def check_walk(device):
    """The walk in torch on the device against OpenCV's on the CPU: pixels that are right.

    The searches differ: in smaller frames, by some percent either way.
    """
    scene = make_scene("occlusion", 0, 6, 96, 128)
    shares, sources = [], [(0, [1, 4]), (3, [1])]
    for walk in (DisFlow(), BatchedWalk(device)):
        walk.load_frames(scene.video)
        right = []
        for (i, partners), flows in zip(sources, walk.flow_from_many(sources)):
            for j, flow in zip(partners, flows):
                truth, visible = scene.flow(i, j)
                right.append(np.linalg.norm(torch.as_tensor(flow).cpu().numpy() - truth, axis=-1)[visible] < 1)
        shares.append(float(np.mean(np.concatenate(right))))
    yield Check("walk: visible pixels within 1 px, fewer than OpenCV's", 100 * max(0.0, shares[0] - shares[1]), 2, "%")


def check_preprocessing(scene, device, work):
    """Filter, chain and counts from true flow."""
    on_cpu, there = (
        build(scene.video, work / f"data-{k}", flow=SceneFlow(scene), device=str(where), quiet=True)
        for k, where in enumerate(("cpu", device)))
    bits = [np.concatenate([np.unpackbits(np.asarray(data.valid_bits(i))) for i in range(data.num_frames)])
            for data in (on_cpu, there)]
    yield Check("filter and chain: masks that differ", 100 * float(np.mean(bits[0] != bits[1])), 0.1, "%")
    apart = [np.abs(on_cpu.flow_fixed(i).astype(int) - there.flow_fixed(i)) * on_cpu.flow_step
             for i in range(on_cpu.num_frames)]
    yield Check("filter and chain: 99.9th percentile of flow", float(np.quantile(np.concatenate(apart), 0.999)), 0.1,
                "px")


def check_appearance(scene, device):
    """Census features."""
    there, here = (make_appearance("census", where)(scene.video[0]).of_pixels(*scene.video.shape[1:3]).cpu().float()
                   for where in (device, torch.device("cpu")))
    yield Check("census: largest difference of features", float((there - here).abs().max()), 1e-2, "")


def check_objective(data, device, preset):
    """One batch of a preset's objective, forwards and backwards, from the same weights."""
    arguments = ["--config", f"configs/{preset}", "--data_dir", str(data.path), "--out_dir", "unused", "--amp", "false",
                 "--num_pairs", "8", "--num_points", "32", *SMALL[preset]]
    _, config = train.parse(arguments)
    found, batch, state = {}, None, None
    for where in (torch.device("cpu"), device):
        torch.manual_seed(0)
        model = checkpoints.model_from(vars(config), checkpoints.describe_video(data)).to(where)
        state = state or model.state_dict()
        model.load_state_dict(state)
        objective = train.OBJECTIVES[config.rendering](model, CorrespondencePool(data, where), config)
        batch = batch or objective.sampler.sample(config.num_pairs, config.num_points, 4)
        if config.rendering == "volume":  # the jitter along a ray is random
            jitter = torch.rand(*batch.weight.shape, config.num_samples, generator=torch.Generator().manual_seed(0))
            terms, *_ = volume_terms(model, batch.to(where), jitter.to(where))
        else:
            terms, *_ = objective(batch.to(where), objective.scales(0.5))
        losses.total(terms, objective.weights(0.5)).backward()
        gradient = torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])
        found[where.type] = {name: float(term.detach()) for name, term in terms.items()}, gradient
    (here, gradient_here), (there, gradient_there) = found["cpu"], found[device.type]
    relative = max(abs(here[name] - there[name]) / (1e-3 + abs(here[name])) for name in here)
    yield Check(f"{preset}: loss terms", 100 * relative, 1, "%")
    relative = float((gradient_here - gradient_there).norm() / gradient_here.norm())
    yield Check(f"{preset}: gradient", 100 * relative, 5, "%")


def check_graph(data, device, preset):
    """A step that is recorded and replayed, at other progress than it was recorded at, against one that is not."""
    _, config = train.parse(["--config", f"configs/{preset}", "--data_dir", str(data.path), "--out_dir", "unused",
                             "--amp", "false", "--num_pairs", "8", "--num_points", "32", *SMALL[preset]])
    torch.manual_seed(0)
    model = checkpoints.model_from(vars(config), checkpoints.describe_video(data)).to(device)
    objective = train.OBJECTIVES[config.rendering](model, CorrespondencePool(data, device), config)
    first, second = (objective.sampler.sample(config.num_pairs, config.num_points, 4) for _ in range(2))
    found = {}
    for record in (False, device.type == "cuda"):
        step = differentiation(objective, record)
        for batch, progress in ((first, 0.1), (second, 0.7)):
            torch.manual_seed(1)  # where a ray's samples lie is random
            loss = step(batch, progress)[0].detach().clone()
            gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
            found[record, progress] = loss, gradient
            model.zero_grad(set_to_none=True)
    for progress in (0.1, 0.7):
        plain, recorded = found[False, progress], found[device.type == "cuda", progress]
        for name, expected, got, allowed in zip(("loss", "gradient"), plain, recorded, (0.1, 1)):
            relative = float((expected - got).norm() / expected.norm())
            yield Check(f"{preset}: recorded step at {progress}, {name}", 100 * relative, allowed, "%")


def check_training(data, device, work, preset):
    """A short training on the device; its newest checkpoint, asked on both."""
    run = work / f"run-{preset}"
    train.train(*train.parse(["--config", f"configs/{preset}", "--data_dir", str(data.path), "--out_dir", str(run),
                              "--num_iters", str(STEPS), "--device", device.type, "--num_points", "32", "--quiet",
                              "--image_every", "0", *SMALL[preset]]))
    answers, frames = [], torch.zeros(64, dtype=torch.long)
    pixels = torch.rand(64, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([data.width, data.height])
    for where in ("cpu", device):
        model = checkpoints.load_run(run, device=where).model
        answers.append((query.track_points(model, frames, pixels)["pixels"].cpu(),
                        query.render_frame(model, 1)["rgb"].cpu()))
    (tracks, colours), (tracks_there, colours_there) = answers
    yield Check(f"{preset}: mean distance of tracks", float((tracks - tracks_there).norm(dim=-1).mean()), 0.05, "px")
    yield Check(f"{preset}: mean difference of colours", 100 * float((colours - colours_there).abs().mean()), 1, "%")


def all_checks(device, weights, work):
    """Every part; what breaks is told with its name, and the others go on."""
    scene = make_scene("occlusion", 0, 8, 64, 96)
    data = build(scene.video, work / "data", flow=SceneFlow(scene), device="cpu", quiet=True)
    parts = [functools.partial(check_raft, scene, device, weights), functools.partial(check_appearance, scene, device),
             functools.partial(check_walk, device), functools.partial(check_preprocessing, scene, device, work)]
    parts += [functools.partial(check_objective, data, device, preset) for preset in SMALL]  # volume's is paper's, too
    parts += [functools.partial(check_graph, data, device, "default.txt")]
    parts += [functools.partial(check_training, data, device, work, preset) for preset in SMALL]
    for part in parts:
        try:
            yield from part()
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            yield Check(f"{part.func.__name__} {part.args[-1]}: {str(error).splitlines()[0]}", float("nan"), 0, "")


# The report


def checks_table(checks):
    """Markdown: a row a check."""
    rows = [[check.name, f"{check.found:.3g} {check.unit}", f"{check.allowed:g} {check.unit}",
             "yes" if check.passed else "NO"] for check in checks]
    return report.markdown_table(["part", "differs by", "may differ by", "passed"], rows)


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    stages.add_options(parser)
    parser.add_argument("--checks_only", action="store_true", help="no costs")
    parser.add_argument("--out", type=Path, help="page of results (default: benchmarks/results/gpu-DEVICE.md)")
    parser.set_defaults(device="cuda", flow="raft", frames=50)
    return parser.parse_args(arguments)


@command
def main(arguments=None):
    options = parse_arguments(arguments)
    device = pick_device(options.device)
    name = stages.device_name(options.device)
    if options.flow == "raft" and not options.raft_weights.exists() and not options.checks_only:
        raise UserError(f"--raft_weights {options.raft_weights}: no such file; RAFT's weights, or --flow dis")
    checks = []
    with tempfile.TemporaryDirectory() as folder:
        for check in all_checks(device, options.raft_weights or RAFT_SMALL, Path(folder)):
            checks.append(check)
            print(f"{'ok ' if check.passed else 'BAD'} {check.name}: {check.found:.3g} {check.unit}", flush=True)
    text = f"`{command_line('gpu')}` on {name}, torch {torch.__version__}:\n\n{checks_table(checks)}\n"
    if not options.checks_only:
        costs, data, _ = stages.measure(options)
        text += f"\n{stages.table(costs, data, options.steps)}"
    publish(options.out or Path(f"benchmarks/results/gpu-{'-'.join(name.lower().split())}.md"), text)
    if not all(check.passed for check in checks):
        sys.exit(1)


if __name__ == "__main__":
    main()
