"""Optical flow between any two frames of a video: RAFT, or OpenCV's DIS. `python -m preprocess.flow` for one pair.

Conventions: frames are uint8 RGB (H, W, 3); flow is float32 (H, W, 2), (x, y) displacement in pixels of the frame.
An estimator has .description (dict: what the flow depends on), .reason (why it was chosen), .load_frames(frames) and
.flow_from(i, partners).
"""

import argparse
import collections
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

import util
from loaders.flow_files import UNKNOWN, flow_to_color, read_flo, read_kitti_flow, write_flo
from networks import raft
from networks.layers import bfloat16_is_fast
from preprocess.dis import DisFlow
from preprocess.pairs import outwards
from preprocess.raft_weights import cached_large, download_large, load_raft

# Frames whose long side is shorter than ENLARGE_BELOW are enlarged for RAFT, whose cells are 8 pixels wide, to about
# ENLARGED pixels: on layered scenes of 128 (256) pixels that takes its end-point error from 2.0 to 1.3 (2.3 to 1.8);
# at 384 pixels enlarging made large motion worse.
ENLARGE_BELOW, ENLARGED, MAX_ENLARGEMENT = 320, 384, 4
FEATURE_CACHE_BYTES = 2**30
VOLUME_BYTES = 2**30  # correlation volumes held at once
AUTO_LIMIT_SECONDS = 30 * 60  # `auto` takes RAFT on a CPU up to this estimate


class RaftFlow:
    """RAFT over a video: every frame is encoded once, pairs walk away from their source frame, warm-started.

    The walks of both directions, and of several source frames, are run as one batch.
    """

    def __init__(
        self, model, weights_name, weights_sha256, iterations=20, device="cpu", scale=None, half=True, reason=""
    ):
        """scale: how much frames are enlarged for flow, by default as `enlargement` says.

        half: where it is fast, convolve in half precision (moves end-point errors by a few percent, either way).
        """
        self.model = model.to(device)
        self.device = torch.device(device)
        self.iterations = iterations
        self.scale = scale
        self.half = half_precision(self.device) if half else None
        self.reason = reason
        self.description = {
            "method": "raft",
            "model": "small" if model.small else "large",
            "weights": weights_name,
            "sha256": weights_sha256,
            "iterations": iterations,
            "upsampling": scale or f"below {ENLARGE_BELOW} px to {ENLARGED} px",
        }

    def load_frames(self, frames):
        """Take the frames of a video: (N, H, W, 3) uint8, or a sequence of (H, W, 3). They are encoded when needed."""
        self.frames = frames
        self.height, self.width = frames[0].shape[:2]
        self.factor = self.scale or enlargement(self.height, self.width)
        self.network_size = int(self.height * self.factor), int(self.width * self.factor)
        self.padding = padding_for(*self.network_size)
        self.cache = collections.OrderedDict()  # frame -> (features, hidden, context); the least recently used goes

    @torch.no_grad()
    def flow_from(self, i, partners):
        """Flow from frame i to each of `partners` -> float32 (len(partners), H, W, 2)."""
        return self.flow_from_many([(i, partners)])[0]

    @torch.no_grad()
    def flow_from_many(self, sources):
        """As flow_from for several (source frame, partners), in one batch: a list of float32 (P_i, H, W, 2)."""
        flows = [np.empty((len(partners), self.height, self.width, 2), np.float32) for _, partners in sources]
        walks = [Walk(i, steps, s) for s, (i, partners) in enumerate(sources) for steps in outwards(i, partners)]
        for step in range(max((len(walk.steps) for walk in walks), default=0)):
            active = [walk for walk in walks if step < len(walk.steps)]
            for k in range(0, len(active), self.batch_size()):
                batch = active[k : k + self.batch_size()]
                flow = self.advance(batch, [walk.steps[step][1] for walk in batch])
                for walk, result in zip(batch, flow.cpu().numpy()):
                    flows[walk.source][walk.steps[step][0]] = result
        return flows

    def batch_size(self):
        """Pairs whose correlation volumes fit in VOLUME_BYTES together."""
        left, right, top, bottom = self.padding
        cells = (self.network_size[0] + top + bottom) * (self.network_size[1] + left + right) / raft.STRIDE**2
        return max(1, int(VOLUME_BYTES / (4 * cells**2 * 4 / 3)))

    def advance(self, walks, targets):
        """Flow from each walk's frame to its target -> (B, H, W, 2); starts at the walk's flow, which it replaces."""
        encoded = [self.encoded(walk.frame) for walk in walks]
        features_2 = torch.cat([self.encoded(target)[0] for target in targets])
        features_1, hidden, context = (torch.cat(parts) for parts in zip(*encoded))
        start = None
        if any(walk.flow is not None for walk in walks):
            blank = torch.zeros_like(features_1[:1, :2], dtype=torch.float32)
            start = torch.cat([blank if walk.flow is None else walk.flow for walk in walks])
        with self.autocast():
            updates = self.model.updates(features_1, features_2, hidden, context, self.iterations, start, VOLUME_BYTES)
            *_, (flow, hidden) = updates
            full = self.model.upsample(flow, hidden).float()
        for walk, low_resolution in zip(walks, flow.split(1)):
            walk.flow = low_resolution
        return self.to_frame(full)

    def encoded(self, frame):
        """(features, hidden state, context) of a frame, each (1, C, h, w); computed once while in the cache."""
        if frame in self.cache:
            self.cache.move_to_end(frame)
            return self.cache[frame]
        image = self.to_network(self.frames[frame])
        with self.autocast():
            parts = (self.model.features(image), *self.model.context(image))
        self.cache[frame] = parts
        limit = FEATURE_CACHE_BYTES // sum(part.nbytes for part in parts)
        while len(self.cache) > max(limit, 2):
            self.cache.popitem(last=False)
        return parts

    def autocast(self):
        """Half precision for the convolutions; correlation and flow stay in float32."""
        return torch.autocast(self.device.type, dtype=self.half or torch.bfloat16, enabled=self.half is not None)

    def to_network(self, frame):
        """uint8 (H, W, 3) -> (1, 3, H', W') in [-1, 1], enlarged, padded to multiples of 8 by repeating the border."""
        image = torch.from_numpy(np.ascontiguousarray(frame)).to(self.device).permute(2, 0, 1)[None].float()
        if self.factor != 1:
            image = F.interpolate(image, size=self.network_size, mode="bilinear", align_corners=False)
        return F.pad(image / 255 * 2 - 1, self.padding, mode="replicate")

    def to_frame(self, flow):
        """(B, 2, H', W') as the network gives it -> (B, H, W, 2) in pixels of the frame."""
        left, right, top, bottom = self.padding
        flow = flow[:, :, top : flow.shape[2] - bottom, left : flow.shape[3] - right]
        if self.factor != 1:
            flow = F.interpolate(flow, size=(self.height, self.width), mode="area") / self.factor
        return flow.permute(0, 2, 3, 1)


