"""Two passes over a video: the flow that the first has filtered and chained is a candidate of the second's walk."""

import numpy as np

from flow.estimator import Estimator
from loaders.data_dir import DataDir
from util import BoundedCache

FLOW_CACHE_BYTES = 2**28


class FirstPass(DataDir):
    """What a first pass has done so far: a data directory inside another one, whose frames it shares."""

    FOLDER = "first_pass"

    @classmethod
    def of(cls, data):
        """That of a data directory; made where there is none."""
        path = data.path / cls.FOLDER
        if (path / "manifest.json").exists():
            return cls.open(path, unfinished=True)
        path.mkdir(exist_ok=True)
        first = cls.create(path, data.manifest["video"])
        first.manifest["finished"] = ["frames"]
        return first

    def frame(self, i):
        """uint8 (H, W, 3) RGB."""
        return DataDir(self.path.parent, self.manifest).frame(i)


class StoredFlow(Estimator):
    """Flow estimator: what the first pass of the data directory `data`, by the estimator described, has stored."""

    def __init__(self, data, description):
        self.data, self.description = data, {"method": "first pass", "by": description}

    def load_frames(self, frames, adjacent=None):
        """Take the size of the frames, and open what is stored. UserError when it is not finished."""
        first = FirstPass.open(self.data.path / FirstPass.FOLDER)
        self.pairs = BoundedCache(lambda pair: first.flow(*pair), FLOW_CACHE_BYTES)  # adjacent ones come again
        self.size = frames[0].shape[:2]

    def flow_from(self, i, partners, ahead=None):
        return np.stack([self.pairs[i, j] for j in partners]) if partners else np.empty((0, *self.size, 2), np.float32)
