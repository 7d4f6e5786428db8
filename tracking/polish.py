"""Tracks moved by fractions of a pixel to where the original frames show the point: a last pass, at full resolution.

Tracks come from frames that were scaled down, and are precise to a fraction of *their* pixels. Here a patch around the
query is aligned with the original frame around each place of its track (Lucas and Kanade's least squares, inverse
compositional as Baker and Matthews have it: the slopes are the patch's, so they are computed once, and the frame is
warped). First the place alone is found, with a larger, more blurred patch, then place and affine shape together; the
shape starts as it was in the frame before, frame by frame outwards from the query. As it is the query's patch that is
aligned, errors do not add up. Where it fits badly, so is a patch from the last frame in which one fitted, and the
better of both stands.

Patches are compared with mean 0 and norm 1, so that exposure has no effect. A weak penalty holds each place where
the track has it, and of a move only those directions count in which the patch changes clearly for how well it fits:
along an edge, or where there is no texture, a place stays, whatever noise there is. So does one where nothing fits, or
that would move far, and so do hidden places and the query.

Conventions: pixels (x, y) with integer centres in the original frame (H, W). Lengths in settings are in pixels of the
processed size, which are `scale` of these. N frames; q points, n samples of a patch; places (q, 2); shapes (q, 2, 2)
take a patch's offsets (n, 2) to the frame's. float32.
"""

import tempfile
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from util import BoundedCache, inside_image


@dataclass(frozen=True)
class PolishSettings:
    """What was tuned, on scenes with depth (benchmarks/NOTES.md). Lengths in pixels of the processed size."""

    reach: float = 2.5  # px: half the side of a patch; what would move further stays
    least_reach: float = 4.0  # px of the original: the same at least, as fewer show too little
    least_match: float = 0.9  # normalised cross-correlation of patch and frame: below it a newer patch is tried, too
    stiffness: float = 0.004  # per px squared: of a place against the difference to a patch of norm 1
    doubt: float = 10.0  # of a direction: what a move along it must change, per px squared and per 1 - correlation


SETTINGS = PolishSettings()
SAMPLES = 15  # along the side of a patch
RIDGE = 1e-6  # of shapes, against the same: so that plain patches have one
COARSE = 1.5  # the patch that finds the place first is so much larger
STEPS = {False: 6, True: 6}  # of places alone, of places and shapes
WIDTH = 0.6  # of a patch's Gaussian weights, in its half sides
LARGEST_BEND = 0.3  # of a shape in one step, so that it keeps an inverse
LARGEST_ZOOM = 16.0  # of a patch's area, either way: beyond it a shape has degenerated
BLURRED_BYTES = 2**29


@dataclass(frozen=True)
class Level:
    """How patches are sampled: offsets (n, 2) in pixels, weights (n,), and the blur of the frame before."""

    half: float
    offsets: torch.Tensor
    weights: torch.Tensor
    blur: float

    @classmethod
    def of(cls, half, samples):
        along = torch.linspace(-half, half, samples)
        offsets = torch.stack(torch.meshgrid(along, along, indexing="xy"), -1).reshape(-1, 2)
        weights = torch.exp(-offsets.square().sum(-1) / (2 * (WIDTH * half) ** 2))
        return cls(half, offsets, weights, blur=half / (samples - 1))  # half the distance of two samples

    @classmethod
    def both(cls, scale, settings):
        """The coarse and the fine one."""
        half = max(settings.reach * scale, settings.least_reach)
        return [cls.of(COARSE * half, SAMPLES), cls.of(half, SAMPLES)]


@dataclass
class Patches:
    """What q points look like: values (q, n), of mean 0 and norm 1 by their weights (q, n), and slopes (q, n, 2)."""

    values: torch.Tensor
    slopes: torch.Tensor
    weights: torch.Tensor

    def __getitem__(self, rows):
        return Patches(self.values[rows], self.slopes[rows], self.weights[rows])

    def put(self, rows, other):
        self.values[rows], self.slopes[rows], self.weights[rows] = other.values, other.slopes, other.weights


