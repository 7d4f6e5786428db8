"""Ray-traced scenes with depth and exact ground truth: articulated, bending and tumbling meshes, a moving camera.

    python -m benchmarks.scenes3d 3d-walker --out runs/walker        # frames, video, ground truth, masks

Every body is a triangle mesh whose vertices are functions of time, so a surface point is (triangle, barycentric) and
its track is exact: pixel of frame i -> first hit of its ray -> the triangle in frame j -> projection. A point is
visible if it lies inside the frame, shows the side seen in frame i, and is the first hit of the ray towards it.

Conventions: pixels (x, y), integer at centres, inside this module; files are written at +0.5 (raster coordinates).
World: metres, z up, x to the right and y away from the camera at rest. s is the progress of time, [0, 1] over the
video and a little beyond for motion blur. Depth is along the camera's axis. Ray directions have depth 1, so that a
distance along a ray is a depth. N frames, H height, W width, n points or rays, V vertices, F triangles.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, reduce

import cv2
import numpy as np
from scipy import ndimage, sparse

from benchmarks import scenes
from benchmarks.scenes import BACKGROUNDS, PALETTES, WOOD, Scene, colourise, fractal_noise, lookup
from util import UserError

FOCAL = 1.5  # image heights
DISTANCE = 7.0  # metres from the camera at rest to the middle of the action
SKY_RADIUS = 30.0
NEAR = 0.05  # metres; what lies nearer or behind is projected as if it were here, and is never visible
SAME_DEPTH = 1e-4  # relative; embree's float32 may name a neighbour of the triangle at an edge
SHADOW_OFFSET = 0.01  # metres along the normal: the facets of a smooth body must not shade themselves
SIDE = 2  # rays per pixel side; a pixel is their mean
RAYS = 1 << 18  # rays traced at once: bounds memory at any frame size
GEOMETRIES_KEPT, HITS_KEPT = 128, 2  # per scene; older frames are built again when asked for

EARTH = [
    [(0.66, 0.60, 0.46), (0.43, 0.42, 0.26), (0.20, 0.24, 0.14)],
    [(0.78, 0.70, 0.58), (0.56, 0.46, 0.36), (0.30, 0.24, 0.20)],
    [(0.70, 0.72, 0.70), (0.48, 0.50, 0.50), (0.28, 0.30, 0.31)],
]
WATER = [(0.72, 0.82, 0.82), (0.28, 0.48, 0.54), (0.08, 0.22, 0.32)]


# ---------------------------------------------------------------- meshes: vertices (V, 3) float64, faces (F, 3) int


def grid_faces(rows, columns, wrap_rows=False, wrap_columns=False):
    """Two triangles for each cell of a grid of vertices, row-major; a wrapped side joins its last line to its first."""
    row = np.arange(rows - (not wrap_rows))[:, None]
    column = np.arange(columns - (not wrap_columns))[None]
    below, right = (row + 1) % rows, (column + 1) % columns
    a, b, c, d = (np.broadcast_to(r * columns + k, (row.size, column.size)).ravel()
                  for r, k in ((row, column), (row, right), (below, column), (below, right)))
    return np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])


def revolve(along, radius, segments=20):
    """Surface of revolution about z through rings at heights `along` (K,) of `radius` (K,)."""
    angle = np.arange(segments) * 2 * np.pi / segments
    along, radius = np.asarray(along)[:, None], np.asarray(radius)[:, None]
    points = np.stack(np.broadcast_arrays(radius * np.cos(angle), radius * np.sin(angle), along), -1)
    return points.reshape(-1, 3), grid_faces(len(along), segments, wrap_columns=True)


def ellipsoid(radii, rings=20, segments=28):
    polar = np.linspace(0, np.pi, rings + 1)
    points, faces = revolve(-np.cos(polar), np.sin(polar), segments)
    return points * np.asarray(radii), faces


def limb(start, end, start_radius, end_radius=None, rings=8, segments=12):
    """A rounded, tapering rod from start (3,) to end (3,)."""
    end_radius = start_radius if end_radius is None else end_radius
    start, end = np.asarray(start, float), np.asarray(end, float)
    length, cap = np.linalg.norm(end - start), np.linspace(0, np.pi / 2, 5)
    middle = np.linspace(0, 1, rings + 1)[1:-1]
    along = [-start_radius * np.cos(cap), length * middle, length + end_radius * np.sin(cap)]
    radius = [start_radius * np.sin(cap), start_radius + (end_radius - start_radius) * middle, end_radius * np.cos(cap)]
    points, faces = revolve(np.concatenate(along), np.concatenate(radius), segments)
    axis = (end - start) / length
    side = np.cross(axis, [1.0, 0, 0] if abs(axis[0]) < 0.9 else [0, 1.0, 0])
    side /= np.linalg.norm(side)
    return start + points @ np.stack([side, np.cross(axis, side), axis]), faces


def torus(radius, thickness, rings=40, segments=16):
    """A ring about z; `thickness` is the radius of its tube."""
    around = np.arange(rings)[:, None] * 2 * np.pi / rings
    across = np.arange(segments)[None] * 2 * np.pi / segments
    reach = radius + thickness * np.cos(across)
    points = np.broadcast_arrays(reach * np.cos(around), reach * np.sin(around), thickness * np.sin(across))
    return np.stack(points, -1).reshape(-1, 3), grid_faces(rings, segments, True, True)


def cuboid(half):
    """A box of half sides (3,); its sides share no vertices, so that its edges are shaded sharp."""
    square, faces = np.array([(-1, -1, 1), (1, -1, 1), (-1, 1, 1), (1, 1, 1)], float), grid_faces(2, 2)
    sides = [np.roll(square * sign, turn, axis=1) for turn in range(3) for sign in (1, -1)]
    return np.concatenate(sides) * np.asarray(half), np.concatenate([faces + 4 * k for k in range(6)])


def sheet(width, height, columns, rows):
    """A flat sheet in the xy-plane around the origin."""
    x, y = np.linspace(-width / 2, width / 2, columns), np.linspace(-height / 2, height / 2, rows)
    points = np.stack([*np.meshgrid(x, y), np.zeros((rows, columns))], -1)
    return points.reshape(-1, 3), grid_faces(rows, columns)


def vertex_normals(vertices, faces):
    """(V, 3) unit normals, the area-weighted mean of each vertex's triangles."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    triangles = np.cross(b - a, c - a)
    belongs = sparse.csr_matrix((np.ones(faces.size), (faces.T.ravel(), np.tile(np.arange(len(faces)), 3))),
                                shape=(len(vertices), len(faces)))
    return unit(belongs @ triangles)


