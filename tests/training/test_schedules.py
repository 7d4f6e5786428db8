"""Schedules at both ends and in between."""

from types import SimpleNamespace

import pytest

import train
from tests.helpers.paths import ROOT
from training.schedules import interval, learning_rate_factor, periods, ramp, robust_scale
from training.volume import loss_weights


def test_schedules_at_both_ends():
    _, config = train.parse(["--data_dir", "d", "--out_dir", "o", "--config", str(ROOT / "configs/paper.txt")])
    assert ramp(-0.1, 0, 0.5, 4.0) == 0 and ramp(0.25, 0, 0.5, 4.0) == 2 and ramp(1, 0, 0.5, 4.0) == 4
    assert [ramp(progress, 0.3, 0, 4.0) for progress in (0.29, 0.3, 0.9)] == [0, 4, 4]  # a jump
    assert ramp(0.5, 0, 1, 4.0) == 2
    assert interval(0, 20, 0.02, 79) == 20 and interval(0.019, 20, 0.02, 79) == 20
    assert interval(0.02, 20, 0.02, 79) == 21 and interval(1, 20, 0.02, 59) == 59 and interval(0, 0, 0.02, 79) == 79
    assert [periods(step / 10, 0.2) for step in range(11)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    first, last = loss_weights(0, config), loss_weights(1, config)
    assert (first["rgb"], first["flow_gradient"], first["distortion"]) == (0, 0, 0)
    assert (last["rgb"], last["flow_gradient"], last["distortion"]) == (10, pytest.approx(0.1), 10)
    assert loss_weights(0.5, config)["distortion"] == pytest.approx(5)  # half way from 0.4 to 0.6
    assert learning_rate_factor(0.19999, config) == 1 and learning_rate_factor(0.2, config) == 0.5
    config.flow_robust_start, config.flow_robust_px = 18.0, 2.0
    assert [robust_scale(progress, config) for progress in (0, 0.25, 0.5, 1)] == pytest.approx([18, 6, 2, 2])
    config.lr_schedule = "cosine"
    assert learning_rate_factor(0, config) == 1 and learning_rate_factor(1, config) == pytest.approx(0)


def test_learning_rates_warm_up():
    config = SimpleNamespace(lr_warmup=0.2, lr_schedule="halve", lr_every=1)
    factors = [learning_rate_factor(progress, config) for progress in (0, 0.05, 0.1, 0.2, 0.9)]
    assert factors == pytest.approx([5e-5, 0.25, 0.5, 1, 1], rel=1e-3)  # not 0 at the start
    config.lr_schedule = "cosine"
    factors = [learning_rate_factor(progress, config) for progress in (0.1, 0.25, 0.5, 1)]
    assert factors == pytest.approx([0.5 * 0.97553, 0.85355, 0.5, 0], rel=1e-3)
    config.lr_schedule, config.lr_every = "halve", 0.1  # both at once
    assert learning_rate_factor(0.15, config) == pytest.approx(0.75 * 0.5, rel=1e-3)
    config.lr_warmup = 0
    assert learning_rate_factor(0, config) == 1