@dataclass
class Looks:
    """Patches of q points at both levels, and the shapes (q, 2, 2) that they had in the latest frame they fitted."""

    patches: list
    shapes: torch.Tensor

    @classmethod
    def at(cls, images, places, levels):
        """Those around places (q, 2) of a frame."""
        patches = [take(image, places, level) for image, level in zip(images, levels)]
        return cls(patches, torch.eye(2).repeat(len(places), 1, 1))

    def __getitem__(self, rows):
        return Looks([patches[rows] for patches in self.patches], self.shapes[rows])

    def put(self, rows, other):
        for mine, others in zip(self.patches, other.patches):
            mine.put(rows, others)
        self.shapes[rows] = other.shapes


class Plates:
    """The original frames (uint8 RGB), grey, in a temporary file: any length fits. plates[i, blur]: float (H, W)."""

    def __init__(self, frames):
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 it is closed, and so deleted, with this object
        self.num_frames, self.size = 0, None
        for frame in frames:
            self.file.write(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY).data)
            self.num_frames, self.size = self.num_frames + 1, frame.shape[:2]
        self.file.flush()
        self.grey = np.memmap(self.file, np.uint8, "r", shape=(self.num_frames, *self.size))
        self.blurred = BoundedCache(self.blur, BLURRED_BYTES)

    def blur(self, key):
        i, width = key
        return torch.from_numpy(cv2.GaussianBlur(self.grey[i].astype(np.float32), (0, 0), width))

    def __getitem__(self, key):
        return self.blurred[key]


def sample(image, places):
    """Bilinear values (...) of an image (H, W) at places (..., 2); beyond its border those of the border."""
    size = places.new_tensor([max(image.shape[1] - 1, 1), max(image.shape[0] - 1, 1)])
    grid = (places / size * 2 - 1).reshape(1, 1, -1, 2)
    values = F.grid_sample(image[None, None], grid, padding_mode="border", align_corners=True)
    return values.reshape(places.shape[:-1])


def normalised(values, weights):
    """Values (q, n) shifted and scaled to weighted mean 0 and norm 1, and the scale (q, 1). Constant ones become 0."""
    values = values - (weights * values).sum(-1, keepdim=True)
    norm = (weights * values.square()).sum(-1, keepdim=True).sqrt().clamp_min(1e-3)  # grey levels: below is rounding
    return values / norm, norm


def take(image, places, level):
    """The Patches of an image around places (q, 2); what is outside the image has no weight."""
    at = places[:, None] + level.offsets
    weights = level.weights * inside_image(at, *image.shape)
    weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-6)  # all outside: 0
    values, norm = normalised(sample(image, at), weights)
    right, down = torch.eye(2) / 2
    slopes = [sample(image, at + half) - sample(image, at - half) for half in (right, down)]
    return Patches(values, torch.stack(slopes, -1) / norm[..., None], weights)


def found(image, weights, places, shapes, level):
    """What an image (H, W) shows at places (q, 2) in shapes (q, 2, 2): normalised values (q, n)."""
    return normalised(sample(image, places[:, None] + level.offsets @ shapes.transpose(1, 2)), weights)[0]


def descent(patches, level, bends):
    """(q, n, 2 or 6): how values change with the place (per pixel) and, if it bends, the shape (per half side).

    Without what a change of mean and norm would explain.
    """
    change, weights, values = patches.slopes, patches.weights[..., None], patches.values[..., None]
    if bends:
        change = torch.cat([change, (change[..., None] * (level.offsets / level.half)[:, None]).flatten(2)], -1)
    change = change - (weights * change).sum(1, keepdim=True)
    return change - values * (weights * values * change).sum(1, keepdim=True)


def align(image, patches, track, places, shapes, level, stiffness, bends):
    """Patches aligned with an image, beginning at places and shapes -> places (q, 2), shapes (q, 2, 2), match (q,).

    track (q, 2): where the penalty holds the places. bends: shapes are fitted too. match: -1 to 1.
    """
    change = descent(patches, level, bends)
    weighted = change * patches.weights[..., None]
    stiff = torch.tensor([stiffness] * 2 + [RIDGE] * (change.shape[-1] - 2))
    system = torch.einsum("qnk,qnl->qkl", weighted, change) + torch.diag(stiff)
    for _ in range(STEPS[bends]):
        difference = found(image, patches.weights, places, shapes, level) - patches.values
        wanted = torch.einsum("qnk,qn->qk", weighted, difference)
        wanted[:, :2] += stiffness * torch.einsum("qij,qj->qi", torch.linalg.inv(shapes), places - track)
        step = torch.linalg.solve(system, wanted)
        places = places - torch.einsum("qij,qj->qi", shapes, step[:, :2])
        if bends:
            bend = (step[:, 2:] / level.half).unflatten(1, (2, 2)).clamp(-LARGEST_BEND, LARGEST_BEND)
            shapes = shapes @ torch.linalg.inv(torch.eye(2) + bend)
    match = patches.weights * found(image, patches.weights, places, shapes, level) * patches.values
    return places, shapes, match.sum(-1)


