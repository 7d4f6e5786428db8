"""All videos of a benchmark through preprocess -> train -> evaluate, one after the other, resumable.

Layout: ROOT/<video>/frames and ground_truth.npz (as `evaluate.py prepare` writes them), data/ and run/ (made here),
tracks_<query mode>.npz, which is there when the video is done.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from evaluation.ground_truth import read_npz
from evaluation.predictions import RunTracks
from tracking.tracks_file import write_tracks
from util import UserError


def find_videos(root, only=None):
    """The prepared videos' folders, in order, or those named in `only`. UserError when there are none."""
    folders = sorted(path.parent for path in Path(root).glob("*/ground_truth.npz"))
    if not folders:
        raise UserError(f"{root}: no prepared videos (*/ground_truth.npz); make them with: python evaluate.py prepare")
    unknown = set(only or ()) - {folder.name for folder in folders}
    if unknown:
        known = ", ".join(folder.name for folder in folders)
        raise UserError(f"{root}: no video {', '.join(sorted(unknown))}; there are {known}")
    return [folder for folder in folders if not only or folder.name in only]


def fit_video(folder, config, query_mode, preprocess_args="", train_args=""):
    """Preprocess, train and track one video, continuing what an earlier call began; returns its tracks file."""
    tracks_path = folder / f"tracks_{query_mode}.npz"
    if tracks_path.exists():
        return tracks_path
    data_dir, run_dir = folder / "data", folder / "run"
    python = sys.executable
    step([python, "-m", "preprocess", folder / "frames", "--data_dir", data_dir, *shlex.split(preprocess_args)])
    resume = ["--resume"] if any(run_dir.glob("checkpoints/*.pt")) else []
    train = [python, "train.py", "--config", config, "--data_dir", data_dir, "--out_dir", run_dir]
    step([*train, *shlex.split(train_args), *resume])
    truth = read_npz(folder / "ground_truth.npz", query_mode, folder.name)
    write_tracks(tracks_path, RunTracks(run_dir, data_dir).track(truth))
    return tracks_path


def step(arguments):
    """Run one command of this repository. UserError when it fails (it has said why itself)."""
    arguments = [str(argument) for argument in arguments]
    print("$", shlex.join(arguments[1:]), flush=True)
    code = subprocess.run(arguments, cwd=Path(__file__).resolve().parents[1]).returncode
    if code:
        name = " ".join(arguments[1:3])
        raise UserError(f"`{name} ...` ended with exit code {code}; the same command goes on from there")
