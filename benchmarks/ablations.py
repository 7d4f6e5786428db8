"""What each part of the method adds, at equal time and on equal flow: python -m benchmarks.ablations [--quick]

Each variant changes one thing in default.txt: no invertibility, uniform sampling, no photometric loss (and so no
canonical colour), no first order of depth; K = 8, 16 or 32: a volume with that many samples a ray instead of one at a
learned depth, its mapping by small MLPs. Rows of the model alone and of both, beside flow with no model at all. The
same data directories, seeds and minutes for all. Interrupt it as you like: the same command goes on.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.experiments import (
    FLOWS,
    Method,
    command_line,
    fit,
    mean_table,
    prepare,
    publish,
    scene_video,
    score_baseline,
)
from benchmarks.quality import say
from util import command

VOLUME = ("--rendering", "volume", "--mapping", "invertible", "--zero_init", "true", "--coupling_layers", "6",
          "--coupling_width", "64", "--coupling_hidden", "1", "--num_samples")  # as small as the preset's own model
VARIANTS = {
    "full": (),
    "not invertible": ("--mapping", "separate", "--coupling_width", "64"),
    "uniform sampling": ("--sampling", "uniform"),
    "no photometric": ("--photometric", "false"),
    "no depth order": ("--depth_start", "flat"),
    "K = 8": (*VOLUME, "8"),
    "K = 16": (*VOLUME, "16"),
    "K = 32": (*VOLUME, "32"),
}
COLUMNS = ("AJ", "delta_avg", "OA", "TC", "AJ_RD", "hidden_median", "J&F", "minutes", "memory")
QUICK = {"scenes": ["3d-walker"], "seeds": [0], "minutes": 0.5}


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="one scene, half a minute each: shows that it runs, not who wins")
    add("--scenes", nargs="+", default=["3d-walker", "3d-tumble", "3d-cloth", "3d-thin"],
        metavar="KIND", help="kinds of benchmarks.scenes and benchmarks.scenes3d")
    add("--seeds", nargs="+", type=int, default=[0], help="seeds of the scenes")
    add("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="NAME",
        help=f"of {', '.join(VARIANTS)} (default: all)")
    add("--flow", default="dis", choices=FLOWS)
    add("--preset", default="configs/default.txt", metavar="FILE")
    add("--minutes", type=float, default=4.0, help="training minutes of each run")
    add("--num_frames", type=int, default=24)
    add("--height", type=int, default=144)
    add("--width", type=int, default=192)
    add("--work", type=Path, default=Path("runs/quality"), help="folder for data and runs, as of benchmarks.quality")
    add("--out", type=Path, default=Path("benchmarks/results/ablations.md"))
    options = parser.parse_args(arguments)
    if options.quick:
        vars(options).update(QUICK)
    return options


def measure(options):
    """{(variant, row): [figures of each scene]}."""
    groups = defaultdict(list)
    for seed in options.seeds:
        for kind in options.scenes:
            video = scene_video(options.work, kind, seed, options.num_frames, options.height, options.width)
            data = prepare(options.work, video, options.flow)
            groups["none", "flow"].append(score_baseline(video, "flow", data))
            for variant in options.variants:
                name = f"ablation {variant}, {Path(options.preset).stem} {options.minutes:g} min"
                method = Method(name, options.preset, options.minutes, VARIANTS[variant])
                for row, figures in fit(options.work, video, options.flow, data, method).items():
                    groups[variant, row].append(figures)
                    say((video.name, options.flow, f"{row} {variant}", figures))
    return groups


@command
def main(arguments=None):
    options = parse_arguments(arguments)
    began = time.monotonic()
    table = mean_table(["model", "tracks of"], measure(options), COLUMNS)
    text = (
        f"`{command_line('ablations')}`: {(time.monotonic() - began) / 60:.0f} minutes. Preset {options.preset}, flow "
        f"{options.flow}, scenes {', '.join(options.scenes)}; figures as in quality.md.\n\n{table}\n"
    )
    publish(options.out, text)


if __name__ == "__main__":
    main()
