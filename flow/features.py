"""Places of two frames that look alike, however far apart in time the frames are.

Features (DINO's, or SIFT's) of places all over a frame are matched with those of another. A match has to be mutual;
alike enough; not of a texture that repeats; and its neighbours have to match likewise. Places of a grid are coarse: a
match is then made exact by the patch around it, where that is seen again.

Conventions: n places of a frame at points (n, 2), (x, y) in pixels with integer centres; features (n, C) of length 1.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

from flow.appearance import DinoAppearance
from flow.images import enlarge, luminance
from flow.point_tracks import PointSettings
from util import BoundedCache

MOST_KEYPOINTS = 2000  # of a frame: the strongest
LEAST_CONTRAST = 2.0  # levels, standard deviation: plain patches are found anywhere
PLACES_BYTES, IMAGE_BYTES = 2**29, 2**27  # that are kept of a video's frames, in each process


@dataclass(frozen=True)
class MatchSettings:
    """Which matches are kept. Lengths are in spacings: what lies between a place and the next."""

    similarity: float = 0.75  # least cosine
    most_alike: float = 0.05  # of a frame's places: what looks like more of them is of a texture that repeats
    near: float = 4.0  # spacings: places so near ...
    agree: float = 1.5  # ... have motions that differ by no more spacings, where they move alike
    correlation: float = 0.5  # of a patch that is seen again, at least
    coarse_weight: float = 0.3  # of a match that stays coarse, where an exact one has 1


OF_KEYPOINTS = PointSettings(reach=0.04)  # there are many: none has to reach far
OF_SIFT = MatchSettings(most_alike=1.0)  # a keypoint has several angles, all alike


class Places:
    """Places of one frame: points (n, 2), features (n, C). spacing: pixels; exact: no search would do better."""

    def __init__(self, points, features, spacing, exact=False, settings=MatchSettings()):
        self.points, self.spacing, self.exact = np.asarray(points, np.float32), float(spacing), exact
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        self.features = (features / lengths.clip(1e-6)).astype(np.float32)  # a feature of zeros is like no other
        alike = (self.features @ self.features.T > settings.similarity).sum(1)
        self.distinct = alike <= max(1, settings.most_alike * len(self.points))
        self.nbytes = self.points.nbytes + self.features.nbytes


class DinoPlaces:
    """Describes a frame by the patch features of a DINO network in a folder.

    least_apart: frames that are matched; quick: it pickles, and is so quick that each of several processes may do it.
    """

    least_apart, quick = 2, False  # between adjacent ones flow is more exact than cells
    name, settings, motions = "DINO", MatchSettings(), PointSettings()

    def __init__(self, folder, device="cpu"):
        self.appearance = DinoAppearance(folder, device, "--features")
        self.description = self.appearance.description

    def __call__(self, i, frame):
        """Places of frame i, uint8 (H, W, 3): the middles of the network's patches."""
        return places_of_map(self.appearance(frame).map.float().cpu().numpy(), frame.shape[:2], self.settings)


class SiftPlaces:
    """Describes a frame by its SIFT keypoints: no weights, and less is found."""

    name = "SIFT"
    least_apart, quick = 1, True
    share = 1 / 32  # of the longer side: taken for the spacing

    description = {"method": "sift"}

    def __init__(self, motions=OF_KEYPOINTS, settings=OF_SIFT):
        self.motions, self.settings = motions, settings

    def __call__(self, i, frame):
        """Places of frame i, uint8 (H, W, 3)."""
        enlarged = 2 if max(frame.shape) < 640 else 1
        points, features = find_keypoints(enlarge(luminance(frame), enlarged), enlarged)
        return Places(points, features, self.share * max(frame.shape), True, self.settings)


class Matches:
    """Matches between any two of some frames, found when they are asked for.

    frames: a sequence of uint8 (H, W, 3); describe: see SiftPlaces. It pickles where they do.
    """

    def __init__(self, frames, describe):
        self.frames, self.describe = frames, describe
        self.places = BoundedCache(lambda i: describe(i, frames[i]), PLACES_BYTES)
        self.images = BoundedCache(lambda i: luminance(frames[i]), IMAGE_BYTES)

    def __reduce__(self):
        return Matches, (self.frames, self.describe)

    def between(self, i, j):
        """points_1 (n, 2), points_2 (n, 2), weight (n,), as loaders.evidence.Evidence has them."""
        images = self.images[i], self.images[j]
        points, weight = correspondences(self.places[i], self.places[j], images, self.describe.settings)
        return points[:, 0], points[:, 1], weight


def find_keypoints(image, factor):
    """SIFT keypoints of an image (uint8), which is the frame enlarged by `factor` -> points (n, 2), features (n, 128).

    Lowe, "Distinctive image features from scale-invariant keypoints" (IJCV 2004); weak ones and those on edges
    are kept, too, as neighbours tell which of their matches are wrong.
    """
    detector = cv2.SIFT_create(MOST_KEYPOINTS, contrastThreshold=0, edgeThreshold=1e6, enable_precise_upscale=True)
    found, features = detector.detectAndCompute(image, None)
    if not found:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    points = (np.float32([point.pt for point in found]) + 0.5) / factor - 0.5
    return points, np.sqrt(features / features.sum(1, keepdims=True).clip(1))  # Arandjelović and Zisserman, CVPR 2012


