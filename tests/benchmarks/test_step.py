"""The fast step computes what the plain re-statement of the reference's step computes; steps of all sizes are timed."""

import argparse

import numpy as np
import pytest
import torch

import losses
from benchmarks import step as benchmark
from benchmarks import step_size
from benchmarks.reference_step import reference_terms
from configs.options import resolve
from loaders.data_dir import DataDir
from tests.helpers.paths import ROOT
from training.volume import loss_weights, volume_terms
from util import UserError


def test_same_loss_and_gradients():
    config = resolve(argparse.Namespace(num_pairs=4, num_points=12, num_samples=8, coupling_width=16, field_width=16))
    model, _ = benchmark.make_variant(config, torch.device("cpu"), amp=False)
    batch = benchmark.random_batch(config, torch.device("cpu"))
    jitter, weights = torch.rand(4, 12, 8), loss_weights(benchmark.PROGRESS, config)
    gradients = []
    for terms in (volume_terms(model, batch, jitter)[0], reference_terms(model, batch, jitter)):
        model.zero_grad()
        losses.total(terms, weights).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for ours, reference in zip(*gradients):
        scale = reference.abs().max().clamp(min=1e-6)
        assert ((ours - reference).abs().max() / scale) < 1e-3


def test_random_data_is_what_training_reads(tmp_path):
    path = step_size.make_data(tmp_path / "data", 40, 20, 5)
    data = DataDir.open(path)
    assert (data.width, data.height, data.num_frames) == (40, 20, 5) and data.partners(2) == [0, 1, 3, 4]
    assert np.allclose(data.flow(0, 3), np.array([3 * 0.004 * 40, 3 * 0.002 * 20]), atol=1 / 64)
    cycle, occluded = zip(*(data.valid(1, j) for j in (0, 2, 3, 4)))
    assert np.array_equal(data.count_map(1), np.sum(cycle, 0)) and not np.any(occluded)
    assert 0.5 < np.mean(cycle) < 0.7 and data.pair_counts[1, 3] == cycle[2].sum()


def test_steps_of_all_sizes_are_timed(tmp_path):
    sizes = ["24x16x4", "48x32x4"]
    parts = step_size.measure(str(ROOT / "configs/default.txt"), sizes, "disk", 2, tmp_path)
    assert list(parts) == sizes and all(value > 0 for of_size in parts.values() for value in of_size.values())
    assert set(parts[sizes[0]]) == {"batch", "forward", "backward", "optimiser, running means"}
    with pytest.raises(UserError, match="WIDTHxHEIGHTxFRAMES"):
        step_size.size_of("854x480")
