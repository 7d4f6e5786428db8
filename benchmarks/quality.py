"""Quality of all methods: python -m benchmarks.quality [--quick]

Scenes with exact truth, and DAVIS videos with BADJA's joints and masks where they are present; on every input flow the
tracks of flow alone (flow, direct, chained, mft), of each trained model alone (model), and of both. Writes a markdown
table and a plot of AJ against training minutes. Interrupt it as you like: the same command goes on; figures that are in
the work folder are not computed again.
"""

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.experiments import (
    FLOWS,
    RAFT_SMALL,
    Method,
    command_line,
    fit,
    format_figure,
    mean_table,
    prepare,
    publish,
    real_videos,
    scene_video,
    score_baseline,
    tracks_file,
)
from benchmarks.scenes import BENCHMARK_KINDS
from evaluation import report
from evaluation.baselines import BASELINES
from util import UserError, command

COLUMNS = (
    "AJ", "delta_avg", "OA", "TC", "AJ_RD", "hidden_median", "hidden_over_4", "PCK", "J", "F", "J&F",
    "minutes", "threads", "memory",
)
DEVIATING = ("AJ", "delta_avg", "OA", "TC", "PCK", "J", "F")  # figures whose deviation over training seeds is shown
SEED_MARK = " seed "  # between the name of a method and its seed of training; seed 0 is not named
QUICK = {"seeds": [0], "flows": ["dis"], "minutes": [0.5], "no_real": True}


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="one seed of each scene, DIS flow, short runs: about 15 min on 2 cores")
    add("--scenes", nargs="*", default=list(BENCHMARK_KINDS), metavar="KIND",
        help=f"of {', '.join(BENCHMARK_KINDS)} (default: all of these), or 3d-... of benchmarks.scenes3d")
    add("--seeds", nargs="+", type=int, default=list(range(6)), help="seeds of the scenes (default: 0 to 5)")
    add("--flows", nargs="+", default=["dis"], choices=FLOWS, help="input flow: true, DIS, RAFT-small (default: dis)")
    add("--presets", nargs="+", default=["configs/default.txt"], metavar="FILE", help="presets of train.py")
    add("--minutes", nargs="+", type=float, default=[5.0], help="training minutes; several: a run of each length")
    add("--train_args", default="", metavar="'...'", help="further options of train.py")
    add("--train_seeds", nargs="+", type=int, default=[0],
        help="seeds of training; several: a run of each, and the deviation of their figures (default: 0)")
    add("--num_frames", type=int, default=24)
    add("--height", type=int, default=96)
    add("--width", type=int, default=128)
    add("--no_real", action="store_true", help="leave DAVIS and BADJA out")
    add("--real_side", type=int, default=256, help="longer side of the real videos (default: %(default)s)")
    add("--work", type=Path, default=Path("runs/quality"),
        help="folder for data, runs and tracks; figures in it are reused: take a new one when the code has changed")
    add("--out", type=Path, default=Path("benchmarks/results/quality.md"), help="the table; the plot goes beside it")
    options = parser.parse_args(arguments)
    if options.quick:
        vars(options).update(QUICK)
    for kind in options.scenes:
        if kind not in BENCHMARK_KINDS and not kind.startswith("3d-"):
            raise UserError(f"--scenes {kind}: expected any of {', '.join(BENCHMARK_KINDS)}, or 3d-...")
    if "raft-small" in options.flows and not RAFT_SMALL.exists():
        raise UserError(f"--flows raft-small: no weights at {RAFT_SMALL} (set OMNIMOTION_SHARED)")
    return options


def make_methods(options):
    """A Method per preset, length and seed of training."""
    extra = tuple(options.train_args.split())
    suffix = "".join(f" {part}" for part in extra).replace("/", "_")
    return [
        Method(f"{Path(preset).stem} {minutes:g} min{suffix}{SEED_MARK + str(seed) if seed else ''}", preset, minutes,
               extra, seed)
        for preset in options.presets
        for minutes in options.minutes
        for seed in options.train_seeds
    ]


def make_videos(options):
    """Yield the videos one by one; the synthetic ones are rendered when they are reached."""
    for seed in options.seeds:
        for kind in options.scenes:
            yield scene_video(options.work, kind, seed, options.num_frames, options.height, options.width)
    if not options.no_real:
        yield from real_videos(options.real_side)


def measure(options):
    """[(video, flow, method, figures)] of everything asked for."""
    rows = []
    for video in make_videos(options):
        for flow in options.flows:
            data = prepare(options.work, video, flow)
            if data is None:
                continue
            rows += [(video.name, flow, kind, figures) for kind, figures in baseline_rows(options, video, flow, data)]
            for method in make_methods(options):
                for row, figures in fit(options.work, video, flow, data, method, curve=True).items():
                    rows.append((video.name, flow, f"{row} {method.name}", figures))
                    say(rows[-1])
    return rows


def baseline_rows(options, video, flow, data):
    """Yield (kind, figures) of the tracks without a model; says which cannot be had."""
    for kind in BASELINES:
        try:
            stored = prepare(options.work, video, flow, all_pairs=True) if kind == "direct" else data
            yield kind, score_baseline(video, kind, stored, tracks_file(options.work, flow, kind, video))
        except UserError as error:
            print(f"{video.name}, {flow}: no row {kind}: {error}", file=sys.stderr)


