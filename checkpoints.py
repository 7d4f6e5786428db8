"""Checkpoints of training runs: writing them, finding the newest, and opening a run for queries.

A run is a folder: config.json, checkpoints/step_000000100.pt ..., checkpoints/best.pt, TensorBoard events. A checkpoint
holds everything: weights, optimiser, sampler, random states, configuration, and what is known of the video.
"""

import io
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch

from configs.options import BY_NAME, MODEL_OPTIONS, OPTIONS
from files import UserError, regular_file, write_file
from loaders.manifest import check_value, check_video
from loaders.pins import PinnedVideo, as_pin, check_pins
from networks.build import build_model
from networks.model import VideoModel
from networks.reference import convert_reference, is_reference_checkpoint, reference_architecture

FORMAT, VERSION = "omnimotion-run", 1
ENTRIES = {"config": dict, "video": dict, "data_dir": str, "step": int, "model": dict}  # that every checkpoint has
VIDEO_KEYS = ("name", "num_frames", "height", "width", "original_height", "original_width", "fps", "fingerprint")


class Run(NamedTuple):
    """A trained model (in evaluation mode) and what a query needs to know of its video."""

    model: VideoModel
    config: dict
    video: dict
    data_dir: str
    step: int
    pins: tuple = ()  # [loaders.pins.Pin] that its tracks obey

    @property
    def layer(self):
        """The object that it was fitted to alone, -1 for none. Older runs know of none."""
        return self.config.get("layer", -1)

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
    """Write a checkpoint atomically. (torch's own writer loses the reason, such as a full disk, of a failed write.)"""
    content = io.BytesIO()
    torch.save({"format": FORMAT, "version": VERSION} | state, content)
    write_file(path, content.getbuffer())


def saved_steps(run_dir):
    """Paths of the run's numbered checkpoints, oldest first."""
    return sorted(path for path in Path(run_dir).glob("checkpoints/step_*.pt") if re.fullmatch(r"step_\d+", path.stem))


def save_state(run_dir, state, keep, is_best=False):
    """Save a snapshot under its step, and as best.pt; delete all but the newest `keep` numbered checkpoints."""
    save(checkpoint_path(run_dir, state["step"]), state)
    if is_best:
        save(Path(run_dir) / "checkpoints" / "best.pt", state)
    for path in saved_steps(run_dir)[:-keep]:
        path.unlink(missing_ok=True)


def delete_after(run_dir, step):
    """Delete the numbered checkpoints of later steps."""
    for path in saved_steps(run_dir):
        if path > checkpoint_path(run_dir, step):
            path.unlink()


def newest(run_dir):
    """Path of the newest checkpoint. UserError when the run has none."""
    paths = saved_steps(run_dir)
    if not paths:
        raise UserError(f"--run {run_dir}: no checkpoint there (expected {run_dir}/checkpoints/step_*.pt); "
                        "train first: python train.py --data_dir DIR --out_dir " + str(run_dir))
    return paths[-1]


def read_newest(run_dir, device="cpu", skip_damaged=False):
    """Content of the run's newest checkpoint. UserError: there is none, or it is damaged; named is the newest sound.

    skip_damaged: take that one, and give those that are newer, and damaged, another ending.
    """
    newest(run_dir)
    damaged = {}
    for path in reversed(saved_steps(run_dir)):
        try:
            state = read(path, device)
        except UserError as error:
            damaged[path] = error
            continue
        if damaged and not skip_damaged:
            raise UserError(f"{next(iter(damaged.values()))}; the newest sound one is {path}: train.py --resume "
                            f"--skip_damaged goes on from it, --checkpoint {path} opens it")
        for other, error in damaged.items():
            other.rename(other.with_suffix(".damaged"))
            print(f"{error}; going on from {path}")
        return state
    raise UserError(f"{next(iter(damaged.values()))}; no other checkpoint of {run_dir} is sound: train anew")


def read(path, device="cpu"):
    """Load a checkpoint file, ours or the reference implementation's. UserError when it is neither, or damaged."""
    check_records(path)
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged or foreign files
        reason = (str(error).splitlines() or ["empty or truncated"])[0][:120]
        raise UserError(f"{path}: not a readable checkpoint ({reason})") from None
    if is_reference_checkpoint(checkpoint):
        return checkpoint
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise UserError(f"{path}: not a checkpoint of this program nor of the reference implementation")
    if checkpoint.get("version") != VERSION:
        found = str(checkpoint.get("version"))[:40]
        raise UserError(f"{path}: checkpoint version {found}, this program reads version {VERSION}")
    check_entries(path, checkpoint)
    return checkpoint


