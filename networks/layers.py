"""Layers shared by the networks: Gabor network, positional encoding, LeakyReLU MLP.

Every layer works over arbitrary leading dimensions; the last dimension is the channel.
"""

import math

import torch
from torch import nn


def encode_frequencies(x, num_frequencies=4, interleave=False):
    """(..., C) -> (..., C * 2 * num_frequencies): for each coordinate its sines, then its cosines, of pi * 2^k * x.

    interleave: sine and cosine of each frequency side by side instead (the reference's affine map has it so).
    """
    frequencies = math.pi * 2.0 ** torch.arange(num_frequencies, dtype=x.dtype, device=x.device)
    angles = x[..., None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1 if interleave else -2).flatten(-3)


def bfloat16_is_fast(device):
    """Whether matrix products in bfloat16 are a native operation: on CUDA, and on CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return True
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private, so they may be missing
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in checks)


def autocast(x, enabled):
    """Context in which matrix products run in bfloat16 where that is native (x tells the device)."""
    enabled = enabled and bfloat16_is_fast(x.device)
    return torch.autocast(x.device.type, torch.bfloat16, enabled=enabled)


def full_precision(x):
    """bfloat16, as autocast gives it, -> float32; everything else stays what it is."""
    return x.float() if x.dtype == torch.bfloat16 else x


def leaky_mlp(widths):
    """Linear layers of the given widths with LeakyReLU between them."""
    layers = []
    for i, (width_in, width_out) in enumerate(zip(widths[:-1], widths[1:])):
        layers += ([nn.LeakyReLU()] if i else []) + [nn.Linear(width_in, width_out)]
    return nn.Sequential(*layers)


class GaborFilter(nn.Module):
    """g(x) = sin(W x + b) * exp(-gamma / 2 * |x - mu|^2), (..., width_in) -> (..., width_out) (Fathony et al. 2021)."""

    def __init__(self, width_in, width_out, alpha, weight_scale):
        super().__init__()
        self.linear = nn.Linear(width_in, width_out)
        self.mu = nn.Parameter(torch.rand(width_out, width_in) * 2 - 1)
        self.gamma = nn.Parameter(torch.distributions.Gamma(alpha, 1.0, validate_args=False).sample((width_out,)))
        with torch.no_grad():
            self.linear.weight *= weight_scale * self.gamma.sqrt()[:, None]
            self.linear.bias.uniform_(-math.pi, math.pi)

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):  # phases of hundreds of radians need float32
            # |x - mu|^2 expanded, so that no (..., width_out, width_in) tensor is made
            distance = x.square().sum(-1, keepdim=True) + self.mu.square().sum(-1) - 2 * x @ self.mu.T
            return self.linear(x).sin() * torch.exp(-0.5 * self.gamma * distance)


class GaborNet(nn.Module):
    """Multiplicative filter network: z0 = g0(x); z_k = g_k(x) * (L_k z_{k-1}); linear output."""

    def __init__(self, width_in, width, width_out, num_layers, alpha, input_scale=256.0):
        super().__init__()
        scale = input_scale / math.sqrt(num_layers + 1)
        self.filters = nn.ModuleList(
            GaborFilter(width_in, width, alpha / (num_layers + 1), scale) for _ in range(num_layers + 1)
        )
        self.linear = nn.ModuleList(nn.Linear(width, width) for _ in range(num_layers))
        self.output_linear = nn.Linear(width, width_out)
        bound = math.sqrt(1 / width)
        for layer in self.linear:
            nn.init.uniform_(layer.weight, -bound, bound)

    def forward(self, x):
        z = self.filters[0](x)
        for filter_layer, linear in zip(self.filters[1:], self.linear):
            z = filter_layer(x) * linear(z)
        return self.output_linear(z)
