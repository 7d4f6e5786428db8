"""Loss terms of one training step, as pure functions (paper section 5.2 and the released code).

Conventions: P pairs of n rays with K samples; pixels (P, n, 2); points (P, n, K, 3); every function returns a scalar.
Masks multiply instead of selecting: shapes stay fixed and no step waits for the GPU to count.
"""

import torch


def trimmed_mean(residual, weight, valid, by_weight=False):
    """Mean of weight * residual over the valid entries but the largest; all (M,), valid bool; 0 where nothing is left.

    The reference keeps what is strictly below the quantile 1 of the residuals, that is, all but the single largest.
    by_weight: divide by the sum of the kept weights instead of their number.
    """
    largest = residual.masked_fill(~valid, -1).max()
    keep = (valid & (residual < largest)).to(residual.dtype)
    total = (residual.nan_to_num() * weight * keep).sum()
    return total / ((weight * keep).sum().clamp(min=1e-8) if by_weight else keep.sum().clamp(min=1))


def masked_mean(values, mask):
    """Mean of values where the mask is set, 0 where it is set nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def flow(predicted, target, weight, valid):
    """L1 in pixels, mean over xy, times the weight (P, n); only where valid (P, n), the largest residual dropped."""
    residual = (predicted - target).abs().mean(-1)
    return trimmed_mean(residual.flatten(), weight.flatten(), valid.flatten())


def robust_flow(predicted, target, weight, valid, scale):
    """Cauchy loss of the distance e: weight * scale^2 * log(1 + (e / scale)^2) / 2, mean where valid.

    Its pull fades as scale^2 / e, so a wrong flow is outvoted by the right ones around it, in space and time.
    """
    squared = (predicted - target).square().sum(-1)
    return masked_mean(scale**2 / 2 * torch.log1p(squared / scale**2) * weight, valid)


def gradient(predicted, target, valid, weight=None):
    """L1 on the differences of consecutive valid rows of two (P, n, C) tensors, flattened; valid, weight (P, n).

    Weighted, the mean is over the weights. Rows are points drawn at random, so 'gradient' means long-range contrast.
    """
    order = torch.argsort((~valid).flatten().to(torch.int8), stable=True)  # moves the valid rows together
    error = (predicted - target).flatten(0, 1)[order]
    valid = valid.flatten()[order]
    residual = (error[1:] - error[:-1]).abs().mean(-1)
    if weight is None:
        return trimmed_mean(residual, torch.ones_like(residual), valid[1:] & valid[:-1])
    weight = weight.flatten()[order]
    return trimmed_mean(residual, weight[1:] * weight[:-1], valid[1:] & valid[:-1], by_weight=True)


def colour(predicted, target, valid):
    """Mean squared error of colours (P, n, 3) where valid (P, n)."""
    return masked_mean((predicted - target).square().mean(-1), valid)


def depth_range(depth, near, far):
    """Squared hinge of depths outside [near, far], summed over the offenders, divided by the number of all samples."""
    return ((near - depth).clamp(min=0).square() + (depth - far).clamp(min=0).square()).mean()


def distortion(depths, weights):
    """mip-NeRF 360 distortion of weights (..., K): their spread along the ray, t = depths with the last repeated."""
    t = torch.cat([depths, depths[..., -1:]], dim=-1)
    width, middle = t[..., 1:] - t[..., :-1], (t[..., 1:] + t[..., :-1]) / 2
    # sum_kl w_k w_l |m_k - m_l| in O(K): the middles are sorted, so each pair counts m_k - m_l for l < k
    before = torch.cumsum(weights, -1) - weights
    before_middle = torch.cumsum(weights * middle, -1) - weights * middle
    between = 2 * (weights * (middle * before - before_middle)).sum(-1)
    within = (weights.square() * width).sum(-1) / 3
    return (between + within).mean()


def smoothness(previous, current, following, valid):
    """L1 of the 3-D acceleration of points (P, ..., 3) over three frames; valid (P,): both neighbours exist."""
    residual = (previous + following - 2 * current).abs().mean(-1)
    valid = valid.reshape(-1, *[1] * (residual.dim() - 1)).expand_as(residual).flatten()
    residual = residual.flatten()
    return trimmed_mean(residual, torch.ones_like(residual), valid)


def total_variation(depth, weights):
    """Mean weighted absolute difference of neighbouring cells of depth (N, h, w)."""
    across, down = weights
    return ((depth[:, :, 1:] - depth[:, :, :-1]).abs() * across).mean() + (
        (depth[:, 1:] - depth[:, :-1]).abs() * down).mean()


def unit_sphere(canonical):
    """Mean of (|x|^2 - 1)^2 over the points (..., 3) outside the unit ball; weight 0 in the released config."""
    excess = (canonical.square().sum(-1) - 1).clamp(min=0)
    return excess.square().sum() / (excess > 0).sum().clamp(min=1)


def total(terms, weights):
    """Weighted sum of the terms (dict of scalars) that have a weight; terms without one are only logged."""
    return sum(weight * terms[name] for name, weight in weights.items())
