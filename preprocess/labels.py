"""Labels of objects as images: read, and of some frames of a video made layers of all (flow/layers.py)."""

import hashlib
import re
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from files import UserError, read_pixels
from flow.images import comes_back
from flow.layers import UNKNOWN, carried, colours_of, shares_of
from preprocess.frames import list_images

GIVEN = 255  # the confidence of given labels, in units of 1 / 255
MOST_OBJECTS, EXACT = 32, (".png", ".bmp", ".tif", ".tiff", ".gif")


def read(option, path, size):
    """An image as it is stored, (H, W) or (H, W, C), BGR. UserError unless it is readable and of size (H, W)."""
    image = read_pixels(path, expected=f"{option}, an image")
    if image.shape[:2] != tuple(size):
        found, expected = (f"{width}x{height}" for height, width in (image.shape[:2], size))
        raise UserError(f"{option} {path}: the image is {found}, expected {expected}, the size of the video's frames")
    return image


def read_labels(option, path, size):
    """Labels uint8 (H, W) of a PNG of grey levels or of a palette's indices (as DAVIS has them): 0 the background.

    A mask of a single level is label 1. UserError as read(), or for colours, 16 bits, or when nothing is set.
    """
    image = read_levels(option, path, read(option, path, size))
    levels = np.unique(image[image > 0])
    if not len(levels):
        raise UserError(f"{option} {path}: nothing is set in it; expected labels 1 to n on what is to be carried")
    return (image > 0).astype(np.uint8) if len(levels) == 1 else image


def read_levels(option, path, image):
    """uint8 (H, W): the grey levels, or the palette's indices, of an image that was read."""
    with Image.open(path) as stored:
        image = np.array(stored) if stored.mode == "P" else image
    if image.dtype != np.uint8:
        raise UserError(f"{option} {path}: expected an image of 8 bits, got {image.dtype.itemsize * 8}")
    if image.ndim == 3:
        if (image[..., :3] != image[..., :1]).any():
            raise UserError(f"{option} {path}: expected grey levels (labels 0 to n), got colours; to carry a painting "
                            "use: edit.py paint")
        image = image[..., 0]
    return image


class GivenLayers:
    """Labels of some frames, {frame: uint8 (H, W)} of the processed size, as flow.dis.DisFlow takes them."""

    def __init__(self, labels):
        numbers = sorted(set().union({0}, *(np.unique(one).tolist() for one in labels.values())) - {UNKNOWN})
        self.labels, self.count = labels, len(numbers)
        self.numbers, self.places = np.full((2, 256), UNKNOWN, np.uint8)  # of the objects' places, places of numbers
        self.numbers[: len(numbers)], self.places[numbers] = numbers, np.arange(len(numbers))
        digest = hashlib.sha256(b"".join(bytes([frame % 256]) + labels[frame].tobytes() for frame in sorted(labels)))
        self.description = {"frames": sorted(labels), "sha256": digest.hexdigest()}

    def given(self, i):
        return self.labels.get(i)


def read_layers(folder, data):
    """GivenLayers of --layers: images named by the number of their frame, of the video's own size.

    Grey levels, or a palette's indices, are objects; 255 beside others is unknown (as in DAVIS); where all images have
    but one level it is object 1. UserError: no such folder, another name or size, two images of a frame, a format that
    blurs levels, more than MOST_OBJECTS, or none.
    """
    if not Path(folder).is_dir():
        raise UserError(f"--layers {folder}: no such folder; expected one of images named by their frame, such as "
                        "00000.png")
    size, found = (data.original_height, data.original_width), {}
    for path in list_images(folder):
        number = re.search(r"(\d+)$", path.stem)
        if not number or int(number[1]) >= data.num_frames:
            raise UserError(f"--layers {path}: expected a name that ends in the number of a frame, 0 to "
                            f"{data.num_frames - 1}")
        if path.suffix.lower() not in EXACT:
            raise UserError(f"--layers {path}: expected a format that keeps levels exactly, such as .png")
        if int(number[1]) in found:
            raise UserError(f"--layers {path}: a second image of frame {int(number[1])}")
        found[int(number[1])] = read_levels("--layers", path, read("--layers", path, size))
    objects = set().union(*(np.unique(labels).tolist() for labels in found.values())) - {0}
    if not objects:
        raise UserError(f"--layers {folder}: nothing is set in any of its {len(found)} images; expected 1 to n "
                        "on objects")
    if len(objects - {UNKNOWN}) > MOST_OBJECTS:
        raise UserError(f"--layers {folder}: {len(objects)} grey levels; expected one for each of up to {MOST_OBJECTS} "
                        "objects, with no blurred rims")
    if len(objects) == 1:
        found = {frame: (labels > 0).astype(np.uint8) for frame, labels in found.items()}
    size = data.width, data.height
    return GivenLayers({frame: cv2.resize(one, size, interpolation=cv2.INTER_NEAREST) for frame, one in found.items()})


def label_frames(data, given, flow, progress):
    """Write the layers of all frames: given ones, and outwards from them what flow(i, j) (H, W, 2) carries there."""
    places = {i: given.places[labels] for i, labels in given.labels.items()}
    colours = colours_of(map(data.frame, places), places.values(), given.count)

    def shares(i):
        if i in places:
            return shares_of(places[i], given.count)
        labels, confidence = data.layers(i)
        return shares_of(given.places[labels], given.count, confidence)

    known = np.array(sorted(given.labels))
    for i in sorted(range(data.num_frames), key=lambda i: np.abs(known - i).min()):
        if data.has("layers", i):
            continue
        if i in given.labels:
            one = given.labels[i]
            data.write("layers", i, np.stack([one, np.where(one == UNKNOWN, 0, GIVEN).astype(np.uint8)]))
            progress(1)
            continue
        nearest = int(known[np.abs(known - i).argmin()])
        asked = {*(j for j in known.tolist() if j in data.partners(i)), i + (1 if nearest > i else -1)}
        looks = [(flow(i, j), comes_back(flow(i, j), flow(j, i)), shares(j)) for j in sorted(asked)]
        found = carried(data.frame(i), looks, colours)
        labels = given.numbers[found.argmax(-1)]
        data.write("layers", i, np.stack([labels, np.rint(255 * found.max(-1)).astype(np.uint8)]))
        progress(1)
