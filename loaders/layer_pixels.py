"""The pixels of one object by the layers of a data directory, for a surface that is fitted to it alone."""

import numpy as np
import torch

from util import UserError

UNKNOWN = 255  # no layer's label


def layer_masks(data, layer):
    """Where frames show a layer, bool (N, H, W). UserError where the data directory knows of none such."""
    masks, numbers = [], set()
    for i in range(data.num_frames):
        found = data.layers(i)
        if found is None:
            raise UserError(f"layer {layer}: {data.path} has no layers; preprocess with --layers, or leave it out")
        masks.append(found[0] == layer)
        numbers |= set(np.unique(found[0]).tolist()) - {UNKNOWN}
    if layer not in numbers:
        raise UserError(f"layer {layer}: in no frame of {data.path}, whose layers are "
                        f"{', '.join(map(str, sorted(numbers)))}")
    return np.stack(masks)


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
