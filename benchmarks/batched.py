"""Tracks of flow walked in torch, as on a GPU, beside those of flow walked by OpenCV: python -m benchmarks.batched

Both on the same device, by default the CPU, where torch's takes several times as long: only the figures are compared.
"""

import argparse
from pathlib import Path
from unittest import mock

from benchmarks.experiments import command_line, prepare, publish, scene_video, score_baseline
from evaluation import report
from flow.batched.walk import BatchedWalk
from flow.dis import DisFlow
from util import command, pick_device

COLUMNS = ("AJ", "OA", "delta_avg", "AJ_RD")


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batched", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--kinds", nargs="+", default=["3d-walker", "3d-tumble", "occlusion"], help="of scenes (default: %(default)s)")
    add("--seed", type=int, default=2, help="of the scenes (default: %(default)s)")
    add("--frames", type=int, default=12, help="(default: %(default)s)")
    add("--size", type=int, nargs=2, default=(96, 128), metavar=("H", "W"), help="pixels (default: 96 128)")
    add("--device", default="cpu", help="of torch's walk (default: %(default)s)")
    add("--work", type=Path, default=Path("runs/batched"), help="folder of what is made (default: %(default)s)")
    add("--out", type=Path, default=Path("benchmarks/results/batched.md"), help="(default: %(default)s)")
    return parser.parse_args(arguments)


def measure(video, work, make_walk):
    """Figures of tracks of the video's flow, walked by what make_walk(device, reason) gives."""
    with mock.patch("flow.estimators.make_walk", make_walk), mock.patch("preprocess.driver.make_walk", make_walk):
        data = prepare(work, video, "dis")
    return score_baseline(video, "flow", data)


@command
def main(arguments=None):
    args = parse_arguments(arguments)
    walks = {"OpenCV": lambda device, reason="": DisFlow(reason),
             "torch": lambda device, reason="": BatchedWalk(pick_device(args.device), reason)}
    rows = []
    for kind in args.kinds:
        video = scene_video(args.work, kind, args.seed, args.frames, *args.size)
        for name, make_walk in walks.items():
            figures = measure(video, args.work / name, make_walk)
            rows.append([video.name, name, *(report.format_value(column, figures[column]) for column in COLUMNS)])
            print(*rows[-1], flush=True)
    table = report.markdown_table(["scene", "walk", *COLUMNS], rows)
    publish(args.out, f"`{command_line('batched')}`\n\n{table}\n")


if __name__ == "__main__":
    main()
