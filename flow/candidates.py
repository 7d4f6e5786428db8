"""Flow of any estimators, as candidates of one walk over the video.

What sees two frames alone (RAFT, or whatever wrote flow files) is right in some places where walked DIS is lost, and
lost in many where it is right. So none of it is stored as it is: the walk chooses, at each pixel, what explains the
frames best, its own flow or a candidate's (flow/dis.py).

Conventions: as in flow.estimator; flow of a candidate is NaN where it is not known.
"""

import copy
import hashlib
from pathlib import Path

import numpy as np

from flow.dis import DisFlow
from flow.estimator import Estimator
from flow.features import Matches, SiftPlaces
from flow.formats import UNKNOWN, read_flo
from flow.point_tracks import PointFlow
from util import UserError


class FusedFlow(Estimator):
    """Flow estimator: walked DIS with the flow of others as candidates.

    sources: {name: flow estimator}, whose flow may be NaN. walk: a DisFlow, or on a GPU a BatchedWalk (see
    flow.estimators.make_walk).
    """

    walks = True

    def __init__(self, sources, reason="", walk=None):
        self.sources, self.reason = sources, reason
        self.walk, self.flows_held = walk or DisFlow(), 1 + len(sources)
        self.description = {"method": "fused", "walk": self.walk.description,
                            "candidates": {name: source.description for name, source in sources.items()}}

    def take_layers(self, layers):
        """See DisFlow."""
        self.walk.take_layers(layers)
        self.description = {**self.description, "walk": self.walk.description}

    def load_frames(self, frames, adjacent=None):
        for source in self.sources.values():
            source.load_frames(frames)
        self.walk.load_frames(frames, adjacent or (lambda i: next(iter(self.adjacent_many([i])))))

    def flow_from(self, i, partners):
        return next(iter(self.flow_from_many([(i, partners)])))

    def flow_from_many(self, sources):
        return self.walk.flow_from_many(sources, self.candidates(sources))

    def adjacent_many(self, frames):
        return self.walk.adjacent_many(frames, self.candidates([pair for i in frames for pair in there_and_back(i)]))

    def candidates(self, sources):
        """For each of several (i, partners) {name of a source: flows (len(partners), H, W, 2)}."""
        found = {name: list(source.flow_from_many(sources)) for name, source in self.sources.items()}
        return [{name: flows[k] for name, flows in found.items()} for k in range(len(sources))]

    def for_workers(self):
        workers = copy.copy(self)
        workers.walk = self.walk.for_workers()
        workers.sources = {name: source.for_workers() for name, source in self.sources.items()}
        return workers if None not in (workers.walk, *workers.sources.values()) else None


def walked_with_matches(frames, walk, describe=None):
    """Flow estimator of these frames: a walk (DisFlow) with the motion around their SIFT matches as candidates."""
    describe = describe or SiftPlaces()
    matches = PointFlow(Matches(frames, describe), describe.name, "", describe.motions)
    estimator = FusedFlow({"matches": matches}, walk=walk)
    estimator.load_frames(frames)
    return estimator


def there_and_back(i):
    """The pairs of adjacent frames i and i + 1, as (source, partners)."""
    return (i, [i + 1]), (i + 1, [i])


class FlowFiles(Estimator):
    """Flow estimator: .flo files of a folder, I_J.flo for the flow from frame I to J of the data directory.

    NaN for pairs without a file, and where a file says that the flow is unknown. UserError: no such folder, no such
    file in it, or (when it is read) a damaged file or one of another size than the frames.
    """

    reason = "the flow files given"

    def __init__(self, folder):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f"--flow_files {folder}: no such folder")
        self.files = {pair: path for path in sorted(self.folder.glob("*.flo")) if (pair := frames_of(path))}
        if not self.files:
            raise UserError(f"--flow_files {folder}: no flow there; expected files such as 00000_00005.flo")
        self.description = {"method": "files", "count": len(self.files), "sha256": fingerprint(self.files.values())}

    def load_frames(self, frames, adjacent=None):
        self.size = frames[0].shape[:2]
        if not any(max(pair) < len(frames) for pair in self.files):
            raise UserError(f"--flow_files {self.folder}: no file for any of the frames 0 to {len(frames) - 1}")

    def flow_from(self, i, partners):
        """See Estimator; NaN where flow is unknown."""
        return np.stack([self.flow(i, j) for j in partners]) if partners else np.empty((0, *self.size, 2), np.float32)

    def flow(self, i, j):
        """(H, W, 2), NaN where it is unknown."""
        if (i, j) not in self.files:
            return np.full((*self.size, 2), np.nan, np.float32)
        flow = read_flo(self.files[i, j])
        if flow.shape[:2] != self.size:
            got, expected = ("{1}x{0}".format(*size) for size in (flow.shape, self.size))
            raise UserError(f"{self.files[i, j]}: flow of {got} pixels; expected {expected}, as the frames are")
        known = (np.abs(flow) < UNKNOWN).all(-1, keepdims=True)  # not true for NaN
        return np.where(known, flow, np.float32(np.nan))


def frames_of(path):
    """(I, J) of a file name I_J.flo, or None."""
    first, _, second = path.stem.partition("_")
    return (int(first), int(second)) if first.isdecimal() and second.isdecimal() else None


def fingerprint(paths):
    """sha256 over names, sizes and times of files: they may be many gigabytes."""
    states = [(path.name, (state := path.stat()).st_size, state.st_mtime_ns) for path in paths]
    return hashlib.sha256(repr(states).encode()).hexdigest()