def say(row):
    video, flow, method, figures = row
    text = ", ".join(f"{name} {format_figure(name, figures[name])}" for name in COLUMNS if name in figures)
    print(f"{video}, {flow}, {method}: {text}", flush=True)


def grouped(rows):
    """[figures] of the scenes by (flow, method) and by (kind, flow, method), of real videos by (video, flow, method)"""
    mean, kinds, real = defaultdict(list), defaultdict(list), defaultdict(list)
    for video, flow, method, figures in rows:
        if "PCK" in figures:
            real[video, flow, method].append(figures)
        else:
            mean[flow, method].append(figures)
            kinds[video.rsplit("-", 1)[0], flow, method].append(figures)
    return mean, kinds, real


def deviation_table(rows):
    """Markdown: mean and standard deviation (of a sample) of each video's figures over the seeds of training."""
    groups = defaultdict(list)
    for video, flow, method, figures in rows:
        if method not in BASELINES:
            groups[video, flow, method.split(SEED_MARK)[0]].append(figures)
    used = [name for name in DEVIATING if any(name in figures for runs in groups.values() for figures in runs)]
    spread = lambda values: f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"  # noqa: E731
    return report.markdown_table(["video", "flow", "method", "seeds", *used], [
        [*key, len(runs), *(spread([f[name] for f in runs]) if name in runs[0] else "" for name in used)]
        for key, runs in groups.items()
    ])


def as_markdown(rows, options, seconds):
    mean, kinds, real = grouped(rows)
    parts = [
        f"`{command_line('quality')}`: {seconds / 60:.0f} minutes. AJ, delta_avg, OA, AJ_RD (seen again), "
        "hidden_over_4 (error at hidden positions over 4 px), PCK, J&F in percent, TC and hidden_median in pixels at "
        "256 x 256; "
        "minutes of preprocessing and, of models, of training (start of the process included); threads; peak memory of "
        "training in MiB. flow, direct, chained, mft and static are tracks without a model, see "
        "evaluation/baselines.py; model: the tracks of a model as they are; both: refined by the flow.",
    ]
    size = f"{options.num_frames} frames of {options.height} x {options.width}"
    for title, header, groups in (
        (f"Synthetic scenes ({size}), mean", ["flow", "method"], mean),
        (f"DAVIS and BADJA ({options.real_side} pixels)", ["video", "flow", "method"], real),
        ("By kind of scene", ["scene", "flow", "method"], kinds),
    ):
        if groups:
            parts += [f"## {title}\n", mean_table(header, groups, COLUMNS)]
    if len(options.train_seeds) > 1:
        parts += [f"## Over {len(options.train_seeds)} seeds of training: mean ± standard deviation\n",
                  deviation_table(rows)]
    return "\n\n".join(parts).replace("\n\n\n", "\n\n") + "\n"


def mean_curve(curves, points=24):
    """Mean of curves [[minutes, AJ], ...] over the minutes that all of them cover."""
    start, end = max(c[0][0] for c in curves), min(c[-1][0] for c in curves)
    minutes = np.linspace(start, end, points)
    return minutes, np.mean([np.interp(minutes, *zip(*c)) for c in curves], axis=0)


def after_flow(minutes, values, of_flow):
    """A curve over minutes of training -> over all minutes, from where flow alone, with these figures, has tracks."""
    if not of_flow:
        return minutes, values
    ready, level = (np.mean([figures[name] for figures in of_flow]) for name in ("minutes", "AJ"))
    return np.r_[ready, minutes + ready], np.r_[level, values]


def plot(path, rows):
    """AJ against minutes, those of preprocessing included: a line per method and flow, levels for what has no model.

    A model's line begins where tracks of flow alone are to be had, at their AJ.
    """
    mean, _, _ = grouped(rows)
    figure, axes = report.new_axes(xlabel="preprocessing and training (minutes)", ylabel="AJ (mean over the scenes)")
    colours = {flow: f"C{k}" for k, flow in enumerate(dict.fromkeys(row[1] for row in rows))}
    for (flow, method), figures in mean.items():
        curves = [f["curve"] for f in figures if len(f.get("curve", [])) > 1]
        if curves:
            line = after_flow(*mean_curve(curves), mean.get((flow, "flow"), []))
            axes.plot(*line, label=f"{method}, {flow}", color=colours[flow])
        elif method in BASELINES and not (method == "static" and flow != next(iter(colours))):
            level = np.mean([f["AJ"] for f in figures])
            style = {"flow": "-", "direct": "--", "chained": ":", "mft": (0, (5, 1)), "static": "-."}[method]
            axes.axhline(level, linestyle=style, color=colours[flow], alpha=0.7, label=f"{method}, {flow}")
    axes.set_ylim(0, 100)
    axes.legend(fontsize=7)
    report.save_figure(figure, path)


@command
def main(arguments=None):
    options = parse_arguments(arguments)
    began = time.monotonic()
    rows = measure(options)
    publish(options.out, as_markdown(rows, options, time.monotonic() - began))
    if grouped(rows)[0]:
        plot(options.out.with_suffix(".png"), rows)


if __name__ == "__main__":
    main()