def unit(vectors):
    """Normalised (..., 3); the floor keeps the zero vectors of degenerate triangles finite."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


# ---------------------------------------------------------------- motion: steps (points (V, 3), s) -> points (V, 3)


def posed(rest, *steps):
    """Vertices as a function of s: the steps applied in turn to the vertices at rest."""
    return lambda s: reduce(lambda points, step: step(points, s), steps, rest)


def rotation(axis, angle):
    """(3, 3) matrix that turns column vectors by `angle` about a unit axis."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def hinge(pivot, axis, angle):
    """Turn about an axis through `pivot` by angle(s)."""
    return lambda points, s: (points - pivot) @ rotation(axis, angle(s)).T + pivot


def spin(axis, turn, start=0.0):
    """Turn at a constant rate about an axis through the origin: `turn` radians over the video."""
    return hinge(np.zeros(3), unit(np.asarray(axis, float)), lambda s: start + turn * s)


def move(path):
    return lambda points, s: points + path(s)


def wobble(amplitude, frequency, cycles, phase):
    """Radial waves over a body around the origin: `frequency` (3,) radians a metre."""
    return lambda points, s: points * (
        1 + amplitude * np.sin(points @ frequency + phase + 2 * np.pi * cycles * s)[:, None]
    )


def undulate(amplitude, wave_number, cycles, phase):
    """A wave that runs along x and bends a body sideways, along y."""

    def step(points, s):
        bend = amplitude * np.sin(wave_number * points[:, 0] - 2 * np.pi * cycles * s + phase)
        return points + bend[:, None] * np.array([0.0, 1.0, 0.0])

    return step


def swinging(amplitude, cycles, phase, middle=0.0):
    """An angle that swings about `middle`."""
    return lambda s: middle + amplitude * math.sin(2 * math.pi * cycles * s + phase)


def travel(start, end, wave=(0.0, 0.0, 0.0), cycles=1.0, phase=0.0):
    """A path (3,) from start to end, eased a little, that swings by `wave`."""
    start, end, wave = (np.asarray(value, float) for value in (start, end, wave))

    def path(s):
        eased = s + 0.08 * math.sin(2 * math.pi * s)
        return start + (end - start) * eased + wave * math.sin(2 * math.pi * cycles * s + phase)

    return path


@dataclass(frozen=True)
class Waves:
    """Heights z(x, y, s) of rolling waves; standing still (terrain) where all speeds are zero."""

    vectors: np.ndarray  # (waves, 2) radians a metre
    phases: np.ndarray  # (waves,)
    speeds: np.ndarray  # (waves,) radians over the video
    amplitudes: np.ndarray  # (waves,) metres

    def height(self, ground, s=0.0):
        """Heights (...) above ground points (..., 2)."""
        return np.sin(ground @ self.vectors.T + self.phases + self.speeds * s) @ self.amplitudes

    def step(self, points, s):
        """Raise a sheet, and carry its points to and fro as waves carry water."""
        phase = points[:, :2] @ self.vectors.T + self.phases + self.speeds * s
        moving = self.amplitudes * (self.speeds != 0)
        drift = (np.cos(phase) * moving) @ unit(np.pad(self.vectors, ((0, 0), (0, 1))))
        return points + drift + np.sin(phase) @ self.amplitudes[:, None] * np.array([0.0, 0.0, 1.0])


def random_waves(rng, height, length, speed=0.0, count=5):
    angle, lengths = rng.uniform(0, 2 * np.pi, count), length * rng.uniform(0.6, 1.6, count)
    vectors = np.stack([np.cos(angle), np.sin(angle)], -1) * (2 * np.pi / lengths)[:, None]
    amplitudes = height / count * lengths / length
    return Waves(vectors, rng.uniform(0, 2 * np.pi, count), -speed * rng.uniform(0.7, 1.3, count), amplitudes)


# ---------------------------------------------------------------- scenes


@dataclass(frozen=True)
class Material:
    texture: np.ndarray  # (TEXELS, TEXELS, 3) float32
    extent: float  # side of its tile, metres

    def colour(self, rest, normals):
        """Triplanar look-up at positions and normals (n, 3) of the body at rest -> (n, 3) float32."""
        weights = normals**4
        weights = (weights / weights.sum(-1, keepdims=True)).astype(np.float32)
        colour = np.zeros(rest.shape, np.float32)
        for axis, plane in enumerate(([1, 2], [0, 2], [0, 1])):
            chosen = weights[:, axis] > 0.01  # less is not seen, and costs a look-up
            colour[chosen] += weights[chosen, axis, None] * lookup(self.texture, rest[chosen][:, plane], self.extent)
        return colour / (weights * (weights > 0.01)).sum(-1, keepdims=True)


@dataclass(frozen=True)
class Body:
    name: str  # bodies of one name are one object
    rest: np.ndarray  # (V, 3) positions at rest, which carry the texture
    faces: np.ndarray  # (F, 3)
    vertices: Callable  # s -> (V, 3) in the world
    material: Material
    foreground: bool = True
    lit: bool = True  # the sky shines by itself and casts no shadow


