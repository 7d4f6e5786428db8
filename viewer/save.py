"""A page as one file that opens without a server: frames as WebP, tracks of grids on a few frames, rounded."""

import base64

import numpy as np
from tqdm import tqdm

from preprocess.frames import processed_size, shrink
from tracking.queries import default_step
from util import atomic_path
from viewer.frames import encode
from viewer.packing import pack_tracks
from viewer.page import self_contained

QUALITY, LARGEST_SIDE = 80, 960  # of WebP; pixels of embedded frames
GRIDS, POINTS = 3, 600  # frames with a grid, and points aimed at on each


def save_page(path, scene, step=None):
    """Write the page of a viewer.scene.Scene to `path`, whole or not at all -> its size in bytes.

    step: pixels between points of a grid (None: about POINTS points).
    """
    step = step or default_step(scene.frames.video_size, num_points=POINTS)
    described = scene.describe()
    for answer in described["answers"]:
        answer["command"] = None  # whoever opens the page has not its folders
    data = described | {
        "fits": False,
        "images": {name: embedded(scene, name) for name in scene.layers.names},
        "tracks": [[pack_tracks(tracks, rounded=True) for tracks in stored_tracks(answer, step)]
                   for answer in scene.answers],
        "step": step,
    }
    text = self_contained(data)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return len(text.encode())


def stored_tracks(answer, step):
    """[Tracks] that a page has of an answer: all of a file, or grids on the first, middle and last frame."""
    if not answer.live:
        return [answer.all]
    frames = sorted({round(k * (answer.num_frames - 1) / (GRIDS - 1)) for k in range(GRIDS)})
    return [answer.tracks(f"grid:{step}@{frame}") for frame in frames]


def embedded(scene, name):
    """All images of a layer as data URLs."""
    urls = []
    for i in tqdm(range(scene.frames.num_frames), desc=name, unit="frame"):
        image = scene.layers.image(name, i)
        image = shrink(np.ascontiguousarray(image), processed_size(*image.shape[:2], LARGEST_SIDE))
        urls.append(f"data:image/webp;base64,{base64.b64encode(encode(image, 'webp', QUALITY)).decode()}")
    return urls
