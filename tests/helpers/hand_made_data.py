"""Data of a few small frames, made by hand, whose correspondences every test can work out."""

import numpy as np

from loaders.data_dir import pack_mask

N, H, W = 5, 6, 7


class HandMadeData:
    """All pairs of N frames; the flow i -> j moves every pixel by (j - i, 0); masks at random."""

    def __init__(self, valid_share=0.5, seed=0):
        rng = np.random.default_rng(seed)
        self.num_frames, self.height, self.width, self.flow_step = N, H, W, 1 / 32
        self.cycle = rng.random((N, N, H, W)) < valid_share
        self.occluded = (rng.random((N, N, H, W)) < valid_share / 2) & ~self.cycle
        self.video = rng.integers(0, 256, (N, H, W, 3), dtype=np.uint8)

    def partners(self, i):
        return [j for j in range(N) if j != i]

    def rows(self, i):
        return {j: row for row, j in enumerate(self.partners(i))}

    def flow_fixed(self, i):
        flow = np.zeros((N - 1, H, W, 2), np.int16)
        flow[..., 0] = (np.array(self.partners(i)) - i)[:, None, None] * 32
        return flow

    def valid_bits(self, i):
        return np.stack([pack_mask(np.stack([self.cycle[i, j], self.occluded[i, j]])) for j in self.partners(i)])

    def frames(self):
        return self.video

    def count_map(self, i):
        return (self.cycle | self.occluded)[i][self.partners(i)].sum(0).astype(np.uint16)

    @property
    def pair_counts(self):
        counts = (self.cycle | self.occluded).sum((2, 3)).astype(np.int64)
        counts[np.arange(N), np.arange(N)] = 0
        return counts
