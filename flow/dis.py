"""OpenCV's dense inverse search (DIS), walked over a video so that it also follows objects over many frames.

DIS alone loses an object once it has moved by more than a patch or two and follows the background instead, there and
back alike. Between adjacent frames it is nearly exact. So the flow i -> j starts from the flow i -> j-1 carried on by
the adjacent flow j-1 -> j, and DIS only corrects it. Every flow is then put in order by the few affine motions that
explain most of it (flow/motions.py). Measured on layered scenes: benchmarks/NOTES.md.

Conventions: frames uint8 RGB (H, W, 3); flow float32 (H, W, 2), (x, y) in pixels; images luminance.
"""

from functools import partial

import cv2
import numpy as np
import torch

from flow.appearance import FEATURE_THRESHOLD, CensusAppearance, cosine, features_at, features_of_pixels
from flow.images import enlarge, exposure, luminance, pixel_grid, relit, resize, sample, shrink
from flow.keypoints import find_keypoints, moving_together
from flow.motions import Motions
from flow.walks import outwards
from util import BoundedCache, inside_image

REVISION = 5  # of what follows: flow of another one is estimated again
SEARCH_STEPS = 25  # of gradient descent, twice the preset's
ENLARGE_BELOW = 320  # pixels on the long side: smaller frames are doubled, and searched twice as densely
RETURN_PX = 1.0  # pixels: adjacent flow that misses its start by more follows no visible surface
SHIFT = 1 / 12  # of the long side: adjacent flow also starts from shifts by this much in x and y
ERROR_WINDOW, LARGEST_ERROR = 9, 30  # luminance differences are clipped, then averaged over a window
HINT_LEAD = 1.0  # levels of luminance by which another flow must beat the first hint, if hints are trusted
OWN_LEAD = 0.0  # the same of hints that are not, against the walk's own flow
COLOUR_WINDOW, BLUR = 3, 0.7  # of colour differences; of the luminance that motions are registered on
EXACT_PX, EXACT_WINDOW, EXACT_LEAD = 0.7, 15, 0.25  # ordered flow is refined by so little, where errors fall so much
FILL_CELLS, FILL_STEPS, FILL_PX = 96, 30, 1.5  # cells on the long side; steps = reach in cells; motion edge in pixels


