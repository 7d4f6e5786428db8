"""RAFT as a flow estimator over a video (see flow.estimator); the network itself is networks/raft.py.

Conventions: frames are uint8 RGB (H, W, 3); flow is float32 (H, W, 2), (x, y) displacement in pixels of the frame.
"""

from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F

from flow.estimator import Estimator
from flow.walks import outwards
from networks import raft
from networks.layers import bfloat16_is_fast
from util import BoundedCache, source_hash

FEATURE_CACHE_BYTES = 2**30
VOLUME_BYTES = {"cpu": 2**29, "cuda": 2**31}  # correlation volumes held at once: batches pay on a GPU


@dataclass(frozen=True)
class RaftSettings:
    """How much small frames are enlarged for RAFT, whose cells are 8 pixels wide.

    On layered scenes of 128 (256) pixels that takes its end-point error from 2.0 to 1.3 (2.3 to 1.8); at 384 pixels
    enlarging made large motion worse.
    """

    enlarged: int = 384  # pixels on the long side, about, that smaller ones are enlarged to


class RaftFlow(Estimator):
    """RAFT over a video: every frame is encoded once, pairs walk away from their source frame, warm-started.

    The walks of both directions, and of several source frames, are run as one batch.
    """

    def __init__(
        self, model, weights_name, weights_sha256, iterations=20, device="cpu", scale=None, half=True, reason="",
        settings=RaftSettings(),
    ):
        """scale: how much frames are enlarged for flow, by default as `enlargement` says.

        half: where it is fast, convolve in half precision (moves end-point errors by a few percent, either way).
        """
        self.model = model.to(device)
        self.device = torch.device(device)
        self.volume_bytes = VOLUME_BYTES.get(self.device.type, VOLUME_BYTES["cpu"])
        self.iterations = iterations
        self.scale, self.settings = scale, settings
        self.half = half_precision(self.device) if half else None
        self.reason = reason
        self.description = {
            "method": "raft",
            "model": "small" if model.small else "large",
            "weights": weights_name,
            "sha256": weights_sha256,
            "iterations": iterations,
            "scale": scale,
            "settings": asdict(settings),
            "code": source_hash("flow.raft", "flow.walks", "networks.raft"),
        }

    def load_frames(self, frames, adjacent=None):
        """See Estimator. They are encoded when needed."""
        self.frames = frames
        self.height, self.width = frames[0].shape[:2]
        self.factor = self.scale or enlargement(self.height, self.width, self.settings)
        self.network_size = int(self.height * self.factor), int(self.width * self.factor)
        self.padding = padding_for(*self.network_size)
        self.encoded = BoundedCache(self.encode, FEATURE_CACHE_BYTES, size=total_bytes)

    def flow_from(self, i, partners):
        flow = self.flow_from_many([(i, partners)])[0]
        return flow.numpy() if self.device.type == "cpu" else flow

    def for_workers(self):
        return self if self.device.type == "cpu" else None

    @torch.no_grad()
    def flow_from_many(self, sources):
        """As flow_from for several (source frame, partners), in one batch: a list of tensors (P_i, H, W, 2)."""
        flows = [torch.empty(len(partners), self.height, self.width, 2, device=self.device) for _, partners in sources]
        walks = [Walk(i, steps, s) for s, (i, partners) in enumerate(sources) for steps in outwards(i, partners)]
        for step in range(max((len(walk.steps) for walk in walks), default=0)):
            active = [walk for walk in walks if step < len(walk.steps)]
            for k in range(0, len(active), self.batch_size()):
                batch = active[k : k + self.batch_size()]
                flow = self.advance(batch, [walk.steps[step][1] for walk in batch])
                for walk, result in zip(batch, flow):
                    flows[walk.source][walk.steps[step][0]] = result
        return flows

    def batch_size(self):
        """Pairs whose correlation volumes fit in VOLUME_BYTES together."""
        left, right, top, bottom = self.padding
        cells = (self.network_size[0] + top + bottom) * (self.network_size[1] + left + right) / raft.STRIDE**2
        return max(1, int(self.volume_bytes / (4 * cells**2 * 4 / 3)))

    def advance(self, walks, targets):
        """Flow from each walk's frame to its target -> (B, H, W, 2); starts at the walk's flow, which it replaces."""
        encoded = [self.encoded[walk.frame] for walk in walks]
        features_2 = torch.cat([self.encoded[target][0] for target in targets])
        features_1, hidden, context = (torch.cat(parts) for parts in zip(*encoded))
        start = None
        if any(walk.flow is not None for walk in walks):
            blank = torch.zeros_like(features_1[:1, :2], dtype=torch.float32)
            start = torch.cat([blank if walk.flow is None else walk.flow for walk in walks])
        with self.autocast():
            updates = self.model.updates(features_1, features_2, hidden, context, self.iterations, start,
                                         self.volume_bytes)
            *_, (flow, hidden) = updates
            full = self.model.upsample(flow, hidden).float()
        for walk, low_resolution in zip(walks, flow.split(1)):
            walk.flow = low_resolution
        return self.to_frame(full)

    def encode(self, frame):
        """(features, hidden state, context) of a frame, each (1, C, h, w)."""
        image = self.to_network(self.frames[frame])
        with self.autocast():
            return (self.model.features(image), *self.model.context(image))

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


def total_bytes(parts):
    return sum(part.nbytes for part in parts)


def enlargement(height, width, settings=RaftSettings()):
    """The factor by which frames are enlarged for RAFT: a multiple of a half."""
    return max(1, round(2 * settings.enlarged / max(height, width)) / 2)


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
