"""The walk of flow/dis.py, for the pairs of several source frames at once: see there for what it does and why.

Conventions: as in flow.batched.images; B walks, each at a frame of its own; hints are {name: flow (B, 2, H, W)}, NaN
where nothing is known. What comes in and goes out is (P, H, W, 2), as estimators have it.
"""

import itertools
from typing import NamedTuple

import numpy as np
import torch

from flow.appearance import FEATURE_THRESHOLD, CensusAppearance, cosine
from flow.batched.fill import fill
from flow.batched.images import (
    at_exposure,
    comes_back,
    exposure,
    pixel_grid,
    resize_flow,
    sample_along,
    shrink_flow,
)
from flow.batched.motions import assign_motions
from flow.batched.pairs import Frames, Pairs, crossing, fuse, inside
from flow.batched.search import InverseSearch
from flow.dis import CODE, DisFlow, DisSettings, Shrunk
from flow.images import WORKING_SIDE
from flow.layers import UNKNOWN
from flow.upsampling import around, shrunk_size, times_shrunk
from flow.walks import outwards
from util import BoundedCache, source_hash

BATCHED_CODE = [f"flow.batched.{name}" for name in ("walk", "images", "pairs", "motions", "fill", "search")]
CACHE_BYTES = 2**28  # of the frames, of their features, ... on the device, each
PIXELS_AT_ONCE = 2**22  # of the frames of all pairs that are finished together, which bounds the memory


class Reached(NamedTuple):
    """How far walks have come."""

    frames: list  # of B
    flow: torch.Tensor  # (B, 2, H, W), from the source frames
    seen: torch.Tensor  # bool (B, 1, H, W): pixels that look alike in these frames
    motion: torch.Tensor  # (B, 2, H, W), from the frames before

    def of(self, places):
        """Of some of the walks."""
        return Reached([self.frames[k] for k in places], *(part[places] for part in self[1:]))

    def put(self, places, others):
        """With those at `places` replaced."""
        frames = list(self.frames)
        for place, frame in zip(places, others.frames):
            frames[place] = frame
        indices = torch.tensor(places, device=self.flow.device)
        return Reached(frames, *(part.index_copy(0, indices, other) for part, other in zip(self[1:], others[1:])))