class DisFlow:
    """Flow estimator (see flow.estimators).

    preset: plain DIS, each pair on its own ('fast', 'medium'; no walk). adjacent_hints(i, j): for adjacent frames, a
    list of flows (H, W, 2) that may be right; of other frames they are given to `flow_from`. They are NaN where nothing
    is known. trusted: hints lead, and save most of the search; else they have to beat what the walk finds itself.
    """

    def __init__(self, preset=None, finest_scale=0, reason="", adjacent_hints=lambda i, j: [], trusted=False):
        self.adjacent_hints, self.trusted = adjacent_hints, trusted
        fast, medium = cv2.DISOPTICAL_FLOW_PRESET_FAST, cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
        self.dis = cv2.DISOpticalFlow_create({None: medium, "medium": medium, "fast": fast}[preset])
        if finest_scale is not None:
            self.dis.setFinestScale(finest_scale)
        self.walks = preset is None
        self.search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # of adjacent frames, from no start
        self.search.setFinestScale(0)
        self.search.setGradientDescentIterations(SEARCH_STEPS)
        self.refine = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # from where little is missing
        mode = "walking from frame to frame" if self.walks else f"preset {preset}, each pair on its own"
        self.description = {"method": "dis", "mode": mode, "finest_scale": self.dis.getFinestScale(),
                            "revision": REVISION}
        self.reason = reason

    def load_frames(self, frames):
        """Take the frames of a video: (N, H, W, 3) uint8, or a sequence of (H, W, 3)."""
        self.frames, self.size = frames, frames[0].shape[:2]
        self.factor = 2 if self.walks and max(self.size) < ENLARGE_BELOW else 1
        self.search.setPatchStride(2 if self.factor == 2 else 4)
        self.refine.setFinestScale(self.factor - 1)  # of enlarged images: the frames' own scale
        appearance = CensusAppearance()
        self.images = BoundedCache(lambda i: enlarge(luminance(self.frames[i]), self.factor))
        self.colours = BoundedCache(lambda i: enlarge(np.ascontiguousarray(self.frames[i]), self.factor))
        self.smooth = BoundedCache(lambda i: cv2.GaussianBlur(
            luminance(self.frames[i]).astype(np.float32), (0, 0), BLUR))  # fmt: skip
        self.keypoints = BoundedCache(lambda i: find_keypoints(self.images[i], self.factor))
        self.adjacent = BoundedCache(lambda pair: self.adjacent_flow(*pair))
        self.reliable = BoundedCache(lambda pair: self.returns(*pair))
        self.features = BoundedCache(lambda i: appearance(self.frames[i]))

    def flow_from(self, i, partners, hints=None):
        """Flow from frame i to each of `partners` -> float32 (len(partners), H, W, 2).

        hints: dict from a partner to a list of flows (H, W, 2) that may be right; NaN where nothing is known.
        """
        flows = np.empty((len(partners), *self.size, 2), np.float32)
        if not self.walks:
            for k, j in enumerate(partners):
                flows[k] = self.dis.calc(self.images[i], self.images[j], None)
            return flows
        for steps in outwards(i, partners):
            reached, state = i, (None, None, None)
            for place, j in steps:
                state = self.advance(i, reached, j, *state, hints=hints.get(j, []) if hints else [])
                reached, flows[place] = j, state[0]
        return flows

    def advance(self, i, reached, j, flow, seen, motion, hints):
        """Carry the flow i -> reached on to frame j, and correct it there; nothing is reached yet where it is None.

        Returns flow (H, W, 2), seen (H, W): the pixels that look alike in j, and motion (H, W, 2) of the last frame.
        What is not seen moves on with what is seen around it of the same surface, or as it did before.
        """
        step = 1 if j > i else -1
        for k in range(reached, j, step):
            following = self.adjacent[k, k + step]
            if flow is None:
                flow = motion = following
                seen = self.looks_alike(i, k + step, flow) & (self.reliable[i, k + step] > 0)
                continue
            arrived = pixel_grid(self.size) + flow
            sure = seen & (sample(self.reliable[k, k + step], arrived) > 0.5)
            motion = fill(np.where(sure[..., None], sample(following, arrived), motion), flow, sure)
            flow = flow + motion
        if abs(j - i) == 1:
            return flow, seen, motion
        corrected = self.correct(i, j, flow, hints)
        alike = self.looks_alike(i, j, corrected)
        return np.where(alike[..., None], corrected, flow), alike, motion

    def returns(self, i, j):
        """float32 (H, W): 1 where the adjacent flow i -> j and back returns to its start."""
        flow, back = self.adjacent[i, j], self.adjacent[j, i]
        missed = flow + sample(back, pixel_grid(self.size) + flow)
        return (np.square(missed).sum(-1) < RETURN_PX**2).astype(np.float32)

    def adjacent_flow(self, i, j):
        """The best, at each pixel, of DIS from several constant starts, so that small fast objects are found too."""
        hints = known(self.adjacent_hints(i, j))
        if hints and self.trusted:
            return self.correct(i, j, hints[0], hints[1:] or hints)
        first, second = self.images[i], self.images[j]
        second = relit(second, *exposure(np.sort(second, axis=None), np.sort(first, axis=None)))
        shift = SHIFT * max(first.shape)
        shifts = [(x, y) for x in (0, -shift, shift) for y in (0, -shift, shift)]
        starts = [np.full((*first.shape, 2), start, np.float32) for start in shifts]
        flows = [self.reduced(self.search.calc(first, second, start)) for start in starts]
        own = self.best(i, j, flows)
        return self.order(i, j, self.choose(i, j, [own], hints) if hints else own)

    def correct(self, i, j, start, hints=()):
        """The best, at each pixel, of the start (H, W, 2), DIS after warping frame j by it, and the hints; in order.

        Warping undoes rotation and zoom, which DIS' patches cannot follow, but tears at the borders of objects.
        """
        enlarged, first = self.enlarged(start), self.images[i]
        pixels = pixel_grid(first.shape)
        warped = sample(self.images[j], pixels + enlarged)
        hints = known(hints)
        dis = self.refine if hints and self.trusted else self.dis
        rest = dis.calc(first, relit(warped, *exposure(warped, first)), np.zeros_like(enlarged))
        corrected = self.reduced(rest + sample(enlarged, pixels + rest))
        return self.order(i, j, self.choose(i, j, [start, corrected], hints))

    def choose(self, i, j, own, hints):
        """The best, at each pixel, of the walk's own flows and the hints (the first own flow where one is unknown)."""
        hints = [np.where(np.isfinite(hint).all(-1, keepdims=True), hint, own[0]) for hint in hints]
        if self.trusted:
            return self.best(i, j, [*hints, *own], [0.0] + [HINT_LEAD] * (len(hints) + len(own) - 1))
        return self.best(i, j, [*own, *hints], [0.0] * len(own) + [OWN_LEAD] * len(hints))

    def order(self, i, j, flow):
        """The flow (H, W, 2) put in order by a few affine motions, then refined where little is missing."""
        gain, offset = exposure(sample(self.smooth[j], pixel_grid(self.size) + flow), self.smooth[i])
        error_of = partial(self.colour_error, self.colours[i], relit(self.colours[j], gain, offset))
        matches = moving_together(self.keypoints[i], self.keypoints[j], flow)
        motions = Motions(self.smooth[i], gain * self.smooth[j] + offset)
        ordered = motions.order(flow, error_of, self.frames[i], matches)
        second = relit(self.images[j], gain, offset)
        refined = self.reduced(self.refine.calc(self.images[i], second, self.enlarged(ordered)))
        before, after = (cv2.blur(error_of(f), (EXACT_WINDOW, EXACT_WINDOW)) for f in (ordered, refined))
        small = np.square(refined - ordered).sum(-1) < EXACT_PX**2
        return np.where((small & (after < before - EXACT_LEAD))[..., None], refined, ordered)

    def colour_error(self, first, second, flow):
        """float32 (H, W): the channels' largest difference, averaged over a small window, where the flow leads."""
        seen = sample(second, pixel_grid(first.shape[:2]) + self.enlarged(flow))
        red, green, blue = cv2.split(cv2.absdiff(seen, first))
        largest = np.minimum(cv2.max(cv2.max(red, green), blue), LARGEST_ERROR).astype(np.float32)
        return cv2.blur(shrink(largest, self.size), (COLOUR_WINDOW, COLOUR_WINDOW))

    def enlarged(self, flow):
        """Flow (H, W, 2) of the frames -> of the images that are searched."""
        return resize(flow, (self.size[0] * self.factor, self.size[1] * self.factor)) * np.float32(self.factor)

    def reduced(self, flow):
        """The inverse of `enlarged`."""
        return flow if self.factor == 1 else shrink(flow, self.size) / np.float32(self.factor)

    def best(self, i, j, flows, handicaps=0.0):
        """Of several flows (H, W, 2), at each pixel the one that explains the luminance around it best.

        Frame j is first brought to frame i's brightness and contrast, as they are where the first flow leads.
        handicaps: levels of luminance that are added to each flow's error.
        """
        first, second = self.images[i].astype(np.float32), self.images[j].astype(np.float32)
        pixels = pixel_grid(first.shape)
        seen = [sample(second, pixels + self.enlarged(flow)) for flow in flows]
        gain, offset = exposure(seen[0], first)
        errors = [np.minimum(np.abs(gain * image + offset - first), LARGEST_ERROR) for image in seen]
        errors = np.stack([shrink(cv2.blur(error, (ERROR_WINDOW, ERROR_WINDOW)), self.size) for error in errors])
        errors += np.float32(np.broadcast_to(handicaps, len(flows)))[:, None, None]
        choice = np.argmin(errors, axis=0)[None, ..., None]
        return np.take_along_axis(np.stack(flows), choice, axis=0)[0]

    def looks_alike(self, i, j, flow):
        """bool (H, W): what is seen in frame i is what is seen where the flow takes it in frame j."""
        arrived = torch.from_numpy(pixel_grid(self.size) + flow)
        own = features_of_pixels(self.features[i], *self.size)
        alike = cosine(own, features_at(self.features[j], arrived)).view(self.size) > FEATURE_THRESHOLD
        return (alike & inside_image(arrived, *self.size)).numpy()


