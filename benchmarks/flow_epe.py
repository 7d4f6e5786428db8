"""End-point error of the flow estimators on public image pairs and on generated scenes.

    python -m benchmarks.flow_epe [--raft_weights FILE ...] [--out benchmarks/results/flow_epe.md]

The pairs (three of Middlebury, one of KITTI) are no part of the project: they are read from the folder data/flow in
$OMNIMOTION_SHARED; without it that table is left out.
"""

import argparse
import datetime
import os
from pathlib import Path

import util
from preprocess.flow import DisFlow, RaftFlow, end_point_error, read_pair
from preprocess.raft_weights import SHIPPED, load_raft

SHARED = Path(os.environ.get("OMNIMOTION_SHARED", Path(__file__).resolve().parents[1].parent / "shared"))
PAIRS = ("middlebury_RubberWhale", "middlebury_Urban3", "middlebury_Venus", "kitti_example")


def pair_errors(estimator):
    """End-point error on each of PAIRS."""
    return [end_point_error(estimator, *read_pair(SHARED / "data" / "flow" / name)) for name in PAIRS]


def estimators(weights, iterations):
    """{name: estimator}: RAFT with each weights file, and DIS three ways."""
    found = {}
    for path in weights:
        model, digest = load_raft(path)
        found[f"RAFT {path.stem}"] = RaftFlow(model, path.name, digest, iterations)
    found["DIS medium, finest scale 0 (ours)"] = DisFlow()
    found["DIS preset medium"] = DisFlow(finest_scale=None)
    found["DIS preset fast"] = DisFlow(finest_scale=None, preset="fast")
    return found


def default_weights():
    """The shipped weights and raft-small-sintel, where they are."""
    return [path for path in (SHIPPED, SHARED / "data" / "weights" / "raft-small-sintel.pth") if path.exists()]


def table(title, columns, rows):
    """Markdown lines of {name: values}."""
    lines = [f"| {title} | {' | '.join(columns)} |", "| --- " * (len(columns) + 1) + "|"]
    return lines + [f"| {name} | {' | '.join(f'{value:.4f}' for value in values)} |" for name, values in rows.items()]


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flow_epe", description=__doc__.splitlines()[0])
    parser.add_argument("--raft_weights", nargs="*", type=Path, help="default: the shipped and the Sintel weights")
    parser.add_argument("--iters", type=int, default=20, help="RAFT's iterations (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="also write the tables here (markdown)")
    return parser.parse_args(arguments)


@util.command
def main(arguments=None):
    args = parse_arguments(arguments)
    tested = estimators(default_weights() if args.raft_weights is None else args.raft_weights, args.iters)
    command = f"python -m benchmarks.flow_epe --iters {args.iters}"
    lines = [f"`{command}`, {datetime.date.today()}. Mean end-point error in pixels.", ""]
    if (SHARED / "data" / "flow").is_dir():
        lines += table("pair", PAIRS, {name: pair_errors(estimator) for name, estimator in tested.items()})
    else:
        print(f"skipped the public pairs: no {SHARED / 'data' / 'flow'} (set OMNIMOTION_SHARED)")
    print("\n".join(lines))
    if args.out:
        with util.atomic_path(args.out) as temporary:
            temporary.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