class BatchedWalk(DisFlow):
    """Flow estimator: the walk of DisFlow, in this process, on a device."""

    def __init__(self, device, reason="", settings=None):
        super().__init__(reason, settings or DisSettings())
        self.device = torch.device(device)
        self.description |= {"mode": "walking from frame to frame, in torch",
                             "code": source_hash(*CODE, *BATCHED_CODE)}

    def load_frames(self, frames, adjacent=None):
        self.full_size = frames[0].shape[:2]
        self.shrunk = times_shrunk(self.full_size)
        self.size = shrunk_size(self.full_size, self.shrunk)
        self.factor = 2 if max(self.size) < WORKING_SIDE else 1
        self.search = InverseSearch()  # also of flow that was carried on, or upsampled
        self.refinement = InverseSearch(self.factor - 1)  # of assigned flow: up to the frames' own scale
        walked = Shrunk(frames, self.size) if self.shrunk > 1 else frames
        appearance = CensusAppearance(self.device, self.settings.census)
        self.features = BoundedCache(lambda i: appearance(walked[i]), CACHE_BYTES)
        self.frames = BoundedCache(lambda i: self.frame(walked[i], i, self.factor), CACHE_BYTES)
        self.full_frames = BoundedCache(lambda i: self.frame(frames[i], i, 1), CACHE_BYTES)
        adjacent = adjacent or (lambda i: self.adjacent_many([i])[0])
        self.found = BoundedCache(lambda i: self.on_device(adjacent(i)), CACHE_BYTES)

    def on_device(self, flows):
        """(P, H, W, 2), numpy or torch -> (P, 2, H, W)."""
        return torch.as_tensor(flows).to(self.device).permute(0, 3, 1, 2)

    def frame(self, pixels, i, factor):
        """Frames of one."""
        labels = self.labels(i, pixels.shape[:2])
        if labels is None and self.layers is not None:
            labels = np.full(pixels.shape[:2], UNKNOWN, np.uint8)
        return Frames.of(pixels, factor, labels, self.device)

    # Estimator

    def for_workers(self):
        return None

    def flow_from(self, i, partners, hints=None):
        return self.flow_from_many([(i, partners)], hints and [hints])[0]

    @torch.no_grad()
    def flow_from_many(self, sources, hints=None):
        """See DisFlow -> a list of tensors."""
        flows = [torch.empty(len(partners), *self.full_size, 2, device=self.device) for _, partners in sources]
        hints = hints or [{}] * len(sources)
        walks = [(s, steps) for s, (i, partners) in enumerate(sources) for steps in outwards(i, partners)]
        reached, before = None, walks
        for step in range(max((len(steps) for _, steps in walks), default=0)):
            active = [(s, steps) for s, steps in walks if step < len(steps)]
            reached = reached and reached.of([k for k, (_, steps) in enumerate(before) if step < len(steps)])
            here, (places, there) = [s for s, _ in active], zip(*(steps[step] for _, steps in active))
            asked = [{name: flows[place] for name, flows in hints[s].items()} for s, place in zip(here, places)]
            asked = self.together(asked)
            first, before = [sources[s][0] for s in here], active
            reached = self.advance(first, reached, list(there), self.between_shrunk(asked))
            found = self.finish(first, there, reached.flow, asked) if self.shrunk > 1 else reached.flow
            for s, place, flow in zip(here, places, found.permute(0, 2, 3, 1)):
                flows[s][place] = flow
        return flows

    @torch.no_grad()
    def adjacent_many(self, frames, hints=None):
        """See DisFlow."""
        first, second = zip(*(pair for i in frames for pair in ((i, i + 1), (i + 1, i))))
        asked = self.together([{name: flows[0] for name, flows in of.items()} for of in hints or [{}] * len(first)])
        frames = self.both(first, second)
        flow = self.fuse_hints(frames, self.search_adjacent(frames), self.between_shrunk(asked))
        flow = self.assign_and_refine(frames, flow)
        return flow.permute(0, 2, 3, 1).unflatten(0, (-1, 2)).cpu().numpy()

    def together(self, hints):
        """[{name: flow (H, W, 2)}] of several pairs, all of the same names -> {name: (B, 2, H, W)}."""
        return {name: self.on_device(torch.stack([torch.as_tensor(of[name]) for of in hints])) for name in hints[0]}

    def between_shrunk(self, hints):
        return {name: shrink_flow(hint, self.size) for name, hint in hints.items()}

    # The walk

    def advance(self, i, reached, j, hints):
        """The walks from frames i carried on to frames j, and corrected there."""
        steps = [1 if there > here else -1 for here, there in zip(i, j)]
        if reached is None:
            reached = self.start(i, [here + step for here, step in zip(i, steps)])
        while short := [k for k, frame in enumerate(reached.frames) if frame != j[k]]:
            nearer = reached.of(short)
            nearer = self.carry(nearer, [frame + steps[k] for k, frame in zip(short, nearer.frames)])
            reached = nearer if len(short) == len(j) else reached.put(short, nearer)
        far = [k for k in range(len(j)) if abs(j[k] - i[k]) > 1]
        if not far:
            return reached
        i, there, before = [i[k] for k in far], [j[k] for k in far], reached.of(far)
        corrected = self.correct(self.both(i, there), before.flow, {name: hint[far] for name, hint in hints.items()})
        alike = self.looks_alike(i, there, corrected)
        flow = torch.where(alike, corrected, before.flow)
        return reached.put(far, before._replace(flow=flow, seen=alike))

    def start(self, i, j):
        flow = self.step(i, j)
        return Reached(j, flow, self.looks_alike(i, j, flow) & self.returns(i, j), flow)

    def carry(self, reached, j):
        k, flow = reached.frames, reached.flow
        sure = reached.seen & (sample_along(flow, self.returns(k, j).float()) > 0.5)
        motion = torch.where(sure, sample_along(flow, self.step(k, j)), reached.motion)
        motion = fill(motion, flow, sure)
        return Reached(j, flow + motion, reached.seen, motion)

    def step(self, i, j):
        """Flow (B, 2, h, w) between adjacent frames."""
        return torch.stack([self.found[min(pair)][0 if pair[0] < pair[1] else 1] for pair in zip(i, j)])

    def returns(self, i, j):
        return comes_back(self.step(i, j), self.step(j, i))[:, None]

    def looks_alike(self, i, j, flow):
        positions, found = pixel_grid(self.size, self.device) + flow, []
        for here, there, arrived in zip(i, j, positions.permute(0, 2, 3, 1)):
            features = self.features[here].of_pixels(*self.size), self.features[there].seen_from(arrived)
            found.append(cosine(*features).view(1, *self.size) > FEATURE_THRESHOLD)
        alike = torch.stack(found) & inside(positions)
        return alike if self.layers is None else alike & ~crossing(*self.both(i, j), flow)

    # From candidates to flow

    def both(self, i, j):
        """Frames i and frames j."""
        return tuple(Frames.together([self.frames[k] for k in frames]) for frames in (i, j))

    def pairs_along(self, both, flow):
        """Pairs of `both`, frames i and j, at the exposure of what is seen where the flow leads."""
        return Pairs.along(*both, flow, self.settings.errors)

    def search_adjacent(self, both):
        first, second = both
        in_order = (part.luminance.flatten(2).sort(dim=2).values[..., None] for part in (second, first))
        pairs = Pairs(first, second, *exposure(*in_order), self.settings.errors)
        shift, candidates = self.settings.motions.radius * max(pairs.searched_size), {}
        for offset in itertools.product((0, -shift, shift), repeat=2):
            start = first.luminance.new_tensor(offset)[None, :, None, None]
            start = start.expand(len(first.luminance), 2, *pairs.searched_size)
            found = self.search(first.luminance, pairs.second_luminance, start)
            candidates[offset] = shrink_flow(found, self.size)
        return self.fuse_by_luminance(both, candidates, (0, 0))

    def correct(self, both, carried, hints):
        first, second = both
        start = self.fuse_hints(both, carried, hints)
        enlarged = resize_flow(start, first.luminance.shape[-2:])
        warped = sample_along(enlarged, second.luminance)
        warped = at_exposure(warped, *exposure(warped, first.luminance))
        rest = self.search(first.luminance, warped, torch.zeros_like(enlarged))
        candidates = {"start": start, "corrected": shrink_flow(rest + sample_along(rest, enlarged), self.size)}
        return self.assign_and_refine(both, self.fuse_by_luminance(both, candidates, "start"))

    def fuse_hints(self, both, own, hints):
        return self.fuse_by_luminance(both, {"own": own, **filled(hints, own)}, "own") if hints else own

    def fuse_by_luminance(self, both, candidates, reference):
        return fuse(candidates, self.pairs_along(both, candidates[reference]).luminance_error)

    def assign_and_refine(self, both, flow):
        pairs = self.pairs_along(both, flow)
        assigned = assign_motions(flow, pairs, self.settings.motions)
        start = resize_flow(assigned, pairs.searched_size)
        refined = shrink_flow(self.refinement(pairs.first.luminance, pairs.second_luminance, start), self.size)
        return fuse({"assigned": assigned, "refined": refined}, pairs.colour_error_around)

    def finish(self, i, j, flow, hints):
        """Flow (B, 2, h, w) between shrunk frames at their own size, refined, or hints where they explain more."""
        at_once = max(1, PIXELS_AT_ONCE // (self.full_size[0] * self.full_size[1]))
        parts = (slice(k, k + at_once) for k in range(0, len(i), at_once))
        return torch.cat([self.finish_some(i[part], j[part], flow[part], {name: of[part] for name, of in hints.items()})
                          for part in parts])

    def finish_some(self, i, j, flow, hints):
        first, second = (Frames.together([self.full_frames[k] for k in frames]) for frames in (i, j))
        shrunk = self.pairs_along(self.both(i, j), flow)
        pairs = Pairs(first, second, shrunk.gain, shrunk.offset, self.settings.errors)
        flow = fuse(upsampled(flow, self.full_size), pairs.colour_error)
        refined = self.search(first.luminance, pairs.second_luminance, flow)
        return fuse({"upsampled": flow, "refined": refined, **filled(hints, flow)}, pairs.colour_error_around)


def filled(hints, flow):
    """Hints that are the flow (B, 2, H, W) where they are unknown."""
    return {name: torch.where(hint.isfinite().all(1, keepdim=True), hint, flow) for name, hint in hints.items()}


def upsampled(flow, size):
    """Candidates for the flow of frames of size (H, W), of flow between shrunk ones: see flow.upsampling."""
    rows, columns = ([torch.from_numpy(places).to(flow.device) for places in around(side, shrunk)]
                     for side, shrunk in zip(size, flow.shape[-2:]))
    each = {(down, across): resize_flow(flow, size, lambda flow, _, y=y, x=x: flow[:, :, y][..., x])
            for (down, y), (across, x) in itertools.product(enumerate(rows), enumerate(columns))}
    return {"between": resize_flow(flow, size), **each}
