"""RAFT of random weights, and where trained ones are."""

import torch

from networks.raft import RAFT
from tests.helpers.paths import SHARED

SINTEL = SHARED / "data" / "weights" / "raft-small-sintel.pth"


def random_raft(small=True):
    """A model for looking things up, the same each time; running variances differ from 1, which would hide them."""
    torch.manual_seed(0)
    model = RAFT(small).eval().requires_grad_(False)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return model


def save_random_raft(path, small=True):
    path.parent.mkdir(exist_ok=True)
    torch.save(random_raft(small).state_dict(), path)
