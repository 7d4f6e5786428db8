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
    label = np.zeros(least.shape, np.intp)
    for k, cost in enumerate(costs, start=1):
        lower = cost < least
        label[lower], least[lower] = k, cost[lower]
    return label


def select(candidates, labels):
    """Flow (H, W, 2): at each pixel that of the candidate of its label (H, W), a place in `candidates`."""
    first, *others = candidates.values()
    chosen = np.array(first)
    for k, flow in enumerate(others, start=1):
        np.copyto(chosen, flow, where=(labels == k)[..., None])
    return chosen
