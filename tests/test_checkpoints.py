"""Checkpoint files: what is no checkpoint is named."""

import pytest
import torch

import checkpoints
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
