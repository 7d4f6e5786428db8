"""Evidence that is found in the video itself: places of two frames whose features are alike."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from flow.features import DinoPlaces, SiftPlaces, correspondences
from flow.hub import model_folder
from flow.images import luminance
from loaders.evidence import MOST, evidence_of, stored_evidence
from preprocess.report import QUIET
from util import BoundedCache, source_hash

CODE = "flow.features", "flow.appearance", "preprocess.features"
DEFAULT_FEATURES = ("sift",)
CACHE_BYTES = 2**29  # of features
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

    def read(self, data, pairs):
        """See the module. What the data directory holds already of the same is taken."""
        pairs = sorted(pair for pair in pairs if pair[1] - pair[0] >= self.describe.least_apart)
        source = f"features of {self.describe.name}, {self.fingerprint(data, pairs)}"
        stored = stored_evidence(data.path, self.name, source, data.num_frames)
        if stored is not None:
            return stored
        places = BoundedCache(lambda i: self.describe(i, data.frame(i)), CACHE_BYTES)
        images = BoundedCache(lambda i: luminance(data.frame(i)), 2**27)
        frames, points, weight = [np.zeros((0, 2), np.int32)], [np.zeros((0, 2, 2), "f")], [np.zeros(0, "f")]
        most, random = max(1, MOST // max(1, len(pairs))), np.random.default_rng(0)
        for i, j in self.bar.over(self.name, pairs, "pairs"):
            found, trust = correspondences(places[i], places[j], (images[i], images[j]), self.describe.settings)
            kept = np.sort(random.permutation(len(found))[:most])
            frames.append(np.full((len(kept), 2), (i, j), np.int32))
            points.append(found[kept].astype(np.float32))
            weight.append(trust[kept].astype(np.float32))
        return evidence_of(self.name, *map(np.concatenate, (frames, points, weight)), source)

    def fingerprint(self, data, pairs):
        """A text that differs when what would be found does."""
        what = {"by": self.describe.description, "settings": asdict(self.describe.settings), "pairs": pairs,
                "video": data.fingerprint, "code": source_hash(*CODE)}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def describer(features, device="cpu"):
    """What describes frames, of a value of --features: 'sift', a folder of DINO, or its name at the hub.

    What describes frames already is taken as it is. UserError: the extra or the weights are missing.
    """
    if not isinstance(features, (str, Path)):
        return features
    if str(features) == "sift":
        return SiftPlaces()
    return DinoPlaces(model_folder(features, "--features", f"sift, which needs no weights, or {EXPECTED}"), device)
