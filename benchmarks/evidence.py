"""What tracks of a tracker add to the flow: python -m benchmarks.evidence --kinds 3d-walker 3d-tumble --seed 2

Trackers are simulated: the truth of a scene, made worse. Tracks of `flow` (no model) are scored without them and with
them; tracks of another video are to be refused. Nothing is computed again that is in the work folder.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.experiments import mean_table, named_scene, publish, scene_video, score_baseline
from preprocess import build
from util import UserError, atomic_path, command

AT = 256  # pixels of the longer side, in which noise is given
COLUMNS = "AJ", "delta_avg", "OA", "AJ_RD"
TRACKERS = {  # row: share of gross outliers; None: no tracks
    "none": None, "10": 0.1, "40": 0.4,
}


def simulated_tracks(scene, count=256, noise=1.5, outliers=0.1, wrong=0.15, seed=777):
    """What a tracker might say of a scene -> positions (Q, N, 2) in raster pixels, visible (Q, N), queries (Q, 3).

    Queries are t, y, x. noise: standard deviation, pixels at AT. outliers: this share of positions is grossly wrong,
    half of them anywhere in the frame, half because a whole track follows another point's motion. wrong: share of
    visibility that is flipped. Where a track is queried it is right.
    """
    truth, random = scene.ground_truth(count, seed=seed), np.random.default_rng(seed)
    queries, positions = truth["query_points"], truth["target_points"].astype(float)
    rows, frames = np.arange(count), queries[:, 0].astype(int)
    height, width = truth["video_size"]
    moved = positions - positions[rows, frames][:, None]
    led_astray = random.random(count) < outliers / 2
    positions[led_astray] += (moved[random.permutation(count)] - moved)[led_astray]
    positions += random.normal(0, noise * max(height, width) / AT, positions.shape)
    anywhere = random.random(positions.shape[:2]) < outliers / 2
    positions[anywhere] = (random.random(positions.shape) * [width, height])[anywhere]
    visible = ~truth["occluded"] ^ (random.random(positions.shape[:2]) < wrong)
    positions[rows, frames], visible[rows, frames] = queries[:, [2, 1]], True
    return positions, visible, queries


def write_tapir(path, scene, outliers):
    """Simulated tracks in TAPIR's layout."""
    positions, visible, queries = simulated_tracks(scene, outliers=outliers)
    with atomic_path(path) as temporary:
        np.savez(temporary, tracks=positions, visibles=visible, query_points=queries)
    return path


def refusal(work, video, other):
    """What preprocessing says to the tracks of another scene: the line that refuses them, or 'taken'."""
    path = write_tapir(Path(work) / "trackers" / f"{video.name} is {other.name}.npz", other, 0.1)
    try:
        folder = Path(work) / "data" / "other" / video.name
        build(video.source, folder, flow="dis", quiet=True, workers=1, tracks=[path])
    except UserError as error:
        return str(error)
    return "taken"


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["3d-walker", "3d-tumble"], help="scenes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=2, help="of the scenes (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=12, help="their length (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 128), metavar=("H", "W"), help="(default: 96 128)")
    parser.add_argument("--rows", nargs="+", choices=TRACKERS, default=list(TRACKERS), help="shares of gross outliers, "
                        "in percent (default: none 10 40)")
    parser.add_argument("--work", default="runs/evidence", metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--out", metavar="FILE", help="where the table goes (default: the work folder)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    groups, notes = {}, []
    for kind in args.kinds:
        video = scene_video(args.work, kind, args.seed, args.frames, *args.size)
        for row in args.rows:
            given = TRACKERS[row]
            tracks = [] if given is None else [write_tapir(Path(args.work) / "trackers" / f"{kind} {row}.npz",
                                                           video.scene, given)]
            data = build(video.source, Path(args.work) / "data" / row / video.name, flow="dis", keep_direct=True,
                         quiet=True, workers=1, tracks=tracks)
            groups[video.name, row] = [score_baseline(video, "flow", data)]
            print(mean_table(["scene", "outliers, %"], groups, COLUMNS), flush=True)
        other = named_scene("3d-balls", args.seed + 1, args.frames, *args.size)
        notes.append(f"{video.name}, tracks of {other.name}: {refusal(args.work, video, other)}")
    table = mean_table(["scene", "outliers, %"], groups, COLUMNS)
    publish(args.out or Path(args.work) / "table.md", "\n".join([table, "", *notes, ""]))


if __name__ == "__main__":
    main()
