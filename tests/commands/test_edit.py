"""edit.py: what it writes of clips whose truth is known, and what it refuses."""

import json
from functools import partial

import cv2
import numpy as np
import pytest

import edit
from benchmarks.scenes import make_scene
from evaluation.masks import region_j
from loaders.data_dir import DataDir
from preprocess import build
from tests.helpers import commands
from tests.helpers.analytic_run import FPS, NUM_FRAMES, SCALE, VIDEO_SIZE, move
from tests.helpers.moving_clip import SIZE, STEP, MovingFlow, moving_clip
from tests.helpers.read_video import read_video

call = partial(commands.call, edit.main)
CLIP = moving_clip(4)


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A data directory of CLIP, in which everything moves by STEP a frame."""
    folder = tmp_path_factory.mktemp("moving") / "data"
    return build(CLIP, folder, flow=MovingFlow(), device="cpu", quiet=True).path


def images(folder):
    return np.stack([cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.glob("*.png"))])


def write(path, image):
    assert cv2.imwrite(str(path), image)
    return path


def box(size=SIZE, rows=slice(8, 16), columns=slice(12, 24)):
    mask = np.zeros(size, np.uint8)
    mask[rows, columns] = 255
    return mask


def test_a_mask_is_carried(data_dir, tmp_path):
    scene = make_scene("occlusion", seed=0, num_frames=6, height=32, width=48)  # that of data_dir
    labels = write(tmp_path / "first.png", scene.layer_map(0).astype(np.uint8))
    call("mask", "--data_dir", data_dir, "--first", labels, "--out", tmp_path / "out")
    found = images(tmp_path / "out/masks")
    assert found.shape == (6, 32, 48) and (found[0] == scene.layer_map(0)).all()
    pole = len(scene.layers) - 1
    scores = np.array([[region_j(scene.layer_map(k) == pole, labels[k] == pole) for k in range(1, 6)]
                       for labels in (found, found[:1].repeat(6, 0))]).mean(1)
    assert scores[0] > 80 > scores[1] + 20, scores  # a pole 8 px wide, within half a pixel
    assert read_video(tmp_path / "out/mask.mp4")[0].shape == (6, 32, 48, 3)
    assert json.loads((tmp_path / "out/edit.json").read_text())["first"] == str(labels)


def test_a_painting_is_where_its_surface_is(run, tmp_path):
    """A disc on a video that turns and shifts: its middle goes where the run's closed form takes it."""
    centre = (np.array([23.0, 12.0]) + 0.5) * SCALE - 0.5  # far right of the middle column, so visible
    layer = np.zeros((*VIDEO_SIZE, 4), np.uint8)
    cv2.circle(layer, tuple(int(round(side)) for side in centre), 8, (0, 128, 255, 255), -1)
    call("paint", "--run", "x", "--layer", write(tmp_path / "layer.png", layer), "--relight", "--out", tmp_path / "out")
    for k, rgba in enumerate(images(tmp_path / "out/layer")):
        rows, columns = np.nonzero(rgba[..., 3] > 127)
        expected = (move(np.array([23.0, 12.0]), 0, k) + 0.5) * SCALE - 0.5
        assert np.hypot(columns.mean() - expected[0], rows.mean() - expected[1]) < 0.8, k
    shown, meta = read_video(tmp_path / "out/paint.mp4")
    assert shown.shape[0] == NUM_FRAMES and meta["fps"] == FPS


def test_the_video_is_held_still_and_cut(moving, tmp_path):
    call("stabilise", "--data_dir", moving, "--points", "grid:8@1", "--frame", 1, "--model", "translation",
         "--border", "crop", "--out", tmp_path / "out")
    found = images(tmp_path / "out/frames")[..., ::-1]
    x, y = STEP.astype(int)
    kept = CLIP[1][y : SIZE[0] - 2 * y, x : SIZE[1] - 2 * x]  # in frame 3 two steps have left
    assert found.shape[1:] == kept.shape
    for image in found:
        assert np.abs(image.astype(int) - kept).mean() < 2


