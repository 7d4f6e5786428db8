"""What tracks, and features, add to the flow: python -m benchmarks.evidence --kinds 3d-walker 3d-tumble --seed 2

Trackers and features are simulated: the truth of a scene, made worse. Tracks of `flow`, and with --steps of `both`
(model and flow), are scored without them and with them; so is the tracker itself, at its own points, beside ours there.
Tracks of another video are to be refused. Flow that is in the work folder is not computed again.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.experiments import (
    Method,
    mean_table,
    named_scene,
    publish,
    scene_video,
    score_baseline,
    score_run,
    train,
)
from evaluation.ground_truth import read_truths
from evaluation.predictions import TracksFile
from evaluation.scoring import score
from flow.features import OF_CELLS, MatchSettings, places_of_map
from preprocess import build
from util import UserError, atomic_path, command

AT = 256  # pixels of the longer side, in which noise is given
COLUMNS = "AJ", "delta_avg", "OA", "AJ_RD"
TRACKERS = {"10": {"outliers": 0.1}, "40": {"outliers": 0.4}, "astray": {"outliers": 0.6, "noise": 0.5, "wrong": 0.05},
            "blurred": {"outliers": 0.0, "noise": 4.0}, "dropped": {"outliers": 0.0, "dropped": 0.6}}  # row: its faults
SEVERAL = {"three": ("astray", "blurred", "dropped")}  # row: trackers with different failures, at once
PLANTED = {"features": 0.0, "features 20": 0.2, "features 50": 0.5}  # row: share of cells with a wrong one
ROWS = ["none", *TRACKERS, *SEVERAL, *PLANTED, "sift"]
POINTS, OWN_SEED = 256, 777  # of a tracker


def simulated_tracks(scene, count=POINTS, noise=1.5, outliers=0.1, wrong=0.15, dropped=0.0, seed=OWN_SEED):
    """What a tracker might say of a scene -> positions (Q, N, 2) in raster pixels, visible (Q, N), queries (Q, 3).

    Queries are t, y, x. noise: standard deviation, pixels at AT. outliers: this share of positions is grossly wrong,
    half of them anywhere in the frame, half because a whole track follows another point's motion. wrong: share of
    visibility that is flipped. dropped: this share of tracks ends after a quarter of the frames, on either side, and is
    said to be hidden from there on. Where a track is queried it is right.
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
    away = np.abs(np.arange(positions.shape[1]) - frames[:, None])
    visible &= (random.random(count) >= dropped)[:, None] | (away <= positions.shape[1] / 4)
    positions[rows, frames], visible[rows, frames] = queries[:, [2, 1]], True
    return positions, visible, queries


class PlantedFeatures:
    """Describes frames of a scene as an ideal network would: each cell by random vectors of the surface seen there.

    Points all over the surfaces, those under the cells of all frames, have a random vector each; a cell's is the sum of
    those that are seen around it, of its own surface, near ones most. wrong: this share of cells has that of another.
    """

    name, settings, motions = "planted", MatchSettings(), OF_CELLS

    def __init__(self, scene, stride=8, wrong=0.2, length=128, spread=0.75, seed=0):
        """spread: standard deviation of what a cell sees, in strides."""
        self.scene, self.stride, self.wrong, self.spread = scene, stride, wrong, spread
        self.description = {"planted": scene.name, "stride": stride, "wrong": wrong, "spread": spread, "seed": seed}
        self.grid = -(-scene.height // stride), -(-scene.width // stride)
        tracks = [scene.tracks(frame, self.middles()) for frame in range(scene.num_frames)]
        self.positions, self.visible = (np.concatenate(parts) for parts in zip(*tracks))  # (A, N, 2), (A, N)
        self.surface = np.concatenate([self.surfaces(frame) for frame in range(scene.num_frames)])
        self.random = np.random.default_rng(seed)
        self.vectors = self.random.normal(size=(len(self.surface), length))

    def middles(self):
        """(n, 2) pixels of the cells' middles."""
        x, y = ((np.arange(count) + 0.5) * side / count - 0.5
                for count, side in zip(self.grid[::-1], (self.scene.width, self.scene.height)))
        return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)

    def surfaces(self, frame):
        """(n,) which surface is at the cells' middles."""
        top = self.scene.top_layer(frame, self.middles())
        return self.scene.ids_of(top) if hasattr(self.scene, "ids_of") else top

    def __call__(self, i, frame):
        away = np.linalg.norm(self.middles()[:, None] - self.positions[None, :, i], axis=-1) / self.stride
        weight = np.exp(-np.square(away / self.spread) / 2) * self.visible[:, i]
        weight *= self.surfaces(i)[:, None] == self.surface
        features = weight @ self.vectors
        random = np.random.default_rng([i, len(self.surface)])
        wrong = random.random(len(features)) < self.wrong
        features[wrong] = features[random.permutation(len(features))][wrong]
        return places_of_map(features.reshape(*self.grid, -1), frame.shape[:2], self.settings)


