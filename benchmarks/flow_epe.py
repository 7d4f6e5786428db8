"""End-point error of the flow estimators on public image pairs and on generated scenes.

    python -m benchmarks.flow_epe [--raft_weights FILE ...] [--out benchmarks/results/flow_epe.md]

Two tables: public pairs; clips of benchmarks.scenes, between frames 1, 4 and 12 apart. Over visible pixels (public
pairs: over known ones).
The public pairs (three of Middlebury, one of KITTI) are no part of the project: they are read from the folder data/flow
in $OMNIMOTION_SHARED; without it that table is left out.
"""

import argparse
import datetime
import os
from pathlib import Path

import numpy as np

import util
from benchmarks.scenes import BENCHMARK_KINDS, make_scene
from flow.dis import DisFlow, PlainDis
from flow.formats import UNKNOWN, read_flo, read_image, read_kitti_flow
from flow.raft import RaftFlow
from flow.raft_weights import load_raft

SHARED = Path(os.environ.get("OMNIMOTION_SHARED", Path(__file__).resolve().parents[1].parent / "shared"))
GAPS = (1, 4, 12)
CLIP_SEED = 100
PAIRS = ("middlebury_RubberWhale", "middlebury_Urban3", "middlebury_Venus", "kitti_example")


def read_pair(folder):
    """(frame 1, frame 2, true flow (H, W, 2), known (H, W)) of a folder in Middlebury's or KITTI's layout."""
    folder = Path(folder)
    if (folder / "flow10.flo").exists():
        names, flow = ("frame10.png", "frame11.png"), read_flo(folder / "flow10.flo")
        known = (np.abs(flow) < UNKNOWN).all(axis=-1)
    else:
        names, (flow, known) = ("frame1.png", "frame2.png"), read_kitti_flow(folder / "flow_gt.png")
    return *(read_image(folder / name) for name in names), flow, known


def end_point_error(estimator, frame_1, frame_2, flow, known):
    """Mean length (pixels) of the difference between an estimator's and the true flow, where it is known."""
    estimator.load_frames([frame_1, frame_2])
    return float(np.linalg.norm(estimator.flow_from(0, [1])[0] - flow, axis=-1)[known].mean())


def pair_errors(estimator):
    """End-point error on each of PAIRS."""
    return [end_point_error(estimator, *read_pair(SHARED / "data" / "flow" / name)) for name in PAIRS]


def clip_errors(estimator, clips):
    """End-point error over visible pixels from frame 0 to frames GAPS, walking there as preprocessing does."""
    errors = []
    for scene in clips:
        estimator.load_frames(scene.video)
        found = estimator.flow_from(0, list(range(1, max(GAPS) + 1)))
        truth = {gap: scene.flow(0, gap) for gap in GAPS}
        errors.append([
            np.linalg.norm(found[gap - 1] - flow, axis=-1)[visible].mean() for gap, (flow, visible) in truth.items()
        ])
    return list(np.mean(errors, axis=0))


def estimators(weights, iterations):
    """{name: estimator}: RAFT with each weights file, and DIS three ways."""
    found = {}
    for path in weights:
        model, digest = load_raft(path)
        found[f"RAFT {path.stem}"] = RaftFlow(model, path.name, digest, iterations, half=False)
    found["DIS (ours)"] = DisFlow()
    found["DIS preset medium, finest scale 0"] = PlainDis("medium")
    found["DIS preset fast"] = PlainDis("fast", finest_scale=None)
    return found


def default_weights():
    """raft-small-sintel, where it is."""
    return [path for path in (SHARED / "data" / "weights" / "raft-small-sintel.pth",) if path.exists()]


def table(title, columns, rows):
    """Markdown lines of {name: values}."""
    columns = list(columns)
    lines = [f"| {title} | {' | '.join(columns)} |", "| --- " * (len(columns) + 1) + "|"]
    return lines + [f"| {name} | {' | '.join(f'{value:.4f}' for value in values)} |" for name, values in rows.items()]


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flow_epe", description=__doc__.splitlines()[0])
    parser.add_argument("--raft_weights", nargs="*", type=Path, help="default: the Sintel weights")
    parser.add_argument("--iters", type=int, default=20, help="RAFT's iterations (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="also write the tables here (markdown)")
    return parser.parse_args(arguments)


@util.command
def main(arguments=None):
    args = parse_arguments(arguments)
    weights = default_weights() if args.raft_weights is None else args.raft_weights
    tested = estimators(weights, args.iters)
    named = "" if args.raft_weights is None else f" --raft_weights {' '.join(path.name for path in weights)}"
    command = f"python -m benchmarks.flow_epe --iters {args.iters}{named}"
    lines = [f"`{command}`, {datetime.date.today()}. Mean end-point error in pixels.", ""]
    if (SHARED / "data" / "flow").is_dir():
        lines += table("pair", PAIRS, {name: pair_errors(estimator) for name, estimator in tested.items()})
    else:
        print(f"skipped the public pairs: no {SHARED / 'data' / 'flow'} (set OMNIMOTION_SHARED)")
    clips = [make_scene(kind, CLIP_SEED) for kind in BENCHMARK_KINDS]
    rows = {name: clip_errors(estimator, clips) for name, estimator in tested.items()}
    lines += ["", *table("clips, 128x96, frames apart", map(str, GAPS), rows)]
    print("\n".join(lines))
    if args.out:
        with util.atomic_path(args.out) as temporary:
            temporary.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
