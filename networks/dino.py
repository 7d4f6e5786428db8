"""The vision transformer of DINO (Caron et al. 2021), as much of it as patch features need.

Module names are those of the published state dicts (dino_deitsmall16_pretrain.pth and its siblings), so they load as
they are; depth, width and patch size are read off the state dict.
"""

import torch
import torch.nn.functional as F
from torch import nn

HEAD_WIDTH = 64  # in every published DINO model


class Block(nn.Module):
    """Pre-norm transformer block over tokens (B, T, C)."""

    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, tokens):
        return (tokens := tokens + self.attend(self.norm1(tokens))) + self.mlp["fc2"](
            F.gelu(self.mlp["fc1"](self.norm2(tokens)))
        )

    def attend(self, tokens):
        batch, count, width = tokens.shape
        heads = self.attn["qkv"](tokens).reshape(batch, count, 3, width // HEAD_WIDTH, HEAD_WIDTH)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, heads, T, HEAD_WIDTH)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.attn["proj"](attended.transpose(1, 2).reshape(batch, count, width))


class Dino(nn.Module):
    """Images (B, 3, H, W), normalised as ImageNet's, H and W multiples of the patch size -> (B, C, h, w) features."""

    def __init__(self, width=384, depth=12, patch=16, positions=197):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, stride=patch)})
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.patch = patch

    @classmethod
    def from_state_dict(cls, weights):
        """Build and load. KeyError, ValueError or RuntimeError when the weights are not those of a DINO ViT."""
        width, _, patch, _ = weights["patch_embed.proj.weight"].shape
        depth = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("blocks."))
        model = cls(width, depth, patch, weights["pos_embed"].shape[1])
        model.load_state_dict({key: value for key, value in weights.items() if not key.startswith("head.")})
        return model.eval()

    def forward(self, images):
        patches = self.patch_embed["proj"](images)
        size = patches.shape[-2:]
        tokens = patches.flatten(2).transpose(1, 2) + self.patch_positions(size)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(images), -1, -1)
        tokens = torch.cat([first, tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)[:, 1:].transpose(1, 2).unflatten(2, size)

    def patch_positions(self, size):
        """Positional embedding (1, h*w, C), resized from the square grid of the training images."""
        positions = self.pos_embed[:, 1:].transpose(1, 2)
        side = round(positions.shape[-1] ** 0.5)
        resized = F.interpolate(positions.unflatten(2, (side, side)), size, mode="bicubic", align_corners=False)
        return resized.flatten(2).transpose(1, 2)
