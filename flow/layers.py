"""Layers: which object a pixel shows, as it is known of some frames, and carried to the others.

A pixel of another frame looks back along flow at what is known, and at the neighbouring frame that is nearer to it. How
much that counts depends on whether the flow is right; what is around is asked, too, for a label whose
colours, in the frames that are known, are the pixel's. Rims are drawn to the frame's edges.

Conventions: labels uint8 (H, W), 0 the background, 1 to 254 objects, UNKNOWN where it is not known; shares (H, W, L) of
labels 0 to L - 1, which add up to how sure they are, at most 1; flow (H, W, 2) in pixels; frames uint8 (H, W, 3).
"""

from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from flow.images import pixel_grid, sample_along
from flow.rims import guided, rim_radius

UNKNOWN = 255
BINS = 64  # of a channel's 256 levels
SURE = 0.5  # confidence of labels that are held against flow: they are likelier than not


@dataclass(frozen=True)
class LayerSettings:
    """How labels are carried."""

    doubtful: float = 0.05  # what flow counts that does not come back, or to where the pixel is hidden
    colour: float = 0.5  # what colour counts, against flow that is right


def crossing(labels, other_labels, flow):
    """bool (H, W): flow leads from one layer to another: both are known, and differ."""
    positions = (pixel_grid(flow.shape[:2]) + flow).astype(np.float32)
    there = cv2.remap(other_labels, positions, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT,
                      borderValue=UNKNOWN)
    return (labels != there) & (labels != UNKNOWN) & (there != UNKNOWN)


def shares_of(labels, count, confidence=1.0):
    """Shares (H, W, count) of labels (H, W), as sure as `confidence`, a number or (H, W)."""
    known = np.eye(256, count, dtype=np.float32)[labels]
    return known * np.broadcast_to(np.float32(confidence), labels.shape)[..., None]


def colours_of(frames, labels, count):
    """How often each label has each colour: shares (BINS, BINS, BINS, count), which add up to 1, of known frames."""
    found = np.zeros((BINS,) * 3 + (count,), np.float32)
    for frame, known in zip(frames, labels):
        places = binned(frame)
        for label in range(count):
            np.add.at(found[..., label], tuple(places[known == label].T), 1)
    for label in range(count):
        smooth = gaussian_filter(found[..., label], 1.0)
        found[..., label] = smooth / max(smooth.sum(), 1) + 1e-5  # 1e-5: no colour is impossible
    found /= found.sum(-1, keepdims=True)
    return found


def binned(frame):
    return frame.astype(int) * BINS // 256


def carried(frame, looks, colours, settings=LayerSettings()):
    """Shares (H, W, L) of a frame's labels: all votes decide, and are as sure as the surest of them.

    looks: of each frame that is asked the flow to it, where that is right, bool (H, W), and its shares (H, W, L).
    """
    votes = np.zeros((*frame.shape[:2], colours.shape[-1]), np.float32)
    surest = np.zeros(frame.shape[:2], np.float32)
    for flow, right, shares in looks:
        trust = np.where(right, 1, settings.doubtful).astype(np.float32)
        vote = by_label(partial(sample_along, flow), shares) * trust[..., None]
        votes += vote
        np.maximum(surest, vote.sum(-1), out=surest)
    radius = rim_radius(frame.shape)
    around = by_label(lambda vote: cv2.blur(vote, (2 * radius + 1,) * 2), votes)
    around /= around.sum(-1, keepdims=True) + np.float32(1e-6)
    vote = settings.colour * around * colours[tuple(np.moveaxis(binned(frame), -1, 0))]
    surest = np.maximum(surest, vote.sum(-1)).clip(max=1)
    votes = guided(votes + vote, frame, radius).clip(0)
    return votes / np.maximum(votes.sum(-1, keepdims=True), 1e-6) * surest[..., None]


def by_label(change, shares):
    """Shares (H, W, L), each label's (H, W) changed by itself: OpenCV takes no more than four at once."""
    return np.stack([change(np.ascontiguousarray(shares[..., label])) for label in range(shares.shape[-1])], axis=-1)
