"""One batch forwards and backwards, on the CPU; its recording on a GPU is seen by `make gpu-check`."""

import signal

import pytest
import torch

from training.graphs import differentiation
from util import Overdue


class Chain:
    """An objective of thousands of operations; as its backward begins, a signal is due."""

    def __init__(self, parameter):
        self.parameter = parameter

    def __call__(self, batch, scales):
        value = self.parameter
        for _ in range(3000):
            value = value.sin()
        value.register_hook(due)
        return {"flow": value.sum()}, {}, None

    def scales(self, progress):
        return {}

    def weights(self, progress):
        return {"flow": 1.0}


def due(_gradient):
    signal.setitimer(signal.ITIMER_REAL, 0.01)


def overdue(*_):
    raise Overdue


def test_a_signal_is_heard_in_the_midst_of_a_long_backward():
    parameter = torch.full((10_000,), 0.5, requires_grad=True)
    before = signal.signal(signal.SIGALRM, overdue)
    try:
        with pytest.raises(Overdue):
            differentiation(Chain(parameter), record=False)(None, 0.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert parameter.grad is None  # it did not go on to its end first
