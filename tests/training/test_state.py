"""The running average of the weights, by hand."""

import pytest
import torch

from training.state import Average


def test_averaged_weights_by_hand():
    model = torch.nn.BatchNorm1d(1, affine=True)  # a weight, a bias, and buffers, which are not averaged
    average = Average(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(3.0)
        average.update(model, 0)  # warming up: decay 1 / 10
        assert average.state_dict(model)["weight"].item() == pytest.approx(0.1 * 1 + 0.9 * 3)
        model.weight.fill_(5.0)
        model.running_mean.fill_(8.0)
        average.update(model, 1000)  # decay 0.9
    state = average.state_dict(model)
    assert state["weight"].item() == pytest.approx(0.9 * 2.8 + 0.1 * 5)
    assert state["running_mean"].item() == 8 and model.weight.item() == 5 and state["bias"].item() == 0
    again = Average(model, 0.9)
    again.load(state)
    assert again.state_dict(model)["weight"].item() == state["weight"].item()
    assert Average(model, 0.0).state_dict(model) is None
