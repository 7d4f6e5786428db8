"""Layered synthetic scenes with exact ground truth, for the tests, the demo and the benchmarks.

    python -m benchmarks.scenes demo --out runs/demo        # frames, video, ground truth, masks

A scene is a stack of textured layers, farthest first. Each layer has an invertible map frame -> texture at every
frame, so a point's track is continuous and exact: frame i -> texture -> frame j. A point is visible where no nearer
layer covers it and it is inside the frame.

Conventions: pixels (x, y), integer at centres, inside this module; files are written at +0.5 (raster coordinates).
World units: image heights, origin at the image's centre. s is the progress of time in [0, 1].
N frames, H height, W width, n points.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from flow.estimator import Estimator
from loaders.data_dir import write_image
from util import UserError, atomic_path, command

TEXELS = 768  # side of a texture image
SUPERSAMPLING = 3  # rays per pixel side; a pixel is their mean
INVERSION_STEPS = 60  # fixed-point steps; the warps contract by at least 0.5 a step, so 60 reach float64 accuracy
BENCHMARK_KINDS = ("slow", "fast", "occlusion", "camera", "nonrigid", "thin", "textureless")
KINDS = (*BENCHMARK_KINDS, "demo")

PALETTES = [
    [(0.98, 0.93, 0.80), (0.93, 0.42, 0.28), (0.55, 0.12, 0.24)],
    [(0.99, 0.97, 0.88), (0.98, 0.76, 0.22), (0.72, 0.34, 0.08)],
    [(0.92, 0.98, 0.90), (0.36, 0.72, 0.46), (0.07, 0.31, 0.30)],
    [(0.98, 0.92, 0.97), (0.75, 0.42, 0.76), (0.28, 0.14, 0.45)],
    [(0.95, 0.98, 0.99), (0.33, 0.66, 0.86), (0.08, 0.22, 0.46)],
]
BACKGROUNDS = [
    [(0.86, 0.90, 0.88), (0.50, 0.66, 0.70), (0.22, 0.36, 0.46)],
    [(0.90, 0.88, 0.80), (0.62, 0.66, 0.54), (0.30, 0.40, 0.36)],
    [(0.88, 0.86, 0.90), (0.60, 0.60, 0.72), (0.30, 0.32, 0.48)],
]
WOOD = [(0.60, 0.42, 0.28), (0.42, 0.27, 0.17), (0.22, 0.13, 0.09)]


# ---------------------------------------------------------------- textures: (TEXELS, TEXELS, 3) float32 in [0, 1]


def fractal_noise(rng, roughness=1.7, stretch=(1.0, 1.0)):
    """(TEXELS, TEXELS) periodic noise with spectrum 1 / |f|^roughness, about uniform in [0, 1]."""
    fy = np.fft.fftfreq(TEXELS)[:, None] * TEXELS * stretch[1]
    fx = np.fft.rfftfreq(TEXELS)[None] * TEXELS * stretch[0]
    amplitude = (np.hypot(fx, fy) + 2.0) ** -roughness
    phases = rng.uniform(0, 2 * np.pi, amplitude.shape)
    noise = np.fft.irfft2(amplitude * np.exp(1j * phases), s=(TEXELS, TEXELS))
    return (0.5 + 0.5 * np.tanh(0.8 * noise / noise.std())).astype(np.float32)  # about the normal distribution's CDF


def colourise(values, palette):
    """Values (..., ) in [0, 1] through a palette of colours at equal steps -> (..., 3)."""
    steps = np.linspace(0, 1, len(palette))
    return np.stack([np.interp(values, steps, [colour[c] for colour in palette]) for c in range(3)], -1).astype(
        np.float32
    )


def texel_grid(extent):
    """(TEXELS, TEXELS, 2) texture coordinates of the texel centres of a tile of side `extent` around the origin."""
    axis = ((np.arange(TEXELS) + 0.5) / TEXELS - 0.5) * extent
    return np.stack(np.meshgrid(axis, axis), axis=-1)


def background_texture(rng, extent):
    """Fractal ground strewn with soft-coloured discs, rings and squares; periodic."""
    texture = colourise(fractal_noise(rng), BACKGROUNDS[rng.integers(len(BACKGROUNDS))])
    reach = int(0.13 * TEXELS / extent)  # texels: a shape's stamp is a window of 2 reach + 1
    steps = np.arange(-reach, reach + 1)
    offset = np.stack(np.meshgrid(steps, steps), -1) * extent / TEXELS
    for _ in range(int(9 * extent**2)):
        window = np.ix_(*((steps + centre) % TEXELS for centre in rng.integers(TEXELS, size=2)))
        radius, angle = rng.uniform(0.03, 0.09), rng.uniform(0, np.pi)
        square, disc_distance = np.abs(rotate(offset, angle)).max(-1), np.hypot(offset[..., 0], offset[..., 1])
        distance = square if rng.random() < 0.4 else disc_distance
        inside = (distance < radius) & (distance > (0.6 * radius if rng.random() < 0.35 else -1))
        colour = np.array(PALETTES[rng.integers(len(PALETTES))][rng.integers(3)], np.float32)
        texture[window] += 0.55 * inside[..., None] * (colour - texture[window])
    return texture * (0.85 + 0.3 * fractal_noise(rng, 1.1)[..., None])


def sprite_texture(rng, palette, shape, extent, pattern):
    """A patterned, lightly shaded sprite with a dark rim. pattern: stripes, dots, marble or plain (one colour)."""
    grid = texel_grid(extent)
    if pattern == "plain":
        return np.broadcast_to(np.array(palette[1], np.float32), (TEXELS, TEXELS, 3)).copy()
    if pattern == "stripes":
        bent = rotate(grid, rng.uniform(0, np.pi))[..., 0] / 0.085 + 0.5 * fractal_noise(rng, 2.5)
        values = np.where(bent % 1 < 0.5, 0.15, 0.75)
    elif pattern == "dots":
        cells = rotate(grid, rng.uniform(0, np.pi)) / 0.085
        values = np.where(np.hypot(*np.moveaxis(cells % 1 - 0.5, -1, 0)) < 0.3, 0.1, 0.7)
    else:
        values = fractal_noise(rng, 1.9)
    texture = colourise(0.75 * values + 0.25 * fractal_noise(rng, 1.5), palette)
    light = 1.0 - 0.5 * (grid @ np.array([0.6, 0.8])) / extent
    distance = shape(grid)[..., None]
    rim = np.clip((distance + 0.014) / 0.004, 0, 1)
    return texture * light[..., None].astype(np.float32) * (1 - 0.75 * rim).astype(np.float32)


def lookup(texture, uv, extent):
    """Bilinear, periodic look-up of a tile of side `extent` at uv (..., 2) -> (..., 3) float32."""
    texel = (uv / extent + 0.5) * TEXELS - 0.5
    low = np.floor(texel).astype(np.int32)
    fraction = (texel - low).astype(np.float32)[..., None]
    (x0, y0), (x1, y1) = (np.moveaxis((low + step) % TEXELS, -1, 0) for step in (0, 1))
    fx, fy = fraction[..., 0, :], fraction[..., 1, :]
    top = texture[y0, x0] * (1 - fx) + texture[y0, x1] * fx
    bottom = texture[y1, x0] * (1 - fx) + texture[y1, x1] * fx
    return top * (1 - fy) + bottom * fy


# ---------------------------------------------------------------- shapes: uv (..., 2) -> (...), negative inside


def disc(radius):
    return lambda uv: np.hypot(uv[..., 0], uv[..., 1]) - radius


def polar(radius, lobes, depth, phase=0.0):
    """A flower or rounded star: the radius swings by `depth` of itself `lobes` times around."""

    def shape(uv):
        angle = np.arctan2(uv[..., 1], uv[..., 0])
        return np.hypot(uv[..., 0], uv[..., 1]) - radius * (1 + depth * np.cos(lobes * angle + phase))

    return shape


def box(half_width, half_height, rounding=0.0):
    """A rounded rectangle; a half side may be infinite."""

    def shape(uv):
        outside = np.abs(uv) - np.array([half_width, half_height]) + rounding
        return np.hypot(*np.moveaxis(np.maximum(outside, 0), -1, 0)) + np.minimum(outside.max(-1), 0) - rounding

    return shape


def wheel(radius, spokes, thickness):
    """A thin ring with thin spokes."""

    def shape(uv):
        distance = np.hypot(uv[..., 0], uv[..., 1])
        ring = np.abs(distance - radius) - thickness / 2
        for k in range(spokes):
            across, along = np.moveaxis(np.abs(rotate(uv, np.pi * k / spokes)), -1, 0)
            ring = np.minimum(ring, np.maximum(across - thickness / 2, along - radius))
        return ring

    return shape


def rake(half_length, half_width, rods, thickness):
    """Parallel thin rods joined by a cross bar."""

    def shape(uv):
        centres = np.linspace(-half_width, half_width, rods)
        across = np.abs(uv[..., 0, None] - centres).min(-1)
        bars = np.maximum(across - thickness / 2, np.abs(uv[..., 1]) - half_length)
        joint = np.maximum(np.abs(uv[..., 1]) - thickness / 2, np.abs(uv[..., 0]) - half_width)
        return np.minimum(bars, joint)

    return shape


# ---------------------------------------------------------------- motion


def rotate(points, angle):
    """Rotate (..., 2) points by `angle` (x towards y)."""
    c, s = np.cos(angle), np.sin(angle)
    return points @ np.array([[c, s], [-s, c]])


@dataclass(frozen=True)
class Similarity:
    """source -> target at progress s: centre(s) + scale(s) * R(angle(s)) source."""

    centre: Callable = lambda s: np.zeros(2)
    angle: Callable = lambda s: 0.0
    scale: Callable = lambda s: 1.0

    def apply(self, points, s):
        return self.centre(s) + self.scale(s) * rotate(points, self.angle(s))

    def invert(self, points, s):
        return rotate((points - self.centre(s)) / self.scale(s), -self.angle(s))


@dataclass(frozen=True)
class Warp:
    """Smooth non-rigid map q -> q + d(q, s); d is a sum of moving sine waves, Lipschitz with `strength` < 0.5."""

    directions: np.ndarray  # (waves, 2) unit vectors of displacement
    frequencies: np.ndarray  # (waves, 2) radians a unit
    phases: np.ndarray  # (waves,)
    speeds: np.ndarray  # (waves,) radians over the whole video
    strength: float

    def displacement(self, points, s):
        waves = np.sin(points @ self.frequencies.T + self.phases + self.speeds * s)
        amplitude = self.strength / len(self.phases) / np.linalg.norm(self.frequencies, axis=1)
        return (waves * amplitude) @ self.directions

    def apply(self, points, s):
        return points + self.displacement(points, s)

    def invert(self, points, s):
        """Fixed point of q = points - d(q): converges as strength^steps."""
        q = points
        for _ in range(INVERSION_STEPS):
            q = points - self.displacement(q, s)
        return q


def random_warp(rng, strength, wavelength, waves=3):
    angles, turns = rng.uniform(0, 2 * np.pi, (2, waves))
    lengths = 2 * np.pi / (wavelength * rng.uniform(0.8, 1.3, waves))
    return Warp(
        directions=np.stack([np.cos(turns), np.sin(turns)], -1),
        frequencies=np.stack([np.cos(angles), np.sin(angles)], -1) * lengths[:, None],
        phases=rng.uniform(0, 2 * np.pi, waves),
        speeds=rng.choice([-1, 1], waves) * rng.uniform(3, 7, waves),
        strength=strength,
    )


def sway(start, end, bob=0.0, cycles=1.0, phase=0.0):
    """A path from start to end, eased a little, that bobs up and down."""
    start, end = np.asarray(start, float), np.asarray(end, float)

    def centre(s):
        eased = s + 0.08 * math.sin(2 * math.pi * s)
        return start + (end - start) * eased + np.array([0.0, bob * math.sin(2 * math.pi * cycles * s + phase)])

    return centre


def swing(start, turn):
    return lambda s: start + turn * s


def breathe(low, high, cycles=1.0, phase=0.0):
    """A scale that swings between low and high."""
    middle, half = math.log(low * high) / 2, math.log(high / low) / 2
    return lambda s: math.exp(middle + half * math.sin(2 * math.pi * cycles * s + phase))


# ---------------------------------------------------------------- layers and scenes


@dataclass(frozen=True)
class Layer:
    texture: np.ndarray  # (TEXELS, TEXELS, 3)
    extent: float  # side of the texture's tile, texture units
    motion: Similarity  # texture -> world
    shape: Callable | None = None  # None: covers everything
    warp: Warp | None = None
    parallax: float = 1.0  # share of the camera's pan that this layer feels
    foreground: bool = True

    def to_texture(self, world, s):
        local = self.motion.invert(world, s)
        return self.warp.apply(local, s) if self.warp else local

    def to_world(self, uv, s):
        local = self.warp.invert(uv, s) if self.warp else uv
        return self.motion.apply(local, s)

    def covers(self, uv):
        return np.ones(uv.shape[:-1], bool) if self.shape is None else self.shape(uv) < 0


@dataclass
class Scene:
    """Layers, farthest first, seen by a camera. Pixel arguments and results are (x, y), float64."""

    name: str
    layers: list
    camera: Similarity  # world -> frame plane
    num_frames: int
    height: int
    width: int
    _cache: dict = field(default_factory=dict, repr=False)

    # -- maps

    def progress(self, frame):
        return frame / max(self.num_frames - 1, 1)

    def to_texture(self, layer, frame, pixels):
        """Pixels (..., 2) of a frame -> texture coordinates of a layer."""
        s = self.progress(frame)
        plane = (pixels + 0.5 - np.array([self.width, self.height]) / 2) / self.height
        return layer.to_texture(self.layer_camera(layer).invert(plane, s), s)

    def to_pixels(self, layer, frame, uv):
        """Texture coordinates (..., 2) of a layer -> pixels of a frame; inverse of to_texture."""
        s = self.progress(frame)
        plane = self.layer_camera(layer).apply(layer.to_world(uv, s), s)
        return plane * self.height + np.array([self.width, self.height]) / 2 - 0.5

    def layer_camera(self, layer):
        camera = self.camera
        return Similarity(lambda s: camera.centre(s) * layer.parallax, camera.angle, camera.scale)

    def top_layer(self, frame, pixels):
        """Index (...) of the nearest layer that covers each of pixels (..., 2)."""
        top = np.zeros(pixels.shape[:-1], int)
        for index, layer in enumerate(self.layers):
            top[layer.covers(self.to_texture(layer, frame, pixels))] = index
        return top

    def inside(self, pixels):
        """(...) bool: within the frame's area, which reaches half a pixel beyond the outer centres."""
        size = np.array([self.width, self.height])
        return ((pixels >= -0.5) & (pixels < size - 0.5)).all(-1)

    # -- images

    def frame(self, index):
        """Rendered frame, (H, W, 3) uint8: the mean of SUPERSAMPLING^2 rays a pixel."""
        offsets = (np.arange(SUPERSAMPLING) + 0.5) / SUPERSAMPLING - 0.5
        x = (np.arange(self.width)[:, None] + offsets).ravel()
        y = (np.arange(self.height)[:, None] + offsets).ravel()
        pixels = np.stack(np.meshgrid(x, y), axis=-1)
        image = np.zeros((*pixels.shape[:-1], 3), np.float32)
        for layer in self.layers:
            uv = self.to_texture(layer, index, pixels)
            covered = layer.covers(uv)
            image[covered] = lookup(layer.texture, uv[covered], layer.extent)
        image = image.reshape(self.height, SUPERSAMPLING, self.width, SUPERSAMPLING, 3).mean((1, 3))
        return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)

    @property
    def video(self):
        """(N, H, W, 3) uint8, rendered once."""
        if "video" not in self._cache:
            self._cache["video"] = np.stack([self.frame(i) for i in range(self.num_frames)])
        return self._cache["video"]

    def layer_map(self, frame):
        """(H, W) index of the nearest layer at each pixel centre."""
        key = ("layers", frame)
        if key not in self._cache:
            self._cache[key] = self.top_layer(frame, self.grid())
        return self._cache[key]

    def mask(self, frame):
        """(H, W) bool: the moving objects (neither background nor pole)."""
        return np.array([layer.foreground for layer in self.layers])[self.layer_map(frame)]

    def grid(self):
        """(H, W, 2) float64 pixel centres."""
        return np.stack(np.meshgrid(np.arange(self.width), np.arange(self.height)), axis=-1).astype(float)

    # -- truth

    def tracks(self, frame, pixels):
        """True tracks of what is seen at pixels (n, 2) of a frame -> positions (n, N, 2), visible (n, N)."""
        pixels = np.asarray(pixels, float)
        top = self.top_layer(frame, pixels)
        both = [self.follow(frame, target, pixels, top) for target in range(self.num_frames)]
        positions, visible = zip(*both)
        return np.stack(positions, 1), np.stack(visible, 1)

    def follow(self, source, target, pixels, top):
        """Where pixels (..., 2), on layers top (...) in the source frame, are in the target frame; visible (...)."""
        positions = np.zeros(pixels.shape)
        for index in np.unique(top):
            chosen, layer = top == index, self.layers[index]
            uv = self.to_texture(layer, source, pixels[chosen])
            positions[chosen] = pixels[chosen] if source == target else self.to_pixels(layer, target, uv)
        visible = self.inside(positions) & (self.top_layer(target, positions) == top)
        return positions, visible

    def flow(self, i, j):
        """Dense true flow of frame i to j, (H, W, 2) float32, also where hidden in j; visible in j (H, W) bool."""
        grid = self.grid()
        positions, visible = self.follow(i, j, grid, self.layer_map(i))
        return (positions - grid).astype(np.float32), visible

    def ground_truth(self, num_points=256, seed=0, query_step=5, foreground_share=0.5):
        """Query points with their true tracks in raster coordinates (+0.5), as a dict of arrays (Q = num_points).

        Queries lie at random continuous positions in every query_step-th frame, a share of them on the moving objects:
        query_points (Q, 3) t,y,x; target_points (Q, N, 2) x,y; occluded (Q, N); video_size (H, W);
        hidden_positions_known (): true, target_points are exact everywhere.
        """
        rng = np.random.default_rng(seed)
        frames = rng.permutation(np.resize(np.arange(0, self.num_frames, query_step), num_points))
        queries, targets, occluded = [], [], []
        for frame in np.unique(frames):
            pixels = self.random_pixels(rng, frame, (frames == frame).sum(), foreground_share)
            positions, visible = self.tracks(frame, pixels)
            time = np.full((len(pixels), 1), frame)
            queries.append(np.concatenate([time, pixels[:, ::-1] + 0.5], axis=1))
            targets.append(positions + 0.5)
            occluded.append(~visible)
        return {
            "query_points": np.concatenate(queries).astype(np.float32),
            "target_points": np.concatenate(targets).astype(np.float32),
            "occluded": np.concatenate(occluded),
            "video_size": np.array([self.height, self.width], np.int64),
            "hidden_positions_known": np.array(True),
        }

    def random_pixels(self, rng, frame, count, foreground_share):
        """(count, 2) continuous pixels of a frame, a share of them on moving objects where there are any."""
        mask = self.mask(frame)
        on_objects = int(round(count * foreground_share)) if mask.any() else 0
        choices = [np.argwhere(mask)] * on_objects + [np.argwhere(np.ones_like(mask))] * (count - on_objects)
        cells = np.array([cells[rng.integers(len(cells))] for cells in choices]).reshape(-1, 2)
        return cells[:, ::-1] + rng.uniform(-0.49, 0.49, cells.shape)

    def save(self, folder, fps=12, **ground_truth):
        """Write FOLDER/frames/*.png, masks/*.png, video.mp4 and ground_truth.npz; returns the folder."""
        folder = Path(folder)
        for index, image in enumerate(self.video):
            write_image(folder / "frames" / f"{index:05d}.png", image)
            write_image(folder / "masks" / f"{index:05d}.png", self.mask(index).astype(np.uint8) * 255)
        write_mp4(folder / "video.mp4", self.video, fps)
        with atomic_path(folder / "ground_truth.npz") as path:
            np.savez_compressed(path, **self.ground_truth(**ground_truth))
        return folder


