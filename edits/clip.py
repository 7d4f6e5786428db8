"""The video that is edited: its original frames and flow between any two of them, at the original size."""

import cv2
import numpy as np

from loaders.data_dir import DataDir
from preprocess.original import OriginalFrames
from tracking.sources import dense_flow
from util import BoundedCache, UserError


class Clip:
    """N frames uint8 (H, W, 3) and the source (see tracking.sources) of their motion.

    The most recent flows are kept, up to 256 MB, as edits ask for some more than once.
    """

    def __init__(self, source, frames):
        self.source, self.frames, self.size, self.fps = source, frames, tuple(source.video_size), source.fps
        self.flows = BoundedCache(self._estimate, most=2**28, size=lambda found: sum(array.nbytes for array in found))

    def __len__(self):
        return len(self.frames)

    def flow(self, i, j):
        """Flow (H, W, 2) float32 of frame i to frame j in pixels, and where its end is visible, bool (H, W)."""
        return self.flows[i, j]

    def _estimate(self, pair):
        flow, visible = dense_flow(self.source, *pair)
        return np.ascontiguousarray(flow, dtype=np.float32), visible


def open_clip(source):
    """The Clip of a source. UserError where its data directory is not there, or is of another video.

    Where the original frames are not to be had, the processed ones are enlarged, and a line says so.
    """
    data = DataDir.open(source.data_dir)
    if source.run is not None:
        data.check_same_video(source.run.video)
    try:
        return Clip(source, list(OriginalFrames(data)))
    except UserError as error:
        print(f"processed frames are enlarged, as the original ones are not to be had: {error}")
    size = source.video_size[::-1]
    frames = [cv2.resize(data.frame(i), size, interpolation=cv2.INTER_CUBIC) for i in range(data.num_frames)]
    return Clip(source, frames)
