"""Video files as arrays."""

import imageio.v3 as iio


def read_video(path):
    """Frames uint8 (N, H, W, 3), and what the file says of itself."""
    return iio.imread(path, plugin="FFMPEG"), iio.immeta(path, plugin="FFMPEG")
