"""Optical flow between any two frames of a video: which estimators there are, and which one `auto` takes.

Conventions: frames are uint8 RGB (H, W, 3); flow is float32 (H, W, 2), (x, y) displacement in pixels of the frame.
"""

import time
from pathlib import Path

import numpy as np

from flow.batched.walk import BatchedWalk
from flow.dis import DisFlow
from flow.raft import RaftFlow
from flow.raft_weights import cached_large, download_large, load_raft
from util import UserError, pick_device

AUTO_LIMIT_SECONDS = 30 * 60  # `auto` takes RAFT on a CPU up to this estimate


def make_estimator(
    name="auto", raft_weights=None, iterations=20, device="auto", image_size=None, num_pairs=1, fast=False
):
    """The flow estimator that `name` (auto, raft or dis) stands for; prints which one it is, and why.

    image_size (H, W) and num_pairs serve to estimate RAFT's time on a CPU. fast: prefer DIS. UserError: unknown name,
    weights that cannot be had or read, no such device.
    """
    if name not in ("auto", "raft", "dis"):
        raise UserError(f"--flow {name}: expected auto, raft or dis")
    if iterations < 1:
        raise UserError(f"--iters {iterations}: expected at least 1")
    device = pick_device(device)
    if name == "dis":
        estimator = make_walk(device, "asked for")
    elif name == "raft":
        reason = "asked for" if raft_weights else "asked for, without --raft_weights"
        estimator = load_estimator(raft_weights or download_large(), iterations, device, reason)
    else:
        estimator = automatic_estimator(raft_weights, iterations, device, image_size, num_pairs, fast)
    print(f"flow: {describe(estimator)} ({estimator.reason})")
    return estimator


def automatic_estimator(weights, iterations, device, image_size, num_pairs, fast):
    """What `auto` means: RAFT where there are weights and, on a CPU, time; else DIS."""
    if weights is not None:
        return load_estimator(weights, iterations, device, "the weights given")
    if fast:
        return make_walk(device, "speed was asked for")
    present = cached_large()
    if not present.exists():
        return make_walk(device, "no RAFT weights here; --flow raft downloads some, --raft_weights names a file")
    estimator = load_estimator(present, iterations, device, "weights found")
    if device.type != "cpu" or image_size is None:
        return estimator
    frames = np.random.default_rng(0).integers(0, 256, (3, *image_size, 3), dtype=np.uint8)
    seconds = seconds_per_pair(estimator, frames) * num_pairs
    estimate = f"RAFT would take about {duration(seconds)} for {num_pairs} pairs on this CPU"
    print(f"flow: {estimate}")
    if seconds > AUTO_LIMIT_SECONDS:
        limit = f"more than {duration(AUTO_LIMIT_SECONDS)}; --raft_weights {present} insists"
        return make_walk(device, f"{estimate}, {limit}")
    return estimator


def make_walk(device, reason=""):
    """Walked DIS: by OpenCV on a CPU, where processes share the frames out; on a GPU in torch, many pairs at once."""
    return DisFlow(reason) if device.type == "cpu" else BatchedWalk(device, reason)


def load_estimator(weights, iterations, device, reason):
    """RaftFlow with a weights file."""
    model, digest = load_raft(weights)
    return RaftFlow(model, Path(weights).name, digest, iterations, device, reason=reason)


def seconds_per_pair(estimator, frames):
    """Measured on three frames, from the first to the third, once what is done once a frame is done."""
    estimator.load_frames(frames)
    estimator.flow_from(0, [2])
    start = time.perf_counter()
    estimator.flow_from(0, [2])
    return time.perf_counter() - start


def duration(seconds):
    """Seconds for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def describe(estimator):
    """One line that names an estimator."""
    parts = estimator.description
    if parts["method"] == "dis":
        return f"DIS ({parts['mode']}, finest scale {parts['finest_scale']})"
    return f"RAFT {parts['model']} ({parts['weights']}, {parts['iterations']} iterations)"