class SceneFlow(Estimator):
    """A flow estimator: a scene's true flow, plus optional Gaussian noise in pixels."""

    reason = "exact"

    def __init__(self, scene, noise=0.0):
        self.scene, self.noise = scene, noise
        self.description = {"method": "ground truth", "scene": scene.name, "noise": noise}

    def load_frames(self, frames, adjacent=None):
        assert len(frames) == self.scene.num_frames, (len(frames), self.scene.num_frames)

    def flow_from(self, i, partners):
        """(P_i, H, W, 2) float32 flow of frame i to its partners."""
        flows = np.stack([self.scene.flow(i, j)[0] for j in partners])
        rng = np.random.default_rng([i, *partners])
        return flows + rng.normal(0, self.noise, flows.shape).astype(np.float32) if self.noise else flows


# ---------------------------------------------------------------- the kinds


def make_scene(kind="demo", seed=0, num_frames=24, height=96, width=128):
    """A scene of one of KINDS; the same kind and seed at another size or frame count is the same motion resampled."""
    if kind not in KINDS:
        raise UserError(f"scene kind {kind!r}: expected one of {', '.join(KINDS)}")
    rng = np.random.default_rng([KINDS.index(kind), seed])
    aspect = width / height
    background = Layer(
        background_texture(rng, 3.0), 3.0, Similarity(), foreground=False, parallax=0.6,
        warp=random_warp(rng, 0.12, 0.9) if kind == "nonrigid" else None,
    )
    camera = make_camera(rng, kind)
    objects = MAKERS.get(kind, plain_objects)(rng, kind, aspect)
    return Scene(f"{kind}-{seed}", [background, *objects], camera, num_frames, height, width)


