"""What each stage costs on one clip: python -m benchmarks.stages --source FOLDER --frames 24 --max_side 854

Frames, flow, filter, chain, counts, training and tracking, one after the other as the commands do them; the yardstick
is plain DIS (OpenCV's, preset medium, finest scale 0, one thread) on some of the same pairs in the same process.
"""

import argparse
import contextlib
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from unittest import mock

import cv2
import torch

import checkpoints
import train
from benchmarks.experiments import RAFT_SMALL, SHARED, command_line, publish
from benchmarks.meter import Cost, metered
from evaluation import report
from flow.dis import PlainDis
from preprocess import build, driver
from tracking.queries import parse_queries
from tracking.sources import RunSource, track_queries
from util import UserError, command, pick_device

STAGES = {"prepare_frames": "frames", "estimate_flow": "flow", "filter_flow": "filter", "chain_flow": "chain",
          "count_valid": "counts", "gather": "matches"}  # functions of preprocess.driver
YARDSTICK_PAIRS = 8


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/stages.md"))
    return parser.parse_args(arguments)


def add_options(parser):
    """Options of the clip and of the stages."""
    add = parser.add_argument
    add("--source", type=Path, default=SHARED / "davis" / "dog" / "frames",
        help="video or frames (default: %(default)s)")
    add("--frames", type=int, default=24, help="of the clip, from its start (default: %(default)s)")
    add("--max_side", type=int, default=854, help="pixels on the long side (default: %(default)s)")
    add("--flow", default="dis", choices=("dis", "plain", "raft"), help="plain: OpenCV's DIS, fast, each pair on "
        "its own, for what the other stages of a long clip cost; raft: small, fused with walked DIS (default: dis)")
    add("--no_fusion", action="store_true", help="RAFT's flow as it is")
    add("--raft_weights", type=Path, default=RAFT_SMALL)
    add("--workers", type=int, help="of preprocessing (default: one for each core)")
    add("--steps", type=int, default=300, help="of training; 0: none (default: %(default)s)")
    add("--busy", type=int, default=0, help="other processes that keep as many cores busy meanwhile (default: none)")
    add("--device", default="auto")
    add("--work", type=Path, default=Path("runs/stages"), help="folder that is deleted first (default: %(default)s)")


@contextlib.contextmanager
def stage_costs():
    """Yields {stage: Cost} of what is preprocessed inside."""
    costs = defaultdict(Cost)

    def timed(name, function):
        def wrapped(*args, **kwargs):
            with metered(costs[name]):
                return function(*args, **kwargs)
        return wrapped

    with contextlib.ExitStack() as stack:
        for function, name in STAGES.items():
            stack.enter_context(mock.patch.object(driver, function, timed(name, getattr(driver, function))))
        yield costs


def measure(options):
    """Every stage on the clip -> {stage: Cost}, the data directory, the run's folder (None without training)."""
    if options.flow == "plain" and options.no_fusion:
        raise UserError("--no_fusion: acts on --flow raft; plain flow is as it is")
    with busy(options.busy):
        return measure_stages(options)


def measure_stages(options):
    """The same, whatever is busy beside it."""
    shutil.rmtree(options.work, ignore_errors=True)
    raft = {"raft_weights": options.raft_weights} if options.flow == "raft" else {}
    flow = PlainDis("fast") if options.flow == "plain" else options.flow
    with stage_costs() as costs:
        data = build(options.source, options.work / "data", flow=flow, fusion=not options.no_fusion,
                     workers=options.workers, max_side=options.max_side, end=options.frames,
                     device=options.device, quiet=True, **raft)
    if not options.steps:
        return costs, data, None
    run, preset = options.work / "run", "configs/default.txt"
    arguments = train.parse(["--config", preset, "--data_dir", str(data.path), "--out_dir", str(run), "--num_iters",
                             str(options.steps), "--device", options.device, "--image_every", "0", "--quiet"])
    with metered(costs["training"]):
        train.train(*arguments)
    with metered(costs["tracks of 1,000 points"]):
        source = RunSource(checkpoints.load_run(run, device=pick_device(options.device)))
        track_queries(source, parse_queries("grid", data.num_frames, source.video_size))
    return costs, data, run


@contextlib.contextmanager
def busy(count):
    """Within the context so many other processes keep a core busy each."""
    while_wanted = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
    with contextlib.ExitStack() as others:
        for _ in range(count):
            other = others.enter_context(subprocess.Popen([sys.executable, "-c", while_wanted]))
            others.callback(other.kill)  # before it is waited for
        yield


def yardstick(data):
    """CPU seconds of plain DIS a pair, on one thread."""
    plain, threads, cost = PlainDis("medium"), cv2.getNumThreads(), Cost()
    plain.load_frames([data.frame(i) for i in range(min(data.num_frames, YARDSTICK_PAIRS + 1))])
    cv2.setNumThreads(1)
    plain.flow_from(0, [1])
    with metered(cost):
        for j in range(1, min(data.num_frames, YARDSTICK_PAIRS + 1)):
            plain.flow_from(0, [j])
    cv2.setNumThreads(threads)
    return cost.cpu_seconds / min(data.num_frames - 1, YARDSTICK_PAIRS)


def table(costs, data, steps):
    """Markdown: a row a stage."""
    pairs, plain = sum(map(len, data.manifest["partners"])), yardstick(data)
    units = {"frames": data.num_frames, "training": steps, "tracks of 1,000 points": data.num_frames}
    rows = []
    for name, cost in costs.items():
        unit = units.get(name, pairs)
        of_gpu = "" if cost.gpu_busy is None else f"{cost.gpu_busy:.0f}"
        ratio = f"{cost.cpu_seconds / pairs / plain:.2f}" if unit == pairs else ""
        rows.append([name, f"{cost.seconds:.1f}", f"{cost.cpu_seconds:.1f}", f"{1e3 * cost.seconds / unit:.1f}", ratio,
                     f"{cost.memory / 1e9:.2f}", f"{cost.gpu_memory / 1e9:.2f}", of_gpu])
    header = ["stage", "s", "CPU s", "ms a unit", "CPU against plain DIS", "peak GB", "GPU peak GB", "GPU busy %"]
    note = (f"{data.num_frames} frames of {data.width} x {data.height}, {pairs} pairs, "
            f"{data.disk_used() / 1e9:.2f} GB on disk at the end. A unit: a pair; of frames and tracks a frame, of "
            f"training a step ({steps}). Plain DIS takes {1e3 * plain:.0f} ms of one core a pair.")
    return f"{report.markdown_table(header, rows)}\n\n{note}\n"


def device_name(device):
    """In words."""
    return torch.cuda.get_device_name() if pick_device(device).type == "cuda" else "CPU"


@command
def main(arguments=None):
    options = parse_arguments(arguments)
    costs, data, _ = measure(options)
    text = table(costs, data, options.steps)
    publish(options.out, f"`{command_line('stages')}` on {device_name(options.device)}, "
                         f"{torch.get_num_threads()} threads:\n\n{text}")


if __name__ == "__main__":
    main()
