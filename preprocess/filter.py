"""Keep the flow that can be trusted: cycle consistency, appearance, and occluded pixels whose flow is reliable.

Conventions: flow (P, H, W, 2) in pixels, (x, y); masks (P, H, W) bool; features as flow.appearance has them. P pairs, a
leading dimension of every kernel.
"""

import torch

from flow.appearance import FEATURE_THRESHOLD, cosine
from util import inside_image, pixel_grid, sample_at_pixels

# The reference's numbers, not tuned here.
CYCLE_THRESHOLD = 3.0  # pixels
OCCLUDED_FACTOR = 1.5  # an occluded pixel's forward-backward error is above 1.5 * the threshold (4.5 px)
APPEARANCE_FROM = 3  # frames apart from which the appearance has to agree; nearer pairs may be occluded-but-reliable


def sample_flow(flow, pixels):
    """Flow (P, H, W, 2) bilinearly at pixels (P, ..., 2) -> (P, ..., 2), zeros outside the image."""
    return sample_at_pixels(flow.movedim(-1, 1), pixels)


def cycle_masks(flow, flow_back, cycle_threshold=CYCLE_THRESHOLD):
    """Forward-backward checks of flow i -> j (P, H, W, 2) and its partner j -> i.

    Returns two bool (P, H, W): pixels that come back to within the threshold, and pixels that do not but land inside
    frame j and whose own flow repeats (so: they are hidden in frame j, and the flow is that of what hides them).
    """
    height, width = flow.shape[-3:-1]
    pixels = pixel_grid(height, width, flow.device)
    arrived = pixels + flow
    returned = arrived + sample_flow(flow_back, arrived)
    error = (returned - pixels).norm(dim=-1)
    second_error = (returned + sample_flow(flow, returned) - arrived).norm(dim=-1)
    hidden = (second_error < cycle_threshold) & (error > OCCLUDED_FACTOR * cycle_threshold)
    return error < cycle_threshold, hidden & inside_image(arrived, height, width)


def filter_pairs(flow, flow_back, features_1, features_2, intervals, cycle_threshold=CYCLE_THRESHOLD):
    """Masks of P pairs that start in one frame.

    flow, flow_back (P, H, W, 2); features_1: Features of the common frame; features_2: of the P others, None where the
    pair is nearer than APPEARANCE_FROM; intervals: P distances |i - j| in frames.
    Returns cycle, occluded (P, H, W) bool.
    """
    height, width = flow.shape[-3:-1]
    cycle, occluded = cycle_masks(flow, flow_back, cycle_threshold)
    pixels = pixel_grid(height, width, flow.device)
    own = features_1.of_pixels(height, width)
    for pair, interval in enumerate(intervals):
        if interval >= APPEARANCE_FROM:
            found = features_2[pair].seen_from(pixels + flow[pair])
            cycle[pair] &= cosine(own, found).view(height, width) > FEATURE_THRESHOLD
            occluded[pair] = False
    return cycle, occluded


def filter_frame(i, partners, read_flow, features, cycle_threshold=CYCLE_THRESHOLD, pixels_at_once=2**19):
    """Driver: masks of all pairs that start in frame i -> bool (P_i, 2, H, W) numpy array.

    read_flow(i, j) -> float32 tensor (H, W, 2) on the device to work on; features[i] -> its Features, there too.
    """
    masks = []
    height, width = read_flow(i, partners[0]).shape[:2]
    at_once = max(1, pixels_at_once // (height * width))
    for first in range(0, len(partners), at_once):
        group = partners[first : first + at_once]
        flow = torch.stack([read_flow(i, j) for j in group])
        flow_back = torch.stack([read_flow(j, i) for j in group])
        intervals = [abs(i - j) for j in group]
        features_2 = [features[j] if interval >= APPEARANCE_FROM else None for j, interval in zip(group, intervals)]
        found = filter_pairs(flow, flow_back, features[i], features_2, intervals, cycle_threshold=cycle_threshold)
        masks.append(torch.stack(found, 1))
    return torch.cat(masks).cpu().numpy()
