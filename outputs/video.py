"""Write H.264 videos that play everywhere: yuv420p, BT.709, index in front."""

import contextlib

import imageio_ffmpeg
import numpy as np

from util import UserError, atomic_path

QUALITY = 17  # x264's constant rate factor: lines of one pixel stay crisp
COLOURS = "bt709"
OPTIONS = ["-crf", str(QUALITY), "-preset", "medium", "-movflags", "+faststart"]
TAGS = ["-vf", f"scale=out_color_matrix={COLOURS}", "-colorspace", COLOURS, "-color_primaries", COLOURS,
        "-color_trc", COLOURS]


def pad_to_even(frame):
    """uint8 (H, W, 3) with its last row and column repeated where H or W is odd.

    yuv420p stores a colour for every 2 x 2 pixels and its H.264 stream can only be cropped in steps of 2, so an odd
    side grows by the one repeated line: nothing is lost or scaled, and every player shows it (yuv444p would not play).
    """
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


@contextlib.contextmanager
def video_writer(path, fps):
    """Yield a function that appends a frame, uint8 (H, W, 3) RGB, to the .mp4 at `path`, which appears when complete.

    Raises: UserError when the encoder fails, with what it says.
    """
    encoder = None

    def write(frame):
        nonlocal encoder
        frame = np.ascontiguousarray(pad_to_even(frame))
        if encoder is None:
            encoder = start_encoder(temporary, frame.shape, fps)
        encoder.send(frame)

    with atomic_path(path) as temporary:
        try:
            yield write
        except OSError as error:
            raise UserError(f"{path}: the video encoder stopped ({error})") from error
        finally:
            if encoder is not None:
                encoder.close()


def start_encoder(path, shape, fps):
    """imageio_ffmpeg's writer (a generator that takes frames) for frames of `shape` (H, W, 3)."""
    encoder = imageio_ffmpeg.write_frames(
        str(path), (shape[1], shape[0]), fps=fps, codec="libx264", quality=None, macro_block_size=1,
        pix_fmt_in="rgb24", pix_fmt_out="yuv420p", output_params=OPTIONS + TAGS, ffmpeg_log_level="error",
    )  # fmt: skip
    encoder.send(None)
    return encoder
