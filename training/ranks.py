"""The processes that torchrun starts to train one model together, a GPU each; on a CPU they share its cores.

Each draws batches of its own and gradients are averaged, so that weights stay the same in all of them. The first one
alone writes and prints. In a process that torchrun did not start there is one rank, and nothing here does anything.
"""

import os
import signal
import sys
from contextlib import contextmanager

import numpy as np
import torch
from torch import distributed

from util import UserError, pick_device


def rank():
    return distributed.get_rank() if distributed.is_initialized() else 0


def size():
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first():
    return rank() == 0


def launched():
    """Whether torchrun started this process."""
    return distributed.is_torchelastic_launched()


@contextmanager
def joined(name):
    """Within it this process is one of those that torchrun started; after it only the first goes on."""
    if not launched():
        yield
        return
    device = own_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # messages of the host are tensors on the CPU, also beside GPUs: they must not wait for those
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        distributed.barrier()
        if not is_first():  # at an orderly end threads of gloo now and then abort the process, and so all of them
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
    finally:
        distributed.destroy_process_group()


def own_device(name):
    """The device of this process: of --device, or its own GPU. UserError where there is none for each."""
    device, count = pick_device(name), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if device.type != "cuda" or count == 1 or not distributed.is_torchelastic_launched():
        return device
    if device.index is not None:
        raise UserError(f"--device {name}: {count} processes take a GPU each; expected auto, cuda or cpu")
    if count > torch.cuda.device_count():
        raise UserError(f"torchrun: {count} processes for {torch.cuda.device_count()} GPUs; expected a GPU for each "
                        "(a smaller --nproc_per_node), or --device cpu")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def seed_of(seed, rank, step):
    """Seed of all that is random in a rank other than the first from this step on, which --resume cannot restore."""
    return int(np.random.SeedSequence([seed, rank, step]).generate_state(1)[0])


@torch.no_grad()
def average(tensors):
    """Replace the tensors (None: none), in place, by their means over all ranks, in one message."""
    tensors = [tensor for tensor in tensors if tensor is not None]
    if size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    for tensor, mean in zip(tensors, (flat / size()).split([tensor.numel() for tensor in tensors])):
        tensor.copy_(mean.view_as(tensor))


@torch.no_grad()
def copy_first(model):
    """Give all ranks the weights of the first one's model."""
    if size() > 1:
        for tensor in model.state_dict().values():
            distributed.broadcast(tensor, 0)


def agree(progress, received):
    """The first rank's progress, and the name of a signal if any rank received one: all end after the same step."""
    if size() == 1:
        return progress, received
    number = signal.Signals[received] if received else 0
    own = torch.tensor([progress if is_first() else 0.0, number], dtype=torch.float64)
    distributed.all_reduce(own, distributed.ReduceOp.MAX)
    progress, number = own.tolist()
    return progress, signal.Signals(int(number)).name if number else None
