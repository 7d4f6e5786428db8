"""Volume rendering along the rays of a frame, as pure functions (paper section 4.3).

Conventions: K samples along the last dimension, front to back; depth z in [NEAR, FAR]; rays are orthographic: x and y
are fixed and only z varies. alpha has no step length: alpha = 1 - exp(-density).
"""

import torch

NEAR, FAR = 0.0, 2.0
ABSORBED_WHEN_HIDDEN = 0.99  # share of a ray: of the paper


def regular_depths(num_samples, like):
    """(K,) depths from NEAR to FAR, with the dtype and device of `like`."""
    return torch.linspace(NEAR, FAR, num_samples, dtype=like.dtype, device=like.device)


def stratified_depths(jitter):
    """Jitter (..., K) in [0, 1) -> depths (..., K), one in each interval between the mid-points of regular depths."""
    regular = regular_depths(jitter.shape[-1], jitter)
    middle = (regular[1:] + regular[:-1]) / 2
    lower, upper = torch.cat([regular[:1], middle]), torch.cat([middle, regular[-1:]])
    return lower + (upper - lower) * jitter


def ray_points(xy, depths):
    """Normalised pixels (..., 2) and depths (..., K) -> points (..., K, 3)."""
    xy = xy[..., None, :].expand(*depths.shape, 2)
    return torch.cat([xy, depths[..., None]], dim=-1)


def compositing_weights(density, near_fraction=0.0):
    """Density (..., K) -> weights (..., K): alpha_k * prod_{l<k} (1 - alpha_l + 1e-10).

    The first `near_fraction` of the samples gets alpha 0 (the reference's mask_near, for the first steps).
    """
    alpha = 1 - torch.exp(-density)
    if isinstance(near_fraction, torch.Tensor) or near_fraction:
        samples = alpha.shape[-1]
        alpha = alpha * (torch.arange(samples, device=alpha.device) >= near_fraction * samples // 1)
    passed = torch.cumprod(1 - alpha + 1e-10, dim=-1)  # 1e-10: the gradient of cumprod is finite behind alpha = 1
    transmittance = torch.cat([torch.ones_like(passed[..., :1]), passed[..., :-1]], dim=-1)
    return alpha * transmittance


def composite(weights, values):
    """Weights (..., K), values (..., K, C) -> (..., C)."""
    return (weights[..., None] * values).sum(-2)


def take_max_weight(weights, values):
    """Weights (..., K), values (..., K, C) -> (..., C): the value at the sample of largest weight."""
    index = weights.argmax(-1)[..., None, None].expand(*weights.shape[:-1], 1, values.shape[-1])
    return values.gather(-2, index)[..., 0, :]


def within_depth_range(points):
    """Points (..., 3) -> (...) bool: z within [NEAR, FAR]."""
    return (points[..., 2] >= NEAR) & (points[..., 2] <= FAR)


def absorbed_in_front(weights, depths, surface_depth):
    """How much of the ray is absorbed clearly in front of the predicted point: (...) in [0, 1].

    weights, depths (..., K) along the ray at the predicted pixel; surface_depth (...). Clearly: 1.1 sample spacings.
    """
    spacing = (FAR - NEAR) / weights.shape[-1]
    in_front = depths < surface_depth[..., None] - 1.1 * spacing
    return (weights * in_front).sum(-1)


def as_occlusion_score(absorbed):
    """Share (...) of a ray that is absorbed in front of a point -> score that is above 0.5 where the point is hidden.

    The paper calls hidden what is absorbed by more than ABSORBED_WHEN_HIDDEN. Linear below and above that, from 0 to 1.
    """
    return torch.where(absorbed < ABSORBED_WHEN_HIDDEN, 0.5 * absorbed / ABSORBED_WHEN_HIDDEN,
                       0.5 + 0.5 * (absorbed - ABSORBED_WHEN_HIDDEN) / (1 - ABSORBED_WHEN_HIDDEN))