def certain(patches, moves, match, level, scale, settings):
    """Moves (q, 2) but for their part along directions in which a patch is plain, for how well it fits."""
    change = descent(patches, level, bends=False)
    structure = torch.einsum("qnk,qn,qnl->qkl", change, patches.weights, change)
    strength, axes = torch.linalg.eigh(structure)
    clear = strength * scale**2 > settings.doubt * (1 - match)[:, None]
    return torch.einsum("qij,qj->qi", axes, torch.einsum("qij,qi->qj", axes, moves) * clear)


def fit(images, looks, track, levels, scale, settings):
    """Looks found in a frame near its track (q, 2) -> places (q, 2), shapes (q, 2, 2), match (q,): -1 if too far."""
    (coarse, fine), stiffness = looks.patches, settings.stiffness / scale**2
    places, _, _ = align(images[0], coarse, track, track, looks.shapes, levels[0], stiffness, bends=False)
    near = torch.linalg.norm(places - track, dim=-1) <= levels[1].half
    start = torch.where(near[:, None], places, track)
    places, shapes, match = align(images[1], fine, track, start, looks.shapes, levels[1], stiffness, bends=True)
    near = torch.linalg.norm(places - track, dim=-1) <= levels[1].half
    places = track + certain(fine, places - track, match, levels[1], scale, settings)
    sound = (torch.linalg.det(shapes).log().abs() < np.log(LARGEST_ZOOM)) & match.isfinite()
    return places, shapes, torch.where(near & sound, match, -1.0)


def follow(plates, frame, tracks, seen, scale, settings=SETTINGS):
    """Tracks (q, N, 2) of queries in one frame, polished where they are `seen` (q, N) -> tracks, polished (q, N)."""
    levels, tracks, polished = Level.both(scale, settings), tracks.clone(), torch.zeros_like(seen)

    def images_of(i):
        return [plates[i, level.blur] for level in levels]

    for order in (range(frame + 1, plates.num_frames), range(frame - 1, -1, -1)):
        query, latest = (Looks.at(images_of(frame), tracks[:, frame], levels) for _ in range(2))
        for target in order:
            rows, images = torch.where(seen[:, target])[0], images_of(target)
            if not len(rows):
                continue
            track = tracks[rows, target]
            places, shapes, match = fit(images, query[rows], track, levels, scale, settings)
            fits = match > settings.least_match
            query.shapes[rows[fits]] = shapes[fits]
            weak = torch.where(~fits)[0]
            if len(weak):
                newer, _, newer_match = fit(images, latest[rows[weak]], track[weak], levels, scale, settings)
                better = newer_match > match[weak]
                places[weak[better]], match[weak[better]] = newer[better], newer_match[better]
            fits = match > settings.least_match
            tracks[rows[fits], target], polished[rows[fits], target] = places[fits], True
            latest.put(rows[fits], Looks.at(images, places[fits], levels))
    return tracks, polished


@torch.no_grad()
def polish(tracks, plates, settings=SETTINGS, progress=None):
    """Polish Tracks (see tracking.tracks_file) in place, where they are not occluded, on the Plates of their video.

    Returns: bool (Q, N), which positions were. progress: called with the number of positions done.
    """
    assert (plates.num_frames, *plates.size) == (tracks.tracks.shape[1], *tracks.video_size), plates.size
    scale = tracks.video_size[1] / tracks.frame_size[1]
    frames, seen = tracks.query_points[:, 0].astype(int), torch.from_numpy(~tracks.occluded)
    places, polished = torch.from_numpy(tracks.tracks).float() - 0.5, np.zeros(tracks.occluded.shape, bool)
    for frame in np.unique(frames):
        rows = np.flatnonzero(frames == frame)
        found_at, fits = follow(plates, int(frame), places[rows], seen[rows], scale, settings)
        polished[rows] = fits.numpy()
        tracks.tracks[rows] = np.where(polished[rows, :, None], found_at.numpy() + 0.5, tracks.tracks[rows])
        if progress is not None:
            progress(fits.numel())
    return polished