def known(hints):
    """Those of the flows (H, W, 2) that are known anywhere."""
    return [hint for hint in hints if np.isfinite(hint).any()]


def fill(motion, flow, trusted):
    """Replace motion (H, W, 2) where it is not trusted (H, W) by that of trusted pixels around, of the same surface.

    What is hidden moves on with the rest of its surface: pixels whose `flow` so far is alike. Works on a coarse grid.
    """
    if trusted.all():
        return motion
    cell = max(1, round(max(trusted.shape) / FILL_CELLS))
    known = trusted[::cell, ::cell]
    coarse_flow, value = flow[::cell, ::cell], np.where(known[..., None], motion[::cell, ::cell], 0)
    weight = known.astype(np.float32)
    across, down = (
        np.exp(-np.square(np.diff(coarse_flow, axis=axis)).sum(-1) / (2 * FILL_PX**2)) for axis in (1, 0)
    )
    fixed, mass = value.copy(), weight.copy()  # value is what spreads, times its weight; mass its weight
    for _ in range(FILL_STEPS):
        total, share, strongest = value.copy(), mass.copy(), mass.copy()
        for ahead, behind, alike in ((np.s_[:, 1:], np.s_[:, :-1], across), (np.s_[1:], np.s_[:-1], down)):
            for to, source in ((ahead, behind), (behind, ahead)):
                total[to] += alike[..., None] * value[source]
                share[to] += alike * mass[source]
                np.maximum(strongest[to], alike * mass[source], out=strongest[to])
        mass = np.where(known, 1, strongest).astype(np.float32)
        mean = total / np.maximum(share, 1e-12)[..., None]
        value = np.where(known[..., None], fixed, mean * mass[..., None]).astype(np.float32)
    spread = resize(value / np.maximum(mass, 1e-12)[..., None], trusted.shape)
    reached = resize(mass[..., None], trusted.shape)[..., 0] > 1e-3
    return np.where((trusted | ~reached)[..., None], motion, spread).astype(np.float32)
