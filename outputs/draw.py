"""Draw points, trails, matches, maps and legends on images.

Conventions: images are uint8 (H, W, 3) RGB and never changed in place; positions are (x, y) in pixels of the image
drawn on, pixel centres at +0.5; colours are uint8 RGB. OpenCV's integer centres appear only in `fixed_point`.
"""

import functools
from pathlib import Path

import cv2
import matplotlib.colors
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.spatial import cKDTree

from flow.formats import flow_to_color
from util import inside_video

SHIFT = 4  # OpenCV draws at 1/16 pixel
GAP = 8  # pixels between images side by side
RIM = (18, 18, 22)  # the dark outline that keeps bright marks visible on bright images


def fixed_point(positions):
    """Raster positions (..., 2) -> OpenCV's integers with SHIFT fractional bits, clipped far outside the image."""
    near = np.clip(np.nan_to_num(positions, nan=-4096), -4096, 20000)
    return np.round((near - 0.5) * (1 << SHIFT)).astype(np.int32)


def position_colours(positions):
    """A colour for each position (Q, 2): hue runs along x, lightness along y, over the box that holds them all.

    Neighbours get similar colours, so order stays visible after any motion. Returns uint8 (Q, 3).
    """
    low, high = positions.min(axis=0), positions.max(axis=0)
    x, y = ((positions - low) / np.maximum(high - low, 1e-6)).T
    # hue 0 to 310 degrees, so that the left and right edges differ; pale above, deep below
    colours = matplotlib.colors.hsv_to_rgb(np.stack([310 / 360 * x, 0.5 + 0.45 * y, 1 - 0.1 * y], axis=-1))
    luminance = colours @ np.array([0.299, 0.587, 0.114])
    lift = np.clip((0.42 - luminance) / (1 - luminance), 0, 1)[:, None]  # pure blue would be as dark as a shadow
    return np.round((colours + lift * (1 - colours)) * 255).astype(np.uint8)


def mark_radius(image_size, positions):
    """Radius in pixels of marks at positions (Q, 2): a share of the image (H, W), smaller where marks would touch."""
    share = 0.006 * np.hypot(*image_size)
    if len(positions) < 2:
        return float(max(1.2, share))
    distance = cKDTree(positions).query(positions, k=2)[0][:, 1]  # to the nearest other one
    return float(max(1.2, min(share, 0.3 * np.median(distance))))


def draw_points(image, positions, colours, occluded, radius):
    """Visible points as discs with a dark rim, occluded ones as hollow crosses, those outside not at all."""
    inside = inside_video(positions, image.shape)
    image = draw_hollow_crosses(image, positions[inside & occluded], colours[inside & occluded], radius)
    centres = fixed_point(positions)
    for q in np.flatnonzero(inside & ~occluded):
        draw_disc(image, centres[q], RIM, radius + max(0.4, 0.28 * radius))
        draw_disc(image, centres[q], colours[q], radius)
    return image


def draw_disc(image, centre, colour, radius):
    """A filled disc, in place; centre as from fixed_point."""
    cv2.circle(image, centre.tolist(), round(radius * (1 << SHIFT)), as_tuple(colour), -1, cv2.LINE_AA, SHIFT)


def draw_hollow_crosses(image, positions, colours, radius):
    """The outline of an x at each position, on a faint dark rim; where it is too small to be hollow, the x itself."""
    if radius < 2.5:
        strokes, closed = radius * np.array([[[-1, -1], [1, 1]], [[-1, 1], [1, -1]]]), False
    else:
        strokes, closed = 1.5 * radius * CROSS[None], True
    lines = [list(fixed_point(position + strokes)) for position in positions]
    rims = image.copy()
    cv2.polylines(rims, sum(lines, []), closed, RIM, 3, cv2.LINE_AA, SHIFT)
    image = blend(image, rims, 0.45)
    for line, colour in zip(lines, colours):
        cv2.polylines(image, line, closed, as_tuple(colour), 1, cv2.LINE_AA, SHIFT)
    return image


def cross_outline(half_width=0.3):
    """(12, 2) corners of an x of unit arm length: a plus turned by 45 degrees."""
    w = half_width
    plus = [(w, w), (1, w), (1, -w), (w, -w), (w, -1), (-w, -1), (-w, -w), (-1, -w), (-1, w), (-w, w), (-w, 1), (w, 1)]
    return np.array(plus) @ np.array([[1, 1], [-1, 1]]) / np.sqrt(2)


CROSS = cross_outline()


def draw_trails(image, history, drawable, colours, thickness, levels=12):
    """Where points came from, fading with age.

    Args:
        history: (A, Q, 2) positions, oldest first, the last now.
        drawable: (A, Q) bool; a segment is drawn where both its ends are.
        thickness: pixels; levels: the number of distinct opacities.
    """
    segments = np.stack([history[:-1], history[1:]], axis=2)  # (A - 1, Q, 2 ends, 2)
    shown = drawable[:-1] & drawable[1:]
    for ages in np.array_split(np.arange(len(segments)), min(levels, max(len(segments), 1))):
        if not len(ages):
            continue
        painted = image.copy()
        for age in ages:
            lines = fixed_point(segments[age, shown[age]])
            for line, colour in zip(lines, colours[shown[age]]):
                cv2.polylines(painted, [line], False, as_tuple(colour), thickness, cv2.LINE_AA, SHIFT)
        image = blend(image, painted, 0.1 + 0.85 * (ages[-1] + 1) / len(segments))
    return image


