"""The mapping between every frame's local volume and the canonical volume (paper section 4.2).

Conventions: points are (F, M, 3), F frames with M points each; x, y in normalised image coordinates, z in [0, 2] seen
from the camera. `condition(frame_ids)` computes once per frame whatever the points do not change, so that the frame
code costs one bias per frame and not one matrix product per point.
"""

from typing import NamedTuple

import torch
from torch import nn

from networks.layers import GaborNet, autocast, encode_frequencies, full_precision, leaky_mlp

AXES = 3
NUM_FREQUENCIES = 4
KEPT_WIDTH = 2 + 2 * 2 * NUM_FREQUENCIES  # two kept coordinates: raw, sines, cosines
MAX_LOG_SCALE = 8.0  # e^8: keeps exp(s) and its inverse finite in float32


class FrameCondition(NamedTuple):
    """What the mapping of F frames needs: time (F, 1) in (0, 1] and one first-layer bias (F, 1, width) per layer."""

    time: torch.Tensor
    biases: list


class CouplingLayer(nn.Module):
    """Changes coordinate `axis` by a scale and shift that depend on the two others and on the frame (RealNVP)."""

    def __init__(self, axis, width, num_hidden, code_width, zero_init, max_log_scale=MAX_LOG_SCALE):
        super().__init__()
        self.register_buffer("axis", torch.tensor(axis))  # saved with the weights; `kept` below is its plain copy
        self.code_projector = leaky_mlp([code_width, code_width, code_width])
        self.projection = nn.Linear(KEPT_WIDTH, width)
        self.mlp = leaky_mlp([code_width + width] + [width] * num_hidden + [2])
        self.code_width, self.max_log_scale = code_width, max_log_scale
        if zero_init:
            nn.init.zeros_(self.mlp[-1].weight)
            nn.init.zeros_(self.mlp[-1].bias)
        self._set_axis(axis)

    def _set_axis(self, axis):
        self.changed = axis
        self.kept = [i for i in range(AXES) if i != axis]

    def _load_from_state_dict(self, state_dict, prefix, *args):
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._set_axis(int(self.axis))

    def frame_bias(self, code):
        """Frame codes (F, code_width) -> (F, 1, width): the code's share of the first layer, and its bias."""
        first = self.mlp[0]
        bias = nn.functional.linear(self.code_projector(code), first.weight[:, : self.code_width], first.bias)
        return bias[:, None]

    def scale_and_shift(self, points, bias):
        """The kept coordinates of points (three tensors (F, M)) -> s, t of shape (F, M)."""
        kept = torch.stack([points[i] for i in self.kept], dim=-1)
        encoded = torch.cat([kept, encode_frequencies(kept, NUM_FREQUENCIES)], dim=-1)
        with torch.autocast(kept.device.type, enabled=False):  # bfloat16 would round coordinates to a quarter pixel
            hidden = nn.functional.leaky_relu(self.projection(encoded))
        hidden = nn.functional.linear(hidden, self.mlp[0].weight[:, self.code_width :])
        hidden = hidden + bias.to(hidden.dtype)
        s, t = full_precision(self.mlp[1:](hidden)).unbind(-1)
        return s.clamp(-self.max_log_scale, self.max_log_scale), t

    def to_canonical(self, points, bias):
        s, t = self.scale_and_shift(points, bias)
        return [(x - t) * torch.exp(-s) if i == self.changed else x for i, x in enumerate(points)]

    def to_frame(self, points, bias):
        s, t = self.scale_and_shift(points, bias)
        return [x * torch.exp(s) + t if i == self.changed else x for i, x in enumerate(points)]


class FrameAffine(nn.Module):
    """A 2-D affine map of x and y that depends on time and depth (in the released code, absent from the paper).

    The reference asks for 2 linear layers and gets 8 (its argument names do not match); so do its checkpoints.
    """

    def __init__(self, width=256, num_layers=8, zero_init=False):
        super().__init__()
        widths = [2 + 2 * NUM_FREQUENCIES] + [width] * (num_layers - 1) + [5]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:]))
        if zero_init:
            nn.init.zeros_(self.layers[-1].weight)
            nn.init.zeros_(self.layers[-1].bias)

    def matrix(self, z, time):
        """z (F, M), time (F, 1) -> the six entries (F, M) each of [a b tx; c d ty]."""
        z = z[..., None]
        x = torch.cat([encode_frequencies(z, NUM_FREQUENCIES, interleave=True), time[:, None].expand_as(z), z], dim=-1)
        with torch.autocast(z.device.type, enabled=False):
            x = self.layers[0](x).relu()
        for layer in self.layers[1:-1]:
            x = layer(x).relu()
        angle, log_scale_x, tx, log_scale_y, ty = full_precision(self.layers[-1](x)).unbind(-1)
        cos, sin = angle.cos(), angle.sin()
        scale_x, scale_y = log_scale_x.exp(), log_scale_y.exp()
        return cos * scale_x, -sin * scale_x, tx, sin * scale_y, cos * scale_y, ty

    def to_canonical(self, points, time):
        x, y, z = points
        a, b, tx, c, d, ty = self.matrix(z, time)
        return [a * x + b * y + tx, c * x + d * y + ty, z]

    def to_frame(self, points, time):
        x, y, z = points
        a, b, tx, c, d, ty = self.matrix(z, time)
        x, y, determinant = x - tx, y - ty, a * d - b * c  # determinant = scale_x * scale_y > 0
        return [(d * x - b * y) / determinant, (a * y - c * x) / determinant, z]


