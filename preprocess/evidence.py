"""What is given of a video beside its frames: read, held against the picture, stored as evidence, made hints of flow.

A source is a class with `name`, `settings` (of flow/point_tracks.py), `of_whole_video` (False: each of its shots may
have one) and `read(data, pairs, workers)` -> Evidence in pixels of the data directory, found by at most so many
processes. Users' files are in raster pixels of the original video, centres at +0.5.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from files import UserError, read_columns
from flow.images import luminance
from flow.point_tracks import PointFlow, PointSettings, affine_motions
from loaders.evidence import FOLDER, evidence_of, of_tracks, write_evidence
from loaders.tracks_layouts import parse_size, tracks_of_video
from preprocess.features import Features, describer
from preprocess.report import QUIET
from util import BoundedCache

NEAR_FRAMES = 4  # frames so far apart at most are compared: what is lit and seen alike
PATCH, BLUR = 5, 1.0  # pixels: side of what is compared, and the blur of the frames
AROUND = 3  # pixels: how far around its end a motion is looked for, as trackers are no more exact
TELLING = 4.0  # pixels by which two motions have to differ to tell which of them the picture shows
CHECKED = 4000  # correspondences that are compared, at most
ENOUGH = 60  # of them have to be telling
BY_CHANCE = 0.53  # share of motions that the picture prefers: another video's up to 0.5, its own 0.57 to 0.8, mostly
COLUMNS = ["frame_1", "x_1", "y_1", "frame_2", "x_2", "y_2"]


class Tracks:
    """Tracks of any tracker: a file in one of the layouts of loaders/tracks_layouts.py."""

    settings, of_whole_video = PointSettings(), True

    def __init__(self, path, convention=None, size=None):
        self.path, self.name, self.convention, self.size = path, Path(path).stem, convention, size

    def read(self, data, pairs, workers=1):
        """See the module. UserError, too, where the picture shows another video."""
        original = data.original_height, data.original_width
        positions, visible = tracks_of_video(self.path, data.num_frames, original, self.convention, self.size)
        found = of_tracks(self.name, to_pixels(positions, data), visible, pairs, f"tracks {Path(self.path).name}")
        share, telling = shown(found, data)
        if telling >= ENOUGH and share < BY_CHANCE:
            raise UserError(f"--tracks {self.path}: the picture shows {share:.0%} of its motions better than no "
                            "motion or the common one (expected well over 50%): tracks of another video, or size?")
        return found


class Correspondences:
    """Known correspondences: rows of a table with frame_1, x_1, y_1, frame_2, x_2, y_2 and maybe weight in (0, 1]."""

    settings, of_whole_video = PointSettings(support=0), True  # each stands for itself

    def __init__(self, path):
        self.path, self.name = path, Path(path).stem

    def read(self, data, pairs, workers=1):
        """See the module; all rows, whatever the pairs."""
        rows = read_rows(self.path)
        frames, points = rows[:, [0, 3]], rows[:, [1, 2, 4, 5]].reshape(-1, 2, 2)
        size = np.array([data.original_width, data.original_height])
        wrong = ((frames < 0) | (frames >= data.num_frames) | (frames % 1 != 0)).any(-1)
        wrong |= frames[:, 0] == frames[:, 1]
        outside = ((points < 0) | (points > size)).any((-1, -2))
        weight = rows[:, 6]
        for bad, expected in ((wrong, f"two different whole frames from 0 to {data.num_frames - 1}"),
                              (outside, f"x in [0, {size[0]}], y in [0, {size[1]}]"),
                              (~((weight > 0) & (weight <= 1)), "a weight above 0, at most 1")):
            if bad.any():
                row = np.flatnonzero(bad)[0]
                got = ",".join(f"{value:g}" for value in rows[row])
                raise UserError(f"--correspondences {self.path}: row {row + 1}: expected {expected}, got {got}")
        source = f"correspondences {Path(self.path).name}"
        return evidence_of(self.name, frames, to_pixels(points, data), weight, source)


def read_rows(path):
    """(M, 7) numbers of a table: COLUMNS and the weight, 1 where the table has none. UserError: not such a table."""
    columns = read_columns(path, COLUMNS, optional=["weight"])
    weight = np.nan_to_num(columns.get("weight", np.ones(len(columns[COLUMNS[0]]))), nan=1.0)
    found = np.column_stack([*(columns[name] for name in COLUMNS), weight])
    if not len(found) or not np.isfinite(found).all():
        raise UserError(f"--correspondences {path}: expected rows of finite numbers")
    return found


def to_pixels(points, data):
    """Raster points (..., 2) of the original video -> pixels of the data directory, integer centres."""
    scale = np.array([data.width / data.original_width, data.height / data.original_height])
    return points * scale - 0.5


def shown(evidence, data, seed=0):
    """Share of the evidence's motions that the picture shows better than no motion, and than the most common one.

    -> (share, how many were told apart). Of another video it is one half, or less where that one is still. Points that
    no other near them agrees with are not counted.
    """
    random = np.random.default_rng(seed)
    near = np.flatnonzero(np.diff(evidence.frames, axis=1)[:, 0] <= NEAR_FRAMES)
    near = np.sort(random.permutation(near)[:CHECKED])
    images = BoundedCache(lambda i: cv2.GaussianBlur(luminance(data.frame(i)).astype(np.float32), (0, 0), BLUR), 2**27)
    better = telling = 0
    for i, j in np.unique(evidence.frames[near], axis=0):
        start, end = evidence.points[near[(evidence.frames[near] == (i, j)).all(-1)]].swapaxes(0, 1)
        start, motion, _ = affine_motions(start, end - start, max(data.height, data.width))
        seen = patches(images[i], start)
        own = least_difference(seen, images[j], start + motion)
        for other in (np.zeros(2), np.median(motion, axis=0) if len(motion) else np.zeros(2)):
            tells = np.linalg.norm(motion - other, axis=-1) > TELLING
            others = least_difference(seen, images[j], start + other)
            tells &= own != others  # as where nothing is to be seen
            better += (own < others)[tells].sum()
            telling += tells.sum()
    return better / max(telling, 1), int(telling)


def least_difference(seen, image, points):
    """(n,): how little patches (n, PATCH**2) differ from those of an image around points (n, 2) or up to AROUND off."""
    offsets = np.mgrid[-AROUND : AROUND + 1, -AROUND : AROUND + 1].reshape(2, -1).T
    return np.min([np.abs(patches(image, points + offset) - seen).mean(-1) for offset in offsets], axis=0)


def patches(image, points):
    """Luminance around points (n, 2) -> (n, PATCH**2), bilinear, beyond the border as at the border."""
    reach = np.arange(PATCH) - PATCH // 2
    x, y = (points[:, axis, None, None] + (reach if axis == 0 else reach[:, None]) for axis in (0, 1))
    x, y = np.broadcast_arrays(x, y)
    at = (np.ascontiguousarray(v.reshape(len(points), -1), np.float32) for v in (x, y))
    return cv2.remap(image, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) if len(points) else np.zeros((0, 1))


def given(tracks=(), correspondences=None, tracks_convention=None, tracks_size=None, features=(), device="cpu",
          bar=QUIET):
    """The sources that the options name. UserError: options that cannot act, two files of one name."""
    if not tracks and (tracks_convention or tracks_size):
        raise UserError("--tracks_convention, --tracks_size: act on --tracks only, which is not given")
    size = parse_size(tracks_size) if tracks_size else None
    sources = [Tracks(path, tracks_convention, size) for path in tracks or ()]
    sources += [Correspondences(correspondences)] if correspondences is not None else []
    features = list(features or ())
    if "none" in features and len(features) > 1:
        raise UserError("--features none: expected nothing beside it")
    sources += [Features(describer(value, device), bar) for value in features if value != "none"]
    names = [source.name for source in sources]
    twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
    if twice is not None:
        raise UserError(f"evidence: two sources are called {twice}; expected a name of its own for each (sift is what "
                        "--features finds unless told otherwise)")
    return sources


def gather(data, sources, partners, workers=1, tell=print):
    """Read and store the evidence of all sources, and remove that of others -> {name: candidate of the walk}.

    workers: processes, where it takes time.
    """
    pairs = {(i, j) for i, of_frame in enumerate(partners) for j in of_frame if i < j}
    found = [(source, source.read(data, pairs, workers)) for source in sources]  # all, before anything is written
    if (data.path / FOLDER).exists():
        data.remove(FOLDER)
    hints = {}
    for source, evidence in found:
        write_evidence(data.path, evidence)
        tell(f"evidence: {len(evidence.frames)} correspondences of {evidence.source}")
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).data for array in (
            evidence.frames, evidence.points, evidence.weight))).hexdigest()
        points = replace(evidence, tracks=None, visible=None)  # what processes need of it
        hints[f"points: {source.name}"] = PointFlow(points, source.name, digest, source.settings)
    return hints
