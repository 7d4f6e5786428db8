"""The frames that a page shows: those of a data directory, or a video's with nothing preprocessed.

Conventions: images are uint8 (H, W, 3) RGB of `size`; positions on the page are pixels of the original video, which has
`video_size`, centres at +0.5. Encoded images are the bytes of a PNG or WebP file.
"""

import cv2
import numpy as np

from loaders.data_dir import DataDir
from preprocess.frames import open_source, processed_size, shrink
from util import UserError

LARGEST_SIDE = 1280  # pixels of frames that are held in memory


def encode(image, kind="png", quality=101):
    """uint8 (H, W[, 3 or 4]) RGB(A) -> bytes of a 'png' or 'webp' file; quality 1 to 100, above: lossless webp."""
    code = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(image.shape[-1] if image.ndim == 3 else 1)
    options = [cv2.IMWRITE_WEBP_QUALITY, quality] if kind == "webp" else []
    return cv2.imencode(f".{kind}", image if code is None else cv2.cvtColor(image, code), options)[1].tobytes()


def decode(data):
    """Bytes of an image file -> uint8 (H, W, 3) RGB."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


class StoredFrames:
    """Frames and masks of a data directory."""

    def __init__(self, data):
        self.data, self.name, self.fps, self.num_frames = data, data.name, data.fps, data.num_frames
        self.size, self.video_size = (data.height, data.width), (data.original_height, data.original_width)
        self.has_masks = bool(data.manifest["video"].get("has_masks"))

    def frame(self, i):
        return self.data.frame(i)

    def mask(self, i):
        """bool (H, W), or None when there are no masks."""
        return self.data.mask(i)


class VideoFrames:
    """All frames of a video file or a folder, losslessly packed in memory, none larger than LARGEST_SIDE."""

    has_masks = False

    def __init__(self, path):
        source, self.packed = open_source(path), []
        for frame in source.frames():
            self.video_size = frame.shape[:2]
            self.size = processed_size(*self.video_size, LARGEST_SIDE)
            self.packed.append(encode(shrink(frame, self.size)))
        self.name, self.fps, self.num_frames = source.name, source.fps, len(self.packed)
        if not self.packed:
            raise UserError(f"--video {path}: no frames in it")

    def frame(self, i):
        return decode(self.packed[i])

    def mask(self, i):
        return None


def open_frames(path):
    """The frames of a data directory, or of a video file or folder. UserError when it is neither."""
    if (path / "manifest.json").exists():
        return StoredFrames(DataDir.open(path))
    return VideoFrames(path)


def check_same_video(what, tracks_of, frames):
    """UserError unless (N, video_size) of `what` are those of the frames."""
    (count, size), expected = tracks_of, (frames.num_frames, tuple(frames.video_size))
    if (count, tuple(size)) != expected:
        raise UserError(
            f"{what}: of {count} frames of {size[1]}x{size[0]}, but the video shown, {frames.name}, has {expected[0]} "
            f"of {expected[1][1]}x{expected[1][0]}"
        )
