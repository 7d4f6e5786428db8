"""Batches for the surface model: any pixel of a frame, with what the flow says about it, reliable or not.

Where the volume's sampler draws reliable correspondences only, surfaces also learn from pixels without one: a point
that the model puts at a pixel where the backward flow leads elsewhere must lie behind what is seen there.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

import util
from loaders.correspondences import Sampler, pair_weight
from loaders.evidence import read_evidence
from loaders.evidence_sampler import EvidenceSampler
from loaders.layer_pixels import LayerPixels, layer_masks

WITNESSES = 3  # third frames that are asked whether a correspondence is right


class SurfaceBatch(NamedTuple):
    """frames_1, frames_2 (P,) long; pixels_1, pixels_2 (P, n, 2); rgb_1 (P, n, 3); weight (P, n), 0 where unreliable.

    covisible (P, n) bool: cycle-consistent.
    source_frames (P,), source_cells (P, n): where in the error maps; backward (P,): numbers of the pairs from frames 2
    to frames 1, -1 where there is none; evidence (P, n): -1 of flow, else which kind (see loaders.evidence_sampler).
    """

    frames_1: torch.Tensor
    frames_2: torch.Tensor
    pixels_1: torch.Tensor
    pixels_2: torch.Tensor
    rgb_1: torch.Tensor
    weight: torch.Tensor
    covisible: torch.Tensor
    source_frames: torch.Tensor
    source_cells: torch.Tensor
    backward: torch.Tensor
    evidence: torch.Tensor

    def to(self, device):
        return SurfaceBatch(*(tensor.to(device, non_blocking=True) for tensor in self))


def nearest_index(pixels, height, width):
    """Index (P, n) of the pixel of an image that is nearest to pixels (P, n, 2)."""
    x, y = pixels.round().unbind(-1)
    return (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long()


class SurfaceSampler(Sampler):
    """Frames as the volume's sampler chooses them; pixels half by the frame's error map, half uniform.

    The last points of a pair, a share of them, are evidence of it where there is some (see use_evidence).
    """

    evidence, evidence_share, other_beliefs, layer = None, 0.0, {}, None

    def use_layer(self, number):
        """Draw points of this object alone. UserError where the data directory knows of none such."""
        self.layer = LayerPixels(layer_masks(self.pool.data, number), self.pool.device)
        pixels = torch.zeros(self.pool.num_frames, math.prod(self.grid), device=self.pool.device).scatter_add_(
            1, self.cell_of_pixel.expand(self.pool.num_frames, -1), self.layer.masks.float())
        self.share_of_layer = (pixels > 0).float().mean(1).cpu().numpy()  # of the cells of error maps, each frame

    def use_evidence(self, share):
        """Draw this share of the points from what the data directory holds of evidence; nothing where it holds none."""
        sources = read_evidence(self.pool.data.path, self.pool.num_frames) if share else []
        if sources:
            self.evidence, self.evidence_share = EvidenceSampler(sources, self.pool), share

    def beliefs(self):
        """{name: how far a source of evidence is believed}, and other_beliefs, for the curves."""
        return (self.evidence.beliefs() if self.evidence else {}) | self.other_beliefs

    def learned(self):
        return super().learned() + ([self.evidence.belief] if self.evidence else [])

    def learn(self, batch, error):
        flow = batch._replace(weight=batch.weight * (batch.evidence < 0))  # error maps are of flow
        super().learn(flow, error)
        if self.evidence:
            self.evidence.learn(*(part.detach().to(self.pool.device) for part in (batch.evidence, error, batch.weight)))

    def state_dict(self):
        return super().state_dict() | ({"belief": self.evidence.belief} if self.evidence else {})

    def load_state_dict(self, state):
        super().load_state_dict(state)
        if self.evidence and "belief" in state:
            self.evidence.belief = state["belief"].to(self.pool.device)

    def sample(self, num_pairs, num_points, max_interval):
        pool = self.pool
        numbers = self._choose_pairs(num_pairs, max_interval)
        from_frame, to_frame = pool.sources[numbers], pool.targets[numbers]
        weight = pair_weight(np.abs(from_frame - to_frame), max_interval, self.pair_weight).astype(np.float32)
        sources, targets, weight, backward, numbers_there = self._to_pool(
            from_frame, to_frame, weight, pool.number(to_frame, from_frame), numbers)
        index = self._draw_pixels(sources, num_points)
        pixels_1 = torch.stack([index % pool.width, index // pool.width], dim=-1).float()
        pixels_2 = pixels_1 + pool.flow_at(numbers_there, index)
        covisible = pool.cycle_at(numbers_there, index) & self._confirmed(numbers, index, pixels_1, pixels_2)
        rgb_1, of_pair = pool.frames[sources[:, None], index].float() / 255, weight[:, None]
        weight = of_pair * covisible
        batch = SurfaceBatch(sources, targets, pixels_1, pixels_2, rgb_1=rgb_1, weight=weight, covisible=covisible,
                             source_frames=sources, source_cells=self.cell_of_pixel[index], backward=backward,
                             evidence=torch.full_like(index, -1))
        return self._with_evidence(batch, from_frame, to_frame, of_pair) if self.evidence else batch

    def _with_evidence(self, batch, from_frame, to_frame, of_pair):
        """The batch, the last points of each pair replaced by evidence where there is some; of_pair (P, 1): weights.

        Whether it is visible is left to what the flow shows.
        """
        count = max(1, round(self.evidence_share * batch.weight.shape[1]))
        points, weight, kind = self.evidence.draw(from_frame, to_frame, count, self.generator)
        known, (start, end) = kind >= 0, points.unbind(2)
        if self.layer:
            known &= self.layer.shows(batch.frames_1, nearest_index(start, self.pool.height, self.pool.width))
        new = {"pixels_1": start, "pixels_2": end, "rgb_1": self.pool.colours(batch.frames_1, start),
               "weight": weight * of_pair, "covisible": torch.zeros_like(known), "evidence": kind}
        replaced = {}
        for name, values in new.items():
            whole = getattr(batch, name).clone()
            mask = known if whole.dim() == 2 else known[..., None]
            whole[:, -count:] = torch.where(mask, values.to(whole.dtype), whole[:, -count:])
            replaced[name] = whole
        return batch._replace(**replaced)

    def _frame_probability(self):
        probability = super()._frame_probability()
        if not self.layer:
            return probability
        wanted = self.layer.frames * 1.0
        if probability is not None:  # by a mean over all cells, of which those beside the layer have no error
            wanted *= probability / self.share_of_layer.clip(1e-9)
        return wanted / wanted.sum()

    def _choose_targets(self, sources, max_interval):
        """All partners alike, because only far pairs link what was hidden in between."""
        return self.random.integers(*self.pool.numbers_near(sources, max_interval))

    def _confirmed(self, numbers, index, pixels_1, pixels_2):
        """False (P, n) where third frames contradict the correspondence more often than they confirm it.

        From both of its ends reliable flow leads to a third frame: to one point, if it is right.
        """
        pool, score = self.pool, torch.zeros_like(index)
        index_2 = nearest_index(pixels_2, pool.height, pool.width)
        for _ in range(WITNESSES):
            first = self._choose_targets(pool.sources[numbers], pool.num_frames)
            second = pool.number(pool.targets[numbers], pool.targets[first])
            first, second, known = self._to_pool(first, second.clip(min=0), second >= 0)
            end_1, end_2 = pixels_1 + pool.flow_at(first, index), pixels_2 + pool.flow_at(second, index_2)
            reliable = pool.cycle_at(first, index) & pool.cycle_at(second, index_2) & known[:, None]
            score += torch.where((end_1 - end_2).norm(dim=-1) < util.SAME_MOTION, 1, -1) * reliable
        return score >= 0

    def _draw_pixels(self, sources, count):
        """(P,) frames -> pixel index (P, count): half uniform, half by the error maps once there are some."""
        pool, shape = self.pool, (len(sources), count)
        if self.layer:
            uniform = self.layer.draw(sources, count, self.generator)
        else:
            uniform = torch.randint(pool.height * pool.width, shape, generator=self.generator, device=pool.device)
        if not self.hard or self.error_maps is None:
            return uniform
        cumulative = self.error_maps[sources].double().add_(1e-9).cumsum(-1)  # 1e-9: where all errors are 0
        place = torch.rand(shape, generator=self.generator, dtype=torch.float64, device=pool.device)
        cells = torch.searchsorted(cumulative, place * cumulative[:, -1:], right=True)
        cells = cells.clamp(max=cumulative.shape[1] - 1)
        inner = torch.randint(self.cell**2, shape, generator=self.generator, device=pool.device)
        x = (cells % self.grid[1] * self.cell + inner % self.cell).clamp(max=pool.width - 1)
        y = (cells // self.grid[1] * self.cell + inner // self.cell).clamp(max=pool.height - 1)
        half = torch.arange(count, device=pool.device) < count // 2
        by_error = y * pool.width + x
        return torch.where(half & self.layer.shows(sources, by_error) if self.layer else half, by_error, uniform)
