"""DINO's patch features, by the transformers library (the extra `dino`): DINO, DINOv2 and DINOv3 from a local folder.

Nothing is downloaded. A folder is what `save_pretrained` writes, or a clone of, say, facebook/dino-vits16 (the paper's
choice) or facebook/dinov2-small: config.json and model.safetensors. Or a TorchScript file of any network.
"""

import inspect
from pathlib import Path

import torch
from torch import nn

from flow.hub import pretrained
from util import UserError, file_hash

SCRIPT_PATCH = 16  # pixels a cell of a TorchScript network


class PatchFeatures(nn.Module):
    """Images (B, 3, H, W), normalised as ImageNet's, H and W multiples of the patch size -> (B, C, h, w)."""

    def __init__(self, model):
        super().__init__()
        self.model, self.patch = model, model.config.patch_size
        asked = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if asked else {}  # DINOv2 and v3 do so by themselves

    def forward(self, images):
        height, width = (side // self.patch for side in images.shape[-2:])
        tokens = self.model(pixel_values=images, **self.options).last_hidden_state
        return tokens[:, -height * width :].transpose(1, 2).unflatten(2, (height, width))  # class and registers first


def load_dino(path, option="--dino_weights"):
    """A folder or a TorchScript file -> module (images -> (B, C, h, w)), patch size, sha256 of the weights.

    option: that named it. UserError: there is none, it cannot be read, or transformers is not installed.
    """
    path = Path(path) if path is not None else None
    expected = ("expected a folder with config.json and model.safetensors, such as a clone of facebook/dino-vits16, "
                "or a TorchScript file")
    if option == "--dino_weights":
        expected += "; --appearance census needs no weights"
    if path is None or not path.exists():
        raise UserError(f"{option} {path}: no such file or folder; {expected}")
    try:
        if path.is_dir():
            model = PatchFeatures(pretrained("AutoModel", path, option, expected))
            return model, model.patch, file_hash(path / "model.safetensors")
        return torch.jit.load(str(path), map_location="cpu").eval(), SCRIPT_PATCH, file_hash(path)
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{option} {path}: cannot be read ({str(error).splitlines()[0]}); {expected}") from error