@dataclass(frozen=True)
class Camera:
    """A camera without roll that looks from position(s) to target(s)."""

    position: Callable
    target: Callable

    def axes(self, s):
        """(3, 3): rows are the world's directions of right, down and forward."""
        forward = unit(self.target(s) - self.position(s))
        right = unit(np.cross(forward, [0.0, 0.0, 1.0]))
        return np.stack([right, np.cross(forward, right), forward])

    def rays(self, plane, s):
        """Directions (..., 3), of depth 1, through image-plane points (..., 2) in image heights."""
        axes = self.axes(s)
        return plane / FOCAL @ axes[:2] + axes[2]

    def project(self, points, s):
        """World points (..., 3) -> image-plane points (..., 2) in image heights, depth (...)."""
        local = (points - self.position(s)) @ self.axes(s).T
        return FOCAL * local[..., :2] / np.maximum(local[..., 2:], NEAR), local[..., 2]


@dataclass(frozen=True)
class Look:
    """How light and sensor make an image of the scene."""

    sun: np.ndarray  # (3,) unit vector towards it
    ambient: float = 0.45
    shadows: bool = True
    exposure: float = 0.04  # relative swing of the gain over the video
    exposure_cycles: float = 0.7
    shutter: float = 0.0  # share of a frame's time that it is open
    noise: float = 1.5  # standard deviation in levels of 255
    jpeg: int = 92
    vignetting: float = 0.12  # loss in the corners


@dataclass(frozen=True)
class Hits:
    """What rays (...) meet first."""

    triangle: np.ndarray  # (...) int
    weights: np.ndarray  # (..., 3) barycentric, float64
    front: np.ndarray  # (...) bool: which side of the triangle faces the ray's origin
    depth: np.ndarray  # (...) float64


def intersector(vertices, faces):
    """Embree's ray tracer of a triangle mesh."""
    try:
        import trimesh
        from trimesh.ray.ray_pyembree import RayMeshIntersector
    except ImportError as error:
        raise UserError(f"scenes with depth need {error.name}: pip install -r requirements-scenes3d.txt") from error
    return RayMeshIntersector(trimesh.Trimesh(vertices, faces, process=False))


@dataclass(frozen=True)
class Geometry:
    """All bodies of a scene at one moment."""

    vertices: np.ndarray  # (V, 3)
    faces: np.ndarray  # (F, 3)

    @cached_property
    def tracer(self):
        return intersector(self.vertices, self.faces)

    @cached_property
    def normals(self):
        return vertex_normals(self.vertices, self.faces)

    def first(self, origins, directions):
        """Triangle (n,) that rays (n, 3) meet first. Rays that slip through a seam are asked again a hair beside it."""
        found = self.tracer.intersects_first(origins, directions)
        for attempt in range(1, 9):
            missed = np.flatnonzero(found < 0)
            if not len(missed):
                break
            aside = 1e-5 * attempt * np.array([math.cos(attempt), math.sin(attempt), math.cos(2.0 * attempt)])
            found[missed] = self.tracer.intersects_first(origins[missed], unit(directions[missed]) + aside)
        assert (found >= 0).all(), "a ray left the sky"
        return found

    def hits(self, origin, directions):
        """First hits of rays (n, 3) from one origin (3,); embree's float32 only chooses the triangle."""
        triangle = self.first(np.broadcast_to(origin, directions.shape), directions)
        a, b, c = (self.vertices[self.faces[triangle, k]] for k in range(3))
        normal = np.cross(b - a, c - a)
        slope = (normal * directions).sum(-1)
        # Embree does not report triangles seen edge-on, but float64 may find one to be: keep the division finite.
        slope = np.where(np.abs(slope) < 1e-15, -1e-15, slope)
        depth = (normal * (a - origin)).sum(-1) / slope
        offset, area = origin + depth[:, None] * directions - a, (normal * normal).sum(-1)
        v = (np.cross(offset, c - a) * normal).sum(-1) / area
        w = (np.cross(b - a, offset) * normal).sum(-1) / area
        return Hits(triangle, np.stack([1 - v - w, v, w], -1), slope < 0, depth)

    def blend(self, values, hits):
        """Values (V, C) of the vertices at hits (n,) -> (n, C)."""
        return np.einsum("nk,nkc->nc", hits.weights, values[self.faces[hits.triangle]])


