"""Write H.264 videos that play everywhere: yuv420p, BT.709, index in front."""

import contextlib
import errno
import subprocess
import tempfile

import imageio_ffmpeg
import numpy as np

from util import UserError, atomic_path

QUALITY = 17  # x264's constant rate factor: lines of one pixel stay crisp
COLOURS = "bt709"
OPTIONS = [
    "-an", "-c:v", "libx264", "-preset", "medium", "-crf", str(QUALITY), "-vf", f"scale=out_color_matrix={COLOURS}",
    "-pix_fmt", "yuv420p", "-colorspace", COLOURS, "-color_primaries", COLOURS, "-color_trc", COLOURS,
    "-movflags", "+faststart",
]


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

    Raises: UserError when the encoder fails (the disk is full, say), with what it says.
    """
    encoder = None

    def write(frame):
        nonlocal encoder
        frame = np.ascontiguousarray(pad_to_even(frame))
        if encoder is None:
            encoder = start_encoder(temporary, frame.shape, fps, messages)
        encoder.stdin.write(frame.data)

    with atomic_path(path) as temporary, tempfile.TemporaryFile() as messages:
        try:
            yield write
            encoder.stdin.close()
            failed = encoder.wait() != 0
        except BrokenPipeError:  # it ended before it had all frames
            failed = True
        finally:
            if encoder is not None:
                encoder.kill()
                with contextlib.suppress(OSError):
                    encoder.stdin.close()
                encoder.wait()
        if failed:
            messages.seek(0)
            said = messages.read().decode(errors="replace").strip().splitlines()
            if any("No space left on device" in line for line in said):
                raise OSError(errno.ENOSPC, said[-1])  # atomic_path says of which file, and what is free
            raise UserError(f"{path}: the video encoder failed: {said[-1] if said else 'it gave no reason'}")


def start_encoder(path, shape, fps, messages):
    """ffmpeg as a process that reads raw frames of `shape` (H, W, 3) from its standard input.

    (imageio's own writer does not look at ffmpeg's exit code, so that a full disk would leave a broken video.)
    """
    height, width = shape[:2]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:.6g}", "-i", "pipe:"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *source, *OPTIONS, f"file:{path}"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=messages)
