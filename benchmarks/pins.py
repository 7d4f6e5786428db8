"""What pins do: python -m benchmarks.pins --kinds 3d-walker 3d-tumble --seed 3

On scenes with truth the tracks of a fitted run that are furthest off are pinned, each alone, to the truth at one to
three frames. Scored, before and after: the pinned track at its pins and in the other frames in which it is seen, points
near its query on the same body (within 10 px, of frames of 192 x 144) and on others, and points far from it. What is in
the work folder is not computed again.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

import checkpoints
import train
from benchmarks.experiments import ROOT, publish, scene_video
from evaluation.report import markdown_table
from loaders.pins import Pin
from preprocess import build
from tracking.sources import RunSource, track_queries
from util import command

NEAR, FAR = 10 / 192, 0.12  # of the longer side
AROUND, NOISE_SEED = 24, 3  # points near a track, of either kind; at most
COLUMNS = {  # row: what is measured
    "pins": "error at the pins", "own": "error of the track elsewhere", "near": "error of near points, same body",
    "other": "error of near points, other bodies", "far": "far points moved by",
}


def fitted(work, video, iterations):
    """The run of a scene's walked flow."""
    data = build(video.source, Path(work) / "data" / video.name, flow="dis", quiet=True, workers=1)
    run = Path(work) / "runs" / video.name
    if not checkpoints.saved_steps(run):
        arguments = ["--config", ROOT / "configs/default.txt", "--data_dir", data.path, "--out_dir", run, "--num_iters",
                     iterations, "--image_every", 0, "--quiet"]
        train.main([str(word) for word in arguments])
    return checkpoints.load_run(run)


def points_around(scene, query, body, random):
    """Queries (n, 3) near a query: on its body, and on others; and far from it."""
    frame, place, side = int(query[0]), query[[2, 1]] - 0.5, max(scene.height, scene.width)
    size = np.array([scene.width, scene.height]) - 1
    close = place + random.uniform(-NEAR, NEAR, (400, 2)) * side
    close = close[(np.linalg.norm(close - place, axis=-1) < NEAR * side) & ((close >= 0) & (close <= size)).all(-1)]
    same = scene.ids_of(scene.top_layer(frame, close)) == body
    anywhere = random.uniform(0, 1, (100, 2)) * size
    far = anywhere[np.linalg.norm(anywhere - place, axis=-1) > FAR * side]
    return [np.insert(points[:AROUND, ::-1] + 0.5, 0, frame, axis=1) for points in (close[same], close[~same], far)]


def worst(scene, source, count, random):
    """[(query, true positions (N, 2), visible (N,), error (N,), points around)] of the tracks that are furthest off."""
    truth = scene.ground_truth(256, seed=5)
    tracks = track_queries(source, truth["query_points"])
    error, visible = np.linalg.norm(tracks.tracks - truth["target_points"], axis=-1), ~truth["occluded"]
    found = []
    for row in np.argsort(-np.where(visible, error, 0).sum(1) / visible.sum(1)):
        around = points_around(scene, truth["query_points"][row], truth["object_ids"][row], random)
        if visible[row].sum() >= 4 and len(around[0]) >= 6 and len(found) < count:
            found.append((truth["query_points"][row], truth["target_points"][row], visible[row], error[row], around))
    return found


def pins_at(query, places, visible, error, count):
    """[Pin] of a track: its query, and the truth where it is furthest off, then between and beyond."""
    seen = [frame for frame in np.flatnonzero(visible) if frame != int(query[0])]
    seen = sorted(seen, key=lambda frame: -error[frame])
    chosen = sorted({seen[0], *([seen[1], seen[len(seen) // 2]] if count > 1 else [])})
    return [Pin(0, int(query[0]), *map(float, query[[2, 1]]), 1),
            *(Pin(0, int(frame), *map(float, places[frame]), 1) for frame in chosen)]


def measure(scene, run, case, count):
    """{row of COLUMNS: (before, after)} of one track with so many pins; seconds."""
    query, places, visible, error, (near, other, far) = case
    pins, queries = pins_at(query, places, visible, error, count), np.concatenate([query[None], near, other, far])
    before = track_queries(RunSource(run), np.float32(queries)).tracks
    began = time.monotonic()
    after = track_queries(RunSource(run._replace(pins=pins)), np.float32(queries)).tracks
    seconds = time.monotonic() - began
    at, free, found = [pin.frame for pin in pins[1:]], visible.copy(), {}
    free[[pin.frame for pin in pins]] = False
    errors = [np.linalg.norm(tracks[0] - places, axis=-1) for tracks in (before, after)]
    found["pins"], found["own"] = ([mean(values[rows]) for values in errors] for rows in (at, free))
    start = 1
    for name, points in (("near", near), ("other", other)):
        rows, start = slice(start, start + len(points)), start + len(points)
        true, seen = scene.tracks(int(query[0]), points[:, :0:-1] - 0.5) if len(points) else (0, np.zeros(0, bool))
        found[name] = [mean(np.linalg.norm(tracks[rows] - true - 0.5, axis=-1)[seen]) for tracks in (before, after)]
    found["far"] = [0.0, mean(np.linalg.norm(after[start:] - before[start:], axis=-1))]
    return found, seconds


def mean(values):
    """NaN of nothing."""
    return float(np.mean(values)) if np.size(values) else np.nan


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["3d-walker", "3d-tumble"], help="scenes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=3, help="of the scenes (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=24, help="their length (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(144, 192), metavar=("H", "W"), help="(default: 144 192)")
    parser.add_argument("--num_iters", type=int, default=1000, help="steps of training (default: %(default)s)")
    parser.add_argument("--tracks", type=int, default=12, help="that are pinned (default: %(default)s)")
    parser.add_argument("--work", default="runs/pins", metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--out", metavar="FILE", help="where the table goes (default: the work folder)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = []
    for kind in args.kinds:
        video = scene_video(args.work, kind, args.seed, args.frames, *args.size)
        run, random = fitted(args.work, video, args.num_iters), np.random.default_rng(NOISE_SEED)
        cases = worst(video.scene, RunSource(run), args.tracks, random)
        for count in (1, 3):
            found, seconds = zip(*(measure(video.scene, run, case, count) for case in cases))
            figures = {name: np.nanmean([one[name] for one in found], axis=0) for name in COLUMNS}
            rows.append([video.name, count, *(f"{before:.2f} to {after:.2f}" for before, after in figures.values()),
                         f"{np.mean(seconds):.1f}"])
            header = ["scene", "pins", *(f"{what}, px" for what in COLUMNS.values()), "seconds"]
            table = markdown_table(header, rows)
            print(table, flush=True)
    publish(args.out or Path(args.work) / "table.md", table + "\n")


if __name__ == "__main__":
    main()
