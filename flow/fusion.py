"""Several flows become one: at each pixel the candidate of least error.

Conventions: a candidate is a flow (H, W, 2) with a name; its error (H, W) and its prior, what is added to the error
because of where it comes from, are in levels of luminance (0 to 255).
"""

import numpy as np


def fuse(candidates, errors, priors=None):
    """Flow (H, W, 2): at each pixel that of the candidate of least error + prior; of equals, of the one named first.

    candidates: {name: flow}; errors: {name: (H, W)}; priors: {name: levels, or (H, W) of them}, 0 of those left out.
    """
    priors = priors or {}
    costs = np.stack([errors[name] + np.float32(priors.get(name, 0)) for name in candidates])
    return select(candidates, np.argmin(costs, axis=0))


def select(candidates, labels):
    """Flow (H, W, 2): at each pixel that of the candidate of its label (H, W), a place in `candidates`."""
    return np.take_along_axis(np.stack(list(candidates.values())), labels[None, ..., None], axis=0)[0]
