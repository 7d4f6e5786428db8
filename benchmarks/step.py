"""Cost of a training step: python -m benchmarks.step --config configs/paper.txt

Our step against a plain re-statement of the reference's, same weights and batch, in one run and alternating, so that
noise of the machine meets both. Prints steps/s, samples/s, achieved FLOP/s and peak memory, as a markdown table.
"""

import argparse
import resource
import statistics
import sys
import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import losses
from benchmarks.reference_step import reference_step
from configs.options import MODEL_OPTIONS, add_options, resolve
from loaders.correspondences import Batch
from networks.build import build_model
from training.objective import network_rates
from training.state import make_optimizer
from training.volume import loss_weights, volume_terms
from util import command, pick_device, seed_everything

NUM_FRAMES, HEIGHT, WIDTH = 50, 144, 256
PROGRESS = 0.5  # every loss weight is on


def random_batch(config, device):
    """A batch with random frames and pixels; the cost of a step does not depend on their values."""
    pairs, points = config.num_pairs, config.num_points
    size = torch.tensor([WIDTH - 1.0, HEIGHT - 1.0])
    frames_1, frames_2 = torch.randint(NUM_FRAMES, (2, pairs))
    batch = Batch(frames_1, frames_2, torch.rand(pairs, points, 2) * size, torch.rand(pairs, points, 2) * size,
                  torch.rand(pairs, points, 3), torch.rand(pairs, points), frames_1,
                  torch.zeros(pairs, points, dtype=torch.long))
    return batch.to(device)


def our_step(model, optimizer, batch, jitter, weights):
    loss = losses.total(volume_terms(model, batch, jitter)[0], weights)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def make_variant(config, device, amp):
    """Model and optimiser with the same start for every variant."""
    seed_everything(0)
    options = {key: getattr(config, key) for key in MODEL_OPTIONS} | {"amp": amp}
    model = build_model(NUM_FRAMES, HEIGHT, WIDTH, **options).to(device)
    return model, make_optimizer(network_rates(model, config))


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device):
    """GiB: of the GPU, or of the whole process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def measure(variants, batch, jitter, weights, repeats, device):
    """Median seconds of each variant's step, taken in turns."""
    seconds = {name: [] for name in variants}
    for repeat in range(repeats + 2):
        for name, (step, model, optimizer) in variants.items():
            synchronize(device)
            start = time.perf_counter()
            step(model, optimizer, batch, jitter, weights)
            synchronize(device)
            if repeat >= 2:  # the first two warm up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def report(seconds, flop, samples, device):
    reference = seconds["reference, re-stated"]
    print("| step | s/step | steps/s | samples/s | GFLOP | GFLOP/s | speed |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, value in seconds.items():
        print(f"| {name} | {value:.3f} | {1 / value:.2f} | {samples / value:.3g} | {flop[name] / 1e9:.1f} "
              f"| {flop[name] / value / 1e9:.0f} | {reference / value:.2f}x |")
    print(f"\npeak memory of the process: {peak_memory(device):.2f} GiB")


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", default="configs/paper.txt", help="preset [configs/paper.txt]")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each variant [5]")
    add_options(parser)
    arguments = parser.parse_args(argv)
    config = resolve(arguments, arguments.config)
    device = pick_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    batch = random_batch(config, device)
    jitter = torch.rand(config.num_pairs, config.num_points, config.num_samples, device=device)
    variants = {
        "reference, re-stated": (reference_step, *make_variant(config, device, False)),
        "ours, float32": (our_step, *make_variant(config, device, False)),
        "ours, bfloat16 MLPs": (our_step, *make_variant(config, device, True)),
    }
    weights, flop = loss_weights(PROGRESS, config), {}
    for name, (step, model, optimizer) in variants.items():
        with FlopCounterMode(display=False) as counter:
            loss = step(model, optimizer, batch, jitter, weights)
        flop[name] = counter.get_total_flops()
        print(f"{name}: loss {loss.item():.6f}")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, numpy {np.__version__}; {arguments.config}: P {config.num_pairs}, "
          f"n {config.num_points}, K {config.num_samples}\n")
    seconds = measure(variants, batch, jitter, weights, repeats=arguments.repeats, device=device)
    report(seconds, flop, jitter.numel(), device)


if __name__ == "__main__":
    main()
