"""Where a video cuts from one shot to another: between adjacent frames that no flow leads across.

Found on small frames by plain DIS there and back: of two frames of one shot nearly all pixels come back and look
alike, of two shots hardly any. DAVIS and layered scenes, adjacent frames: at least 0.72 of the pixels; DAVIS clips cut
from one to another, 72 times: at most 0.02.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from flow.dis import make_dis
from flow.images import comes_back, luminance, sample_along, shrink
from util import UserError


@dataclass(frozen=True)
class CutSettings:
    """What makes a cut."""

    side: int = 160  # pixels on the long side that frames are shrunk to
    least_side: int = 48  # pixels on the short side of the shrunk frames: smaller ones show too little to judge
    window: int = 9  # pixels in which what is seen is compared
    alike: float = 0.7  # correlation in a window above which two places look alike
    weak_contrast: float = 4.0  # levels squared: variance that is noise, not texture
    least_share: float = 0.05  # of the pixels: fewer that come back and look alike are a cut


SETTINGS = CutSettings()


def find_cuts(frames, progress=None):
    """Numbers of the frames that begin a new shot, of a sequence of frames uint8 (H, W, 3).

    None are found in frames that are too small, or where no two adjacent frames belong together (which is no cut).
    progress: called with 1 for each pair of frames.
    """
    before, shares = None, []
    for i in range(len(frames)):
        frame = luminance(shrunk(frames[i]))
        if min(frame.shape) < SETTINGS.least_side:
            return []
        if before is not None:
            shares.append(share_in_common(before, frame))
            if progress:
                progress(1)
        before = frame
    apart = np.array(shares) < SETTINGS.least_share
    return [] if apart.all() else (np.flatnonzero(apart) + 1).tolist()


def shrunk(frame):
    """A frame with its long side at SETTINGS.side, if it is longer."""
    height, width = frame.shape[:2]
    scale = min(1, SETTINGS.side / max(height, width))
    return frame if scale == 1 else shrink(frame, (round(height * scale), round(width * scale)))


def share_in_common(first, second):
    """Share of the pixels of luminance (H, W) whose flow comes back, and leads to what looks alike."""
    dis = make_dis(0)
    there, back = dis.calc(first, second, None), dis.calc(second, first, None)
    alike = correlation(first, sample_along(there, second)) > SETTINGS.alike
    return float((comes_back(there, back) & alike).mean())


def correlation(first, second):
    """Normalised correlation (H, W) of windows of two images; plain windows correlate."""
    def mean(image):
        return cv2.blur(image, (SETTINGS.window,) * 2)

    first, second = first.astype(np.float32), second.astype(np.float32)
    means = mean(first), mean(second)
    variances = [mean(image * image) - m * m + SETTINGS.weak_contrast for image, m in zip((first, second), means)]
    return (mean(first * second) - means[0] * means[1] + SETTINGS.weak_contrast) / np.sqrt(variances[0] * variances[1])


def shots_of(cuts, num_frames):
    """[(first frame, frame after the last)] of the shots that begin at frame 0 and at `cuts`."""
    starts = [0, *cuts]
    return list(zip(starts, [*cuts, num_frames]))


def refuse(cuts, num_frames):
    """UserError that names the cuts, and what to do."""
    shots = ", ".join(f"{first} to {end - 1}" for first, end in shots_of(cuts, num_frames))
    raise UserError(
        f"the video cuts to another shot at frame {', '.join(map(str, cuts))}, which no track can cross (frames are "
        f"counted from the first one taken): --cuts split makes a data directory of each shot ({shots}), --start and "
        "--end take one of them, --cuts ignore goes on as it is"
    )
