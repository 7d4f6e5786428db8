"""What the tuned constants do: python -m benchmarks.sensitivity --stages tracking

Each constant of a stage is halved and doubled, alone, on scenes with depth, so that one that changes nothing can go.
Stages: tracking (on the flow and models that are in the work folder, seconds a constant) and training (a model fitted
anew for each, and tracked with the same constants) by AJ and by the error of hidden positions; flow by how near it is
to the true flow of a few frames of small scenes, as tracks of so few points tell little of it: the order of random
guesses alone moves their AJ by a point.
"""

import argparse
import contextlib
import dataclasses
import importlib
import tempfile
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from tqdm import tqdm

import checkpoints
import train
import util
from benchmarks.experiments import command_line, named_scene, publish, scene_video, score_baseline, score_run
from evaluation import report
from flow.candidates import walked_with_matches
from flow.dis import DisFlow, DisSettings
from flow.features import OF_KEYPOINTS, OF_SIFT, MatchSettings, SiftPlaces
from flow.point_tracks import PointSettings
from loaders.data_dir import DataDir
from preprocess import build
from util import command

STAGES = {  # modules with SETTINGS, a frozen dataclass of numbers, beside util.SAME_MOTION; of flow: see FlowSettings
    "tracking": ("tracking.refinement",),
    "training": ("loaders.correspondences",),
    "flow": (),
}
FACTORS = (0.5, 2.0)
FIGURES = (("flow", "AJ"), ("both", "AJ"), ("both", "hidden_median"))
CLIP, SOURCES = (10, 96, 128), (0, 5, 9)  # frames, height, width; the frames from which there is flow, to all others
FLOW_FIGURES = ("visible: within 1 px (%)", "visible: error, at most 5 (px)", "hidden: within 4 px (%)")


IDLE = {"matches.correlation", "matches.coarse_weight"}  # of flow, what acts on a network's features alone


@dataclasses.dataclass(frozen=True)
class FlowSettings:
    """Of the flow that preprocessing estimates where nothing else is given, but for SIFT's own."""

    walk: DisSettings = DisSettings()
    points: PointSettings = OF_KEYPOINTS
    matches: MatchSettings = OF_SIFT


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sensitivity", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--stages", nargs="+", default=["tracking"], choices=STAGES, help="default: tracking")
    add("--scenes", nargs="+", default=["3d-walker", "3d-tumble", "3d-thin", "3d-balls"], metavar="KIND")
    add("--seeds", nargs="+", type=int, default=[0, 1], help="of the scenes (default: 0 and 1)")
    add("--steps", type=int, default=2000, help="of training (default: %(default)s)")
    add("--num_frames", type=int, default=24, help="of tracking and training, as height and width (default: 24)")
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


def in_module(module, name, factor):
    """A context within which one of a module's SETTINGS is multiplied."""
    return mock.patch.object(module, "SETTINGS", scaled(module.SETTINGS, name, factor))


def same_motion(factor):
    """A context within which util.SAME_MOTION is multiplied."""
    return mock.patch.object(util, "SAME_MOTION", util.SAME_MOTION * factor)


def changes(stage):
    """[(constant, value, function of a factor that gives the context in which it is multiplied)] of a stage."""
    modules = map(importlib.import_module, STAGES[stage])
    return [("same_motion", util.SAME_MOTION, same_motion), *(
        (name, value, partial(in_module, module, name))
        for module in modules for name, value in numbers(module.SETTINGS).items())]


def measure(stage, videos, options):
    """FIGURES, means over the videos, with the constants as they are set now."""
    rows = {"flow": [], "both": []}
    for video in videos:
        with contextlib.ExitStack() as stack:
            folder = options.work / "data" / "dis" / video.name
            if not folder.exists():
                build(video.source, folder, flow="dis", keep_direct=True, quiet=True)
            data, runs = DataDir.open(folder), options.work / "runs"
            if stage != "tracking":  # what is made with other constants is not kept
                runs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            run = trained(runs, video, data, options.steps)
            rows["flow"].append(score_baseline(video, "flow", data))
            rows["both"].append(score_run(video, run, data, points_only=True))
    return [np.nanmean([figures[name] for figures in rows[row]]) for row, name in FIGURES]