def make_camera(rng, kind):
    """A gentle pan, or for `camera` a pan with zoom and rotation, or for `demo` something between."""
    reach, turn, zoom = {"camera": (0.55, 0.5, 1.45), "demo": (0.22, 0.06, 1.08), "slow": (0.04, 0.0, 1.0)}.get(
        kind, (0.12, 0.0, 1.0)
    )
    heading, side = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1])
    half = reach / 2 * np.array([np.cos(heading), 0.5 * np.sin(heading)])
    scale = breathe(zoom**-0.5, zoom**0.5, 0.5, -0.8)
    return Similarity(sway(half, -half), swing(-side * turn / 2, side * turn), scale)


def sprite(rng, shape, radius, motion, pattern, palette):
    extent = 2.5 * radius
    texture = sprite_texture(rng, PALETTES[palette % len(PALETTES)], shape, extent, pattern)
    return Layer(texture, extent, motion, shape)


def pole(rng, x, half_width, slant=0.0):
    """A wooden pole from top to bottom, nearest of all, standing in the world."""
    grain = colourise(fractal_noise(rng, 1.6, stretch=(0.4, 3.0)), WOOD)
    round_shade = 1.15 - 0.55 * np.abs(texel_grid(1.0)[..., :1] / (half_width + 1e-9)).clip(0, 1) ** 2
    motion = Similarity(lambda s: np.array([x, 0.0]), lambda s: slant)
    return Layer((grain * round_shade).astype(np.float32), 1.0, motion, box(half_width, np.inf), foreground=False)