def write_tapir(path, scene, **faults):
    """Simulated tracks in TAPIR's layout."""
    positions, visible, queries = simulated_tracks(scene, **faults)
    with atomic_path(path) as temporary:
        np.savez(temporary, tracks=positions, visibles=visible, query_points=queries)
    return path


def evidence_of_row(row, video, work):
    """The options of preprocessing that a row of the table stands for."""
    if row in TRACKERS or row in SEVERAL:
        return {"tracks": [write_tapir(Path(work) / "trackers" / f"{video.name} {name}.npz", video.scene,
                                       **TRACKERS[name]) for name in SEVERAL.get(row, (row,))]}
    if row in PLANTED:
        return {"features": [PlantedFeatures(video.scene, wrong=PLANTED[row])]}
    return {"features": ["sift"]} if row == "sift" else {}


def refusal(work, video, other):
    """What preprocessing says to the tracks of another scene: the line that refuses them, or 'taken'."""
    path = write_tapir(Path(work) / "trackers" / f"{video.name} is {other.name}.npz", other)
    try:
        folder = Path(work) / "data" / "other" / video.name
        build(video.source, folder, flow="dis", quiet=True, workers=1, tracks=[path])
    except UserError as error:
        return str(error)
    return "taken"


def own_truth(work, video):
    """The truth at a tracker's own points."""
    path = Path(work) / "scenes" / video.name / "own.npz"
    with atomic_path(path) as temporary:
        np.savez(temporary, **video.scene.ground_truth(POINTS, seed=OWN_SEED))
    return next(iter(read_truths(path)))


def figures_of(name, video, data, run):
    """Figures {name of the tracks: {}} of flow's tracks and of a run's (None: of flow's alone)."""
    rows = {f"{name}: flow": score_baseline(video, "flow", data)}
    return rows if run is None else rows | {f"{name}: both": score_run(video, run, data)}


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["3d-walker", "3d-tumble"], help="scenes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=2, help="of the scenes (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=12, help="their length (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 128), metavar=("H", "W"), help="(default: 96 128)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["none", *TRACKERS], help="tracks by their share of "
                        "gross outliers, features by that of wrong cells, in percent (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=0, help="of training; 0: no model, and flow alone is scored")
    parser.add_argument("--work", default="runs/evidence", metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--out", metavar="FILE", help="where the table goes (default: the work folder)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    groups, notes = {}, []
    for kind in args.kinds:
        video = scene_video(args.work, kind, args.seed, args.frames, *args.size)
        video = replace(video, truths=[truth for truth in video.truths if truth.mask_images is None])
        for row in args.rows:
            data = build(video.source, Path(args.work) / "data" / row / video.name, flow="dis", keep_direct=True,
                         quiet=True, workers=1, **evidence_of_row(row, video, args.work))
            run = Path(args.work) / "runs" / row / video.name if args.steps else None
            if run is not None:
                train(data.path, run, Method(row, "configs/default.txt", 0, ("--num_iters", args.steps)))
            rows = figures_of(row, video, data, run)
            if row in TRACKERS or row in SEVERAL:
                own = replace(video, truths=[own_truth(args.work, video)])
                rows |= figures_of(f"{row}, at its own points", own, data, run)
                for path in evidence_of_row(row, video, args.work)["tracks"]:
                    rows[f"{path.stem.removeprefix(video.name + ' ')} itself there"] = score(
                        own.truths[0], TracksFile(path).predict(own.truths[0]))
            groups |= {(video.name, name): [figures] for name, figures in rows.items()}
            print(mean_table(["scene", "evidence"], groups, COLUMNS), flush=True)
        if not set(args.rows) & TRACKERS.keys():
            continue
        other = named_scene("3d-balls", args.seed + 1, args.frames, *args.size)
        notes.append(f"{video.name}, tracks of {other.name}: {refusal(args.work, video, other)}")
    table = mean_table(["scene", "evidence"], groups, COLUMNS)
    publish(args.out or Path(args.work) / "table.md", "\n".join([table, "", *notes, ""]))


if __name__ == "__main__":
    main()
