"""What the frames show where a point is put: the surface it is on, or another one in front of it."""

from loaders.surface_sampler import nearest_index
from util import inside_image

HIDDEN_PX, VISIBLE_PX = 3.0, 1.5  # backward flow that misses the start by more / less than this is evidence


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
    return (reliable & (miss > HIDDEN_PX)).to(device), (reliable & (miss < VISIBLE_PX)).to(device)
