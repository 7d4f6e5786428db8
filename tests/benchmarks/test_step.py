"""The fast step computes what the plain re-statement of the reference's step computes."""

import argparse

import torch

import losses
from benchmarks import step as benchmark
from benchmarks.reference_step import reference_terms
from configs.options import resolve
from training.volume import loss_weights, volume_terms


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