@dataclass
class Scene3D(Scene):
    """Bodies (in the place of layers, the sky last) seen by a camera. Pixel arguments and results are float64."""

    look: Look = None
    seed: int = 0
    _recent: OrderedDict = field(default_factory=OrderedDict, repr=False)

    def __post_init__(self):
        starts = np.cumsum([0, *(len(body.rest) for body in self.layers)])
        self.faces = np.concatenate([body.faces + start for body, start in zip(self.layers, starts)])
        self.rest = np.concatenate([body.rest for body in self.layers])
        self.rest_normals = vertex_normals(self.rest, self.faces)
        self.object_names = list(dict.fromkeys(body.name for body in self.layers))
        self.body_of = np.repeat(np.arange(len(self.layers)), [len(body.faces) for body in self.layers])  # (F,)

    def recent(self, kind, key, make, kept):
        """Cache of bounded size: the latest `kept` values of a kind."""
        if (kind, key) not in self._recent:
            self._recent[kind, key] = make()
            same = [entry for entry in self._recent if entry[0] == kind]
            for entry in same[:-kept]:
                del self._recent[entry]
        self._recent.move_to_end((kind, key))
        return self._recent[kind, key]

    def build(self, s):
        return Geometry(np.concatenate([body.vertices(s) for body in self.layers]), self.faces)

    def geometry(self, frame):
        return self.recent("geometry", frame, lambda: self.build(self.progress(frame)), GEOMETRIES_KEPT)

    def to_plane(self, pixels):
        return (pixels + 0.5 - np.array([self.width, self.height]) / 2) / self.height

    def project(self, frame, points):
        """World points (..., 3) -> pixels (..., 2), depth (...)."""
        plane, depth = self.camera.project(points, self.progress(frame))
        return plane * self.height + np.array([self.width, self.height]) / 2 - 0.5, depth

    # -- truth: Scene.tracks and Scene.flow follow these hits as they follow layers

    def top_layer(self, frame, pixels):
        """Hits (...) of the rays through pixels (..., 2) of a frame."""
        s, geometry, shape = self.progress(frame), self.geometry(frame), pixels.shape[:-1]
        directions = self.camera.rays(self.to_plane(pixels.reshape(-1, 2)), s)
        parts = [vars(geometry.hits(self.camera.position(s), directions[k : k + RAYS]))
                 for k in range(0, max(len(directions), 1), RAYS)]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return Hits(**{name: values.reshape(shape + values.shape[1:]) for name, values in joined.items()})

    def layer_map(self, frame):
        """Hits (H, W) of the rays through the pixel centres."""
        return self.recent("hits", frame, lambda: self.top_layer(frame, self.grid()), HITS_KEPT)

    def follow(self, source, target, pixels, top):
        """Where what is seen (`top`, Hits (...)) at pixels (..., 2) of a frame is in another; visible (...)."""
        if source == target:  # by definition; the projection would add rounding
            return pixels.copy(), self.inside(pixels)
        shape, geometry, camera = pixels.shape[:-1], self.geometry(target), self.camera.position(self.progress(target))
        flat = Hits(*(values.reshape(pixels.size // 2, *values.shape[len(shape) :]) for values in vars(top).values()))
        positions, depth = self.project(target, geometry.blend(geometry.vertices, flat))
        visible = self.inside(positions) & (depth > NEAR)
        seen = self.top_layer(target, positions[visible])
        triangle, chosen = flat.triangle[visible], geometry.faces[flat.triangle[visible]]
        a, b, c = (geometry.vertices[chosen[:, k]] for k in range(3))
        front = (np.cross(b - a, c - a) * (camera - a)).sum(-1) > 0
        near = np.abs(seen.depth - depth[visible]) <= SAME_DEPTH * depth[visible]
        same = (seen.triangle == triangle) | (near & (self.body_of[seen.triangle] == self.body_of[triangle]))
        visible[visible] = same & (front == flat.front[visible])
        return positions.reshape(*shape, 2), visible.reshape(shape)

    def depth(self, frame):
        """(H, W) float64 metres along the camera's axis at the pixel centres."""
        return self.layer_map(frame).depth

    def mask(self, frame):
        """(H, W) bool: the moving objects (neither ground, sky nor poles)."""
        foreground = np.array([body.foreground for body in self.layers])
        return foreground[self.body_of[self.layer_map(frame).triangle]]

    def ids_of(self, hits):
        """Index in object_names of what was hit (...)."""
        return np.array([self.object_names.index(body.name) for body in self.layers])[self.body_of[hits.triangle]]

    def object_ids(self, frame):
        """(H, W) int: index in object_names."""
        return self.ids_of(self.layer_map(frame))

    def ground_truth(self, *args, **kwargs):
        """Scene.ground_truth and object_ids (Q,), indices in object_names."""
        truth = super().ground_truth(*args, **kwargs)
        queries = truth["query_points"].astype(float)
        ids = np.zeros(len(queries), np.int64)
        for frame in np.unique(queries[:, 0]).astype(int):
            chosen = queries[:, 0] == frame
            ids[chosen] = self.ids_of(self.top_layer(frame, queries[chosen, :0:-1] - 0.5))
        return {**truth, "object_ids": ids, "object_names": np.array(self.object_names)}

    # -- images

    def frame(self, index):
        """Rendered frame, (H, W, 3) uint8: the mean of jittered rays, over the shutter's time if there is one."""
        rng = np.random.default_rng([self.seed, index])
        rays = SIDE**2  # each in its own cell of the pixel and moment of the shutter
        moments = (rng.permutation(rays) + 0.5) / rays - 0.5
        image = np.zeros((self.height, self.width, 3), np.float32)
        for k, moment in enumerate(moments):
            s = self.progress(index + moment * self.look.shutter)
            geometry = self.build(s) if self.look.shutter else self.geometry(index)
            jitter = (np.array([k % SIDE, k // SIDE]) + rng.random((self.height, self.width, 2))) / SIDE - 0.5
            image += self.shade(geometry, s, (self.grid() + jitter).reshape(-1, 2)).reshape(image.shape) / rays
        return self.develop(image, index, rng)

    def shade(self, geometry, s, pixels):
        """Colours (n, 3) of the rays through pixels (n, 2)."""
        return np.concatenate([self.shade_part(geometry, s, pixels[k : k + RAYS]) for k in range(0, len(pixels), RAYS)])

    def shade_part(self, geometry, s, pixels):
        """Lambert's law with the sun, its shadows and ambient light."""
        directions = self.camera.rays(self.to_plane(pixels), s)
        hits = geometry.hits(self.camera.position(s), directions)
        bodies = self.body_of[hits.triangle]
        colour = self.albedo(geometry, hits, bodies)
        normals = unit(geometry.blend(geometry.normals, hits))
        normals *= -np.sign((normals * directions).sum(-1, keepdims=True))  # towards the viewer: sheets have two sides
        sunlight = np.maximum(normals @ self.look.sun, 0)
        shining = ~np.array([body.lit for body in self.layers])
        if self.look.shadows:
            asked = np.flatnonzero((sunlight > 0) & ~shining[bodies])
            origins = (self.camera.position(s) + hits.depth[:, None] * directions + SHADOW_OFFSET * normals)[asked]
            blockers = geometry.first(origins, np.broadcast_to(self.look.sun, origins.shape))
            sunlight[asked] *= shining[self.body_of[blockers]]
        light = np.where(shining[bodies], 1.0, self.look.ambient + 1.35 * (1 - self.look.ambient) * sunlight)
        return colour * light[:, None].astype(np.float32)

    def albedo(self, geometry, hits, bodies):
        """Texture colours (n, 3) at hits (n,)."""
        rest, normals = geometry.blend(self.rest, hits), geometry.blend(self.rest_normals, hits)
        materials = {id(body.material): body.material for body in self.layers}
        owner = np.array([list(materials).index(id(body.material)) for body in self.layers])[bodies]
        colour = np.zeros(rest.shape, np.float32)
        for index, material in enumerate(materials.values()):
            chosen = owner == index
            colour[chosen] = material.colour(rest[chosen], normals[chosen])
        return colour

    def develop(self, image, index, rng):
        """Light (H, W, 3) -> uint8: exposure, vignetting, noise and compression."""
        look, s = self.look, self.progress(index)
        gain = 1 + look.exposure * math.sin(2 * math.pi * look.exposure_cycles * s + self.seed)
        radius = np.linalg.norm(self.to_plane(self.grid()), axis=-1) / math.hypot(0.5, 0.5 * self.width / self.height)
        image = image * (gain * (1 - look.vignetting * radius[..., None] ** 2)) * 255
        image = np.round(image + rng.normal(0, look.noise, image.shape)).clip(0, 255).astype(np.uint8)
        coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, look.jpeg])[1]
        return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])


# ---------------------------------------------------------------- what the kinds are made of


@dataclass
class World:
    """A scene under construction: random choices, the ground and the bodies so far."""

    rng: np.random.Generator
    pixel: float  # metres that a pixel covers at DISTANCE
    reach: float  # half the width, in metres, that is seen at DISTANCE
    painted: int  # palettes used so far; starts anywhere
    ground: Waves = None
    bodies: list = field(default_factory=list)

    def add(self, name, mesh, *steps, material=None, foreground=True, lit=True):
        """Add a body; its texture starts at a random place."""
        rest, faces = mesh
        material = material or self.paint()
        shifted = rest + self.rng.uniform(-9, 9, 3)
        self.bodies.append(Body(name, shifted, faces, posed(rest, *steps), material, foreground, lit))

    def material(self, palette, extent, roughness=1.15, blotches=0.0, stretch=(1.0, 1.0)):
        """A fractal texture in a palette's colours; `blotches` mixes in patches of another of its shades."""
        values = fractal_noise(self.rng, roughness, stretch)
        if blotches:
            values = (1 - blotches) * values + blotches * (fractal_noise(self.rng, 1.8) > 0.5)
        texture = colourise(values, palette)
        # Finer detail than half a pixel would only flicker.
        sigma = min(0.4 * self.pixel * scenes.TEXELS / extent, 8.0)
        return Material(ndimage.gaussian_filter(texture, (sigma, sigma, 0), mode="wrap"), extent)

    def paint(self):
        """An object's material: the next of the palettes, more or less muted."""
        self.painted += 1
        palette = np.array(PALETTES[self.painted % len(PALETTES)])
        grey = palette.mean(-1, keepdims=True)
        palette = palette + self.rng.uniform(0, 0.5) * (grey - palette)
        return self.material(palette, self.rng.uniform(2.5, 4.5), 1.2, self.rng.uniform(0.2, 0.6))

    def height(self, x, y, s=0.0):
        return float(self.ground.height(np.array([x, y]), s))

    def add_ground(self, kind):
        """Rolling ground, or for `water` rolling waves."""
        if kind == "3d-water":
            self.ground, palette, cells = random_waves(self.rng, 0.35, 3.5, speed=7.0), WATER, 110
        else:
            self.ground, palette, cells = random_waves(self.rng, self.rng.uniform(0.1, 0.35), 5.0), self.earth(), 80
        self.add("ground", sheet(44, 44, cells, cells), self.ground.step, material=self.material(palette, 9.0, 1.0),
                 foreground=False)

    def earth(self):
        return EARTH[self.rng.integers(len(EARTH))]

    def add_sky(self):
        palette = np.array(BACKGROUNDS[self.rng.integers(len(BACKGROUNDS))])
        palette = palette + self.rng.uniform(0.2, 0.7) * (palette.mean(0) - palette)  # haze
        sky = self.material(palette, 3 * SKY_RADIUS, 1.4)
        self.add("sky", ellipsoid([SKY_RADIUS] * 3), material=sky, foreground=False, lit=False)

    def add_poles(self, places, radius):
        """Upright wooden posts at places [(x, y), ...]."""
        wood = self.material(WOOD, 3.0, 1.2, stretch=(0.4, 2.0))
        for x, y in places:
            slant = self.rng.uniform(-0.25, 0.25)
            post = limb((x, y, -1.0), (x + slant, y, 6.0), radius * self.rng.uniform(0.8, 1.2), rings=3, segments=16)
            self.add("pole", post, material=wood, foreground=False)

    def add_boulders(self, count):
        """Static boxes and rocks beyond the action, for parallax."""
        for x in np.linspace(-1.5, 1.5, count) * self.reach + self.rng.uniform(-0.5, 0.5, count):
            y, size = self.rng.uniform(3, 8), self.rng.uniform(0.4, 1.2, 3)
            mesh = cuboid(size) if self.rng.random() < 0.5 else ellipsoid(size)
            place = np.array([x, y, self.height(x, y) + 0.4 * size[2]])
            stone = self.material(self.earth(), 4.0, 1.1, 0.3)
            self.add("rocks", mesh, spin((0, 0, 1), 0, self.rng.uniform(0, 3)), move(lambda s, place=place: place),
                     material=stone, foreground=False)

    def on_ground(self, path, lift=0.0):
        """A path carried up by the ground below it."""
        return lambda s: path(s) * [1, 1, 0] + [0, 0, lift + self.height(*path(s)[:2], s)]

    def crossing(self, y, share=0.75, side=1, z=0.0, wave=(0.0, 0.0, 0.0)):
        """A path from one side to the other at about depth y, over a share of what is seen there."""
        half = side * share * self.reach * (DISTANCE + y) / DISTANCE
        shift, middle = self.rng.uniform(-0.5, 0.5, 2), self.rng.uniform(-0.2, 0.2) * abs(half)
        start, end = (middle - half, y + shift[0], z), (middle + half, y + shift[1], z)
        return travel(start, end, wave, self.rng.uniform(0.8, 1.6), self.rng.uniform(0, 6))

    def add_animal(self, name, size, path, gait, material=None):
        """A four-legged animal that walks along a path, with `gait` strides over the video."""
        material, phase = material or self.paint(), self.rng.uniform(0, 6)
        thick, tall = self.rng.uniform(0.8, 1.25), self.rng.uniform(0.85, 1.2)
        ahead = lambda s: path(s + 0.02) - path(s - 0.02)  # noqa: E731
        steps = [
            undulate(0.09, 2.4, gait, phase),
            lambda points, s: points * size * [1, 1, tall],
            hinge(np.zeros(3), (0, 0, 1), lambda s: math.atan2(ahead(s)[1], ahead(s)[0])),
            move(self.on_ground(path)),
            move(lambda s: np.array([0, 0, 0.04 * size * math.sin(4 * math.pi * gait * s + phase)])),
        ]
        nod = hinge(np.array([0.55, 0, 1.05]), (0, 1, 0), swinging(0.25, gait, phase))
        wag = hinge(np.array([-0.7, 0, 1.0]), (0, 0, 1), swinging(0.5, 1.5 * gait, phase))
        self.add(name, limb((-0.5, 0, 0.95), (0.5, 0, 1.0), 0.24 * thick, 0.28 * thick, 14, 18), *steps,
                 material=material)
        self.add(name, limb((0.55, 0, 1.05), (0.9, 0, 1.4), 0.14 * thick, 0.1), nod, *steps, material=material)
        head = ellipsoid((0.26, 0.14, 0.15))
        self.add(name, (head[0] + [1.02, 0, 1.42], head[1]), nod, *steps, material=material)
        self.add(name, limb((-0.7, 0, 1.0), (-1.3, 0, 0.75), 0.07, 0.03, 12), wag, *steps, material=material)
        for k, (x, y) in enumerate([(0.45, 0.16), (0.45, -0.16), (-0.45, 0.16), (-0.45, -0.16)]):
            self.add_leg(name, np.array([x, y, 0.9]), gait, phase + math.pi * (k in (0, 3)), steps, material)

    def add_leg(self, name, hip, gait, phase, steps, material):
        knee, foot = hip * [1, 1, 0.5], hip * [1, 1, 0.03]
        swing = hinge(hip, (0, 1, 0), swinging(0.5, gait, phase))
        fold = hinge(knee, (0, 1, 0), swinging(0.35, gait, phase + 1.2, 0.35))
        self.add(name, limb(hip, knee, 0.12, 0.08), swing, *steps, material=material)
        self.add(name, limb(knee, foot, 0.08, 0.06), fold, swing, *steps, material=material)

    def add_ball(self, name, radius, path, wobbling=0.0):
        """A ball that rolls along a path, more or less soft."""
        way = path(1) - path(0)
        axis, turn = np.cross([0, 0, 1.0], way), np.linalg.norm(way) / radius
        soft = wobble(wobbling, self.rng.normal(0, 1.6 / radius, 3), self.rng.uniform(1, 2), self.rng.uniform(0, 6))
        self.add(name, ellipsoid([radius] * 3), spin(axis, turn), soft, move(self.on_ground(path, 0.95 * radius)))

    def add_tumbler(self, name, mesh, path, turn, material=None):
        axis = unit(self.rng.normal(size=3))
        self.add(name, mesh, spin(axis, turn, self.rng.uniform(0, 6)), move(path), material=material)


def random_solids(rng, size):
    """Makers of a ring, a box, an ellipsoid and a rod of about the given radius in metres."""
    return [
        lambda: torus(0.75 * size, 0.28 * size),
        lambda: cuboid(size * rng.uniform(0.45, 0.8, 3)),
        lambda: ellipsoid(size * rng.uniform(0.45, 1.0, 3)),
        lambda: limb((0, 0, -0.8 * size), (0, 0, 0.8 * size), 0.3 * size, 0.2 * size),
    ]


# ---------------------------------------------------------------- the kinds


def walker(world):
    """An animal walks across rolling ground behind posts; a small one comes the other way."""
    rng, side = world.rng, world.rng.choice([-1, 1])
    world.add_animal("walker", rng.uniform(1.2, 1.5), world.crossing(0.0, 0.55, side), rng.uniform(2, 3))
    world.add_animal("cub", rng.uniform(0.6, 0.8), world.crossing(1.8, 0.65, -side), rng.uniform(3, 4))
    world.add_poles([(rng.uniform(-1.2, -0.3), -1.8), (rng.uniform(0.5, 1.4), -2.2)], 0.14)
    world.add_boulders(4)


def tumble(world):
    """Four solids tumble through the air and hide one another and their own sides."""
    rng = world.rng
    solids = random_solids(rng, 0.8)
    for k, index in enumerate(rng.permutation(4)):
        wave = (0.0, 0.0, rng.uniform(0.1, 0.35))
        path = world.crossing(-1.2 + 1.1 * k, rng.uniform(0.4, 0.65), (-1) ** k, rng.uniform(0.9, 2.0), wave)
        world.add_tumbler(("ring", "box", "egg", "rod")[index], solids[index](), path, rng.uniform(1.2, 2.4))
    world.add_boulders(3)


def balls(world):
    """Soft balls roll behind one another."""
    rng, side = world.rng, world.rng.choice([-1, 1])
    for k in range(5):
        path = world.crossing(-2.0 + k, rng.uniform(0.45, 0.7), side * (-1) ** k)
        world.add_ball(f"ball {k}", rng.uniform(0.4, 0.75), path, rng.uniform(0.0, 0.16))
    world.add_boulders(3)


def cloth(world):
    """A flag and a curtain wave; one ball rolls between them, one before."""
    rng, side = world.rng, world.rng.choice([-1, 1])
    width, height, edge = rng.uniform(2.2, 2.8), rng.uniform(1.4, 1.9), -side * rng.uniform(1.7, 2.0)
    world.add("flag", sheet(width, height, 60, 40), flutter(rng, width, 0.35),
              upright((edge, -0.6, rng.uniform(1.6, 2.0)), side, width))
    world.add_poles([(edge, -0.6)], 0.07)
    draw = travel((0, 0, 0), (0.8 * side, 0, 0), (0.3, 0, 0), 1.5)
    world.add("curtain", sheet(2.4, 2.4, 50, 50), flutter(rng, 2.4, 0.25),
              upright((side * 1.9, 1.8, 1.7), -side, 2.4), move(draw))
    world.add_ball("ball", rng.uniform(0.5, 0.65), world.crossing(0.7, 0.6, side))
    world.add_ball("small ball", rng.uniform(0.25, 0.4), world.crossing(-1.8, 0.65, -side))
    world.add_boulders(4)


def flutter(rng, width, amplitude):
    """Waves across a sheet in the xy-plane that grow from its edge at -width / 2, out of the plane and within it."""
    lengths, phases = rng.uniform(0.9, 2.0, 3), rng.uniform(0, 6, 3)
    cycles, slants = rng.uniform(1.5, 3.2, 3), rng.uniform(-0.8, 0.8, 3)

    def step(points, s):
        free = (points[:, :1] + width / 2) / width
        x, y = points[:, :1], points[:, 1:2]
        wave = np.sin(2 * np.pi * ((x + slants * y) / lengths - cycles * s) + phases)  # (V, 3)
        return points + free * wave * amplitude * np.array([0.15, 0.3, 1.0])

    return step


def upright(edge, side, width):
    """Stand a sheet up from its edge at -width / 2, which is placed at `edge`; side: whether it flies right or left."""
    axes = np.array([[side, 0, 0], [0, 0, 1.0], [0, 1.0, 0]])  # rows: where the sheet's x, y and z go
    return lambda points, s: (points + [width / 2, 0, 0]) @ axes + np.asarray(edge)


def water(world):
    """Boxes and a ring float on waves behind posts."""
    rng = world.rng
    for k, index in enumerate(rng.permutation(3)):
        path = world.crossing(-0.8 + 1.6 * k, rng.uniform(0.35, 0.6), (-1) ** k)
        mesh, name = random_solids(rng, rng.uniform(0.8, 1.0))[index](), ("ring", "crate", "buoy")[index]
        world.add(name, mesh, float_on(world.ground, path, rng.uniform(-1.5, 1.5)))
    world.add_poles([(rng.uniform(-1.6, -0.6), -1.5), (rng.uniform(0.4, 1.4), -2.0)], 0.12)


def float_on(waves, path, turn):
    """Rise and tilt with the water below a path, and turn about the upright axis."""

    def step(points, s):
        x, y, _ = path(s)
        ground = np.array([[0.0, 0.0], [0.4, 0.0], [0.0, 0.4]]) + [x, y]
        middle, east, north = waves.height(ground, s)
        normal = unit(np.array([(middle - east) / 0.4, (middle - north) / 0.4, 1.0]))
        right = unit(np.cross([0.0, 1.0, 0.0], normal))
        tilt = np.stack([right, np.cross(normal, right), normal])
        return points @ rotation((0, 0, 1), turn * s).T @ tilt + [x, y, middle + 0.15]

    return step


def thin(world):
    """A spoked wheel rolls by, rods swing, and a compact animal walks behind them."""
    rng, side = world.rng, world.rng.choice([-1, 1])
    radius, path = rng.uniform(0.9, 1.1), world.crossing(-0.8, 0.5, side)
    roll, paint = -side * rng.uniform(1.5, 2.8), world.paint()
    steps = [hinge(np.zeros(3), (1, 0, 0), lambda s: math.pi / 2), spin((0, 1, 0), -roll),
             spin((0, 0, 1), 0.5 * side, -0.25), move(world.on_ground(path, radius))]
    world.add("wheel", torus(radius, 0.05), *steps, material=paint)
    for angle in np.arange(5) * np.pi / 5:
        tip = radius * np.array([math.cos(angle), math.sin(angle), 0])
        world.add("wheel", limb(-tip, tip, 0.035), *steps, material=paint)
    for k, x in enumerate(np.linspace(-1.6, 1.6, 4) + rng.uniform(-0.2, 0.2, 4)):
        pivot, swing = np.array([x, 0.3 + 0.2 * k, 3.6]), swinging(0.45, rng.uniform(1, 1.6), rng.uniform(0, 6))
        world.add(f"rod {k}", limb(pivot, pivot - [0, 0, 2.9], 0.04), hinge(pivot, (0, 1, 0), swing))
    world.add_animal("walker", 0.9, world.crossing(1.8, 0.6, -side), 3)


def flythrough(world):
    """Columns, boxes and rocks stand on rolling ground that the camera flies through; a ball and an animal cross."""
    rng = world.rng
    for name, count in (("columns", 9), ("boxes", 8)):
        material = world.material(WOOD if name == "columns" else world.earth(), 3.0, 1.1, 0.35)
        for _ in range(count):
            x, y = clear_place(rng)
            size = rng.uniform(0.25, 0.7, 3)
            mesh = cuboid(size) if name == "boxes" else limb((0, 0, -1), (0, 0, rng.uniform(2, 4)), 0.6 * size[0])
            place = np.array([x, y, world.height(x, y) + 0.5 * size[2] * (name == "boxes")])
            world.add(name, mesh, spin((0, 0, 1), 0, rng.uniform(0, 3)), move(lambda s, place=place: place),
                      material=material, foreground=False)
    world.add_ball("ball", rng.uniform(0.5, 0.7), world.crossing(1.5, 0.4))
    world.add_animal("walker", rng.uniform(1.0, 1.4), world.crossing(4.0, 0.35, -1), 3)
    world.add_boulders(5)


def clear_place(rng):
    """A place (x, y) in the valley that keeps clear of the corridor of flythrough's camera."""
    while True:
        x, y = rng.uniform(-4.5, 4.5), rng.uniform(-5.0, 8.0)
        if abs(x) > 1.7 or y > 1.0:
            return x, y


def crowd(world):
    """Many small things of several sizes and speeds cross behind posts and one another."""
    rng = world.rng
    paints = [world.paint() for _ in range(4)]
    for k in range(10):
        y, side = -1.6 + 0.5 * k, (-1) ** k
        share = rng.choice([0.25, 0.5, 0.8]) * rng.uniform(0.9, 1.1)
        if k % 3 == 0:
            size, path = rng.uniform(0.5, 0.8), world.crossing(y, share, side)
            world.add_animal(f"animal {k}", size, path, 8 * share, paints[k // 3])
        elif k % 3 == 1:
            world.add_ball(f"ball {k}", rng.uniform(0.2, 0.4), world.crossing(y, share, side), 0.08)
        else:
            mesh = random_solids(rng, rng.uniform(0.3, 0.5))[rng.integers(4)]()
            path = world.crossing(y, share, side, rng.uniform(0.7, 2.2), (0, 0, rng.uniform(0.1, 0.4)))
            world.add_tumbler(f"thing {k}", mesh, path, rng.uniform(2, 4), paints[k % 4])
    world.add_poles([(x + rng.uniform(-0.4, 0.4), -2.4) for x in (-1.3, 0.1, 1.4)], 0.09)


def weather(world):
    """Animal, ball and tumbling ring behind posts, taken by a poor camera in changing light."""
    rng, side = world.rng, world.rng.choice([-1, 1])
    world.add_animal("walker", rng.uniform(1.0, 1.3), world.crossing(0.3, 0.6, side), rng.uniform(2, 3))
    world.add_ball("ball", rng.uniform(0.4, 0.6), world.crossing(-0.9, 0.7, -side), 0.1)
    path = world.crossing(1.5, 0.6, -side, 1.9, (0, 0, 0.3))
    world.add_tumbler("ring", torus(0.7, 0.24), path, rng.uniform(2, 4))
    world.add_poles([(rng.uniform(-1.2, -0.3), -1.8), (rng.uniform(0.5, 1.4), -2.2)], 0.14)
    world.add_boulders(3)


MAKERS = {
    "3d-walker": walker,
    "3d-tumble": tumble,
    "3d-balls": balls,
    "3d-cloth": cloth,
    "3d-water": water,
    "3d-thin": thin,
    "3d-flythrough": flythrough,
    "3d-crowd": crowd,
    "3d-weather": weather,
}
KINDS = tuple(MAKERS)


def make_camera(rng, kind):
    """A hand-held camera that walks a little sideways; flythrough's goes forward and looks from side to side."""
    side, shake = rng.choice([-1, 1]), rng.uniform(0.01, 0.03, 3)
    if kind == "3d-flythrough":
        start, end = (-0.9 * side, -7.5, 1.7), (0.9 * side, -2.6, rng.uniform(1.7, 2.4))
        look = travel((1.6 * side, 5, 0.8), (-1.2 * side, 9, 0.9))
    else:
        step, approach = rng.uniform(0.3, 1.0), rng.uniform(-0.6, 0.6)
        start, end = (-step * side, -DISTANCE + approach, 2.0), (step * side, -DISTANCE - approach, 2.0)
        end = np.add(end, (0, 0, rng.uniform(-0.4, 0.6)))
        look = travel((0.25 * side, 0, 1.0), (-0.25 * side, 0, 1.2))
    return Camera(travel(start, end, shake, rng.uniform(2, 3), rng.uniform(0, 6)), look)


def make_look(rng, kind):
    """A sun from above, and for `weather` every trouble that a camera has."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.1)
    sun = np.array([math.cos(azimuth), math.sin(azimuth), 0]) * math.cos(elevation) + [0, 0, math.sin(elevation)]
    if kind == "3d-weather":
        return Look(sun, 0.35, exposure=0.3, exposure_cycles=rng.uniform(1, 2), shutter=0.6, noise=3.0, jpeg=55)
    return Look(sun, rng.uniform(0.4, 0.55), shadows=kind != "3d-thin", noise=rng.uniform(1, 2),
                jpeg=int(rng.integers(82, 93)))


def make_scene3d(kind="3d-walker", seed=0, num_frames=24, height=144, width=192):
    """A scene of one of KINDS; the same kind and seed at another frame count is the same motion resampled."""
    if kind not in KINDS:
        raise UserError(f"scene kind {kind!r}: expected one of {', '.join(KINDS)}")
    rng = np.random.default_rng([3, KINDS.index(kind), seed])
    world = World(rng, DISTANCE / FOCAL / height, DISTANCE / FOCAL * width / height / 2, rng.integers(99))
    camera, look = make_camera(rng, kind), make_look(rng, kind)
    world.add_ground(kind)
    MAKERS[kind](world)
    world.add_sky()
    return Scene3D(f"{kind}-{seed}", world.bodies, camera, num_frames, height, width, look=look, seed=seed)


def main(arguments=None):
    scenes.main(arguments, KINDS, make_scene3d, "python -m benchmarks.scenes3d", __doc__)


if __name__ == "__main__":
    main()
