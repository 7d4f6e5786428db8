"""Checkpoint files: whole or not at all, the best one stays the best, and what is no checkpoint is named."""

import os

import pytest
import torch

import checkpoints
import train
from tests.helpers.training_run import run
from training.state import Curves
from util import UserError


def test_run_without_checkpoint_and_foreign_files(tmp_path):
    with pytest.raises(UserError, match="no checkpoint there"):
        checkpoints.load_run(tmp_path)
    (tmp_path / "x.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        checkpoints.read(tmp_path / "x.pt")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "y.pt")
    with pytest.raises(UserError, match="not a checkpoint of this program"):
        checkpoints.read(tmp_path / "y.pt")


def test_a_save_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch):
    path = checkpoints.checkpoint_path(tmp_path, 8)
    checkpoints.save(path, {"step": 8})

    def disk_full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(UserError, match=r"full while writing .*step_000000008.pt: \d"):
        checkpoints.save(path, {"step": 9})
    with pytest.raises(UserError, match="disk is full"):
        checkpoints.save_state(tmp_path, {"step": 12}, keep=1, is_best=True)
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # and none is deleted for one that failed
    assert torch.load(path)["step"] == 8 and checkpoints.newest(tmp_path) == path


def test_the_best_checkpoint_is_replaced_by_a_better_one_only(data_dir, tmp_path, monkeypatch):
    """Flow errors that are set by hand; the run is resumed before the third, the fourth and the last of them."""
    errors, write = iter([5.0, 3.0, 4.0, 3.5, 2.0]), Curves.write

    def known_error(curves, *arguments):
        write(curves, *arguments)
        curves.error = next(errors)

    monkeypatch.setattr(Curves, "write", known_error)
    monkeypatch.setattr(train, "measure_held_out", lambda *_: None)
    best = []
    for steps in (4, 6, 8, 10):
        run(data_dir, tmp_path, "--num_iters", steps, "--log_every", 2, "--save_every", 2, "--resume")
        best.append(checkpoints.read(tmp_path / "checkpoints" / "best.pt")["step"])
    assert best == [4, 4, 4, 10]
