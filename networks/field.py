"""The canonical volume: colour and density of canonical points (paper section 4.1)."""

import torch
from torch import nn

from networks.layers import GaborNet, autocast, full_precision


def contract(x):
    """mip-NeRF 360 contraction: identity within the unit ball, (2 - 1/|x|) x/|x| outside; differentiable at 0."""
    squared = x.square().sum(-1, keepdim=True)
    norm = squared.clamp(min=1.0).sqrt()  # inside the ball the branch below is not taken: its gradient stays finite
    return torch.where(squared <= 1, x, (2 - 1 / norm) * x / norm)


class CanonicalField(nn.Module):
    """Canonical points (..., 3) -> colour (..., 3) in [0, 1] and density (...) >= 0."""

    def __init__(self, width=512, num_layers=3, input_scale=256.0, amp=False):
        super().__init__()
        self.net = GaborNet(3, width, 4, num_layers=num_layers, alpha=3.0, input_scale=input_scale)
        self.amp = amp

    def forward(self, points):
        contracted = contract(points)
        with autocast(points, self.amp and self.training):
            output = full_precision(self.net(contracted))
        density = nn.functional.softplus(output[..., 3] - 1)
        return output[..., :3].sigmoid(), density
