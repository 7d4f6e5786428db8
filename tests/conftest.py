"""Fixtures that tests of several packages share; tests only read them."""

import os

import cv2
import pytest
import torch

import preprocess
from benchmarks.scenes import SceneFlow, make_scene
from loaders.correspondences import CorrespondencePool
from loaders.surface_sampler import SurfaceSampler
from tests.helpers.paths import CONFORMANCE

# One thread: the tests' tensors are tiny, and several suites may share a machine. Subprocesses inherit the variable.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
cv2.setNumThreads(1)  # its threads would be missing in tests that fork


@pytest.fixture(scope="session")
def conformance():
    """Folder of the reference implementation's tensors; the test is skipped where it is absent."""
    if not (CONFORMANCE / "model.npz").exists():
        pytest.skip(f"no conformance tensors in {CONFORMANCE} (set OMNIMOTION_CONFORMANCE)")
    return CONFORMANCE


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """The data directory of a tiny clip with exact flow."""
    scene = make_scene("occlusion", seed=0, num_frames=6, height=32, width=48)
    folder = tmp_path_factory.mktemp("clip") / "data"
    preprocess.build(scene.video, folder, flow=SceneFlow(scene), quiet=True)
    return folder


@pytest.fixture(scope="session")
def flow_scene():
    return make_scene("occlusion", seed=0, num_frames=12, height=48, width=64)


@pytest.fixture(scope="session")
def flow_pool(flow_scene, tmp_path_factory):
    """Correspondences of flow_scene's exact flow."""
    folder = tmp_path_factory.mktemp("pool") / "data"
    data = preprocess.build(flow_scene.video, folder, flow=SceneFlow(flow_scene), quiet=True)
    return CorrespondencePool(data, torch.device("cpu"))


@pytest.fixture
def surface_sampler(flow_pool):
    return SurfaceSampler(flow_pool, seed=0, online=True)


@pytest.fixture(scope="session")
def truth_scene():
    return make_scene("occlusion", 1, 7, 40, 56)


@pytest.fixture(scope="session")
def truth_file(truth_scene, tmp_path_factory):
    """truth_scene's ground truth of 40 points, with its masks in the folder beside it."""
    folder = tmp_path_factory.mktemp("scene")
    truth_scene.save(folder, num_points=40)
    return folder / "ground_truth.npz"


@pytest.fixture(scope="session")
def truth_data(truth_scene, tmp_path_factory):
    """A data directory of truth_scene's true flow, direct and chained."""
    folder = tmp_path_factory.mktemp("data") / "d"
    preprocess.build(truth_scene.video, folder, flow=SceneFlow(truth_scene), keep_direct=True, quiet=True)
    return folder
