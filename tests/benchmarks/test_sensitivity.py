"""Constants by name, halved and doubled."""

from dataclasses import dataclass
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from benchmarks import sensitivity


@dataclass(frozen=True)
class Inner:
    share: float = 0.5
    pixels: int = 1


@dataclass(frozen=True)
class Outer:
    steps: int = 3
    soft: bool = True  # not a number that could be halved
    inner: Inner = Inner()


def test_numbers_are_found_by_their_dotted_names():
    assert sensitivity.numbers(Outer()) == {"steps": 3, "inner.share": 0.5, "inner.pixels": 1}


def test_one_number_is_changed_and_the_others_are_not():
    assert sensitivity.scaled(Outer(), "inner.share", 2.0) == Outer(inner=Inner(share=1.0))
    assert sensitivity.scaled(Outer(), "steps", 0.5) == Outer(steps=2)
    assert sensitivity.scaled(Outer(), "inner.pixels", 0.5) == Outer()  # whole numbers stay above 0


def test_a_modules_settings_come_back():
    module = SimpleNamespace(SETTINGS=Outer())
    with pytest.raises(RuntimeError), sensitivity.in_module(module, "inner.share", 2.0):
        assert module.SETTINGS.inner.share == 1.0
        raise RuntimeError
    assert Outer() == module.SETTINGS


def test_every_constant_can_be_changed():
    names = set(sensitivity.numbers(sensitivity.FlowSettings()))
    assert names > sensitivity.IDLE
    for name in names:
        assert sensitivity.scaled(sensitivity.FlowSettings(), name, 2.0) != sensitivity.FlowSettings()
    for stage, least in (("tracking", {"same_motion", "stiffness"}), ("training", {"same_motion", "rate"})):
        found = sensitivity.changes(stage)
        assert {name for name, _, _ in found} >= least
        for name, value, multiplied in found:
            with multiplied(2.0):
                assert {name: new for name, new, _ in sensitivity.changes(stage)}[name] == pytest.approx(2 * value)
        assert [(name, value) for name, value, _ in sensitivity.changes(stage)] == [one[:2] for one in found]


def test_flow_is_held_against_the_truth(monkeypatch):
    texture = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    wide = cv2.resize(texture, (80, 48), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([wide[:, 4 * i : 4 * i + 64] for i in range(3)])  # all of it moves by 4 px to the left a frame
    monkeypatch.setattr(sensitivity, "SOURCES", (0, 2))
    still = np.zeros((48, 64, 2), np.float32)
    truth = {(i, j): (still + np.float32([4 * (i - j), 0]), np.indices((48, 64))[1] // 56 == 0)
             for i in (0, 2) for j in range(3) if j != i}
    within, error, _ = sensitivity.flow_figures([(frames, truth)], sensitivity.FlowSettings())
    assert within > 85 and error < 0.5
    far = {pair: (flow + 3, visible) for pair, (flow, visible) in truth.items()}
    within, error, _ = sensitivity.flow_figures([(frames, far)], sensitivity.FlowSettings())
    assert within < 15 and error > 3.5
