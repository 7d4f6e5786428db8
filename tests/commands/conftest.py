"""Fixtures of the commands' tests."""

import pytest

from tests.helpers import analytic_run


@pytest.fixture
def run(monkeypatch, tmp_path):
    """The run of analytic_run, which every command opens, whatever --run names."""
    return analytic_run.install(monkeypatch, tmp_path / "data")[0]