def random_shapes(rng, radius):
    """Three different outlines of about the given radius, in random order."""
    shapes = [
        polar(radius * 0.92, int(rng.integers(5, 8)), 0.12, rng.uniform(0, 6)),
        box(radius * 0.85, radius * 0.75, radius * 0.3),
        polar(radius * 0.9, 3, 0.18, rng.uniform(0, 6)),
    ]
    return [shapes[k] for k in rng.permutation(3)]


def crossing_motions(rng, aspect, reach, turn, zoom, bob, apart=0.0):
    """Three paths: left to right, right to left, and down. They meet near the middle, the first two `apart` heights."""
    x = reach * aspect / 2
    jitter = rng.uniform(-0.08, 0.08, 6)
    ends = [((-x, -0.1 - apart / 2), (x, 0.06 - apart / 2)), ((x, 0.16 + apart / 2), (-x, -0.02 + apart / 2)),
            ((-0.25 * x, -0.4 * reach), (0.35 * x, 0.4 * reach))]
    motions = []
    for k, (start, end) in enumerate(ends):
        start, end = np.add(start, jitter[2 * k]), np.add(end, jitter[2 * k + 1])
        path = sway(start, end, bob, rng.uniform(0.7, 1.5), rng.uniform(0, 6))
        angle = swing(rng.uniform(0, 6), rng.choice([-1, 1]) * turn * rng.uniform(0.7, 1.2))
        motions.append(Similarity(path, angle, breathe(1 / zoom, zoom, rng.uniform(0.5, 1.0), rng.uniform(0, 6))))
    return motions


