"""What preprocessing says beforehand about disk and time."""

import itertools

import pytest

from preprocess import costs
from tests.helpers.moving_clip import MovingFlow, make
from util import UserError


def test_too_little_free_disk_is_said_beforehand(tmp_path, monkeypatch):
    estimator = MovingFlow()
    monkeypatch.setattr(costs.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"30 pairs need 0\.\d MB more, 0\.0 MB are free"):
        make(tmp_path, estimator)
    assert not estimator.asked


@pytest.mark.parametrize("walks, told", [(False, "300 s for 30 pairs, as 10 s"), (True, "7 min for 30 pairs, as 10 s")])
def test_time_is_measured_on_one_pair_and_told(tmp_path, monkeypatch, capsys, walks, told):
    """30 pairs of 10 s are 300 s, 420 s (7 minutes) with filter and chain."""
    clock = itertools.count(step=10)
    monkeypatch.setattr(costs, "LONG", 1)
    monkeypatch.setattr("flow.estimators.time.perf_counter", lambda: next(clock))
    estimator = MovingFlow()
    estimator.walks = walks
    estimator.adjacent_many = lambda frames: (estimator.flow_from(i, [i + 1]) for i in frames)
    make(tmp_path, estimator, quiet=False, workers=1)
    assert told.replace("300 s", "5 min") in capsys.readouterr().out


def test_time_of_little_work_is_not_measured(tmp_path, capsys):
    make(tmp_path, quiet=False)
    assert "time: about" not in capsys.readouterr().out
