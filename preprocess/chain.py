"""Chain flow from partner to partner where direct flow between far-apart frames fails, as long as appearance agrees.

Conventions: flow (H, W, 2) in pixels, (x, y); masks (H, W) bool; images (H, W, 3) float in [0, 1]; features as
flow.appearance has them. For frame i, j walks outwards over its partners (i+1, i+2, i+3, i+4, i+6 ..., or i-1 ...) with
an accumulated flow and mask. In short clips, as in the reference, all frames are partners.
"""

import math

import torch

from flow.appearance import FEATURE_THRESHOLD, cosine
from preprocess.filter import sample_flow
from util import pixel_grid, sample_at_pixels

COLOR_THRESHOLD = 0.3  # L2 distance of RGB in [0, 1]; the reference's, not tuned here


def extend(flow, mask, hop_flow, hop_cycle):
    """Carry the flow i -> k and its mask on to a further frame, by the flow from k to it and its cycle mask."""
    pixels = pixel_grid(*flow.shape[:2], flow.device) + flow
    # exactly 1, as the reference has it: all four neighbours (rounding loses about 0.1 % of the pixels)
    consistent = sample_at_pixels(hop_cycle.to(flow)[None, None], pixels[None])[0, ..., 0] == 1
    return flow + sample_flow(hop_flow[None], pixels[None])[0], mask & consistent


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


def chain_step(flow, mask, hop, direct, image_1, image_2, own_features, features_2, stretch=None):
    """One step of the walk from frame i: extend by `hop`, correct by `direct`, check the appearance.

    flow, mask: i -> k, accumulated; hop (flow, cycle): k -> j; direct (flow, cycle, occluded): i -> j, or None when
    this pair was not estimated. stretch: what the chain has lost goes on as steadily, its flow times this; None: it
    goes along the hop, too. Returns flow (H, W, 2) and cycle mask (H, W) of i -> j.
    """
    before = flow
    flow, mask = extend(flow, mask, *hop)
    if stretch is not None:
        flow = torch.where(mask[..., None], flow, before * stretch)
    features = {"own_features": own_features, "features_2": features_2}
    if direct is None:
        return flow, appearance_agrees(flow, mask, image_1, image_2, **features)
    direct_flow, cycle, occluded = direct
    flow = overwrite_with_direct(flow, direct_flow, cycle, occluded)
    undecided = mask & ~cycle & ~occluded  # elsewhere the direct masks have the last word
    return flow, cycle | appearance_agrees(flow, undecided, image_1, image_2, **features)


def chain_frame(i, partners, read_flow, read_masks, images, features, trusted_up_to=math.inf, direct_up_to=0):
    """Driver: chained flow and masks of frame i's pairs; yields (j, flow (H, W, 2), cycle (H, W), occluded (H, W)).

    trusted_up_to: frames apart up to which any direct flow is trusted: longer hops go over all frames between.
    direct_up_to: frames apart up to which the flow is the direct one where neither mask trusts it. Walked flow carries
    what is hidden on with the rest of its surface, where a chain that was lost follows something else. 0: as the
    reference has it, where all frames are partners.
    The chain goes from partner to partner, so frames between them are left out: of any two that follow each other on
    one side the flow is stored, too (preprocess/pairs.py). Of hops over frames only trusted flow is used, which is the
    same before and after chaining: what is lost there goes on steadily.
    read_flow(i, j) -> float32 tensor and read_masks(i, j) -> (cycle, occluded) give the direct pairs, among them all
    adjacent ones; images[i] -> (H, W, 3) float tensor in [0, 1]; features[i] -> Features.
    """
    # align_corners=False at this one place, as the reference has it
    own_features = features[i].of_pixels(*images[i].shape[:2], align_corners=False)
    for side in ([j for j in partners[::-1] if j < i], [j for j in partners if j > i]):
        for k, j in hops([i, *side], trusted_up_to):
            if k == i:
                flow, (mask, occluded) = read_flow(i, j), read_masks(i, j)  # nearest: not changed by chaining
                yield j, flow, mask, occluded
                continue
            hop = read_flow(k, j), read_masks(k, j)[0]
            direct = (read_flow(i, j), *read_masks(i, j)) if j in side else None
            flow, mask = chain_step(flow, mask, hop, direct, images[i], images[j], own_features, features[j],
                                    stretch=(j - i) / (k - i) if abs(j - k) > 1 else None)
            if direct is not None:
                keep = mask | direct[2] if abs(i - j) <= direct_up_to else torch.ones_like(mask)
                yield j, torch.where(keep[..., None], flow, direct[0]), mask, direct[2]


def hops(frames, longest):
    """Pairs of frames by which a chain passes through `frames`; one further apart than `longest` goes frame by frame.

    But for the first, which is the start of the chain.
    """
    for k, j in zip(frames, frames[1:]):
        step = 1 if j > k else -1
        if k == frames[0] or abs(j - k) <= longest:
            yield k, j
        else:
            yield from ((between, between + step) for between in range(k, j, step))
