"""Dense flow and depth as OpenEXR (the extra `exr`), for compositing; channels are float32 (H, W), first row on top.

Flow is (x, y) in pixels, y down. An STMap holds in R and G where in the other frame each pixel's colour is to be taken
from: shares of width and height from the lower left corner, pixel centres at +0.5 (as Nuke's STMap; a map that moves
nothing has (x + 0.5) / W and 1 - (y + 0.5) / H). Motion vectors are pixels with y up, in forward.u and forward.v. A is
1 where the pixel is seen in the other frame. Depth is pseudo-depth in Z, near 0, far 2.
"""

import numpy as np

from util import atomic_path

EXTRA = ("OpenEXR", "exr")  # module, and the extra that has it


def write_stmap(path, flow, visible):
    """Write flow (H, W, 2) to the frame whose colours are to be taken, visible (H, W) bool, as an STMap."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[:height, :width] + 0.5
    write_exr(path, {"R": (x + flow[..., 0]) / width, "G": 1 - (y + flow[..., 1]) / height,
                     "B": np.zeros((height, width)), "A": visible})


def write_motion_vectors(path, flow, visible):
    """Write flow (H, W, 2), visible (H, W) bool, as motion vectors."""
    write_exr(path, {"forward.u": flow[..., 0], "forward.v": -flow[..., 1], "A": visible})


def write_exr(path, channels):
    """Write {channel: (H, W)} as 32-bit floats, losslessly compressed."""
    import OpenEXR  # the extra, which commands ask for beforehand

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    channels = {name: np.ascontiguousarray(values, np.float32) for name, values in channels.items()}
    with atomic_path(path) as temporary:
        OpenEXR.File(header, channels).write(str(temporary))
