"""Tiny videos, and what run.py makes of one of them undisturbed; tests only read them."""

from types import SimpleNamespace

import pytest

import run
from benchmarks.scenes import make_scene, write_mp4

FAST = ["--what", "none", "--preprocess_args", "--max_interval 1", "--train_args",
        "--num_iters 300 --save_every 10 --log_every 10 --field_width 16 --num_pairs 8 --num_points 16 "
        "--depth_start flat"]


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """Six videos of 5 frames of 48 x 32: one is broken, and two have the name `a`."""
    folder = tmp_path_factory.mktemp("videos")
    for k, name in enumerate(("a", "b", "c", "d", "more/a")):
        (folder / name).parent.mkdir(exist_ok=True)
        scene = make_scene("occlusion", seed=k % 2, num_frames=5, height=32, width=48)
        write_mp4(folder / f"{name}.mp4", scene.video, 12)
    (folder / "broken.mp4").write_bytes(b"nonsense" * 99)
    return folder


@pytest.fixture(scope="session")
def undisturbed(videos, tmp_path_factory):
    """The results of the video `a`, in this process, by run.py."""
    out = tmp_path_factory.mktemp("undisturbed") / "results"
    run.main([str(videos / "a.mp4"), "--out", str(out), *FAST])
    return SimpleNamespace(out=out, video=videos / "a.mp4")
