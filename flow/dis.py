"""OpenCV's dense inverse search (DIS), walked over a video so that it also follows objects over many frames.

DIS alone loses an object once it has moved by more than a patch or two and follows the background instead, there and
back alike. Between adjacent frames it is nearly exact. So the flow i -> j starts from the flow i -> j-1 carried on by
the adjacent flow j-1 -> j, and DIS only corrects it. At each step flows that may be right are candidates, of which each
pixel takes the one that explains it best (flow/fusion.py); the result is assigned to the few affine motions that
explain most of it (flow/motions.py), and refined. Measured on layered scenes: benchmarks/NOTES.md.

Small frames are searched enlarged. Large ones are walked shrunk, so that the cost of all this hardly grows with the
frame; at their own size the flow is only finished (flow/upsampling.py, and one refinement).

Conventions: frames uint8 RGB (H, W, 3); flow float32 (H, W, 2), (x, y) in pixels; images luminance. Candidates and
hints are {name: flow}; hints are flows of others that may be right, NaN where nothing is known.
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch

import util
from flow.appearance import FEATURE_THRESHOLD, CensusAppearance, CensusSettings, cosine
from flow.estimator import Estimator
from flow.fill import fill
from flow.fusion import fuse
from flow.images import (
    WORKING_SIDE,
    at_exposure,
    comes_back,
    enlarge_flow,
    exposure,
    luminance,
    pixel_grid,
    sample_along,
    shrink,
    shrink_flow,
)
from flow.layers import crossing
from flow.motions import MotionSettings, assign_motions
from flow.pair import ErrorSettings, FramePair, exposure_along, make_frame
from flow.upsampling import shrunk_size, times_shrunk, upsampled
from flow.walks import outwards
from util import BoundedCache, inside_image, source_hash

CODE = [f"flow.{name}" for name in ("dis", "estimator", "fusion", "images", "pair", "motions", "fill",
                                    "appearance", "upsampling", "walks", "layers", "rims")]
PRESETS = {"fast": cv2.DISOPTICAL_FLOW_PRESET_FAST, "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM}


@dataclass(frozen=True)
class DisSettings:
    """Of the walk, and of all that it uses."""

    errors: ErrorSettings = ErrorSettings()
    motions: MotionSettings = MotionSettings()
    census: CensusSettings = CensusSettings()


class PlainDis(Estimator):
    """Flow estimator: DIS as OpenCV has it, each pair on its own. preset: 'fast' or 'medium'."""

    def __init__(self, preset, finest_scale=0, reason=""):
        """finest_scale: of the pyramid, 0 the frames' own; None: the preset's."""
        self.dis, self.reason = make_dis(finest_scale, PRESETS[preset]), reason
        self.description = {"method": "dis", "mode": f"preset {preset}, each pair on its own",
                            "finest_scale": self.dis.getFinestScale()}

    def load_frames(self, frames, adjacent=None):
        self.images = BoundedCache(lambda i: luminance(frames[i]))
        self.size = frames[0].shape[:2]

    def flow_from(self, i, partners):
        flows = [self.dis.calc(self.images[i], self.images[j], None) for j in partners]
        return np.stack(flows) if flows else np.empty((0, *self.size, 2), np.float32)


class Reached(NamedTuple):
    """How far a walk from frame i has come."""

    frame: int
    flow: np.ndarray  # (H, W, 2), from i
    seen: np.ndarray  # bool (H, W): pixels that look alike in this frame
    motion: np.ndarray  # (H, W, 2), from the frame before


class DisFlow(Estimator):
    """Flow estimator: DIS walked over the video. What the walk finds itself is called "own" among hints."""

    walks = True

    def __init__(self, reason="", settings=DisSettings()):
        self.settings, self.reason, self.layers = settings, reason, None
        self.description = {"method": "dis", "mode": "walking from frame to frame", "finest_scale": 0,
                            "settings": asdict(settings), "same_motion": util.SAME_MOTION, "code": source_hash(*CODE)}

    def load_frames(self, frames, adjacent=None):
        settings, self.full_size = self.settings, frames[0].shape[:2]
        self.shrunk = times_shrunk(self.full_size)
        self.size = shrunk_size(self.full_size, self.shrunk)
        self.full_frames = BoundedCache(
            lambda i: make_frame(frames[i], 1, self.labels(i, self.full_size)))
        walked = Shrunk(frames, self.size) if self.shrunk > 1 else frames
        self.factor = 2 if max(self.size) < WORKING_SIDE else 1
        self.search = make_dis(0)  # of adjacent frames, from no start
        self.search.setPatchStride(2 if self.factor == 2 else 4)
        self.correction = make_dis(0)  # of flow that was carried on, or upsampled
        self.refinement = make_dis(self.factor - 1)  # of assigned flow: up to the frames' own scale
        appearance = CensusAppearance(settings=settings.census)
        self.frames = BoundedCache(
            lambda i: make_frame(walked[i], self.factor, self.labels(i, self.size)))
        self.found = BoundedCache(adjacent or (lambda i: next(self.adjacent_many([i]))))
        self.reliable = BoundedCache(lambda pair: self.returns(*pair))
        self.features = BoundedCache(lambda i: appearance(walked[i]))

    def for_workers(self):
        fresh = DisFlow(self.reason, self.settings)
        if self.layers is not None:
            fresh.take_layers(self.layers)
        return fresh

    def take_layers(self, layers):
        """Flow does not lead from one layer to another: given(i) -> the labels (H, W) that are known of frame i, or
        None; description: what they are, by which they differ from others.
        """
        self.layers, self.description = layers, {**self.description, "layers": layers.description}

    def labels(self, i, size):
        """uint8 (*size): the labels of frame i that were given, or None."""
        labels = self.layers.given(i) if self.layers is not None else None
        return labels if labels is None else cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST)

    def flow_from_many(self, sources, hints=None):
        """See Estimator. hints: of each source {name: flows (len(partners), H, W, 2)}, numpy or torch."""
        return (self.flow_from(*source, known) for source, known in zip(sources, hints or [None] * len(sources)))

    def flow_from(self, i, partners, hints=None):
        """See Estimator and flow_from_many."""
        hints = [{name: as_array(flows[k]) for name, flows in (hints or {}).items()} for k in range(len(partners))]
        flows = np.empty((len(partners), *self.full_size, 2), np.float32)
        for steps in outwards(i, partners):
            reached = None
            for place, j in steps:
                reached = self.advance(i, reached, j, self.between_shrunk(hints[place]))
                flows[place] = self.finish(i, j, reached.flow, hints[place]) if self.shrunk > 1 else reached.flow
        return flows

    def between_shrunk(self, hints):
        """Hints of the frames as hints of the frames that are walked."""
        return {name: shrink_flow(hint, self.size) for name, hint in hints.items()}

    def finish(self, i, j, flow, hints):
        """Flow (h, w, 2) between shrunk frames at the frames' own size, refined, or hints where they explain more."""
        first, second = self.full_frames[i], self.full_frames[j]
        pair = FramePair(first, second, *self.exposure_along(i, j, flow), self.settings.errors)
        candidates = upsampled(flow, self.full_size)
        flow = fuse(candidates, {name: pair.colour_error(candidate) for name, candidate in candidates.items()})
        refined = self.correction.calc(first.luminance, pair.second_luminance, flow.copy())
        return fuse_around({"upsampled": flow, "refined": refined, **filled(known(hints), flow)}, pair)

    # The walk

    def advance(self, i, reached, j, hints):
        """The walk from frame i carried on to frame j, and corrected there; it starts where nothing is reached yet.

        What is not seen moves on with what is seen around it of the same surface, or as it did before.
        """
        step = 1 if j > i else -1
        reached = reached or self.start(i, i + step)
        while reached.frame != j:
            reached = self.carry(reached, reached.frame + step)
        if abs(j - i) == 1:
            return reached
        corrected = self.correct(i, j, reached.flow, hints)
        alike = self.looks_alike(i, j, corrected)
        return reached._replace(flow=np.where(alike[..., None], corrected, reached.flow), seen=alike)

    def start(self, i, j):
        """The first step of a walk: to the adjacent frame j."""
        flow = self.step(i, j)
        return Reached(j, flow, self.looks_alike(i, j, flow) & (self.reliable[i, j] > 0), flow)

    def carry(self, reached, j):
        """A further step: to the next frame j."""
        k, flow = reached.frame, reached.flow
        sure = reached.seen & (sample_along(flow, self.reliable[k, j]) > 0.5)
        motion = np.where(sure[..., None], sample_along(flow, self.step(k, j)), reached.motion)
        motion = fill(motion, flow, sure)
        return Reached(j, flow + motion, reached.seen, motion)

    def returns(self, i, j):
        """float32 (H, W): 1 where the adjacent flow i -> j and back returns to its start."""
        return comes_back(self.step(i, j), self.step(j, i)).astype(np.float32)

    def looks_alike(self, i, j, flow):
        """bool (H, W): what is seen in frame i is what is seen where the flow takes it in frame j."""
        arrived = torch.from_numpy(pixel_grid(self.size) + flow)
        similarity = cosine(self.features[i].of_pixels(*self.size), self.features[j].seen_from(arrived))
        alike = ((similarity.view(self.size) > FEATURE_THRESHOLD) & inside_image(arrived, *self.size)).numpy()
        first, second = self.frames[i].labels, self.frames[j].labels
        return alike if first is None or second is None else alike & ~crossing(first, second, flow)

    # From candidates to flow

    def adjacent_many(self, frames, hints=None):
        """See Estimator: (2, h, w, 2) of each, between the frames as they are walked. hints: of each pair, i to i + 1
        and back, {name: flows (1, H, W, 2)}.
        """
        hints = iter(hints or [{}] * 2 * len(frames))
        for i in frames:
            yield np.stack([self.adjacent_flow(*pair, {name: as_array(flows[0]) for name, flows in next(hints).items()})
                            for pair in ((i, i + 1), (i + 1, i))])

    def step(self, i, j):
        """Flow (h, w, 2) between adjacent frames."""
        return self.found[min(i, j)][0 if i < j else 1]

    def adjacent_flow(self, i, j, hints):
        """Flow between adjacent frames: the best of hints and of what DIS finds."""
        hints = self.between_shrunk(known(hints))
        return self.assign_and_refine(i, j, self.fuse_hints(i, j, self.search_adjacent(i, j), hints))

    def search_adjacent(self, i, j):
        """The best, at each pixel, of DIS from several constant starts, so that small fast objects are found too."""
        first, second = self.frames[i], self.frames[j]
        sorted_luminance = (np.sort(frame.luminance, axis=None) for frame in (second, first))
        pair = self.pair(i, j, *exposure(*sorted_luminance))
        shift, candidates = self.settings.motions.radius * max(first.luminance.shape), {}
        for offset in ((x, y) for x in (0, -shift, shift) for y in (0, -shift, shift)):
            start = np.full((*first.luminance.shape, 2), offset, np.float32)
            found = self.search.calc(first.luminance, pair.second_luminance, start)
            candidates[offset] = shrink_flow(found, self.size)
        return self.fuse_by_luminance(i, j, candidates, (0, 0))

    def correct(self, i, j, carried, hints):
        """The best, at each pixel, of flow that was carried on and hints, and the same corrected; assigned and refined.

        Corrected by DIS after warping frame j: that undoes rotation and zoom, which DIS' patches cannot follow, but
        tears at the borders of objects.
        """
        hints, first = known(hints), self.frames[i].luminance
        start = self.fuse_hints(i, j, carried, hints)
        enlarged = enlarge_flow(start, self.factor)
        warped = sample_along(enlarged, self.frames[j].luminance)
        warped = at_exposure(warped, *exposure(warped, first))
        rest = self.correction.calc(first, warped, np.zeros_like(enlarged))
        candidates = {"start": start, "corrected": shrink_flow(rest + sample_along(rest, enlarged), self.size)}
        return self.assign_and_refine(i, j, self.fuse_by_luminance(i, j, candidates, "start"))

    def fuse_hints(self, i, j, own, hints):
        """The best, at each pixel, of the walk's own flow and the hints; where one is unknown, the own."""
        if not hints:
            return own
        assert "own" not in hints, list(hints)
        return self.fuse_by_luminance(i, j, {"own": own, **filled(hints, own)}, "own")

    def fuse_by_luminance(self, i, j, candidates, reference):
        """Fusion by errors of luminance, at the exposure of what is seen where the candidate `reference` leads."""
        pair = self.pair(i, j, *self.exposure_along(i, j, candidates[reference]))
        return fuse(candidates, {name: pair.luminance_error(flow) for name, flow in candidates.items()})

    def assign_and_refine(self, i, j, flow):
        """The flow (H, W, 2) assigned to a few affine motions, then refined where that explains the colours better."""
        pair = self.pair(i, j, *self.exposure_along(i, j, flow))
        assigned = assign_motions(flow, pair, self.settings.motions)
        start = enlarge_flow(assigned, self.factor)
        refined = self.refinement.calc(pair.first.luminance, pair.second_luminance, start)
        refined = shrink_flow(refined, self.size)
        return fuse_around({"assigned": assigned, "refined": refined}, pair)

    def exposure_along(self, i, j, flow):
        """gain, offset of frame j where flow (H, W, 2) from frame i leads."""
        flow = enlarge_flow(flow, self.factor)
        return exposure_along(flow, self.frames[i], self.frames[j])

    def pair(self, i, j, gain, offset):
        """FramePair of frames i and j."""
        return FramePair(self.frames[i], self.frames[j], gain, offset, self.settings.errors)


