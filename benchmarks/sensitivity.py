"""What the tuned constants do: python -m benchmarks.sensitivity --stages tracking

Each constant of a stage is halved and doubled, alone, on scenes with depth; the table has what AJ and the error of
hidden positions do, so that one that changes nothing can go. Stages: tracking (on the flow and models that are in the
work folder, seconds a constant), training (a model fitted anew for each), flow (preprocessed anew, minutes each).
"""

import argparse
import contextlib
import dataclasses
import importlib
import shutil
from functools import partial
from pathlib import Path

import numpy as np

import checkpoints
import train
from benchmarks.experiments import command_line, publish, scene_video, score_baseline, score_run
from evaluation import report
from flow.dis import DisFlow, DisSettings
from loaders.data_dir import DataDir
from preprocess import build
from util import command

STAGES = {  # modules with SETTINGS, a frozen dataclass of numbers; flow's are handed to its estimator
    "tracking": ("tracking.refinement",),
    "training": ("networks.grids", "training.depth_order", "training.evidence", "loaders.correspondences",
                 "loaders.surface_sampler"),
    "flow": (),
}
FACTORS = (0.5, 2.0)
FIGURES = (("flow", "AJ"), ("both", "AJ"), ("both", "hidden_median"))


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sensitivity", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--stages", nargs="+", default=["tracking"], choices=STAGES, help="default: tracking")
    add("--scenes", nargs="+", default=["3d-walker", "3d-tumble", "3d-thin", "3d-balls"], metavar="KIND")
    add("--seeds", nargs="+", type=int, default=[0, 1], help="of the scenes (default: 0 and 1)")
    add("--steps", type=int, default=2000, help="of training (default: %(default)s)")
    add("--num_frames", type=int, default=24)
    add("--height", type=int, default=144)
    add("--width", type=int, default=192)
    add("--work", type=Path, default=Path("runs/quality"), help="folder for data and runs, as of benchmarks.quality")
    add("--out", type=Path, default=Path("benchmarks/results/sensitivity.md"))
    return parser.parse_args(arguments)


def numbers(settings, prefix=""):
    """{dotted name: value} of the numbers in a dataclass and in those inside it."""
    found = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            found |= numbers(value, f"{prefix}{field.name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[prefix + field.name] = value
    return found


def scaled(settings, name, factor):
    """A dataclass with the number of a dotted name times a factor; whole numbers stay whole, and above 0."""
    first, _, rest = name.partition(".")
    value = getattr(settings, first)
    if rest:
        new = scaled(value, rest, factor)
    else:
        new = max(1, round(value * factor)) if isinstance(value, int) else value * factor
    return dataclasses.replace(settings, **{first: new})


@contextlib.contextmanager
def in_module(module, name, factor):
    """Within the context one of a module's SETTINGS is multiplied. Yields the flow estimator to use."""
    before, module.SETTINGS = module.SETTINGS, scaled(module.SETTINGS, name, factor)
    try:
        yield "dis"
    finally:
        module.SETTINGS = before


@contextlib.contextmanager
def in_flow(name, factor):
    """Yields walked DIS with one of its settings multiplied."""
    yield DisFlow(settings=scaled(DisSettings(), name, factor))


def changes(stage):
    """[(constant, value, function of a factor that gives the context in which it is multiplied)] of a stage."""
    if stage == "flow":
        return [(name, value, partial(in_flow, name)) for name, value in numbers(DisSettings()).items()]
    modules = map(importlib.import_module, STAGES[stage])
    return [(name, value, partial(in_module, module, name))
            for module in modules for name, value in numbers(module.SETTINGS).items()]


def measure(stage, videos, estimator, options):
    """FIGURES, means over the videos, with the constants as they are set now."""
    rows = {"flow": [], "both": []}
    for video in videos:
        with contextlib.ExitStack() as stack:
            work = options.work
            if stage != "tracking":  # what is made with other constants is not kept
                work = stack.enter_context(temporary_copy(options.work, video, keep_data=stage == "training"))
            folder = work / "data" / "dis" / video.name
            if stage == "flow" or not folder.exists():
                build(video.source, folder, flow=estimator, keep_direct=True, quiet=True)
            data = DataDir.open(folder)
            run = trained(work, video, data, options.steps)
            rows["flow"].append(score_baseline(video, "flow", data))
            rows["both"].append(score_run(video, run, data, points_only=True))
    return [np.nanmean([figures[name] for figures in rows[row]]) for row, name in FIGURES]


def trained(work, video, data, steps):
    """The folder of a run of so many steps; in this process, as it has the constants."""
    run = work / "runs" / f"{steps} steps" / "dis" / video.name
    if not checkpoints.saved_steps(run):
        options = {"config": "configs/default.txt", "data_dir": data.path, "out_dir": run, "num_iters": steps}
        given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        train.train(*train.parse([*given, "--image_every", "0", "--quiet"]))
    return run


@contextlib.contextmanager
def temporary_copy(work, video, keep_data):
    """A work folder that is deleted at the end, with the video's flow in it if that is to be kept."""
    folder = work / "changed"
    shutil.rmtree(folder, ignore_errors=True)
    if keep_data:
        (folder / "data" / "dis").mkdir(parents=True)
        (folder / "data" / "dis" / video.name).symlink_to((work / "data" / "dis" / video.name).resolve())
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stage_rows(stage, videos, options):
    """[stage, constant, its value, then for each factor what FIGURES do] of every constant, as text."""
    base, rows = measure(stage, videos, "dis", options), []
    for name, value, multiplied in changes(stage):
        row = [stage, name, f"{value:g}"]
        for factor in FACTORS:
            with multiplied(factor) as estimator:
                found = measure(stage, videos, estimator, options)
            row += [f"{new - old:+.2f}" for new, old in zip(found, base)]
        rows.append(row)
        print(*row, flush=True)
    return rows


@command
def main(arguments=None):
    options = parse_arguments(arguments)
    videos = [scene_video(options.work, kind, seed, options.num_frames, options.height, options.width)
              for seed in options.seeds for kind in options.scenes]
    rows = [row for stage in options.stages for row in stage_rows(stage, videos, options)]
    what = [f"{change}: {row} {name}" for change in ("halved", "doubled") for row, name in FIGURES]
    table = report.markdown_table(["stage", "constant", "value", *what], rows)
    names = ", ".join(video.name for video in videos)
    text = (
        f"`{command_line('sensitivity')}`: what a constant that is halved or doubled adds to AJ, and to the median "
        f"error of hidden positions (px at 256 x 256).\nMean of {names}; models of {options.steps} steps, walked "
        f"DIS.\n\n{table}\n"
    )
    publish(options.out, text)


if __name__ == "__main__":
    main()