def places_of_map(features, size, settings=MatchSettings()):
    """Places of a feature map (h, w, C) whose cells tile a frame of size (H, W)."""
    rows, columns = features.shape[:2]
    cell = size[1] / columns, size[0] / rows
    x, y = np.meshgrid((np.arange(columns) + 0.5) * cell[0] - 0.5, (np.arange(rows) + 0.5) * cell[1] - 0.5)
    return Places(np.stack([x, y], -1).reshape(-1, 2), features.reshape(rows * columns, -1), max(cell),
                  settings=settings)


def match(first, second, settings=MatchSettings()):
    """Places of two frames that look alike and whose neighbours do: two arrays of rows (m,)."""
    if not len(first.points) or not len(second.points):
        return np.zeros((2, 0), int)
    alike = first.features @ second.features.T
    nearest = alike.argmax(1)
    rows = np.arange(len(nearest))
    mutual = alike.argmax(0)[nearest] == rows
    kept = mutual & (alike[rows, nearest] > settings.similarity) & first.distinct & second.distinct[nearest]
    rows, partners = rows[kept], nearest[kept]
    supported = support(first.points[rows], second.points[partners], first.spacing, settings)
    return rows[supported], partners[supported]


def support(start, end, spacing, settings=MatchSettings()):
    """bool (m,): another match near to where one starts (m, 2) moves as it does, to where it ends (m, 2)."""
    if not len(start):
        return np.zeros(0, bool)
    first, second = cKDTree(start).query_pairs(settings.near * spacing, output_type="ndarray").reshape(-1, 2).T
    motion = end - start
    agree = np.linalg.norm(motion[first] - motion[second], axis=-1) < settings.agree * spacing
    agree &= (start[first] != start[second]).any(-1)  # a keypoint of several angles is no neighbour of itself
    return np.bincount(np.concatenate([first[agree], second[agree]]), minlength=len(start)) > 0


def correspondences(first, second, images, settings=MatchSettings()):
    """What looks alike in two frames -> points (m, 2, 2) in both, weight (m,). images: luminance of both, (H, W)."""
    rows, partners = match(first, second, settings)
    start, end = first.points[rows], second.points[partners]
    found = np.ones(len(rows), bool)
    if not first.exact:
        whole = np.rint(start)
        end, found = search(*images, whole, end + whole - start, first.spacing, settings)
        start = whole
    size = np.array(images[0].shape[::-1])
    inside = ((end >= -0.5) & (end <= size - 0.5)).all(-1)
    weight = np.where(found, 1, settings.coarse_weight)
    return np.stack([start, end], 1)[inside], weight[inside]


def search(first, second, start, end, spacing, settings=MatchSettings()):
    """Ends (m, 2), each moved to where the patch around its start, a pixel of `first`, is seen near it in `second`.

    A patch is what lies nearer to its place than to the next, and searched up to the next places: cells that match may
    be off by half a spacing on either side.

    -> ends, to a fraction of a pixel where that is found; bool (m,): whether it is.
    """
    half, reach = max(2, round(spacing / 2)), max(1, round(spacing))
    pad = half + reach
    first, second = (cv2.copyMakeBorder(image, *(pad,) * 4, cv2.BORDER_REPLICATE) for image in (first, second))
    limit = np.array(first.shape[::-1]) - 2 * pad - 1
    end, found = end.copy(), np.zeros(len(start), bool)
    for k, ((x, y), (u, v)) in enumerate(zip(start.astype(int), np.rint(end).astype(int).clip(0, limit))):
        patch = first[y + reach : y + pad + half + 1, x + reach : x + pad + half + 1]
        if patch.std() < LEAST_CONTRAST:
            continue
        window = second[v : v + 2 * pad + 1, u : u + 2 * pad + 1]
        score = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
        row, column = np.unravel_index(score.argmax(), score.shape)
        if score[row, column] >= settings.correlation and {row, column}.isdisjoint({0, 2 * reach}):  # no border
            seen = window[row : row + 2 * half + 1, column : column + 2 * half + 1]
            end[k], found[k] = (u + column - reach, v + row - reach) + rest(patch, seen), True
    return end, found


def rest(patch, seen):
    """What is left (x, y), at most a pixel, of the way of a patch (h, w) to where it is nearly seen.

    One step of Gauss-Newton, with gain and offset of the brightness.
    """
    seen = seen.astype(np.float64)
    down, across = np.gradient(seen)
    basis = np.stack([across, down, seen, np.ones_like(seen)]).reshape(4, -1).T
    x, y, gain, _ = np.linalg.lstsq(basis, patch.ravel(), rcond=1e-6)[0]
    return np.clip(np.array([x, y]) / max(gain, 0.1), -1, 1)
