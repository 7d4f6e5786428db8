"""The volume's objective, as published (paper section 5.2) and released.

Conventions: as in training/objective.py.
"""

import torch

import losses
from loaders.correspondences import Sampler
from networks import rendering
from training.objective import network_rates, ray_statistics, smoothness
from training.schedules import ramp
from util import inside_image

NEAR_FRACTION = 0.2  # of the samples that mask_near makes transparent


class VolumeObjective:
    """See training.objective.Objective. A step is arithmetic, which no recording makes faster."""

    recordable = False

    def __init__(self, model, pool, config):
        self.model, self.config = model, config
        hard = config.sampling == "hard"
        self.sampler = Sampler(pool, config.seed, hard=hard, count_map=config.count_map,
                               online=hard and config.error_map == "online", pair_weight=config.pair_weight,
                               swap=config.swap)
        self.terms = torch.compile(volume_terms) if config.compile else volume_terms

    def start(self):
        """A volume starts from its random weights."""

    def rates(self):
        return network_rates(self.model, self.config)

    def scales(self, progress):
        return {"near_fraction": NEAR_FRACTION if progress < self.config.mask_near else 0.0}

    def __call__(self, batch, scales):
        jitter = torch.rand(*batch.weight.shape, self.model.num_samples, device=batch.weight.device)
        return self.terms(self.model, batch, jitter, **scales)

    def weights(self, progress):
        return loss_weights(progress, self.config)


def loss_weights(progress, config):
    """Weight of every loss term (paper section 5.2 and the released code)."""
    rgb = ramp(progress, 0, config.w_rgb_ramp, config.w_rgb) if config.photometric else 0.0
    return {
        "flow": config.w_flow,
        "rgb": rgb,
        "rgb_gradient": rgb,
        "flow_gradient": ramp(progress, 0, config.w_flow_gradient_ramp, config.w_flow_gradient),
        "depth_range": config.w_depth_range,
        "distortion": ramp(progress, config.w_distortion_start, config.w_distortion_ramp, config.w_distortion),
        "smoothness": config.w_smoothness,
        "unit_sphere": config.w_unit_sphere,
    }


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
