"""Where the real test data and the conformance tensors are, and small things that several tests share."""

import os
from pathlib import Path

import pytest
import torch

SHARED = Path(os.environ.get("OMNIMOTION_SHARED", Path(__file__).resolve().parents[1].parent / "shared"))
CONFORMANCE = Path(os.environ.get("OMNIMOTION_CONFORMANCE", SHARED / "spec" / "conformance"))


@pytest.fixture(scope="session")
def conformance():
    """Folder of the reference implementation's tensors; the test is skipped where it is absent."""
    if not (CONFORMANCE / "model.npz").exists():
        pytest.skip(f"no conformance tensors in {CONFORMANCE} (set OMNIMOTION_CONFORMANCE)")
    return CONFORMANCE


# One thread: the tests' tensors are tiny, and several suites may share a machine. Subprocesses inherit the variable.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