def trained(runs, video, data, steps):
    """The folder of a run of so many steps; in this process, as it has the constants."""
    run = runs / f"{steps} steps" / "dis" / video.name
    if not checkpoints.saved_steps(run):
        options = {"config": "configs/default.txt", "data_dir": data.path, "out_dir": run, "num_iters": steps}
        given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        train.train(*train.parse([*given, "--image_every", "0", "--quiet"]))
    return run


def flow_figures(clips, settings):
    """FLOW_FIGURES, means over the clips: (frames, {(i, j): true flow, visible})."""
    rows = []
    for frames, truth in clips:
        walk, of_pairs = DisFlow(settings=settings.walk), []
        estimator = walked_with_matches(frames, walk, SiftPlaces(settings.points, settings.matches))
        for i in SOURCES:
            partners = [j for j in range(len(frames)) if j != i]
            for found, j in zip(estimator.flow_from(i, partners), partners):
                flow, visible = truth[i, j]
                error = np.linalg.norm(found - flow, axis=-1)
                seen, hidden = error[visible], error[~visible & np.isfinite(error)]
                of_pairs.append([100 * np.mean(seen < 1), seen.clip(max=5).mean(), 100 * np.mean(hidden < 4)
                                 if len(hidden) else np.nan])
        rows.append(np.nanmean(of_pairs, axis=0))
    return np.mean(rows, axis=0).tolist()


def flow_rows(options):
    """As stage_rows, of FLOW_FIGURES."""
    clips = []
    for kind, seed in ((kind, seed) for seed in options.seeds for kind in options.scenes):
        scene = named_scene(kind, seed, *CLIP)
        clips.append((scene.video, {(i, j): scene.flow(i, j) for i in SOURCES for j in range(CLIP[0]) if j != i}))
    constants = {name: value for name, value in numbers(FlowSettings()).items() if name not in IDLE}
    base, shared = flow_figures(clips, FlowSettings()), ["flow", "same_motion", f"{util.SAME_MOTION:g}"]
    for factor in FACTORS:
        with same_motion(factor):
            shared += more(flow_figures(clips, FlowSettings()), base)
    rows = [shared]
    for name, value in tqdm(constants.items(), unit="constant"):
        figures = (flow_figures(clips, scaled(FlowSettings(), name, factor)) for factor in FACTORS)
        rows.append(["flow", name, f"{value:g}", *(text for found in figures for text in more(found, base))])
    return rows


def stage_rows(stage, options):
    """[stage, constant, its value, then for each factor what FIGURES do] of every constant, as text."""
    videos = [scene_video(options.work, kind, seed, options.num_frames, options.height, options.width)
              for seed in options.seeds for kind in options.scenes]
    base, rows = measure(stage, videos, options), []
    for name, value, multiplied in tqdm(changes(stage), unit="constant"):
        row = [stage, name, f"{value:g}"]
        for factor in FACTORS:
            with multiplied(factor):
                row += more(measure(stage, videos, options), base)
        rows.append(row)
    return rows


def more(found, base):
    """By how much figures are more than those of the base, as text."""
    return [f"{new - old:+.2f}" for new, old in zip(found, base)]


@command
def main(arguments=None):
    options = parse_arguments(arguments)
    parts = [f"`{command_line('sensitivity')}`: what a constant that is halved or doubled adds. Mean of "
             f"{', '.join(options.scenes)}, seeds {', '.join(map(str, options.seeds))}. Flow: {CLIP[0]} frames of "
             f"{CLIP[2]} x {CLIP[1]}.\n"]
    for stage in options.stages:
        names = FLOW_FIGURES if stage == "flow" else [f"{row} {name}" for row, name in FIGURES]
        rows = flow_rows(options) if stage == "flow" else stage_rows(stage, options)
        what = [f"{change}: {name}" for change in ("halved", "doubled") for name in names]
        parts.append(report.markdown_table(["stage", "constant", "value", *what], rows) + "\n")
    publish(options.out, "\n".join(parts))


if __name__ == "__main__":
    main()
