"""The whole model of one video: mapping, canonical field, and what training and queries read from them.

Conventions: F frames (or pairs) of n rays with K samples each; pixels (x, y) with integer centres at the processed
size H x W; frame ids are long tensors (F,) on the model's device.
"""

from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_map

from networks import rendering
from util import denormalise_pixels, normalise_pixels


class Rays(NamedTuple):
    """What casting rays gives; depths and weights (F, n, K), points and canonical (F, n, K, 3), rgb (F, n, K, 3)."""

    depths: torch.Tensor
    points: torch.Tensor
    canonical: torch.Tensor
    rgb: torch.Tensor
    weights: torch.Tensor


class Prediction(NamedTuple):
    """Where pixels of frame 1 are in frame 2: pixels (F, n, 2), depth (F, n), occlusion_score (F, n) in [0, 1].

    Of any model, a score above 0.5 says that the pixel is hidden.
    """

    pixels: torch.Tensor
    depth: torch.Tensor
    occlusion_score: torch.Tensor


class VideoModel(nn.Module):
    """Canonical volume and mapping of one video of `num_frames` frames of `height` x `width` pixels."""

    refined_by_flow = False  # whether its tracks are, unless the user says otherwise; as published they are not

    def __init__(self, num_frames, height, width, mapping, field, num_samples=32):
        super().__init__()
        self.num_frames, self.height, self.width = num_frames, height, width
        self.mapping, self.field, self.num_samples = mapping, field, num_samples
        self.conditions = None  # of all frames, see frames_at_once

    @contextmanager
    def frames_at_once(self):
        """Within it, what the mapping derives from frames alone is computed only once; weights must not change."""
        self.conditions = self.mapping.condition(torch.arange(self.num_frames, device=next(self.parameters()).device))
        try:
            yield
        finally:
            self.conditions = None

    def to_canonical(self, points, frame_ids):
        """Frame volume -> canonical volume; points (F, ..., 3)."""
        return self._map(self.mapping.to_canonical, points, frame_ids)

    def to_frame(self, points, frame_ids):
        """Canonical volume -> frame volume; points (F, ..., 3)."""
        return self._map(self.mapping.to_frame, points, frame_ids)

    def _map(self, direction, points, frame_ids):
        if self.conditions is None:
            condition = self.mapping.condition(frame_ids)
        else:
            condition = tree_map(lambda of_all: of_all.index_select(0, frame_ids), self.conditions)
        return direction(points.reshape(points.shape[0], -1, 3), condition).reshape(points.shape)

    def normalise(self, pixels):
        return normalise_pixels(pixels, self.height, self.width)

    def to_pixels(self, points):
        """Frame points (..., 3) -> pixels (..., 2): the projection is orthographic."""
        return denormalise_pixels(points[..., :2], self.height, self.width)

    def cast(self, frame_ids, pixels, jitter=None, near_fraction=0.0):
        """Cast rays at pixels (F, n, 2): at regular depths, or stratified where jitter (F, n, K) in [0, 1) is given."""
        if jitter is None:
            depths = rendering.regular_depths(self.num_samples, pixels).expand(*pixels.shape[:-1], -1)
        else:
            depths = rendering.stratified_depths(jitter)
        points = rendering.ray_points(self.normalise(pixels), depths)
        canonical = self.to_canonical(points, frame_ids)
        rgb, density = self.field(canonical)
        return Rays(depths, points, canonical, rgb, rendering.compositing_weights(density, near_fraction))

    def predict(self, frame_ids_1, pixels_1, frame_ids_2, method="max_weight"):
        """Where pixels_1 (F, n, 2) of frames 1 are in frames 2, and whether they are hidden there -> Prediction.

        method 'max_weight' follows the one sample of largest weight, 'composite' the weighted mean of all samples.
        """
        rays = self.cast(frame_ids_1, pixels_1)
        if method == "max_weight":
            point_2 = self.to_frame(rendering.take_max_weight(rays.weights, rays.canonical), frame_ids_2)
        else:
            point_2 = rendering.composite(rays.weights, self.to_frame(rays.canonical, frame_ids_2))
        return self.describe(frame_ids_2, point_2)

    def describe(self, frame_ids, points):
        """Points (F, n, 3) of frames -> Prediction: their pixel, depth, and what the ray at that pixel says."""
        pixels = self.to_pixels(points)
        rays = self.cast(frame_ids, pixels)
        absorbed = rendering.absorbed_in_front(rays.weights, rays.depths, points[..., 2])
        return Prediction(pixels, points[..., 2], rendering.as_occlusion_score(absorbed))