class FrameCodes(nn.Module):
    """Time t = (i + 1) / N -> a code per frame, by a small Gabor network: smooth in time."""

    def __init__(self, num_frames, code_width=128, width=256, scale=256.0):
        super().__init__()
        self.num_frames = num_frames
        self.net = GaborNet(1, width, code_width, num_layers=2, alpha=4.5, input_scale=scale)

    def time(self, frame_ids):
        """(F,) long -> (F, 1) float in (0, 1]."""
        return (frame_ids[:, None].to(self.net.output_linear.weight.dtype) + 1) / self.num_frames

    def forward(self, frame_ids):
        return self.net(self.time(frame_ids))


def random_axes(num_layers):
    """The coordinate that each layer changes: random permutations of (x, y, z), one after the other."""
    permutations = [torch.randperm(AXES, device="cpu") for _ in range(-(-num_layers // AXES))]
    return torch.cat(permutations)[:num_layers].tolist()


class InvertibleMapping(nn.Module):
    """Affine on xy, then coupling layers: a bijection between a frame's volume and the canonical one.

    amp: in training mode the hidden layers run in bfloat16 where that is fast; coordinates, scales and shifts never do.
    """

    def __init__(self, num_frames, num_layers=6, width=256, num_hidden=3, code_width=128, affine=True, zero_init=False,
                 code_scale=256.0, max_log_scale=MAX_LOG_SCALE, amp=False):
        super().__init__()
        self.codes = FrameCodes(num_frames, code_width, scale=code_scale)
        self.layers = nn.ModuleList(
            CouplingLayer(axis, width, num_hidden, code_width, zero_init=zero_init, max_log_scale=max_log_scale)
            for axis in random_axes(num_layers)
        )
        self.affine = FrameAffine(zero_init=zero_init) if affine else None
        self.amp = amp

    def condition(self, frame_ids):
        """(F,) long -> FrameCondition for the two maps below."""
        code = self.codes(frame_ids)
        return FrameCondition(self.codes.time(frame_ids), [layer.frame_bias(code) for layer in self.layers])

    def to_canonical(self, points, condition):
        """Frame -> canonical, (F, M, 3) -> (F, M, 3)."""
        with autocast(points, self.amp and self.training):
            coordinates = list(points.unbind(-1))
            if self.affine is not None:
                coordinates = self.affine.to_canonical(coordinates, condition.time)
            for layer, bias in zip(self.layers, condition.biases):
                coordinates = layer.to_canonical(coordinates, bias)
        return torch.stack(coordinates, dim=-1)

    def to_frame(self, points, condition):
        """Canonical -> frame, (F, M, 3) -> (F, M, 3): the exact inverse of to_canonical."""
        with autocast(points, self.amp and self.training):
            coordinates = list(points.unbind(-1))
            for layer, bias in zip(reversed(self.layers), reversed(condition.biases)):
                coordinates = layer.to_frame(coordinates, bias)
            if self.affine is not None:
                coordinates = self.affine.to_frame(coordinates, condition.time)
        return torch.stack(coordinates, dim=-1)


class SeparateMappings(nn.Module):
    """The 'not invertible' ablation: two unrelated MLPs predict the offsets there and back."""

    def __init__(self, num_frames, width=256, num_hidden=6, code_width=128, code_scale=256.0):
        super().__init__()
        self.codes = FrameCodes(num_frames, code_width, scale=code_scale)
        width_in = AXES + 2 * AXES * NUM_FREQUENCIES + code_width
        self.there = leaky_mlp([width_in] + [width] * num_hidden + [AXES])
        self.back = leaky_mlp([width_in] + [width] * num_hidden + [AXES])

    def condition(self, frame_ids):
        return FrameCondition(self.codes.time(frame_ids), [self.codes(frame_ids)[:, None]])

    def _offset(self, mlp, points, condition):
        code = condition.biases[0].expand(*points.shape[:-1], -1)
        return mlp(torch.cat([points, encode_frequencies(points, NUM_FREQUENCIES), code], dim=-1))

    def to_canonical(self, points, condition):
        return points + self._offset(self.there, points, condition)

    def to_frame(self, points, condition):
        return points + self._offset(self.back, points, condition)