def plain_objects(rng, kind, aspect, count=2):
    """slow, fast, camera: two patterned sprites that turn, scale and cross."""
    reach, turn, zoom, bob = {"slow": (0.35, 0.5, 1.08, 0.02), "fast": (1.05, 5.0, 1.25, 0.22)}.get(
        kind, (0.7, 1.2, 1.15, 0.05)
    )
    motions = crossing_motions(rng, aspect, reach, turn, zoom, bob)
    return patterned(rng, motions[:count], 0.2)


def patterned(rng, motions, radius, colours=(0, 1, 2, 3, 4)):
    palettes, patterns = rng.permutation(colours), rng.permutation(["stripes", "dots", "marble"])
    shapes = random_shapes(rng, radius)
    return [
        sprite(rng, shape, radius, motion, pattern, palette)
        for shape, motion, pattern, palette in zip(shapes, motions, patterns, palettes)
    ]


def occlusion_objects(rng, _kind, aspect):
    """Three sprites that cross behind one another and behind a broad pole."""
    motions = crossing_motions(rng, aspect, 0.75, 1.5, 1.15, 0.04)
    return [*patterned(rng, motions, 0.19), pole(rng, rng.uniform(-0.1, 0.1) * aspect, 0.085, rng.uniform(-0.1, 0.1))]