def enlargement(height, width):
    """The factor by which frames are enlarged for RAFT: a multiple of a half."""
    if max(height, width) >= ENLARGE_BELOW:
        return 1
    return min(round(2 * ENLARGED / max(height, width)) / 2, MAX_ENLARGEMENT)


def half_precision(device):
    """The half-precision type in which `device` convolves fast, or None."""
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if bfloat16_is_fast(device) else None


class Walk:
    """One source frame's walk away from itself in one direction."""

    def __init__(self, frame, steps, source):
        self.frame, self.steps, self.source = frame, steps, source  # steps: [(place in the output, target frame)]
        self.flow = None  # low-resolution flow (1, 2, h, w) to the previous target


def padding_for(height, width):
    """(left, right, top, bottom) that make both sides multiples of 8, and long enough for the coarsest level."""
    extra_y, extra_x = (max(-(-side // raft.STRIDE) * raft.STRIDE, raft.MIN_SIDE) - side for side in (height, width))
    return extra_x // 2, extra_x - extra_x // 2, extra_y // 2, extra_y - extra_y // 2


def make_estimator(
    name="auto", raft_weights=None, iterations=20, device="auto", image_size=None, num_pairs=1, fast=False
):
    """The flow estimator that `name` (auto, raft or dis) stands for; prints which one it is, and why.

    image_size (H, W) and num_pairs serve to estimate RAFT's time on a CPU. fast: prefer DIS. UserError: unknown name,
    weights that cannot be had or read, no such device.
    """
    if name not in ("auto", "raft", "dis"):
        raise util.UserError(f"--flow {name}: expected auto, raft or dis")
    if iterations < 1:
        raise util.UserError(f"--iters {iterations}: expected at least 1")
    device = util.pick_device(device)
    if name == "dis":
        estimator = DisFlow(reason="asked for")
    elif name == "raft":
        reason = "asked for" if raft_weights else "asked for, without --raft_weights"
        estimator = load_estimator(raft_weights or download_large(), iterations, device, reason)
    else:
        estimator = choose_estimator(raft_weights, iterations, device, image_size, num_pairs, fast)
    print(f"flow: {describe(estimator)} ({estimator.reason})")
    return estimator


def choose_estimator(weights, iterations, device, image_size, num_pairs, fast):
    """What `auto` means: RAFT where there are weights and, on a CPU, time; else DIS."""
    if weights is not None:
        return load_estimator(weights, iterations, device, "the weights given")
    if fast:
        return DisFlow(reason="speed was asked for")
    present = cached_large()
    if not present.exists():
        return DisFlow(reason="no RAFT weights here; --flow raft downloads some, --raft_weights names a file")
    estimator = load_estimator(present, iterations, device, "weights found")
    if device.type != "cpu" or image_size is None:
        return estimator
    seconds = seconds_per_pair(estimator, image_size) * num_pairs
    estimate = f"RAFT would take about {duration(seconds)} for {num_pairs} pairs on this CPU"
    print(f"flow: {estimate}")
    if seconds > AUTO_LIMIT_SECONDS:
        limit = f"more than {duration(AUTO_LIMIT_SECONDS)}; --raft_weights {present} insists"
        return DisFlow(reason=f"{estimate}, {limit}")
    return estimator


def load_estimator(weights, iterations, device, reason):
    """RaftFlow with a weights file."""
    model, digest = load_raft(weights)
    return RaftFlow(model, Path(weights).name, digest, iterations, device, reason=reason)


def seconds_per_pair(estimator, image_size):
    """Measured on random frames: a source frame and one partner on either side."""
    frames = np.random.default_rng(0).integers(0, 256, (3, *image_size, 3), dtype=np.uint8)
    estimator.load_frames(frames)
    estimator.flow_from(1, [0])  # encodes, and warms up
    start = time.perf_counter()
    estimator.flow_from(1, [0, 2])
    return (time.perf_counter() - start) / 2


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


# ---- command ---------------------------------------------------------------------------------------------------------


def read_image(path):
    """uint8 RGB (H, W, 3). UserError when it is missing or no image."""
    if not Path(path).is_file():
        raise util.UserError(f"{path}: no such image")
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)  # not imread: paths may be non-ASCII
    if image is None:
        raise util.UserError(f"{path}: not a readable image (expected png, jpg ...)")
    return np.ascontiguousarray(image[..., ::-1])


def read_pair(folder):
    """(frame 1, frame 2, true flow (H, W, 2), known (H, W)) of a folder in Middlebury's or KITTI's layout."""
    folder = Path(folder)
    if (folder / "flow10.flo").exists():
        names, flow = ("frame10.png", "frame11.png"), read_flo(folder / "flow10.flo")
        known = (np.abs(flow) < UNKNOWN).all(axis=-1)
    else:
        names, (flow, known) = ("frame1.png", "frame2.png"), read_kitti_flow(folder / "flow_gt.png")
    return *(read_image(folder / name) for name in names), flow, known


def end_point_error(estimator, frame_1, frame_2, flow, known):
    """Mean length (pixels) of the difference between an estimator's and the true flow, where it is known."""
    estimator.load_frames([frame_1, frame_2])
    return float(np.linalg.norm(estimator.flow_from(0, [1])[0] - flow, axis=-1)[known].mean())


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m preprocess.flow", description="Optical flow between two images.")
    parser.add_argument("image_1", metavar="IMAGE_1")
    parser.add_argument("image_2", metavar="IMAGE_2")
    parser.add_argument("--out", required=True, metavar="FILE.flo", help="where the flow goes (Middlebury .flo)")
    parser.add_argument("--flow", default="auto", metavar="{auto,raft,dis}", help="estimator (default: %(default)s)")
    parser.add_argument("--raft_weights", metavar="FILE", help="RAFT weights, small or large, by the reference's or "
                        "torchvision's names; --flow raft without it downloads RAFT large")  # fmt: skip
    parser.add_argument("--iters", type=int, default=20, help="RAFT's iterations (default: %(default)s)")
    parser.add_argument("--png", action="store_true", help="also write the flow as colours, to FILE.png")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    return parser.parse_args(arguments)


@util.command
def main(arguments=None):
    args = parse_arguments(arguments)
    out = Path(args.out)
    if out.suffix != ".flo":
        raise util.UserError(f"--out {out}: expected a name that ends in .flo")
    frames = [read_image(args.image_1), read_image(args.image_2)]
    if frames[0].shape != frames[1].shape:
        sizes = ["{1}x{0}".format(*frame.shape) for frame in frames]
        raise util.UserError(f"{args.image_2} is {sizes[1]}, {args.image_1} is {sizes[0]}: expected equal sizes")
    estimator = make_estimator(args.flow, args.raft_weights, args.iters, args.device, frames[0].shape[:2])
    estimator.load_frames(frames)
    flow = estimator.flow_from(0, [1])[0]
    write_flo(out, flow)
    if args.png:
        with util.atomic_path(out.with_suffix(".png")) as temporary:
            cv2.imencode(".png", flow_to_color(flow)[..., ::-1])[1].tofile(temporary)
    print(f"{out}: mean length {np.linalg.norm(flow, axis=-1).mean():.2f} px, longest {np.abs(flow).max():.2f} px")


if __name__ == "__main__":
    main()
