"""Where a video cuts from one shot to another: between adjacent frames that no flow leads across.

Found on small frames by plain DIS there and back: of two frames of one shot most pixels return and look alike, of two
shots few. Adjacent frames of four DAVIS clips: at least 95 % of the pixels, of twelve scenes, fast ones among them,
50 %; two frames of different ones, 243 times: at most 24 %.
"""

from dataclasses import dataclass

import numpy as np
import torch

from flow.appearance import FEATURE_THRESHOLD, CensusAppearance
from flow.dis import make_dis
from flow.images import comes_back, luminance, pixel_grid, shrink
from util import UserError

SIDE = 160  # pixels on the long side that frames are shrunk to
LEAST_SIDE = 48  # pixels on the short side of the shrunk frames: smaller ones show too little to judge


@dataclass(frozen=True)
class CutSettings:
    """What makes a cut."""

    least_share: float = 0.3  # of the pixels: fewer that return and look alike are a cut


SETTINGS = CutSettings()


def find_cuts(frames, progress=None):
    """Numbers of the frames that begin a new shot, of a sequence of frames uint8 (H, W, 3).

    None are found in frames that are too small, or where no two adjacent frames belong together (which is no cut).
    progress: called with 1 for each pair of frames.
    """
    before, shares, describe = None, [], CensusAppearance()
    for i in range(len(frames)):
        small = shrunk(frames[i])
        if min(small.shape[:2]) < LEAST_SIDE:
            return []
        frame = luminance(small), describe(small)
        if before is not None:
            shares.append(share_in_common(*before, *frame))
            if progress:
                progress(1)
        before = frame
    apart = np.array(shares) < SETTINGS.least_share
    return [] if apart.all() else (np.flatnonzero(apart) + 1).tolist()


def shrunk(frame):
    """A frame with its long side at SIDE, if it is longer."""
    height, width = frame.shape[:2]
    scale = min(1, SIDE / max(height, width))
    return frame if scale == 1 else shrink(frame, (round(height * scale), round(width * scale)))


def share_in_common(first, looks, second, other_looks):
    """Share of the pixels whose flow comes back, to what looks alike. Luminance (H, W) and Features of each image."""
    dis = make_dis(0)
    there, back = dis.calc(first, second, None), dis.calc(second, first, None)
    arrived = torch.from_numpy(pixel_grid(first.shape) + there)
    similarity = likeness(looks.of_pixels(*first.shape), other_looks.seen_from(arrived)).view(first.shape)
    return float((comes_back(there, back) & (similarity > FEATURE_THRESHOLD).numpy()).mean())


def likeness(features, others):
    """How alike census features (C, n) are, contrasts included, at most 1; what is plain in both frames is alike.

    One neighbour of all, 1, is added throughout: less contrast than it may show is noise.
    """
    contrast = (features.square().sum(0) + others.square().sum(0)) / 2
    return ((features * others).sum(0) + 1) / (contrast + 1)


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
