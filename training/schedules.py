"""Schedules as functions of the step s (nominal, see configs/options.py); end points come from the configuration."""

import math


def ramp(step, start, length, end):
    """0 until `start`, then linear to `end` over `length` steps, then `end`; a length of 0 is a jump."""
    if length == 0:
        return end if step >= start else 0.0
    return end * min(max((step - start) / length, 0.0), 1.0)


def interval(step, start, every, largest):
    """Largest frame distance of a pair: `start`, one more every `every` steps, at most `largest`."""
    return min(start + int(step // every), largest)


def learning_rate_factor(step, config):
    """'halve': 0.5 every lr_every steps; 'cosine': from 1 to 0 at schedule_iters. Both after a linear warm-up."""
    warm = min((step + 1) / config.lr_warmup, 1.0) if config.lr_warmup else 1.0
    if config.lr_schedule == "halve":
        return warm * 0.5 ** (step // config.lr_every)
    return warm * 0.5 * (1 + math.cos(math.pi * min(step / config.schedule_iters, 1.0)))


def robust_scale(step, config):
    """Scale of the flow loss in pixels: falls geometrically over the first half, so that far parts find together."""
    progress = min(2 * step / config.schedule_iters, 1.0)
    return config.flow_robust_start * (config.flow_robust_px / config.flow_robust_start) ** progress


def loss_weights(step, config):
    """Weight of every loss term (paper section 4.4 and the released code) at nominal step `step`."""
    rgb = ramp(step, 0, config.w_rgb_ramp, config.w_rgb) if config.photometric else 0.0
    return {
        "flow": config.w_flow,
        "rgb": rgb,
        "rgb_gradient": rgb,
        "flow_gradient": ramp(step, 0, config.w_flow_gradient_ramp, config.w_flow_gradient),
        "depth_range": config.w_depth_range,
        "distortion": ramp(step, config.w_distortion_start, config.w_distortion_ramp, config.w_distortion),
        "smoothness": config.w_smoothness,
        "unit_sphere": config.w_unit_sphere,
    }


def surface_loss_weights(step, config):
    """The same for the surface model (terms.surface_terms)."""
    return {
        "flow": config.w_flow,
        "rgb": ramp(step, 0, config.w_rgb_ramp, config.w_rgb) if config.photometric else 0.0,
        "smoothness": config.w_smoothness,
        "depth_range": config.w_depth_range,
        "depth_same": config.w_depth_same,
        "depth_front": config.w_depth_front,
        "depth_behind": config.w_depth_behind,
        "depth_flatness": config.w_depth_flatness,
    }