def check_records(path):
    """UserError unless the file is there, and each of its records has the checksum that torch.save gave it.

    A record takes its own size in memory and no more. Files of before torch 1.6 have no records: they pass.
    """
    size = regular_file(path, "a checkpoint")
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            packed = any(entry.compress_type or entry.file_size > size for entry in archive.infolist())
            damaged = archive.namelist()[0] if packed else archive.testzip()
    except (OSError, ValueError, IndexError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        damaged = error
    if damaged is not None:
        raise UserError(f"{path}: damaged checkpoint ({str(damaged)[:80]}: not what its checksum says)")


def check_entries(path, state):
    """UserError unless a checkpoint of ours has what every one has, and finite weights."""
    for key, kind in ENTRIES.items():
        check_value(state, key, (kind,), path)
    check_video(state["video"], path)
    for key in MODEL_OPTIONS:
        BY_NAME[key].convert(state["config"].get(key, BY_NAME[key].default), path)
    for name in ("model", "ema"):
        weights = state.get(name) or {}
        if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
            raise UserError(f"{path}: {name} holds no weights")
        check_finite_weights(weights, path)


def pins_in(state, path):
    """[Pin] of a checkpoint, which may have none. UserError when they are not what a file of pins could say."""
    video, rows = state["video"], state.get("pins", [])
    check_value(state | {"pins": rows}, "pins", (list,), path)
    pins = [as_pin(row, f"{path}: pin {number}") for number, row in enumerate(rows)]
    size = video["original_height"], video["original_width"]
    check_pins(pins, lambda row: f"{path}: pin {row}", PinnedVideo(video["name"], video["num_frames"], size))
    return pins


def check_finite_weights(weights, path):
    """UserError for weights (a dict of tensors) that are not all finite."""
    for name, weight in weights.items():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise UserError(f"{path}: the weights {name} are not finite; take an earlier checkpoint")


def fitted_model(config, video, weights, path):
    """The model of a configuration with these weights. UserError when they are of another; `path` held them.

    What the model takes in memory is first compared with the weights: so no file asks for more than it holds.
    """
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in model_from(config, video).state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in expected.keys() | found.keys():
        if expected.get(name) != found.get(name):
            raise UserError(f"{path}: {name} is {found.get(name, 'missing')}; expected {expected.get(name, 'none')} "
                            "by its configuration and its video's size")
    model = model_from(config, video)
    model.load_state_dict(weights)
    return model


def load_run(run_dir=None, checkpoint=None, data_dir=None, device="cpu"):
    """Open a run for queries: its newest checkpoint, or the file `checkpoint`.

    A checkpoint of the reference implementation needs data_dir, since it does not know the video's size.
    UserError when there is no checkpoint, it is not readable, or a reference checkpoint comes without data_dir.
    """
    path = Path(checkpoint) if checkpoint else newest(run_dir)
    state = read(path, device) if checkpoint else read_newest(run_dir, device)
    if is_reference_checkpoint(state):
        return _load_reference(state, path, data_dir, device)
    return run_of(state, path, data_dir, device)


def run_of(state, path, data_dir=None, device="cpu"):
    """The Run that a checkpoint's content is; `path` held it. UserError when its weights or pins do not fit."""
    model = fitted_model(state["config"], state["video"], state.get("ema") or state["model"], path).to(device).eval()
    pins = pins_in(state, path)
    return Run(model, state["config"], state["video"], data_dir or state["data_dir"], state["step"], pins)


def _load_reference(state, path, data_dir, device):
    from loaders.data_dir import DataDir

    if data_dir is None:
        raise UserError(f"{path}: a checkpoint of the reference implementation; give --data_dir of the same video too")
    data = DataDir.open(data_dir)
    if state.get("num_imgs", data.num_frames) != data.num_frames:
        raise UserError(f"{path}: made for {state['num_imgs']} frames, {data_dir} has {data.num_frames}")
    try:
        config = {option.name: option.default for option in OPTIONS} | reference_architecture(state)
        weights = convert_reference(state)
        step = int(state.get("step", 0))
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path}: not a whole checkpoint of the reference implementation ({error!r:.100})") from None
    check_finite_weights(weights, path)
    video = describe_video(data)
    return Run(fitted_model(config, video, weights, path).to(device).eval(), config, video, str(data_dir), step)
