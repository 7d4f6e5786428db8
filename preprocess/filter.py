"""Keep the flow that can be trusted: cycle consistency, appearance, and occluded pixels whose flow is reliable.

Conventions: flow (P, H, W, 2) in pixels, (x, y); masks (P, H, W) bool; feature maps (h, w, C) of any resolution, the
centres of their corner cells on those of the image (align_corners). P pairs, a leading dimension of every kernel.
"""

import torch
import torch.nn.functional as F

from util import inside_image, pixel_grid, sample_at_pixels

CYCLE_THRESHOLD = 3.0  # pixels
OCCLUDED_FACTOR = 1.5  # an occluded pixel's forward-backward error is above 1.5 * the threshold (4.5 px)
APPEARANCE_FROM = 3  # frames apart from which the appearance has to agree; nearer pairs may be occluded-but-reliable
FEATURE_THRESHOLD = 0.5  # cosine similarity


def sample_flow(flow, pixels):
    """Flow (P, H, W, 2) bilinearly at pixels (P, ..., 2) -> (P, ..., 2), zeros outside the image."""
    return sample_at_pixels(flow.movedim(-1, 1), pixels)


def sample_features(features, pixels, height, width):
    """Feature map (h, w, C) at image pixels (n, 2) of an H x W image -> (C, n), zeros outside."""
    grid = pixels / pixels.new_tensor([max(width - 1, 1), max(height - 1, 1)]) * 2 - 1
    maps = features.float().permute(2, 0, 1)[None]
    return F.grid_sample(maps, grid[None, None], align_corners=True)[0, :, 0]


def features_of_pixels(features, height, width):
    """Features of a frame, a map (h, w, C) or with one in `.map`, at every pixel of an H x W image -> (C, H*W)."""
    features = getattr(features, "map", features)
    if features.shape[:2] == (height, width):
        return features.float().permute(2, 0, 1).flatten(1)
    return sample_features(features, pixel_grid(height, width, features.device).flatten(0, 1), height, width)


def features_at(features, positions):
    """Features of a frame at positions (H, W, 2), what another frame's pixels see there -> (C, H*W).

    features: a map (h, w, C), which is sampled, or an object that says itself how it looks from there (.aligned).
    """
    height, width = positions.shape[:2]
    if hasattr(features, "aligned"):
        return features_of_pixels(features.aligned(positions), height, width)
    return sample_features(features, positions.flatten(0, 1), height, width)


def cosine(features_1, features_2):
    """Cosine similarity (n,) of (C, n) features. (torch's own is 20 times slower along the first dimension.)"""
    norms = (features_1.square().sum(0) * features_2.square().sum(0)).sqrt()
    return (features_1 * features_2).sum(0) / norms.clamp_min(1e-8)  # a feature of zeros agrees with nothing


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

    flow, flow_back (P, H, W, 2); features_1 (h, w, C) of the common frame; features_2 P maps (h, w, C), None where
    the pair is nearer than APPEARANCE_FROM; intervals P distances |i - j| in frames.
    Returns cycle, occluded (P, H, W) bool.
    """
    height, width = flow.shape[-3:-1]
    cycle, occluded = cycle_masks(flow, flow_back, cycle_threshold)
    pixels = pixel_grid(height, width, flow.device)
    own = features_of_pixels(features_1, height, width)
    for pair, interval in enumerate(intervals):
        if interval >= APPEARANCE_FROM:
            found = features_at(features_2[pair], pixels + flow[pair])
            cycle[pair] &= cosine(own, found).view(height, width) > FEATURE_THRESHOLD
            occluded[pair] = False
    return cycle, occluded


def filter_frame(i, partners, read_flow, features, cycle_threshold=CYCLE_THRESHOLD, pixels_at_once=2**19):
    """Driver: masks of all pairs that start in frame i -> bool (P_i, 2, H, W) numpy array.

    read_flow(i, j) -> float32 tensor (H, W, 2) on the device to work on; features[i] -> (h, w, C) tensor there.
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
        masks.append(torch.stack(filter_pairs(flow, flow_back, features[i], features_2, intervals, cycle_threshold), 1))
    return torch.cat(masks).cpu().numpy()
