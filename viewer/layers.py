"""What a page can lay over the video or show in its place: one image for each frame.

Conventions: uint8 (H, W, 3) RGB at the processed size, masks (H, W, 4) with opacity; a frame's flow is to the next one,
the last one's is away from the one before.
"""

import numpy as np

from flow.formats import flow_to_color
from networks import query
from outputs.draw import depth_colours
from tracking.sources import chunk_option
from util import BoundedCache
from viewer.answers import ASKING

MASK_COLOUR, SAMPLES = (255, 64, 160, 140), 5  # RGBA; frames that the range of depth and flow is read from


class Layers:
    """The images of a video and, when there is one, of the source that answers (see tracking.sources)."""

    def __init__(self, frames, source=None):
        self.frames, self.source = frames, source
        self.rendered = BoundedCache(self.render, size=lambda found: found[0].nbytes + found[1].nbytes)
        self.depth_range = self.longest = None
        self.names = ["original"]
        if source is not None and source.run is not None:
            self.names += ["rendered", "depth"]
        if source is not None:
            self.names.append("flow")
        if frames.has_masks:
            self.names.append("mask")

    def image(self, name, i):
        """The image `name`, one of self.names, of frame i."""
        if name == "original":
            return self.frames.frame(i)
        if name == "mask":
            return np.where(self.frames.mask(i)[..., None], MASK_COLOUR, 0).astype(np.uint8)
        with ASKING:
            return {"rendered": self.colour, "depth": self.depth, "flow": self.flow}[name](i)

    def render(self, i):
        """Colours uint8 (H, W, 3) and depth float32 (H, W) of frame i as the model has them."""
        found = query.render_frame(self.source.run.model, i, **chunk_option(self.source.chunk))
        rgb, depth = (found[name].cpu().numpy() for name in ("rgb", "depth"))
        return np.round(rgb.clip(0, 1) * 255).astype(np.uint8), depth

    def colour(self, i):
        return self.rendered[i][0]

    def depth(self, i):
        if self.depth_range is None:
            seen = np.stack([self.rendered[k][1] for k in spread(self.frames.num_frames)])
            self.depth_range = np.percentile(seen, [1, 99])
        return depth_colours(self.rendered[i][1], *self.depth_range)

    def flow(self, i):
        if self.longest is None:
            lengths = [np.linalg.norm(self.motion(k), axis=-1) for k in spread(self.frames.num_frames)]
            self.longest = max(0.5, np.percentile(lengths, 97))  # pixels; not less: rest is not to look like motion
        return flow_to_color(self.motion(i), self.longest)

    def motion(self, i):
        """Flow (H, W, 2) at frame i."""
        if i + 1 < self.frames.num_frames:
            return self.source.flow(i, i + 1)[0]
        return -self.source.flow(i, i - 1)[0]


def spread(num_frames):
    """At most SAMPLES frames from the first to the last."""
    return sorted({round(k * (num_frames - 1) / (SAMPLES - 1)) for k in range(SAMPLES)})