class Shrunk:
    """Frames as a sequence, shrunk to size (h, w)."""

    def __init__(self, frames, size):
        self.frames, self.size = frames, size

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, i):
        return shrink(self.frames[i], self.size)


def make_dis(finest_scale, preset=cv2.DISOPTICAL_FLOW_PRESET_MEDIUM):
    """OpenCV's DIS. finest_scale: of the pyramid, 0 the images' own; None: the preset's."""
    dis = cv2.DISOpticalFlow_create(preset)
    if finest_scale is not None:
        dis.setFinestScale(finest_scale)
    return dis


def as_array(flow):
    """A tensor on any device, or an array, as an array."""
    return flow.cpu().numpy() if isinstance(flow, torch.Tensor) else flow


def known(hints):
    """Those of the hints that are known anywhere."""
    return {name: hint for name, hint in hints.items() if np.isfinite(hint).any()}


def filled(hints, flow):
    """Hints that are the flow (H, W, 2) where they are unknown."""
    return {name: np.where(np.isfinite(hint).all(-1, keepdims=True), hint, flow) for name, hint in hints.items()}


def fuse_around(candidates, pair):
    """Fusion of candidates {name: flow} by how well each explains the colours around a pixel."""
    return fuse(candidates, {name: pair.colour_error_around(flow) for name, flow in candidates.items()})
