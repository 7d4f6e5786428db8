"""Several flows become one: at each pixel the candidate of least error.

Conventions: a candidate is a flow (H, W, 2) with a name; its error (H, W) is in levels of luminance
or colour, 0 to 255.
"""

import numpy as np


def fuse(candidates, errors):
    """Flow (H, W, 2): at each pixel that of the candidate of least error; of equals, of the one named first.

    candidates: {name: flow}; errors: {name: (H, W)}.
    """
    return select(candidates, lowest(errors[name] for name in candidates))


def lowest(costs):
    """Which of several costs, arrays of one shape, is the lowest at each place; of equals the first. NaN is never."""
    costs = iter(costs)
    least = np.array(next(costs))
    label = np.zeros(least.shape, np.int16)
    for k, cost in enumerate(costs, start=1):
        lower = cost < least
        np.copyto(label, k, where=lower)
        np.copyto(least, cost, where=lower)
    return label


def select(candidates, labels):
    """Flow (H, W, 2): at each pixel that of the candidate of its label (H, W), a place in `candidates`."""
    first, *others = (words(flow) for flow in candidates.values())
    chosen = first.copy()
    for k, flow in enumerate(others, start=1):
        np.copyto(chosen, flow, where=labels == k)
    return chosen[..., None].view(np.float32)


def words(flow):
    """Flow (H, W, 2) as one number a pixel (H, W), which is moved at once."""
    return np.ascontiguousarray(flow, np.float32).view(np.uint64)[..., 0]