def nonrigid_objects(rng, _kind, aspect):
    """Two sprites that bend as they move."""
    motions = crossing_motions(rng, aspect, 0.55, 0.8, 1.1, 0.04)
    sprites = patterned(rng, motions[:2], 0.23)
    return [Layer(**{**vars(layer), "warp": random_warp(rng, 0.42, 0.45)}) for layer in sprites]


def thin_objects(rng, _kind, aspect):
    """A spoked wheel and a rake of thin rods over the background, one compact sprite between."""
    motions = crossing_motions(rng, aspect, 0.6, 1.2, 1.08, 0.04)
    compact = patterned(rng, motions[2:], 0.15)
    wheel_sprite = sprite(rng, wheel(0.24, 4, 0.032), 0.26, motions[0], "marble", rng.integers(5))
    rake_sprite = sprite(rng, rake(0.25, 0.2, 4, 0.03), 0.26, motions[1], "stripes", rng.integers(5))
    return [compact[0], wheel_sprite, rake_sprite]


def textureless_objects(rng, _kind, aspect):
    """One sprite of a single colour, one patterned."""
    motions = crossing_motions(rng, aspect, 0.6, 1.2, 1.15, 0.05)
    plain = sprite(rng, random_shapes(rng, 0.22)[0], 0.22, motions[0], "plain", rng.integers(5))
    return [plain, *patterned(rng, motions[1:2], 0.2)]


