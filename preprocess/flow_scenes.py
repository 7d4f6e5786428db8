"""Pairs of images with exact flow and occlusion, generated in batches on any device, to train optical flow on.

A scene is a stack of layers: layer 0 fills the image, later ones are nearer, each a textured shape that moves by its
own map from the first frame to the second. All maps are invertible in closed form (homography after shears), so that a
layer is drawn by pulling, its flow is exact in both directions, and occlusion is a look at nearer layers' coverage.

Conventions: points are (B, n, 2), (x, y) in pixels from the image's centre; images are (B, 3, H, W) in [0, 1];
flow is (B, 2, H, W) in pixels. B scenes, L layers. Frame 0 is the first, frame 1 the second.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

TEXTURE_SIDE = 256  # texels; textures repeat
EDGE = 1.0  # pixels over which a shape's coverage goes from 0 to 1
SHAPE_HARMONICS = 5  # of a blob's radius around its centre
WAVES = 2  # sine waves in each non-rigid shear


class Pairs(NamedTuple):
    """Both directions of B scenes; index 0 of each tuple is first -> second."""

    images: torch.Tensor  # (2, B, 3, H, W) in [0, 1]
    flow: torch.Tensor  # (2, B, 2, H, W): flow[0] from images[0] to images[1], flow[1] back
    visible: torch.Tensor | None  # (2, B, H, W) bool: the pixel is seen in the other image


def make_pairs(textures, batch, height, width, max_motion, generator, num_layers=6, with_visibility=False):
    """Generate Pairs. max_motion: pixels, the top of the heavy-tailed distribution of a scene's motion.

    textures (T, 4, S, S) as from make_textures; generator: of the textures' device, the only source of chance.
    """
    scenes = random_scenes(textures, batch, num_layers, height, width, max_motion, generator)
    drawn = [scenes.draw(frame) for frame in (0, 1)]
    images = degrade(torch.stack([image for image, _ in drawn]), generator)
    flow = torch.stack([scenes.flow(frame, drawn[frame][1]) for frame in (0, 1)])
    visible = None
    if with_visibility:
        visible = torch.stack([scenes.visible(frame, drawn[frame][1], flow[frame]) for frame in (0, 1)])
    return Pairs(images, flow, visible)


class Chance:
    """Random numbers of one shape from one generator."""

    def __init__(self, generator, *shape):
        self.generator, self.shape = generator, shape

    def uniform(self, low, high, *more):
        """(*shape, *more) uniform in [low, high)."""
        unit = torch.rand((*self.shape, *more), generator=self.generator, device=self.generator.device)
        return low + (high - low) * unit

    def log_uniform(self, low, high):
        """(*shape) with a uniform logarithm."""
        return self.uniform(math.log(low), math.log(high)).exp()

    def normal(self, *more):
        """(*shape, *more) standard normal."""
        return torch.randn((*self.shape, *more), generator=self.generator, device=self.generator.device)

    def happens(self, probability):
        """(*shape) bool."""
        return self.uniform(0, 1) < probability

    def integer(self, high):
        """(*shape) in 0 .. high - 1."""
        return torch.randint(high, self.shape, generator=self.generator, device=self.generator.device)


# ---- scenes ----------------------------------------------------------------------------------------------------------


@dataclass
class Scenes:
    """The parameters of B scenes of L layers, each (B, L, ...)."""

    textures: torch.Tensor  # (T, 4, S, S): RGB, and a field that holes are cut by
    size: tuple  # H, W
    homography: torch.Tensor  # (B, L, 3, 3) first -> second frame, after the shears
    shears: torch.Tensor  # (B, L, 2, WAVES, 3): amplitude, angular frequency, phase of x by y and of y by x
    shape: dict  # see random_shapes
    texture: torch.Tensor  # (B, L) index
    texture_map: torch.Tensor  # (B, L, 2, 3): first-frame pixel -> texture coordinate in [0, 1), repeating

    def forward(self, layer, points):
        """Where a layer's points of the first frame are in the second; inverse of `backward`."""
        return apply_homography(self.homography[:, layer], apply_shears(self.shears[:, layer], points))

    def backward(self, layer, points):
        """Where a layer's points of the second frame are in the first."""
        undone = apply_homography(torch.linalg.inv(self.homography[:, layer]), points)
        return undo_shears(self.shears[:, layer], undone)

    def to_first(self, layer, frame, points):
        """A layer's points of `frame` in the first frame."""
        return points if frame == 0 else self.backward(layer, points)

    def look(self, layer, points):
        """(coverage (B, n) in [0, 1], colour (B, n, 3)) of a layer at points of the first frame."""
        linear, offset = self.texture_map[:, layer].split([2, 1], dim=-1)
        texels = sample_periodic(self.textures[self.texture[:, layer]], points @ linear.mT + offset.mT)
        if layer == 0:
            return torch.ones_like(points[..., 0]), texels[..., :3]
        shape = {name: values[:, layer] for name, values in self.shape.items()}
        return coverage(shape, points, texels[..., 3]), texels[..., :3]

    def draw(self, frame):
        """(image (B, 3, H, W), index of the nearest layer that covers at least half of the pixel (B, n))."""
        grid = centred_grid(*self.size, self.homography.device).expand(len(self.homography), -1, -1)
        image, top = 0, torch.zeros_like(grid[..., 0], dtype=torch.long)
        for layer in range(self.homography.shape[1]):
            cover, colour = self.look(layer, self.to_first(layer, frame, grid))
            image = image + cover[..., None] * (colour - image)
            top = torch.where(cover >= 0.5, layer, top)
        return image.mT.unflatten(-1, self.size), top

    def flow(self, frame, top):
        """(B, 2, H, W) from `frame` to the other one, of the layers `top` (B, n)."""
        grid = centred_grid(*self.size, self.homography.device).expand(len(self.homography), -1, -1)
        move = self.forward if frame == 0 else self.backward
        flow = torch.zeros_like(grid)
        for layer in range(self.homography.shape[1]):
            flow = torch.where((top == layer)[..., None], move(layer, grid) - grid, flow)
        return flow.mT.unflatten(-1, self.size)

    def visible(self, frame, top, flow):
        """(B, H, W) bool: the pixel's point lies in the other image and no nearer layer covers it there."""
        height, width = self.size
        target = centred_grid(height, width, flow.device) + flow.flatten(2).mT
        seen = (target.abs() <= target.new_tensor([(width - 1) / 2, (height - 1) / 2])).all(dim=-1)
        for layer in range(1, self.homography.shape[1]):
            cover, _ = self.look(layer, self.to_first(layer, 1 - frame, target))
            seen &= ~((cover >= 0.5) & (layer > top))
        return seen.unflatten(-1, self.size)


