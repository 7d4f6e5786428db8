"""What the benchmarks share: videos with truth, and one video through preprocess -> train -> track -> score.

Everything is kept in a work folder, so that an interrupted benchmark goes on and a larger one reuses a smaller one:
    scenes/<video>/ground_truth.npz, masks/   truth of the synthetic scenes (also for evaluate.py --ground_truth)
    data/<flow>/<video>/                      data directories; <flow>-all: all pairs of a long video, for direct
    data/<flow>/<video>.json                  what making it took: seconds, threads
    runs/<method>/<flow>/<video>/             training runs; figures.json when scored
    tracks/<flow>-<row>/<video>.npz           tracks of the scenes (also for evaluate.py --tracks); <row> is flow, or
                                              'model <method>', 'both <method>'
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import checkpoints
from benchmarks.scenes import Scene, SceneFlow, make_scene
from evaluation import report
from evaluation.ground_truth import read_truths
from evaluation.metrics import mean_metrics
from evaluation.predictions import RunTracks, from_tracks, open_baseline
from evaluation.scoring import score
from loaders.data_dir import DataDir, write_image
from preprocess import build
from preprocess.pairs import ALL_PAIRS_UP_TO
from tracking.tracks_file import write_tracks
from util import UserError, atomic_path

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("OMNIMOTION_SHARED", ROOT.parent / "shared")) / "data"
FLOWS = ("gt", "dis", "raft-small")
RAFT_SMALL = SHARED / "weights" / "raft-small-sintel.pth"
FLOW_OPTIONS = {"dis": {"flow": "dis"}, "raft-small": {"flow": "raft", "raft_weights": RAFT_SMALL}}  # of preprocessing
REAL_VIDEOS = ("horsejump-high", "dog")


@dataclass(frozen=True)
class Video:
    """A video with everything that is true about it."""

    name: str
    source: object  # uint8 (N, H, W, 3), or a folder of frames
    truths: list
    scene: Scene | None = None
    max_side: int | None = None


@dataclass(frozen=True)
class Method:
    """A way to train: a preset, its length, and options that differ from it."""

    name: str
    preset: str
    minutes: float
    options: tuple = ()  # of train.py: ("--num_samples", "8", ...)
    seed: int = 0


def named_scene(kind, seed, num_frames, height, width):
    """The scene of a kind: a layered one, or one of bodies in space for kinds that begin with '3d-'."""
    if kind.startswith("3d-"):
        from benchmarks.scenes3d import make_scene3d

        return make_scene3d(kind, seed, num_frames, height, width)
    return make_scene(kind, seed, num_frames, height, width)


def scene_video(work, kind, seed, num_frames, height, width, num_points=256):
    """A synthetic scene; its truth is written to the work folder first."""
    scene = named_scene(kind, seed, num_frames, height, width)
    folder = Path(work) / "scenes" / scene.name
    if not (folder / "ground_truth.npz").exists():
        for index in range(num_frames):
            write_image(folder / "masks" / f"{index:05d}.png", scene.mask(index).astype(np.uint8) * 255)
        with atomic_path(folder / "ground_truth.npz") as path:
            np.savez_compressed(path, **scene.ground_truth(num_points))
    truths = [*read_truths(folder / "ground_truth.npz"), *read_truths(folder / "masks", mask_stride=3)]
    if any((truth.num_frames, *truth.video_size) != (num_frames, height, width) for truth in truths):
        raise UserError(f"--work {work}: holds {scene.name} of another size or length; choose another folder")
    return Video(scene.name, scene.video, truths, scene)


def real_video(name, max_side):
    """A DAVIS video with BADJA's joints and its masks."""
    folder, masks = SHARED / "davis" / name, SHARED / "davis" / name / "masks"
    truths = [*read_truths(SHARED / "badja" / f"{name}.json", mask_folder=masks), *read_truths(masks)]
    return Video(name, folder / "frames", truths, max_side=max_side)


def real_videos(max_side):
    """The real videos that are there; says which are not."""
    present = [name for name in REAL_VIDEOS if (SHARED / "davis" / name).is_dir()]
    if len(present) < len(REAL_VIDEOS):
        print(f"no DAVIS data in {SHARED}: synthetic scenes only (set OMNIMOTION_SHARED)")
    return [real_video(name, max_side) for name in present]


def prepare(work, video, flow, all_pairs=False):
    """The video's data directory with this flow; direct flow is kept for the baselines.

    all_pairs: the flow between every two frames, not chained, for the direct baseline. Short videos have it anyway.
    """
    if flow == "gt" and video.scene is None:
        return None  # nobody knows the true flow of a real video
    options = {"flow": SceneFlow(video.scene)} if flow == "gt" else FLOW_OPTIONS[flow]
    name = flow
    if all_pairs and video.truths[0].num_frames > ALL_PAIRS_UP_TO:
        options |= {"max_interval": video.truths[0].num_frames, "chain": False}
        name = f"{flow}-all"
    folder = Path(work) / "data" / name / video.name
    with timed(folder):
        return build(video.source, folder, max_side=video.max_side, keep_direct=True, quiet=True, **options)


@contextlib.contextmanager
def timed(folder):
    """Add what is done inside to the seconds of making a data directory; nothing once it is complete."""
    try:
        DataDir.open(folder)
    except UserError:
        complete = False
    else:
        complete = True
    file, began = cost_file(folder), time.monotonic()
    try:
        yield
    finally:
        if not complete:
            before = json.loads(file.read_text(encoding="utf-8"))["seconds"] if file.exists() else 0
            cost = {"seconds": before + time.monotonic() - began, "threads": torch.get_num_threads()}
            with atomic_path(file) as temporary:
                temporary.write_text(json.dumps(cost), encoding="utf-8")


