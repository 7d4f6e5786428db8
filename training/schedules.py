"""Schedules as functions of progress, the share of the run that is over, in [0, 1]; end points: configs/options.py."""

import math

FIRST_STEP = 1e-5  # of progress: a warm-up does not begin with a rate of 0 (one step of the paper's 100,000)


def ramp(progress, start, length, end):
    """0 until `start`, then linear to `end` over `length`, then `end`; a length of 0 is a jump."""
    if length == 0:
        return end if progress >= start else 0.0
    return end * min(max((progress - start) / length, 0.0), 1.0)


def periods(progress, length):
    """How many times `length` is over."""
    return int(progress / length + 1e-9)  # 1e-9: 0.6 / 0.2 is 2.9999999999999996


def interval(progress, start, every, largest):
    """Largest frame distance of a pair: `start` (0: any), one more every `every` of the run, at most `largest`."""
    return min(start + periods(progress, every), largest) if start else largest


def learning_rate_factor(progress, config):
    """'halve': 0.5 every lr_every of the run; 'cosine': from 1 to 0. Both after a linear warm-up."""
    warm = min((progress + FIRST_STEP) / config.lr_warmup, 1.0) if config.lr_warmup else 1.0
    if config.lr_schedule == "halve":
        return warm * 0.5 ** periods(progress, config.lr_every)
    return warm * 0.5 * (1 + math.cos(math.pi * progress))


def robust_scale(progress, config):
    """Scale of the flow loss in pixels: falls geometrically over the first half, so that far parts find together."""
    return config.flow_robust_start * (config.flow_robust_px / config.flow_robust_start) ** min(2 * progress, 1.0)