def test_what_is_covered_comes_back(moving, tmp_path):
    """Masks cover the same place in each frame while the picture moves through: what was there is seen elsewhere."""
    for k in range(4):
        (tmp_path / "masks").mkdir(exist_ok=True)
        write(tmp_path / f"masks/{k}.png", box(columns=slice(16, 20)))
    call("clean", "--data_dir", moving, "--mask", tmp_path / "masks", "--grow", 0, "--out", tmp_path / "out")
    frames, origins = images(tmp_path / "out/frames")[..., ::-1], images(tmp_path / "out/sources")
    assert origins.dtype == np.uint16 and (origins[:, box(columns=slice(16, 20)) == 0] == 0).all()
    assert (origins[:, box(columns=slice(16, 20)) > 0] - 1 < 4).all()
    assert np.abs(frames.astype(int) - CLIP).mean() < 1


def test_frames_in_between(moving, tmp_path):
    call("between", "--data_dir", moving, "--factor", 3, "--out", tmp_path / "out")
    assert len(images(tmp_path / "out/frames")) == 6
    shown, meta = read_video(tmp_path / "out/between.mp4")
    assert len(shown) == 10 and meta["fps"] == pytest.approx(3 * DataDir.open(moving).fps)


def test_orbit_shows_each_frame(run, tmp_path, capsys):
    call("orbit", "--run", "x", "--out", tmp_path / "out", "--amount", "0.05")
    shown = read_video(tmp_path / "out/orbit.mp4")[0]
    assert shown.shape == (NUM_FRAMES, *(side + side % 2 for side in VIDEO_SIZE), 3)
    assert "not metric" in capsys.readouterr().out


def test_what_is_there_is_only_replaced_when_asked(moving, tmp_path, capsys):
    mask = write(tmp_path / "first.png", box())
    options = ("stabilise", "--data_dir", moving, "--mask", mask, "--model", "translation", "--out", tmp_path / "out")
    call(*options)
    before = (tmp_path / "out/edit.json").stat().st_mtime_ns
    assert "--overwrite" in commands.refused(capsys, edit.main, *options)
    assert (tmp_path / "out/edit.json").stat().st_mtime_ns == before
    call(*options, "--overwrite")
    assert (tmp_path / "out/edit.json").stat().st_mtime_ns > before
    line = commands.refused(capsys, edit.main, *options[:-1], tmp_path, "--overwrite")
    assert "something else" in line and mask.exists()


@pytest.mark.parametrize(("options", "said"), [
    (("mask", "--first", "missing.png"), "no such file"),
    (("mask", "--first", "small.png"), "3x3, expected 40x24"),
    (("mask", "--first", "empty.png"), "nothing is set"),
    (("mask", "--first", "box.png", "--frame", "4"), "frame 4 is outside the video, which has frames 0 to 3"),
    (("paint", "--layer", "box.png"), "expected RGBA"),
    (("paint", "--layer", "clear.png"), "fully transparent"),
    (("stabilise", "--points", "0,99,99"), "outside the video"),
    (("stabilise", "--points", "0,5,5", "--model", "homography"), "needs 4 points"),
    (("clean", "--mask", "few"), "1 images; expected 4"),
    (("clean", "--mask", "box.png", "--grow", "-1"), "expected 0 or more"),
    (("between", "--factor", "1"), "at least 2"),
    (("orbit",), "needs a fitted model"),
])
def test_mistakes(options, said, moving, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few").mkdir()
    for name, image in {"small": np.ones((3, 3), np.uint8), "empty": np.zeros(SIZE, np.uint8), "box": box(),
                        "clear": np.zeros((*SIZE, 4), np.uint8), "few/0": box()}.items():
        write(tmp_path / f"{name}.png", image)
    line = commands.refused(capsys, edit.main, *options, "--data_dir", moving, "--out", tmp_path / "out")
    assert said in line
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_a_run_of_another_video(run, tmp_path, capsys):
    run.video["fingerprint"] = "another"
    options = ("paint", "--run", "x", "--layer", "any.png", "--out", tmp_path / "out")
    assert "another video" in commands.refused(capsys, edit.main, *options)
