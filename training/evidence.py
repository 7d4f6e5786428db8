"""What the frames show where a point is put: the surface it is on, or another one in front of it."""

from dataclasses import dataclass

from loaders.surface_sampler import nearest_index
from util import inside_image


@dataclass(frozen=True)
class EvidenceSettings:
    """What was tuned; python -m benchmarks.sensitivity shows what it does."""

    hidden: float = 3.0  # px: backward flow that misses the start by more shows another surface
    visible: float = 1.5  # px: by less, the same one


SETTINGS = EvidenceSettings()


def evidence(pool, batch, pixels):
    """What the frames show where the model puts the points: pixels (P, n, 2) in frames 2 -> hidden, visible (P, n).

    The reliable backward flow of the pixel there leads elsewhere (another surface is seen), or back to the start.
    """
    pixels = pixels.detach().nan_to_num().to(pool.device)
    index = nearest_index(pixels, pool.height, pool.width)
    inside = inside_image(pixels.round(), pool.height, pool.width)
    stored = batch.backward.to(pool.device)
    numbers = stored.clamp(min=0)
    miss = (pixels + pool.flow_at(numbers, index) - batch.pixels_1.to(pool.device)).norm(dim=-1)
    reliable = pool.cycle_at(numbers, index) & inside & (stored >= 0)[:, None]
    device = batch.pixels_1.device
    return (reliable & (miss > SETTINGS.hidden)).to(device), (reliable & (miss < SETTINGS.visible)).to(device)