def centred_grid(height, width, device):
    """(1, H W, 2) points of the pixels' centres."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return torch.stack([x - (width - 1) / 2, y - (height - 1) / 2], dim=-1).reshape(1, -1, 2)


def apply_homography(matrix, points):
    """matrix (B, 3, 3), points (B, n, 2) -> (B, n, 2)."""
    mapped = points @ matrix[:, :, :2].mT + matrix[:, None, :, 2]
    return mapped[..., :2] / mapped[..., 2:]


def wave(shear, coordinate):
    """shear (B, WAVES, 3), coordinate (B, n) -> displacement (B, n)."""
    amplitude, frequency, phase = shear[:, :, None].unbind(-1)  # (B, WAVES, 1)
    return (amplitude * torch.sin(frequency * coordinate[:, None] + phase)).sum(dim=1)


def apply_shears(shears, points):
    """x moves by a function of y, then y by a function of the new x: smooth, and invertible whatever the functions."""
    x, y = points.unbind(-1)
    x = x + wave(shears[:, 0], y)
    y = y + wave(shears[:, 1], x)
    return torch.stack([x, y], dim=-1)


def undo_shears(shears, points):
    """Inverse of apply_shears."""
    x, y = points.unbind(-1)
    y = y - wave(shears[:, 1], x)
    x = x - wave(shears[:, 0], y)
    return torch.stack([x, y], dim=-1)


def sample_periodic(textures, positions):
    """textures (B, C, S, S), positions (B, n, 2) in units of the texture, repeating -> (B, n, C), bilinear."""
    side = textures.shape[-1]
    padded = F.pad(textures, (0, 1, 0, 1), mode="circular")
    grid = (positions - positions.floor()) * 2 - 1  # -1 and 1 are the centres of texels 0 and S = 0
    return F.grid_sample(padded, grid[:, None].clamp(-1, 1 - 1e-6 / side), align_corners=True)[:, :, 0].mT


def coverage(shape, points, field):
    """(B, n) in [0, 1]: how much of a pixel a shape covers, from its (about) signed distance.

    shape: see random_shapes, each (B, ...); points (B, n, 2) of the first frame; field (B, n): the fourth channel.
    """
    along = points - shape["centre"][:, None]
    cos, sin = shape["angle"].cos()[:, None], shape["angle"].sin()[:, None]
    x = cos * along[..., 0] + sin * along[..., 1]
    y = cos * along[..., 1] - sin * along[..., 0]
    period = shape["period"][:, None]
    x = torch.where(period > 0, (x / period.clamp(min=1) + 0.5).remainder(1) * period - period / 2, x)
    radius, flatness = shape["radius"][:, None], shape["flatness"][:, None]
    box = torch.maximum(x.abs() - radius * flatness, y.abs() - radius)
    y = y * flatness
    around = torch.atan2(y, x)
    swing = 1 + sum(
        shape["swing"][:, None, k] * torch.cos((k + 1) * around + shape["phase"][:, None, k])
        for k in range(SHAPE_HARMONICS)
    )
    distance = torch.where(shape["is_box"][:, None], box, torch.hypot(x, y) - radius * flatness * swing)
    ring = shape["ring"][:, None]
    distance = torch.where(ring > 0, distance.abs() - ring, distance)
    cut = ((field - shape["cut"][:, None]) * 8 + 0.5).clamp(0, 1)
    return (0.5 - distance / EDGE).clamp(0, 1) * cut


# ---- chance ----------------------------------------------------------------------------------------------------------


def random_scenes(textures, batch, num_layers, height, width, max_motion, generator):
    """Scenes of B x L layers of all sizes, with motion from a tenth of a pixel to about max_motion."""
    chance = Chance(generator, batch, num_layers)
    homography, shears = random_motion(chance, Chance(generator, batch, 1), height, width, max_motion)
    index = chance.integer(len(textures))
    camouflaged = chance.happens(0.05)  # drawn with the background's texture
    index = torch.where(camouflaged, index[:, :1], index)
    turn, zoom = chance.uniform(0, 2 * math.pi), chance.log_uniform(0.25, 1.6) / TEXTURE_SIDE
    cos, sin = zoom * turn.cos(), zoom * turn.sin()
    rows = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], dim=-2)
    texture_map = torch.cat([rows, chance.uniform(0, 1, 2, 1)], dim=-1)
    shape = random_shapes(chance, height, width)
    return Scenes(textures, (height, width), homography, shears, shape, index, texture_map)


def random_motion(chance, per_scene, height, width, max_motion):
    """(homography (B, L, 3, 3), shears (B, L, 2, WAVES, 3)): a camera's motion with parallax, and each layer's own."""
    size = max(height, width)
    scale = per_scene.log_uniform(0.2, max_motion)  # pixels: how much moves in this scene
    own = scale * chance.uniform(0, 1) * chance.happens(0.8)
    camera = scale * per_scene.uniform(0, 1) * per_scene.happens(0.7)
    parallax = chance.uniform(0.6, 1.4)
    shift = random_direction(chance) * own[..., None] + random_direction(per_scene) * (camera * parallax)[..., None]
    bend = (scale / (size / 2)).clamp(max=1)  # angles and logarithms of scale that move the borders by about `scale`

    def either(amount, limit):
        """The camera's and the layers' own share of one parameter, (B, L)."""
        return (bend * amount * (per_scene.normal() + chance.normal())).clamp(-limit, limit)

    homography = homography_of(
        shift,
        pivot=chance.normal(2) * size / 4,
        angle=either(0.35, 1.2),
        log_zoom=either(0.25, 0.6),
        stretch=either(0.1, 0.3),
        tilt=torch.stack([either(0.06, 0.15), either(0.06, 0.15)], dim=-1) / (size / 2),
    )
    return homography, random_shears(chance, scale, size)


def random_direction(chance):
    """(*shape, 2) of unit length."""
    angle = chance.uniform(0, 2 * math.pi)
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def homography_of(shift, pivot, angle, log_zoom, stretch, tilt):
    """(..., 3, 3): turn, zoom and stretch about a pivot (..., 2), shift (..., 2), then tilt the plane (..., 2)."""
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    wide, high = (log_zoom + stretch).exp(), (log_zoom - stretch).exp()
    cos, sin = angle.cos(), angle.sin()
    linear = torch.stack([torch.stack([cos * wide, -sin * high], -1), torch.stack([sin * wide, cos * high], -1)], -2)
    offset = pivot + shift - (linear @ pivot[..., None])[..., 0]
    affine = torch.cat([linear, offset[..., None]], dim=-1)
    bottom = torch.stack([zero, zero, one], dim=-1)[..., None, :]
    tilted = torch.eye(3, device=angle.device).expand(*angle.shape, 3, 3).clone()
    tilted[..., 2, :2] = tilt
    return tilted @ torch.cat([affine, bottom], dim=-2)


def random_shears(chance, scale, size):
    """(B, L, 2, WAVES, 3): for some layers, waves longer than a fifth of the image, of slope below about a half."""
    wavelength = size * chance.uniform(0.2, 1.5, 2, WAVES)
    frequency = 2 * math.pi / wavelength
    amplitude = 0.3 * scale[..., None, None] * chance.uniform(0, 1, 2, WAVES)
    amplitude = torch.minimum(amplitude, 0.25 / frequency) * chance.happens(0.4)[..., None, None]
    return torch.stack([amplitude, frequency, chance.uniform(0, 2 * math.pi, 2, WAVES)], dim=-1)


def random_shapes(chance, height, width):
    """Blobs, boxes, rings, rods and fences of all sizes; each entry (B, L, ...), lengths in pixels.

    centre, angle; radius: half the longer side; flatness: the shorter side over it; is_box, else a blob whose radius
    swings (swing, phase); period: repeats along x when > 0; ring: half the width of the outline when > 0; cut: the
    texture's fourth channel has holes where it is smaller.
    """
    size = max(height, width)
    radius = chance.log_uniform(0.03 * size, 0.5 * size)
    flatness = torch.where(chance.happens(0.3), chance.log_uniform(0.03, 0.4), chance.uniform(0.4, 1))
    flatness = torch.maximum(flatness, 1.0 / radius)  # at least two pixels wide
    fence = chance.happens(0.08)
    width_across = radius * flatness
    swing = chance.normal(SHAPE_HARMONICS) * 0.35 / torch.arange(1, SHAPE_HARMONICS + 1, device=radius.device)
    return {
        "centre": chance.uniform(-0.55, 0.55, 2) * torch.tensor([width, height], device=radius.device),
        "angle": chance.uniform(0, 2 * math.pi),
        "radius": radius,
        "flatness": flatness,
        "is_box": chance.happens(0.35) | fence,
        "swing": (swing * chance.happens(0.8)[..., None]).clamp(-0.4, 0.4),
        "phase": chance.uniform(0, 2 * math.pi, SHAPE_HARMONICS),
        "period": torch.where(fence, width_across * chance.uniform(3, 6), 0.0),
        "ring": torch.where(chance.happens(0.12), (0.25 * width_across).clamp(min=1.0), 0.0),
        "cut": torch.where(chance.happens(0.12), chance.uniform(0.3, 0.5), -1.0),
    }


# ---- photometry ------------------------------------------------------------------------------------------------------


def degrade(images, generator):
    """What a camera does to images (2, B, 3, H, W), partly different in the two: light, colour, shadow, blur, noise."""
    scenes, frames = Chance(generator, 1, images.shape[1]), Chance(generator, 2, images.shape[1])

    def both(spread, *more):
        """exp of a change common to both frames and a smaller one of each: (2, B, *more, 1, 1)."""
        return (spread * (scenes.normal(*more) + 0.4 * frames.normal(*more))).exp()[..., None, None]

    images = shadow(images, scenes, frames)
    images = images.clamp(1e-3, 1) ** both(0.2)[..., None]  # gamma
    images = (images - 0.5) * both(0.15)[..., None] + 0.5
    images = images * both(0.15)[..., None] * both(0.06, 3)
    images = blur(images, (scenes.uniform(-1.0, 0.9) + frames.uniform(-0.3, 0.3)).clamp(min=0))
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    images = images + noise * (0.03 * scenes.uniform(0, 1) ** 2)[..., None, None, None]
    return (images.clamp(0, 1) * 255).round() / 255


def shadow(images, scenes, frames):
    """Darken a soft stripe that moves on its own, in a third of the scenes."""
    height, width = images.shape[-2:]
    grid = centred_grid(height, width, images.device)[0]  # (H W, 2)
    direction = random_direction(scenes)  # (1, B, 2)
    place = (scenes.uniform(-0.4, 0.4) + 0.1 * frames.normal())[..., None] * width  # (2, B, 1)
    reach = scenes.uniform(0.05, 0.3)[..., None] * width
    across = ((direction @ grid.mT) - place) / reach
    depth = (scenes.uniform(0.1, 0.6) * scenes.happens(0.33))[..., None]
    light = 1 - depth * torch.exp(-across.square())
    return images * light.unflatten(-1, (height, width))[:, :, None]


def blur(images, sigma):
    """Gaussian blur of images (2, B, 3, H, W), sigma (2, B) pixels up to about 1.2."""
    steps = torch.arange(-3, 4, device=images.device)
    kernel = torch.exp(-0.5 * (steps / sigma.clamp(min=0.05)[..., None]).square())
    kernel = (kernel / kernel.sum(dim=-1, keepdim=True)).flatten(0, 1).repeat_interleave(3, dim=0)  # (2 B 3, 7)
    flat = images.flatten(0, 2)[None]
    flat = F.conv2d(F.pad(flat, (3, 3, 3, 3), mode="replicate"), kernel[:, None, None, :], groups=len(kernel))
    return F.conv2d(flat, kernel[:, None, :, None], groups=len(kernel))[0].unflatten(0, images.shape[:3])


# ---- textures --------------------------------------------------------------------------------------------------------


def make_textures(count, generator):
    """(count, 4, S, S) in [0, 1]: repeating textures of every kind; the fourth channel is a field to cut holes by."""
    return torch.stack([make_texture(generator) for _ in range(count)])


def make_texture(generator):
    """(4, S, S): one texture of a random kind, mixed with noise of its own."""
    chance = Chance(generator)
    kinds = (cloudy, posterised, stripes, dots, cells, marks, smooth)
    pattern = kinds[int(chance.integer(len(kinds)))](generator)
    if chance.happens(0.3):  # one kind over another
        other = kinds[int(chance.integer(len(kinds)))](generator)
        pattern = torch.where(noise(generator, 1, 1.8) > chance.uniform(0.3, 0.7), pattern, other)
    grain = noise(generator, 3, float(chance.uniform(0.3, 1.2))) - 0.5
    texture = pattern * (1 - 0.3 * chance.uniform(0, 1)) + grain * chance.uniform(0, 1) ** 2 * 0.6
    return torch.cat([texture.clamp(0, 1), noise(generator, 1, 1.7)])


def noise(generator, channels, roughness):
    """(channels, S, S) repeating noise with spectrum 1 / |f|^roughness, about uniform in [0, 1]."""
    side, device = TEXTURE_SIDE, generator.device
    rows, columns = (fft(side, 1 / side, device=device) for fft in (torch.fft.fftfreq, torch.fft.rfftfreq))
    frequency = torch.hypot(rows[:, None], columns[None])
    white = torch.randn(channels, side, side // 2 + 1, 2, generator=generator, device=device)
    values = torch.fft.irfft2(torch.view_as_complex(white) * (frequency + 1) ** -roughness, s=(side, side))
    return torch.special.ndtr((values - values.mean((1, 2), keepdim=True)) / values.std((1, 2), keepdim=True))


def palette(generator, count):
    """(count, 3) colours: near one another or far apart, gaudy or nearly grey."""
    chance = Chance(generator)
    colours = (chance.uniform(0, 1, 3) + chance.uniform(0.1, 0.6) * chance.normal(count, 3)).clamp(0, 1)
    return torch.lerp(colours.mean(dim=1, keepdim=True), colours, chance.uniform(0.1, 1))


def coloured(values, colours):
    """values (1, S, S) in [0, 1] along the colours (K, 3) -> (3, S, S)."""
    place = values[0] * (len(colours) - 1)
    below = place.floor().clamp(max=len(colours) - 2).long()
    return torch.lerp(colours[below], colours[below + 1], (place - below)[..., None]).permute(2, 0, 1)


def axes(device):
    """x, y (S, S) in [0, 1)."""
    y, x = torch.meshgrid(*[torch.arange(TEXTURE_SIDE, device=device) / TEXTURE_SIDE] * 2, indexing="ij")
    return x, y


def cloudy(generator):
    """Fractal noise through a palette."""
    roughness = float(Chance(generator).uniform(0.8, 2.2))
    return coloured(noise(generator, 1, roughness), palette(generator, 4))


def posterised(generator):
    """Flat patches with sharp borders."""
    levels = 2 + int(Chance(generator).integer(5))
    values = (noise(generator, 1, float(Chance(generator).uniform(1.2, 2.2))) * levels).floor() / levels
    return coloured(values, palette(generator, 5))


def stripes(generator):
    """Stripes or a check pattern, straight or bent, soft or sharp."""
    chance = Chance(generator)
    x, y = axes(generator.device)
    bend = noise(generator, 1, 2.2)[0] * chance.uniform(0, 1.5) * chance.happens(0.5)
    a, b = (chance.integer(24) + 2, chance.integer(24) + 2)
    values = torch.sin(2 * math.pi * (a * x + bend))
    if chance.happens(0.5):
        values = values * torch.sin(2 * math.pi * (b * y + bend))
    values = (values * chance.log_uniform(0.7, 12)).clamp(-1, 1) / 2 + 0.5
    return coloured(values[None], palette(generator, 3))


def dots(generator):
    """A lattice of discs, some of them missing."""
    chance = Chance(generator)
    count = 4 + int(chance.integer(20))
    x, y = (axis * count for axis in axes(generator.device))
    radius = chance.uniform(0.15, 0.45)
    inside = ((radius - torch.hypot(x % 1 - 0.5, y % 1 - 0.5)) * TEXTURE_SIDE / count + 0.5).clamp(0, 1)
    kept = torch.rand(count, count, generator=generator, device=generator.device) < chance.uniform(0.5, 1.2)
    shades = torch.rand(count, count, generator=generator, device=generator.device)
    column, row = x.floor().long(), y.floor().long()
    inside = inside * kept[row, column]
    return torch.lerp(coloured(noise(generator, 1, 2.0), palette(generator, 2)),
                      coloured(shades[row, column][None], palette(generator, 3)), inside)  # fmt: skip


def cells(generator):
    """Voronoi cells of random colours, with or without borders."""
    chance = Chance(generator)
    count = 8 + int(chance.integer(100))
    x, y = axes(generator.device)
    centres = chance.uniform(0, 1, count, 2)
    away = torch.stack([x, y], dim=-1)[..., None, :] - centres
    away = (away - away.round()).square().sum(dim=-1)  # (S, S, count), on the torus
    nearest, index = away.sqrt().topk(2, largest=False)
    colours = palette(generator, count)[index[..., 0]].permute(2, 0, 1)
    border = ((nearest[..., 1] - nearest[..., 0]) * TEXTURE_SIDE / chance.uniform(1, 6)).clamp(0, 1)
    return colours * border if chance.happens(0.5) else colours


def marks(generator):
    """Glyph-like strokes on a plain or cloudy ground: lines of small bars and blocks."""
    chance = Chance(generator)
    ground = coloured(noise(generator, 1, 2.0), palette(generator, 2))
    inks = palette(generator, 4)
    for ink, (u, v, long, thick, lying) in enumerate(chance.uniform(0, 1, 60 + int(chance.integer(200)), 5).tolist()):
        length, width = 2 + int(20 * long**2), 1 + int(4 * thick)
        rows, columns = (width, length) if lying < 0.5 else (length, width)
        top, left = int(v * (TEXTURE_SIDE - rows)), int(u * (TEXTURE_SIDE - columns))
        ground[:, top : top + rows, left : left + columns] = inks[ink % 4][:, None, None]
    return ground


def smooth(generator):
    """A soft gradient: hardly any texture."""
    return coloured(noise(generator, 1, 3.0), palette(generator, 3))
