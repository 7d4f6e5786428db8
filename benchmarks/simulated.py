"""Evidence as others might give it, made from the truth of a scene, and made worse: tracks, features, depth."""

import numpy as np

from flow.features import MatchSettings, places_of_map
from flow.point_tracks import PointSettings
from util import atomic_path

AT = 256  # pixels of the longer side, in which noise is given
POINTS, OWN_SEED = 256, 777  # of a tracker


def simulated_tracks(scene, count=POINTS, noise=1.5, outliers=0.1, wrong=0.15, dropped=0.0, seed=OWN_SEED):
    """What a tracker might say of a scene -> positions (Q, N, 2) in raster pixels, visible (Q, N), queries (Q, 3).

    Queries are t, y, x. noise: standard deviation, pixels at AT. outliers: this share of positions is grossly wrong,
    half of them anywhere in the frame, half because a whole track follows another point's motion. wrong: share of
    visibility that is flipped. dropped: this share of tracks ends after a quarter of the frames, on either side, and is
    said to be hidden from there on. Where a track is queried it is right.
    """
    truth, random = scene.ground_truth(count, seed=seed), np.random.default_rng(seed)
    queries, positions = truth["query_points"], truth["target_points"].astype(float)
    rows, frames = np.arange(count), queries[:, 0].astype(int)
    height, width = truth["video_size"]
    moved = positions - positions[rows, frames][:, None]
    led_astray = random.random(count) < outliers / 2
    positions[led_astray] += (moved[random.permutation(count)] - moved)[led_astray]
    positions += random.normal(0, noise * max(height, width) / AT, positions.shape)
    anywhere = random.random(positions.shape[:2]) < outliers / 2
    positions[anywhere] = (random.random(positions.shape) * [width, height])[anywhere]
    visible = ~truth["occluded"] ^ (random.random(positions.shape[:2]) < wrong)
    away = np.abs(np.arange(positions.shape[1]) - frames[:, None])
    visible &= (random.random(count) >= dropped)[:, None] | (away <= positions.shape[1] / 4)
    positions[rows, frames], visible[rows, frames] = queries[:, [2, 1]], True
    return positions, visible, queries


class PlantedFeatures:
    """Describes frames of a scene as an ideal network would: each cell by random vectors of the surface seen there.

    Points all over the surfaces, those under the cells of all frames, have a random vector each; a cell's is the sum of
    those that are seen around it, of its own surface, near ones most. wrong: this share of cells has that of another.
    """

    name, settings, motions, least_apart, quick = "planted", MatchSettings(), PointSettings(), 2, False

    def __init__(self, scene, stride=8, wrong=0.2, length=128, spread=0.75, seed=0):
        """spread: standard deviation of what a cell sees, in strides."""
        self.scene, self.stride, self.wrong, self.spread = scene, stride, wrong, spread
        self.description = {"planted": scene.name, "stride": stride, "wrong": wrong, "spread": spread, "seed": seed}
        self.grid = -(-scene.height // stride), -(-scene.width // stride)
        tracks = [scene.tracks(frame, self.middles()) for frame in range(scene.num_frames)]
        self.positions, self.visible = (np.concatenate(parts) for parts in zip(*tracks))  # (A, N, 2), (A, N)
        self.surface = np.concatenate([self.surfaces(frame) for frame in range(scene.num_frames)])
        self.random = np.random.default_rng(seed)
        self.vectors = self.random.normal(size=(len(self.surface), length))

    def middles(self):
        """(n, 2) pixels of the cells' middles."""
        x, y = ((np.arange(count) + 0.5) * side / count - 0.5
                for count, side in zip(self.grid[::-1], (self.scene.width, self.scene.height)))
        return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)

    def surfaces(self, frame):
        """(n,) which surface is at the cells' middles."""
        top = self.scene.top_layer(frame, self.middles())
        return self.scene.ids_of(top) if hasattr(self.scene, "ids_of") else top

    def __call__(self, i, frame):
        away = np.linalg.norm(self.middles()[:, None] - self.positions[None, :, i], axis=-1) / self.stride
        weight = np.exp(-np.square(away / self.spread) / 2) * self.visible[:, i]
        weight *= self.surfaces(i)[:, None] == self.surface
        features = weight @ self.vectors
        random = np.random.default_rng([i, len(self.surface)])
        wrong = random.random(len(features)) < self.wrong
        features[wrong] = features[random.permutation(len(features))][wrong]
        return places_of_map(features.reshape(*self.grid, -1), frame.shape[:2], self.settings)


def write_depth(folder, scene, wrong, block=8):
    """True depth of each frame, upside down within this share of its blocks."""
    random = np.random.default_rng(OWN_SEED)
    for index in range(scene.num_frames):
        depth = scene.depth(index)
        turned = random.random((-(-scene.height // block), -(-scene.width // block))) < wrong
        turned = turned.repeat(block, 0).repeat(block, 1)[: scene.height, : scene.width]
        with atomic_path(folder / f"{index:05d}.npy") as temporary:
            np.save(temporary, np.where(turned, depth.min() + depth.max() - depth, depth))
    return folder