def draw_matches(left, right, start, end, colours, occluded, radius, gap=GAP):
    """Two images side by side with lines between visible matches; occluded ones are hollow crosses without a line.

    start, end (Q, 2) are positions in the left and in the right image. Returns uint8 (H, 2 W + gap, 3).
    """
    offset = np.array([left.shape[1] + gap, 0])
    canvas = side_by_side(left, right, gap)
    lines = np.flatnonzero(inside_video(end, right.shape) & ~occluded)
    painted = canvas.copy()
    for q in lines:
        line = fixed_point(np.stack([start[q], end[q] + offset]))
        cv2.polylines(painted, [line], False, as_tuple(colours[q]), 1, cv2.LINE_AA, SHIFT)
    canvas = blend(canvas, painted, 0.75)
    canvas = draw_points(canvas, start, colours, np.zeros(len(start), bool), radius)
    outside = ~inside_video(end, right.shape)
    return draw_points(canvas, np.where(outside[:, None], -1, end + offset), colours, occluded, radius)


def side_by_side(left, right, gap=GAP):
    """Two images of equal height with a dark gap between them."""
    bar = np.full((left.shape[0], gap, 3), RIM, np.uint8)
    return np.concatenate([left, bar, right], axis=1)


def blend(below, above, opacity):
    """below + opacity * (above - below)."""
    return cv2.addWeighted(above, opacity, below, 1 - opacity, 0)


def subdue(image, amount=0.35):
    """A greyer, slightly darker image, on which colours stand out."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return blend(image, grey, amount)


def depth_colours(depth, near, far):
    """Depth (H, W) -> uint8 (H, W, 3): warm at `near`, cold at `far`."""
    unit = np.clip((depth - near) / max(far - near, 1e-6), 0, 1)
    return np.round(matplotlib.colormaps["Spectral"](unit)[..., :3] * 255).astype(np.uint8)


def with_depth_legend(image):
    """A bar from near to far in the lower left corner."""
    height, width = image.shape[:2]
    bar_width, bar_height = max(24, round(0.28 * width)), max(3, round(0.022 * height))
    margin = max(3, round(0.025 * height))
    bar = depth_colours(np.broadcast_to(np.linspace(0, 1, bar_width), (bar_height, bar_width)), 0, 1)
    top = height - margin - bar_height
    if margin + bar_width >= width or top < 1:
        return image  # too small for a legend
    image = framed_inset(image, bar, top, margin)
    size = max(7, round(0.032 * height))
    image = with_text(image, "near", (margin, top - 0.6 * size), size, "lb")
    return with_text(image, "far", (margin + bar_width, top - 0.6 * size), size, "rb")


def with_flow_legend(image, max_norm):
    """The colour wheel in the lower right corner, its rim labelled with the length that it stands for."""
    height, width = image.shape[:2]
    diameter, margin = max(15, round(0.2 * min(height, width))), max(3, round(0.025 * height))
    top, left = height - margin - diameter, width - margin - diameter
    if min(top, left) < 0:
        return image  # too small for a legend
    grid = (np.mgrid[:diameter, :diameter] + 0.5) / diameter * 2 - 1  # y, x
    wheel = flow_to_color(np.stack([grid[1], grid[0]], axis=-1), 1.0)
    opacity = np.clip((1 - np.hypot(*grid)) * diameter / 2 + 0.5, 0, 1)[..., None]
    image = image.copy()
    patch = image[top : top + diameter, left : left + diameter]
    patch[...] = np.round(opacity * wheel + (1 - opacity) * patch)
    size = max(7, round(0.032 * height))
    return with_text(image, f"{max_norm:.3g} px", (left - 0.8 * size, height - margin - 0.35 * size), size, "rb")


def framed_inset(image, inset, top, left):
    """`inset` placed on the image with a thin dark frame."""
    image = image.copy()
    height, width = inset.shape[:2]
    cv2.rectangle(image, (left - 1, top - 1), (left + width, top + height), RIM, 1)
    image[top : top + height, left : left + width] = inset
    return image


def with_label(image, text, left=0):
    """`text` in the upper left corner, or `left` pixels to the right of it."""
    size = max(8, round(0.036 * image.shape[0]))
    return with_text(image, text, (left + 0.8 * size, 0.7 * size), size, "lt")


def with_text(image, text, position, size, anchor):
    """White text of `size` pixels on a translucent dark box; `anchor` as in Pillow, 'lt' for left top."""
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).textbbox(position, text, font(size), anchor)
    margin = round(0.35 * size)
    boxed = Image.fromarray(image)
    box = (left - margin, top - margin, right + margin, bottom + margin)
    ImageDraw.Draw(boxed).rounded_rectangle(box, radius=margin, fill=RIM)
    picture = Image.fromarray(blend(image, np.array(boxed), 0.6))
    ImageDraw.Draw(picture).text(position, text, font=font(size), anchor=anchor, fill="white")
    return np.array(picture)


@functools.cache
def font(size):
    """matplotlib's own sans serif: the same on every machine."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def as_tuple(colour):
    """OpenCV wants plain numbers."""
    return tuple(int(channel) for channel in colour)


def spread_out(positions, count):
    """(at most count,) indices of positions (Q, 2), each as far as can be from those before it."""
    chosen = [int(np.argmin(np.linalg.norm(positions - positions.mean(axis=0), axis=1)))]
    distance = np.linalg.norm(positions - positions[chosen[0]], axis=1)
    while len(chosen) < min(count, len(positions)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(positions - positions[chosen[-1]], axis=1))
    return np.array(chosen)
