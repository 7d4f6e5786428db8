"""One batch through the model: loss terms (unweighted, see losses.py), statistics for the curves, flow errors.

Conventions: P pairs of n rays with K samples (K = 1 for the surface model); errors are in pixels.
"""

import torch

import losses
from networks import rendering
from training.depth_order import total_variation
from util import inside_image

SMOOTHNESS_SHARE = 4  # the smoothness term looks at the first quarter of the points (paper section 4.4)
COLOUR_EVERY = 4  # the surface model's colours, which its shape does not follow, at every fourth point only


def smoothness(model, batch, points, canonical):
    """3-D acceleration of the first points of each pair, over the frames before and after theirs."""
    share, last = max(1, points.shape[1] // SMOOTHNESS_SHARE), model.num_frames - 1
    before = model.to_frame(canonical[:, :share], (batch.frames_1 - 1).clamp(min=0))
    after = model.to_frame(canonical[:, :share], (batch.frames_1 + 1).clamp(max=last))
    has_neighbours = (batch.frames_1 > 0) & (batch.frames_1 < last)
    return losses.smoothness(before, points[:, :share], after, has_neighbours)


def volume_terms(model, batch, jitter, near_fraction=0.0):
    """One batch through the model: loss terms (unweighted), statistics for the curves, flow error (P, n) in pixels."""
    rays = model.cast(batch.frames_1, batch.pixels_1, jitter, near_fraction)
    mapped = model.to_frame(rays.canonical, batch.frames_2)
    weights = rays.weights * rendering.within_depth_range(mapped)
    pixels_2 = model.to_pixels(rendering.composite(weights, mapped))
    rgb = rendering.composite(rays.weights, rays.rgb)
    flow_valid = inside_image(pixels_2, model.height, model.width)
    rgb_valid = inside_image(batch.pixels_1, model.height, model.width)

    terms = {
        "flow": losses.flow(pixels_2, batch.pixels_2, batch.weight, flow_valid),
        "rgb": losses.colour(rgb, batch.rgb_1, rgb_valid),
        "rgb_gradient": losses.gradient(rgb, batch.rgb_1, rgb_valid),
        "flow_gradient": losses.gradient(pixels_2, batch.pixels_2, flow_valid, batch.weight),
        "depth_range": losses.depth_range(mapped[..., 2], rendering.NEAR, rendering.FAR),
        "distortion": losses.distortion(rays.depths, weights),
        "smoothness": smoothness(model, batch, rays.points, rays.canonical),
        "unit_sphere": losses.unit_sphere(rays.canonical),
    }
    error = (pixels_2 - batch.pixels_2).detach().norm(dim=-1)
    return terms, ray_statistics(batch, rays.weights.detach(), error), error


def ray_statistics(batch, weights, error):
    """Scalars for the curves that are no losses."""
    used = (batch.weight > 0).float()
    far = used * ((batch.frames_1 - batch.frames_2).abs() > 1)[:, None]
    return {
        "flow_error_px/all": (error * used).sum() / used.sum().clamp(min=1),
        "flow_error_px/non_adjacent": (error * far).sum() / far.sum().clamp(min=1),
        "weights/sum": weights.sum(-1).mean(),
        "weights/max": weights.amax(-1).mean(),
    }


def surface_terms(model, batch, sampler, edges, robust_px):
    """The same for the surface model. edges: see ordering.edge_weights; robust_px: scale of the flow loss.

    Depth follows what the flow shows: a visible point lies on the surface of frame 2, a hidden one at least a margin
    behind it, and no point ever lies in front of what is seen.
    """
    with model.frames_at_once():
        points, canonical = model.lift(batch.frames_1, batch.pixels_1)
        mapped = model.to_frame(canonical, batch.frames_2)[..., 0, :]
        acceleration = smoothness(model, batch, points, canonical)
    rgb, rgb_1 = model.field(canonical[:, ::COLOUR_EVERY, 0])[0], batch.rgb_1[:, ::COLOUR_EVERY]
    pixels_2 = model.to_pixels(mapped)
    inside = inside_image(pixels_2.detach(), model.height, model.width)
    hidden, visible = sampler.evidence(batch, pixels_2)
    hidden, visible = hidden & inside, (visible | batch.covisible) & inside
    gap = mapped[..., 2] - model.surface_depth(batch.frames_2, pixels_2.detach())
    terms = {
        "flow": losses.robust_flow(pixels_2, batch.pixels_2, batch.weight, batch.weight > 0, robust_px),
        "rgb": losses.colour(rgb, rgb_1, torch.ones_like(inside[:, ::COLOUR_EVERY])),
        "smoothness": acceleration,
        "depth_range": losses.depth_range(mapped[..., 2], rendering.NEAR, rendering.FAR),
        "depth_same": losses.masked_mean(gap.abs(), visible & ~hidden),
        "depth_front": losses.masked_mean((-gap).clamp(min=0), inside),
        "depth_behind": losses.masked_mean((model.margin - gap).clamp(min=0), hidden),
        "depth_flatness": total_variation(model.depth, edges),
    }
    error = (pixels_2 - batch.pixels_2).detach().norm(dim=-1)
    return terms, ray_statistics(batch, torch.ones_like(points[..., 2]), error), error
