"""Walks by hand (tracking/refinement.py)."""

import numpy as np

from tracking import refinement


def one_walk(places, error, share):
    """A Walk of one point."""
    return refinement.Walk(np.float32([places]), np.float32([error]), np.float32([share]))
