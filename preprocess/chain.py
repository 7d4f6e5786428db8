"""Chain adjacent flow where direct flow between far-apart frames fails, as long as the appearance agrees.

Conventions: flow (H, W, 2) in pixels, (x, y); masks (H, W) bool; images (H, W, 3) float in [0, 1]; features as
flow.appearance has them. For frame i, j walks outwards (i+1, i+2, ... or i-1, i-2, ...) with an accumulated flow and
mask.
"""

import torch

from flow.appearance import FEATURE_THRESHOLD, cosine
from preprocess.filter import sample_flow
from util import pixel_grid, sample_at_pixels

COLOR_THRESHOLD = 0.3  # L2 distance of RGB in [0, 1]; the reference's, not tuned here


def extend(flow, mask, adjacent_flow, adjacent_cycle):
    """Carry the flow i -> k and its mask on to the next frame, by the flow k -> k+-1 and its cycle mask."""
    pixels = pixel_grid(*flow.shape[:2], flow.device) + flow
    # exactly 1, as the reference has it: all four neighbours (rounding loses about 0.1 % of the pixels)
    consistent = sample_at_pixels(adjacent_cycle.to(flow)[None, None], pixels[None])[0, ..., 0] == 1
    return flow + sample_flow(adjacent_flow[None], pixels[None])[0], mask & consistent


def overwrite_with_direct(flow, direct_flow, direct_cycle, direct_occluded):
    """Trust the direct flow i -> j wherever it passed the filter."""
    return torch.where((direct_cycle | direct_occluded)[..., None], direct_flow, flow)


def appearance_agrees(flow, asked, image_1, image_2, own_features, features_2):
    """bool (H, W): of the pixels `asked` (H, W), those that look alike in frame i and where the flow takes them.

    own_features (C, H*W): of frame i; features_2: Features of the other frame.
    """
    arrived = pixel_grid(*flow.shape[:2], flow.device) + flow
    color_2 = sample_at_pixels(image_2.permute(2, 0, 1)[None], arrived[asked][None])[0]
    alike = asked.clone()
    alike[asked] = (color_2 - image_1[asked]).norm(dim=-1) < COLOR_THRESHOLD
    similarity = cosine(own_features[:, alike.flatten()], features_2.seen_from(arrived, alike))
    agrees = torch.zeros_like(asked)
    agrees[alike] = similarity > FEATURE_THRESHOLD
    return agrees


def chain_step(flow, mask, adjacent, direct, image_1, image_2, own_features, features_2):
    """One step of the walk from frame i: extend by `adjacent`, correct by `direct`, check the appearance.

    flow, mask: i -> j-+1, accumulated; adjacent (flow, cycle): j-+1 -> j; direct (flow, cycle, occluded): i -> j, or
    None when this pair was not estimated. Returns flow (H, W, 2) and cycle mask (H, W) of i -> j.
    """
    features = {"own_features": own_features, "features_2": features_2}
    flow, mask = extend(flow, mask, *adjacent)
    if direct is None:
        return flow, appearance_agrees(flow, mask, image_1, image_2, **features)
    direct_flow, cycle, occluded = direct
    flow = overwrite_with_direct(flow, direct_flow, cycle, occluded)
    undecided = mask & ~cycle & ~occluded  # elsewhere the direct masks have the last word
    return flow, cycle | appearance_agrees(flow, undecided, image_1, image_2, **features)


def chain_frame(i, partners, read_flow, read_masks, images, features, direct_up_to=0):
    """Driver: chained flow and masks of frame i's pairs; yields (j, flow (H, W, 2), cycle (H, W), occluded (H, W)).

    direct_up_to: frames apart up to which the flow is the direct one where neither mask trusts it. Walked flow carries
    what is hidden on with the rest of its surface, where a chain that was lost follows something else. 0: as the
    reference has it.
    read_flow(i, j) -> float32 tensor and read_masks(i, j) -> (cycle, occluded) give the direct pairs, among them all
    adjacent ones; images[i] -> (H, W, 3) float tensor in [0, 1]; features[i] -> Features. Frames on the way that are
    not partners only carry the flow on.
    """
    # align_corners=False at this one place, as the reference has it
    own_features = features[i].of_pixels(*images[i].shape[:2], align_corners=False)
    for step, reached in ((-1, [j for j in partners[::-1] if j < i]), (1, [j for j in partners if j > i])):
        if not reached:
            continue
        flow = read_flow(i, i + step)  # adjacent pairs are not changed by chaining
        mask, occluded = read_masks(i, i + step)
        yield i + step, flow, mask, occluded
        for j in range(i + 2 * step, reached[-1] + step, step):
            adjacent = read_flow(j - step, j), read_masks(j - step, j)[0]
            direct = (read_flow(i, j), *read_masks(i, j)) if j in reached else None
            flow, mask = chain_step(flow, mask, adjacent, direct, image_1=images[i], image_2=images[j],
                                    own_features=own_features, features_2=features[j])
            if direct is not None:
                keep = mask | direct[2] if abs(i - j) <= direct_up_to else torch.ones_like(mask)
                yield j, torch.where(keep[..., None], flow, direct[0]), mask, direct[2]
