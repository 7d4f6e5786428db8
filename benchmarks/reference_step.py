"""The reference implementation's training step, re-stated plainly: what benchmarks.step measures our step against.

Same weights, same batch, same loss; nothing shared that the reference does not share: the frame code is expanded to
every sample and goes through the first layer of each coupling, samples carry 4-D shapes, the smoothness term maps its
points to the canonical volume again, once for each neighbour frame, and every parameter is checked for NaN.
"""

import torch

import losses
from networks import rendering
from networks.layers import encode_frequencies
from util import inside_image


def _couple(layer, points, features, to_canonical):
    """One coupling over points (P, n, K, 3) with features (P, n, K, code)."""
    kept = points[..., layer.kept]
    projected = torch.nn.functional.leaky_relu(layer.projection(torch.cat([kept, encode_frequencies(kept)], dim=-1)))
    s, t = layer.mlp(torch.cat([features, projected], dim=-1)).split(1, dim=-1)
    s = s.clamp(-8, 8)
    mask = torch.ones(3, device=points.device)
    mask[layer.changed] = 0
    changed = (points - t) * torch.exp(-s) if to_canonical else points * torch.exp(s) + t
    return points * mask + (1 - mask) * changed


def _map(mapping, points, frame_ids, to_canonical):
    """points (P, n, K, 3) of frames (P,) to the canonical volume, or back."""
    _, n, samples, _ = points.shape
    code, time = mapping.codes(frame_ids), mapping.codes.time(frame_ids)
    order = list(mapping.layers) if to_canonical else list(reversed(mapping.layers))
    if mapping.affine is not None and to_canonical:
        points = _affine(mapping.affine.to_canonical, points, time)
    for layer in order:
        features = layer.code_projector(code)[:, None, None].expand(-1, n, samples, -1)
        points = _couple(layer, points, features, to_canonical)
    if mapping.affine is not None and not to_canonical:
        points = _affine(mapping.affine.to_frame, points, time)
    return points


def _affine(direction, points, time):
    flat = points.reshape(points.shape[0], -1, 3)
    return torch.stack(direction(list(flat.unbind(-1)), time), dim=-1).reshape(points.shape)


def reference_terms(model, batch, jitter):
    """Loss terms of a batch, equal to terms.volume_terms up to rounding."""
    depths = rendering.stratified_depths(jitter)
    points = rendering.ray_points(model.normalise(batch.pixels_1), depths)
    canonical = _map(model.mapping, points, batch.frames_1, True)
    rgb_samples, density = model.field(canonical)
    weights = rendering.compositing_weights(density)
    mapped = _map(model.mapping, canonical, batch.frames_2, False)
    visible = weights * rendering.within_depth_range(mapped)
    pixels_2 = model.to_pixels(rendering.composite(visible, mapped))
    rgb = rendering.composite(weights, rgb_samples)
    flow_valid = inside_image(pixels_2, model.height, model.width)
    rgb_valid = inside_image(batch.pixels_1, model.height, model.width)
    return {
        "flow": losses.flow(pixels_2, batch.pixels_2, batch.weight, flow_valid),
        "rgb": losses.colour(rgb, batch.rgb_1, rgb_valid),
        "rgb_gradient": losses.gradient(rgb, batch.rgb_1, rgb_valid),
        "flow_gradient": losses.gradient(pixels_2, batch.pixels_2, flow_valid, batch.weight),
        "depth_range": losses.depth_range(mapped[..., 2], rendering.NEAR, rendering.FAR),
        "distortion": losses.distortion(depths, visible),
        "smoothness": _smoothness(model, batch, points),
        "unit_sphere": losses.unit_sphere(canonical),
    }


def _smoothness(model, batch, points):
    inner = (batch.frames_1 >= 1) & (batch.frames_1 < model.num_frames - 1)
    ids, points = batch.frames_1[inner], points[inner][:, : points.shape[1] // 4]
    if len(ids) == 0:
        return points.sum() * 0
    canonical = _map(model.mapping, torch.cat([points, points]), torch.cat([ids, ids]), True)
    before, after = _map(model.mapping, canonical, torch.cat([ids - 1, ids + 1]), False).chunk(2)
    return losses.smoothness(before, points, after, torch.ones_like(ids, dtype=torch.bool))


def reference_step(model, optimizer, batch, jitter, weights):
    """One whole step: loss, backward, NaN checks of every parameter and gradient, Adam."""
    loss = losses.total(reference_terms(model, batch, jitter), weights)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for parameter in model.parameters():
        if parameter.grad is not None and bool(torch.isnan(parameter.grad).any()):
            raise FloatingPointError("NaN gradient")
    optimizer.step()
    for parameter in model.parameters():
        if bool(torch.isnan(parameter).any()):
            raise FloatingPointError("NaN parameter")
    return loss.detach()
