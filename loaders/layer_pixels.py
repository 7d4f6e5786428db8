"""The pixels of one object by the layers of a data directory, for a surface that is fitted to it alone."""

import numpy as np
import torch

from util import UserError


def layer_masks(data, layer):
    """Where frames show a layer, bool (N, H, W). UserError where the data directory knows of none such."""
    labels = [data.layers(i) for i in range(data.num_frames)]
    if any(found is None for found in labels):
        raise UserError(f"layer {layer}: {data.path} has no layers; preprocess with --layers, or leave it out")
    masks = np.stack([found[0] == layer for found in labels])
    if not masks.any():
        seen = ", ".join(str(number) for number in np.unique([found[0] for found in labels]) if number < 255)
        raise UserError(f"layer {layer}: in no frame of {data.path}, whose layers are {seen}")
    return masks


class LayerPixels:
    """Draws pixels of an object. Conventions as in loaders/surface_sampler.py."""

    def __init__(self, masks, device):
        """masks: bool (N, H, W)."""
        flat = masks.reshape(len(masks), -1)
        count, pixels = flat.sum(1), flat.nonzero()[1]
        self.frames = count > 0  # (N,) numpy: where it is seen
        self.masks, self.pixels, self.count, self.first = (torch.from_numpy(array).to(device) for array in (
            flat, pixels, count, np.cumsum(count) - count))

    def draw(self, sources, count, generator):
        """Frames (P,) in which it is seen -> index (P, count) of its pixels, all alike."""
        place = torch.rand(len(sources), count, generator=generator, dtype=torch.float64, device=self.pixels.device)
        return self.pixels[self.first[sources][:, None] + (place * self.count[sources][:, None]).long()]

    def shows(self, sources, index):
        """Frames (P,), pixel index (P, n) -> whether it is seen there, bool (P, n)."""
        return self.masks[sources[:, None], index]
