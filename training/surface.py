"""The surface model's objective: the flow, robustly, and depths that obey the occlusions that the flow shows.

Conventions: as in training/objective.py.
"""

import torch

import losses
from loaders.surface_sampler import SurfaceSampler
from networks import rendering
from training.depth_order import edge_weights, initial_depth
from training.evidence import evidence
from training.mono_depth import rank_order, stored_hint
from training.objective import network_rates, ray_statistics, smoothness
from training.schedules import ramp, robust_scale
from util import inside_image

COLOUR_EVERY = 4  # colours, which the surface's shape does not follow, at every fourth point only
FLAT_FRAMES = 32  # whose depth is flattened in a step: of longer videos as many, drawn anew each time


class SurfaceObjective:
    """See training.objective.Objective."""

    def __init__(self, model, pool, config):
        self.model, self.config, self.recordable = model, config, config.graph
        hard = config.sampling == "hard"
        self.sampler = SurfaceSampler(pool, config.seed, hard, online=hard and config.error_map == "online",
                                      pair_weight=config.pair_weight)
        self.sampler.use_evidence(config.evidence_share)
        if config.layer >= 0:
            self.sampler.use_layer(config.layer)
        self.hint = stored_hint(pool, SurfaceSampler(pool, config.seed)) if config.w_depth_rank else None
        if self.hint is not None:
            self.sampler.other_beliefs = {"evidence/depth": torch.tensor(self.hint.belief)}
        self.edges = [weights.to(model.depth.device) for weights in edge_weights(pool, model.cell)]

    def start(self):
        """The order of surfaces as the flow's occlusions show it, unless depth is to start flat."""
        if self.config.depth_start == "flat":
            return
        config, pool, model = self.config, self.sampler.pool, self.model
        guess = SurfaceSampler(pool, config.seed)  # of its own: training's batches do not depend on how long it looked
        edges = [weights.to(pool.device) for weights in self.edges]
        model.depth.data.copy_(initial_depth(guess, model.cell, config.depth_margin, edges, hint=self.hint))

    def rates(self):
        return network_rates(self.model, self.config) | {"depth": ([self.model.depth], self.config.lr_depth)}

    def scales(self, progress):
        return {"robust_px": robust_scale(progress, self.config)}

    def __call__(self, batch, scales):
        return surface_terms(self.model, batch, self.sampler.pool, self.edges, **scales, hint=self.hint)

    def weights(self, progress):
        return loss_weights(progress, self.config)


def loss_weights(progress, config):
    """Weight of every loss term."""
    return {
        "flow": config.w_flow,
        "rgb": ramp(progress, 0, config.w_rgb_ramp, config.w_rgb) if config.photometric else 0.0,
        "smoothness": config.w_smoothness,
        "depth_range": config.w_depth_range,
        "depth_same": config.w_depth_same,
        "depth_front": config.w_depth_front,
        "depth_behind": config.w_depth_behind,
        "depth_flatness": config.w_depth_flatness,
        "depth_rank": config.w_depth_rank,
    }


def flatness(depth, edges):
    """Total variation of depth maps (N, h, w), or of some that are drawn: on average the same, at a bounded cost."""
    if len(depth) > FLAT_FRAMES:
        frames = torch.rand(len(depth), device=depth.device).argsort()[:FLAT_FRAMES]
        depth, *edges = (maps.index_select(0, frames) for maps in (depth, *edges))
    return losses.total_variation(depth, edges)


def hint_term(model, hint, batch, depth):
    """How far depths (P, n) of the batch's first pixels contradict monocular depth, as far as that is believed."""
    if hint is None:
        return depth.new_zeros(())
    return hint.belief * rank_order(depth, hint.at(batch.frames_1, batch.pixels_1), model.margin)


def surface_terms(model, batch, pool, edges, robust_px, hint=None):
    """A batch through the model: loss terms (unweighted), statistics for the curves, flow error (P, n) in pixels.

    pool: the correspondences; edges: see depth_order.edge_weights; robust_px: scale of the flow loss; hint: DepthHint,
    or None.

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
    hidden, visible = evidence(pool, batch, pixels_2)
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
        "depth_flatness": flatness(model.depth, edges),
        "depth_rank": hint_term(model, hint, batch, points[..., 0, 2]),
    }
    error = (pixels_2 - batch.pixels_2).detach().norm(dim=-1)
    return terms, ray_statistics(batch, torch.ones_like(points[..., 2]), error), error