def demo_objects(rng, _kind, aspect):
    """Three sprites that rotate, scale and pass behind one another and behind a pole, each in part visible always."""
    motions = crossing_motions(rng, aspect, 0.66, 1.0, 1.15, 0.04, apart=0.4)
    sprites = patterned(rng, motions, 0.2, colours=(0, 1, 2, 4))
    bending = Layer(**{**vars(sprites[1]), "warp": random_warp(rng, 0.2, 0.6)})
    return [sprites[0], bending, sprites[2], pole(rng, 0.12 * aspect, 0.05, 0.04)]


MAKERS = {
    "occlusion": occlusion_objects,
    "nonrigid": nonrigid_objects,
    "thin": thin_objects,
    "textureless": textureless_objects,
    "demo": demo_objects,
}


# ---------------------------------------------------------------- files and command


def write_mp4(path, video, fps):
    """Write (N, H, W, 3) uint8 as H.264, nearly lossless; odd sides are kept (4:4:4 instead of 4:2:0)."""
    height, width = video.shape[1:3]
    pixel_format = "yuv420p" if height % 2 == 0 and width % 2 == 0 else "yuv444p"
    with atomic_path(path) as temporary:
        writer = imageio_ffmpeg.write_frames(
            str(temporary), (width, height), fps=fps, codec="libx264", pix_fmt_out=pixel_format,
            macro_block_size=1, output_params=["-crf", "10"], ffmpeg_log_level="error",
        )
        writer.send(None)
        for image in video:
            writer.send(np.ascontiguousarray(image))
        writer.close()


@command
def main(arguments=None, kinds=KINDS, make=make_scene, prog="python -m benchmarks.scenes", description=__doc__):
    parser = argparse.ArgumentParser(description=description.split("\n")[0], prog=prog)
    parser.add_argument("kind", choices=kinds, help="what moves, and how")
    parser.add_argument("--out", required=True, type=Path, help="folder to write frames, masks, video and truth to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num_frames", type=int, default=24)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--fps", type=float, default=12)
    parser.add_argument("--num_points", type=int, default=256, help="query points in ground_truth.npz")
    options = parser.parse_args(arguments)
    scene = make(options.kind, options.seed, options.num_frames, options.height, options.width)
    scene.save(options.out, options.fps, num_points=options.num_points)
    print(f"{scene.name}: {options.num_frames} frames of {options.height} x {options.width} in {options.out}")


if __name__ == "__main__":
    main()
