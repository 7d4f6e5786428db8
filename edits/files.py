"""What edits read and leave: labels, layers and masks as images, and the folder of an edit, whole or not at all.

Conventions: images (H, W, ...) of the original video's size; a folder of an edit holds edit.json, which says what made
it, and by which it is known when it is to be overwritten.
"""

import contextlib
import json
from pathlib import Path

import cv2
import numpy as np

from preprocess.frames import list_images, staged_folder
from preprocess.labels import read
from preprocess.labels import read_labels as read_labels  # and this, for whoever edits
from util import UserError, atomic_path


def read_layer(option, path, size):
    """uint8 (H, W, 4) RGBA. UserError as read(), or without an alpha channel, or when nothing is on it."""
    image = read(option, path, size)
    if image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
        raise UserError(f"{option} {path}: expected RGBA of 8 bits, transparent where the video is to stay")
    if not image[..., 3].any():
        raise UserError(f"{option} {path}: fully transparent; there is nothing to paint")
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)


def read_masks(option, folder, num_frames, size):
    """bool (N, H, W) of a folder of images, one a frame, not 0 on what is meant. UserError for another number."""
    files = list_images(folder)
    if len(files) != num_frames:
        raise UserError(f"{option} {folder}: {len(files)} images; expected {num_frames}, one a frame")
    images = (read(option, file, size) for file in files)
    return np.stack([image > 0 if image.ndim == 2 else (image[..., :3] > 0).any(-1) for image in images])


def write_png(path, image):
    """Write uint8 or uint16 (H, W), or uint8 (H, W, 3 or 4) RGB(A)."""
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", image)[1].data)


def check_folder(folder, overwrite):
    """UserError when the folder of an edit is there already, or is anything but an edit that may be overwritten."""
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / "edit.json").is_file():
        raise UserError(f"--out {folder}: holds something else than an edit; name a folder that is new or empty")
    if not overwrite:
        raise UserError(f"--out {folder}: an edit is there already; name another folder, or give --overwrite")


@contextlib.contextmanager
def edit_folder(folder, settings):
    """Yield a temporary folder that becomes `folder` when all is written; settings: {name: value}, for edit.json."""
    with staged_folder(folder) as staged:
        yield staged
        text = json.dumps(settings, indent=1, default=str) + "\n"
        (staged / "edit.json").write_text(text, encoding="utf-8")
