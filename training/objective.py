"""What a model is fitted by: one interface, with two implementations side by side, training/volume.py and surface.py.

Conventions: P pairs of n rays with K samples (K = 1 for the surface model); errors are in pixels; progress in [0, 1] is
how much of the run is over.
"""

from typing import Protocol

import losses
from loaders.correspondences import Sampler

SMOOTHNESS_SHARE = 4  # the smoothness term looks at the first quarter of the points, as released


class Objective(Protocol):
    """Of one model and the correspondences of its video. Whoever trains knows no more of the model than this."""

    sampler: Sampler  # draws the batches
    recordable: bool  # whether a step is to be a CUDA graph, on a GPU

    def start(self):
        """Give a new model what the flow shows before any step."""

    def rates(self):
        """{name of a group: (parameters, learning rate)} of everything that is optimised."""

    def scales(self, progress):
        """{name: number} of what else changes over the run than weights: floats."""

    def __call__(self, batch, scales):
        """A batch through the model -> terms (dict of scalars, unweighted), statistics for the curves, error (P, n).

        scales: what the method of that name says, or a tensor for each number.
        """

    def weights(self, progress):
        """{name of a term: its weight}."""


def network_rates(model, config):
    """Learning rates of what both models have: frame codes (if the mapping has any), mapping and colour field."""
    codes = list(model.mapping.codes.parameters()) if hasattr(model.mapping, "codes") else []
    known = {id(p) for p in codes}
    mapping = [p for p in model.mapping.parameters() if id(p) not in known]
    return {"code": (codes, config.lr_code), "mapping": (mapping, config.lr_mapping),
            "field": (list(model.field.parameters()), config.lr_field)}


def smoothness(model, batch, points, canonical):
    """3-D acceleration of the first points of each pair, over the frames before and after theirs."""
    share, last = max(1, points.shape[1] // SMOOTHNESS_SHARE), model.num_frames - 1
    before = model.to_frame(canonical[:, :share], (batch.frames_1 - 1).clamp(min=0))
    after = model.to_frame(canonical[:, :share], (batch.frames_1 + 1).clamp(max=last))
    has_neighbours = (batch.frames_1 > 0) & (batch.frames_1 < last)
    return losses.smoothness(before, points[:, :share], after, has_neighbours)


def ray_statistics(batch, weights, error):
    """Scalars for the curves that are no losses: of the rays' weights (P, n, K) and the flow's errors (P, n)."""
    used = (batch.weight > 0).float()
    far = used * ((batch.frames_1 - batch.frames_2).abs() > 1)[:, None]
    return {
        "flow_error_px/all": (error * used).sum() / used.sum().clamp(min=1),
        "flow_error_px/non_adjacent": (error * far).sum() / far.sum().clamp(min=1),
        "weights/sum": weights.sum(-1).mean(),
        "weights/max": weights.amax(-1).mean(),
    }
