"""Checkpoints of training runs: writing them, finding the newest, and opening a run for queries.

A run is a folder: config.json, checkpoints/step_000000100.pt ..., checkpoints/best.pt, TensorBoard events. A checkpoint
holds everything: weights, optimiser, sampler, random states, configuration, and what is known of the video.
"""

from pathlib import Path
from typing import NamedTuple

import torch

from configs.options import BY_NAME, MODEL_OPTIONS, OPTIONS
from networks.build import build_model
from networks.model import VideoModel
from networks.reference import convert_reference, is_reference_checkpoint, reference_architecture
from util import UserError, atomic_path

FORMAT, VERSION = "omnimotion-run", 1
VIDEO_KEYS = ("name", "num_frames", "height", "width", "original_height", "original_width", "fps", "fingerprint")


class Run(NamedTuple):
    """A trained model (in evaluation mode) and what a query needs to know of its video."""

    model: VideoModel
    config: dict
    video: dict
    data_dir: str
    step: int

    @property
    def flow_dir(self):
        """The data directory with the flow that tracks are refined by."""
        return self.data_dir


def describe_video(data):
    """What a checkpoint records of a data directory's video."""
    return {key: getattr(data, key) for key in VIDEO_KEYS}


def model_from(config, video):
    """A fresh VideoModel for a configuration (dict) and a video (dict)."""
    options = {key: config.get(key, BY_NAME[key].default) for key in MODEL_OPTIONS}  # older runs lack newer options
    return build_model(video["num_frames"], video["height"], video["width"], **options)


def checkpoint_path(run_dir, step):
    return Path(run_dir) / "checkpoints" / f"step_{step:09d}.pt"


def save(path, state):
    """Write a checkpoint atomically."""
    with atomic_path(path) as temporary:
        torch.save({"format": FORMAT, "version": VERSION} | state, temporary)


def saved_steps(run_dir):
    """Paths of the run's numbered checkpoints, oldest first."""
    return sorted(Path(run_dir).glob("checkpoints/step_*.pt"))


def save_state(run_dir, state, keep, is_best=False):
    """Save a snapshot under its step, and as best.pt; delete all but the newest `keep` numbered checkpoints."""
    save(checkpoint_path(run_dir, state["step"]), state)
    if is_best:
        save(Path(run_dir) / "checkpoints" / "best.pt", state)
    for path in saved_steps(run_dir)[:-keep]:
        path.unlink(missing_ok=True)


def newest(run_dir):
    """Path of the newest checkpoint. UserError when the run has none."""
    paths = saved_steps(run_dir)
    if not paths:
        raise UserError(f"--run {run_dir}: no checkpoint there (expected {run_dir}/checkpoints/step_*.pt); "
                        "train first: python train.py --data_dir DIR --out_dir " + str(run_dir))
    return paths[-1]


def read(path, device="cpu"):
    """Load a checkpoint file, ours or the reference implementation's. UserError when it is neither."""
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except Exception as error:  # torch raises many kinds for damaged or foreign files
        raise UserError(f"{path}: not a readable checkpoint ({str(error).splitlines()[0][:120]})") from None
    if is_reference_checkpoint(checkpoint):
        return checkpoint
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise UserError(f"{path}: not a checkpoint of this program nor of the reference implementation")
    if checkpoint["version"] != VERSION:
        raise UserError(f"{path}: checkpoint version {checkpoint['version']}, this program reads version {VERSION}")
    return checkpoint


def load_run(run_dir=None, checkpoint=None, data_dir=None, device="cpu"):
    """Open a run for queries: its newest checkpoint, or the file `checkpoint`.

    A checkpoint of the reference implementation needs data_dir, since it does not know the video's size.
    UserError when there is no checkpoint, it is not readable, or a reference checkpoint comes without data_dir.
    """
    path = Path(checkpoint) if checkpoint else newest(run_dir)
    state = read(path, device)
    if is_reference_checkpoint(state):
        return _load_reference(state, path, data_dir, device)
    model = model_from(state["config"], state["video"]).to(device).eval()
    model.load_state_dict(state["ema"] or state["model"])
    return Run(model, state["config"], state["video"], data_dir or state["data_dir"], state["step"])


def _load_reference(state, path, data_dir, device):
    from loaders.data_dir import DataDir

    if data_dir is None:
        raise UserError(f"{path}: a checkpoint of the reference implementation; give --data_dir of the same video too")
    data = DataDir.open(data_dir)
    if state.get("num_imgs", data.num_frames) != data.num_frames:
        raise UserError(f"{path}: made for {state['num_imgs']} frames, {data_dir} has {data.num_frames}")
    config = {option.name: option.default for option in OPTIONS} | reference_architecture(state)
    video = describe_video(data)
    model = model_from(config, video).to(device).eval()
    model.load_state_dict(convert_reference(state))
    return Run(model, config, video, str(data_dir), int(state.get("step", 0)))
