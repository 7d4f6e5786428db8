"""Where the time of a training step goes: python -m benchmarks.step_profile --data_dir DIR [--config FILE]

Times the parts of the step of a preset on a data directory, and its operators; and says how far from the machine's
limits that is: the floating-point operations of its matrix products and the bytes that its operators read and write,
against what a large matrix product and a large copy reach on the same machine and threads. Prints markdown.
"""

import argparse
import statistics
import tempfile
import time
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import losses
import train
from benchmarks.step import synchronize
from evaluation import report
from loaders.data_dir import DataDir
from training.schedules import learning_rate_factor
from util import command, pick_device, seed_everything

WARM_UP, OPERATORS = 5, 12  # steps; rows of the table
PROGRESS = 0.5  # of the schedules
LARGE = 2048, 2**26  # side of the matrices, and floats of the copy, that show the machine's limits


class ByteCounter(TorchDispatchMode):
    """Sums the bytes of the tensors that operators take and give; views move nothing, look-ups read what they give."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            read = (result, *args[1:]) if func is torch.ops.aten.index.Tensor else (args, kwargs)
            self.total += sum(t.nbytes for t in tree_leaves((read, result)) if isinstance(t, torch.Tensor))
        return result


class Step:
    """A training step as train.train makes it, in parts that can be timed."""

    def __init__(self, arguments, config, device, clock=time.perf_counter):
        self.device, self.config, self.clock = device, config, clock
        data = DataDir.open(arguments.data_dir)
        seed_everything(config.seed)
        self.parts, self.objective, _ = train.prepare(arguments, config, data, device)
        self.count = 0
        self.max_interval = data.num_frames - 1
        self.seconds = {}

    @contextmanager
    def timed(self, name):
        synchronize(self.device)
        start = self.clock()
        yield
        synchronize(self.device)
        self.seconds.setdefault(name, []).append(self.clock() - start)

    def __call__(self):
        config, sampler = self.config, self.parts.sampler
        with self.timed("batch"):
            batch = sampler.sample(config.num_pairs, config.num_points, self.max_interval).to(self.device)
        with self.timed("forward"):
            terms, _, error = self.objective(batch, self.objective.scales(PROGRESS))
            loss = losses.total(terms, self.objective.weights(PROGRESS))
        with self.timed("backward"):
            loss.backward()
        with self.timed("optimiser, running means"):
            self.parts.update(self.count, learning_rate_factor(PROGRESS, config), config.grad_clip)
            sampler.learn(batch, error)
        self.count += 1


def machine_limits(device):
    """Operations a second of a large float32 matrix product, bytes a second that a large copy reads and writes."""
    side, floats = LARGE
    matrix, source = torch.rand(side, side, device=device), torch.rand(floats, device=device)
    target = torch.empty_like(source)
    return (2 * side**3 / fastest(lambda: matrix @ matrix, device),
            2 * source.nbytes / fastest(lambda: target.copy_(source), device))


def fastest(work, device, repeats=5):
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def operator_table(step, steps):
    """Markdown: the operators with the most time of their own, per step."""
    on_gpu = step.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            step()
    own = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, own))
    total = sum(getattr(event, own) for event in events)
    rows = [
        [event.key, f"{event.count / steps:.0f}", f"{getattr(event, own) / steps / 1e3:.2f}",
         f"{getattr(event, own) / total:.1%}"] for event in events[:OPERATORS]
    ]
    return report.markdown_table(["operator", "calls", "ms of its own", "share"], rows)


@command
def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.step_profile", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="what python -m preprocess wrote")
    parser.add_argument("--config", metavar="FILE", default="configs/default.txt", help="preset [%(default)s]")
    parser.add_argument("--steps", type=int, default=30, help="timed steps [%(default)s]")
    own = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        arguments, config = train.parse(["--config", own.config, "--data_dir", own.data_dir, "--out_dir", folder])
        device = pick_device(config.device)
        if config.threads:
            torch.set_num_threads(config.threads)
        step = Step(arguments, config, device)
        for _ in range(WARM_UP):
            step()
        with FlopCounterMode(display=False) as flops:
            step()
        with ByteCounter() as moved:
            step()
        step.seconds.clear()
        for _ in range(own.steps):
            step()
        parts = {name: statistics.median(values) for name, values in step.seconds.items()}
        operators = operator_table(step, own.steps)
    whole, work, traffic = sum(parts.values()), flops.get_total_flops(), moved.total
    peak_work, peak_traffic = machine_limits(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    print(f"{name}, torch {torch.__version__}; {own.config}, {config.num_pairs * config.num_points} rays a step\n")
    print(report.markdown_table(["part of the step", "ms", "share"], [
        [part, f"{1e3 * value:.1f}", f"{value / whole:.0%}"] for part, value in [*parts.items(), ("all", whole)]
    ]))
    print("\n" + report.markdown_table(["", "a step", "reached a second", "the machine's", "time at that limit"], [
        ["matrix products", f"{work / 1e9:.2f} GFLOP", f"{work / whole / 1e9:.1f} GFLOP",
         f"{peak_work / 1e9:.0f} GFLOP", f"{1e3 * work / peak_work:.1f} ms"],
        ["read and written", f"{traffic / 1e9:.3f} GB", f"{traffic / whole / 1e9:.1f} GB",
         f"{peak_traffic / 1e9:.1f} GB", f"{1e3 * traffic / peak_traffic:.1f} ms"],
    ]))
    print("\n" + operators)


if __name__ == "__main__":
    main()
