"""Evidence that is found in the video itself: places of two frames whose features are alike."""

import contextlib
import hashlib
import json
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from flow.features import DinoPlaces, Matches, SiftPlaces
from flow.hub import model_folder
from loaders.data_dir import DataDir
from loaders.evidence import MOST, evidence_of, stored_evidence
from preprocess.report import QUIET
from preprocess.stages import FrameList
from preprocess.workers import Workers, one_thread
from util import BoundedCache, source_hash

CODE = "flow.features", "flow.appearance", "preprocess.features"
DEFAULT_FEATURES = ("sift",)
EXPECTED = ("a folder with config.json and model.safetensors of DINOv2 or DINOv3, or a name at huggingface.co such as "
            "facebook/dinov2-small (Apache-2.0)")


class Features:
    """Source of evidence (see preprocess/evidence.py): matches between the frames of all pairs that are to have flow.

    In long videos these are spaced by the logarithm of their distance. describe: see flow.features.DinoPlaces; bar:
    preprocess.report.Progress.
    """

    of_whole_video = False

    def __init__(self, describe, bar=QUIET):
        self.describe, self.name, self.settings, self.bar = describe, describe.name.lower(), describe.motions, bar

    def read(self, data, pairs, workers=1):
        """See the module. What the data directory holds already of the same is taken."""
        pairs = sorted(pair for pair in pairs if pair[1] - pair[0] >= self.describe.least_apart)
        source = f"features of {self.describe.name}, {self.fingerprint(data, pairs)}"
        stored = stored_evidence(data.path, self.name, source, data.num_frames)
        if stored is not None:
            return stored
        most = max(1, MOST // max(1, len(pairs)))
        groups = {i: [j for _, j in of_frame] for i, of_frame in groupby(pairs, key=itemgetter(0))}
        found = {}
        with self.bar.steps(self.name, len(pairs), "pairs") as advance:
            for i, of_frame in self.matches_of(data, groups, most, workers):
                found[i] = of_frame
                advance(len(groups[i]))
        none = np.zeros((0, 2), np.int32), np.zeros((0, 2, 2), np.float32), np.zeros(0, np.float32)
        frames, points, weight = map(np.concatenate, zip(none, *(found[i] for i in sorted(found))))
        return evidence_of(self.name, frames, points, weight, source)

    def matches_of(self, data, groups, most, workers):
        """Yields, in any order, (i, its matches) of each {frame i: its partners}, found by so many processes."""
        tasks = [(i, partners, most) for i, partners in groups.items()]
        if min(workers, len(tasks)) < 2 or not self.describe.quick:
            with one_thread() if self.describe.quick else contextlib.nullcontext():  # as workers have; a network all
                work = FrameMatches(data, self.describe)
                yield from (work.matches(*task) for task in tasks)
            return
        with Workers(min(workers, len(tasks)), open_matches, data.path, self.describe) as crew:
            yield from crew.do("matches", tasks)

    def fingerprint(self, data, pairs):
        """A text that differs when what would be found does."""
        what = {"by": self.describe.description, "settings": asdict(self.describe.settings), "pairs": pairs,
                "video": data.fingerprint, "code": source_hash(*CODE)}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


class FrameMatches:
    """Matches of a source frame's pairs."""

    def __init__(self, data, describe):
        self.found = Matches(FrameList(data, BoundedCache(data.frame, most=0)), describe)

    def matches(self, i, partners, most):
        """-> i, (frames (n, 2), points (n, 2, 2), weight (n,)): at most so many of a pair, drawn from all of its."""
        frames, points, weight = [], [], []
        for j in partners:
            start, end, trust = self.found.between(i, j)
            kept = np.sort(np.random.default_rng((i, j)).permutation(len(trust))[:most])
            frames.append(np.full((len(kept), 2), (i, j), np.int32))
            points.append(np.stack([start, end], 1)[kept].astype(np.float32))
            weight.append(trust[kept].astype(np.float32))
        return i, tuple(map(np.concatenate, (frames, points, weight)))


def open_matches(path, describe):
    """FrameMatches in a worker process: of the data directory `path`."""
    return FrameMatches(DataDir.open(path, unfinished=True), describe)


def describer(features, device="cpu"):
    """What describes frames, of a value of --features: 'sift', a folder of DINO, or its name at the hub.

    What describes frames already is taken as it is. UserError: the extra or the weights are missing.
    """
    if not isinstance(features, (str, Path)):
        return features
    if str(features) == "sift":
        return SiftPlaces()
    return DinoPlaces(model_folder(features, "--features", f"sift, which needs no weights, or {EXPECTED}"), device)
