"""Fixtures that tests of several packages share."""

import os

import pytest
import torch

from tests.helpers.paths import CONFORMANCE


@pytest.fixture(scope="session")
def conformance():
    """Folder of the reference implementation's tensors; the test is skipped where it is absent."""
    if not (CONFORMANCE / "model.npz").exists():
        pytest.skip(f"no conformance tensors in {CONFORMANCE} (set OMNIMOTION_CONFORMANCE)")
    return CONFORMANCE


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """The data directory of a tiny clip with exact flow; tests only read it."""
    import preprocess
    from benchmarks.scenes import SceneFlow, make_scene

    scene = make_scene("occlusion", seed=0, num_frames=6, height=32, width=48)
    folder = tmp_path_factory.mktemp("clip") / "data"
    preprocess.build(scene.video, folder, flow=SceneFlow(scene), quiet=True)
    return folder


# One thread: the tests' tensors are tiny, and several suites may share a machine. Subprocesses inherit the variable.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