def cost_file(folder):
    return Path(folder).with_name(f"{Path(folder).name}.json")


def preprocessing_cost(data):
    """dict(minutes, threads) of making a data directory; empty where nobody took the time."""
    file = cost_file(data.path)
    if not file.exists():
        return {}
    cost = json.loads(file.read_text(encoding="utf-8"))
    return {"minutes": cost["seconds"] / 60, "threads": cost["threads"]}


def train(data_dir, run_dir, method, save_every=None):
    """Train by the command line in a process of its own -> dict(minutes, memory in MiB). Continues a stopped run."""
    arguments = [sys.executable, "train.py", "--config", method.preset, "--data_dir", data_dir, "--out_dir", run_dir,
                 "--max_minutes", method.minutes, "--seed", method.seed, "--image_every", "0", "--quiet",
                 *method.options]
    if save_every:
        arguments += ["--save_every", save_every, "--keep", "1000"]
    if checkpoints.saved_steps(run_dir):
        arguments.append("--resume")
    began = time.monotonic()
    process = subprocess.Popen([str(a) for a in arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"train.py for {run_dir} ended with exit code {process.returncode}")
    return {"minutes": (time.monotonic() - began) / 60, "memory": usage.ru_maxrss / peak_unit()}


def peak_unit():
    """ru_maxrss is in KiB on Linux and in bytes on macOS; MiB per unit."""
    return 2**20 if sys.platform == "darwin" else 2**10


def merged(parts):
    """One dict of the figures of all of a video's truths."""
    return {name: value for part in parts for name, value in part.items()}


def score_baseline(video, kind, data, tracks_path=None):
    """Figures of a baseline on a data directory, and what its flow cost; tracks of `flow` are kept in tracks_path."""
    predictor, figures = open_baseline(kind, data.path), []
    for truth in video.truths:
        if kind == "flow":
            tracks = predictor.track(truth)
            if tracks_path and truth.mask_images is None:
                write_tracks(tracks_path, tracks)
            figures.append(score(truth, from_tracks(tracks)))
        else:
            figures.append(score(truth, predictor.predict(truth)))
    return merged(figures) | ({} if kind == "static" else preprocessing_cost(data))


def score_run(video, run_dir, data, tracks_path=None, checkpoint=None, points_only=False, refine="on"):
    """Figures of a run, or of one of its checkpoints; the points' tracks are kept in tracks_path.

    refine: 'on' (model and flow) or 'off' (the model alone).
    """
    predictor = RunTracks(run_dir, data.path, checkpoint=checkpoint, refine=refine)
    figures = []
    for truth in video.truths:
        if points_only and (truth.mask_images is not None or truth.radius is not None):
            continue
        tracks = predictor.track(truth)
        if tracks_path and truth.mask_images is None:
            write_tracks(tracks_path, tracks)
        figures.append(score(truth, from_tracks(tracks)))
    return merged(figures)


def fit(work, video, flow, data, method, curve=False):
    """Train and score one video (or read what an earlier call found) -> {both: figures, model: figures}.

    both: tracks of the model refined by flow; model: as they are. Each with minutes of preprocessing and training,
    threads and memory. curve: also AJ of both at intermediate checkpoints, as [[minutes of training, AJ], ...].
    """
    run_dir = Path(work) / "runs" / method.name / flow / video.name
    file = run_dir / "figures.json"
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    cost = train(data.path, run_dir, method, save_every=50 if curve else None)
    before = preprocessing_cost(data)
    cost |= {"minutes": cost["minutes"] + before.get("minutes", 0), "threads": torch.get_num_threads()}
    rows = {}
    for row, refine in (("both", "on"), ("model", "off")):
        tracks_path = tracks_file(work, flow, f"{row} {method.name}", video)
        rows[row] = score_run(video, run_dir, data, tracks_path, refine=refine) | cost
    if curve:
        rows["both"]["curve"] = learning_curve(video, run_dir, data)
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(rows), encoding="utf-8")
    for path in checkpoints.saved_steps(run_dir)[:-1]:
        path.unlink()
    return rows


def tracks_file(work, flow, row, video):
    """Where the tracks of a row are kept."""
    return Path(work) / "tracks" / f"{flow}-{row}" / f"{video.name}.npz"


def learning_curve(video, run_dir, data, points=6):
    """[[minutes, AJ], ...] of at most `points` checkpoints, evenly spaced over the run."""
    paths = checkpoints.saved_steps(run_dir)
    chosen = [paths[k] for k in np.unique(np.linspace(0, len(paths) - 1, points).round().astype(int))]
    curve = []
    for path in chosen:
        figures = score_run(video, run_dir, data, checkpoint=path, points_only=True)
        if "AJ" in figures:
            curve.append([checkpoints.read(path)["elapsed"] / 60, figures["AJ"]])
    return curve


def mean_table(header, groups, columns):
    """Markdown: a row per group {key tuple: [figures of each video]}, means over its videos; no empty columns."""
    means = {key: mean_metrics(videos) for key, videos in groups.items()}
    used = [name for name in columns if any(name in figures for figures in means.values())]
    rows = [
        [*key, len(groups[key]), *(format_figure(name, figures.get(name)) for name in used)]
        for key, figures in means.items()
    ]
    return report.markdown_table([*header, "videos", *used], rows)


def publish(path, text):
    """Write a page of results, and print it."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


def command_line(name):
    """What was typed to run benchmarks.`name`."""
    return " ".join([f"python -m benchmarks.{name}", *sys.argv[1:]])


def format_figure(name, value):
    if value is None:
        return ""
    if name in ("memory", "threads"):
        return f"{value:.0f}"
    return report.format_value(name, value)
