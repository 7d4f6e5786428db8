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


@pytest.fixture(autouse=True, scope="session")
def few_threads():
    torch.set_num_threads(min(2, os.cpu_count() or 1))
