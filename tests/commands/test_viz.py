"""viz.py: what it draws of a run whose answers are known, and what it refuses."""

from functools import partial

import cv2
import numpy as np
import pytest

import track
import viz
from benchmarks.scenes import SceneFlow, make_scene
from outputs import draw
from preprocess import build
from tests.helpers import commands
from tests.helpers.analytic_run import FPS, NUM_FRAMES, VIDEO_SIZE
from tests.helpers.read_video import read_video
from tracking.sources import RunSource
from util import UserError

call = partial(commands.call, viz.main, "--run", "somewhere")


@pytest.mark.parametrize(
    ("start", "share", "expected"),
    [(0, 0.1, 5), (0, 0.5, 25), (0, 1.0, 50), (50, 0.1, 45), (50, 1.0, 0), (30, 0.5, 5), (30, 1.0, 0), (10, 1.0, 50)],
)
def test_frames_at_a_distance(start, share, expected):
    assert viz.frame_at_distance(start, share, 51) == expected


def test_everything_is_drawn_at_the_videos_size(run, tmp_path):
    call("--out", tmp_path / "v")
    height, width = (side + side % 2 for side in VIDEO_SIZE)
    beside = 2 * VIDEO_SIZE[1] + 8
    counts = {"tracks": NUM_FRAMES, "trails": NUM_FRAMES, "depth": NUM_FRAMES, "flow": NUM_FRAMES - 1}
    for name, count in counts.items():
        shown, meta = read_video(tmp_path / f"v/{name}.mp4")
        assert shown.shape == (count, height, width, 3), name
        assert meta["fps"] == FPS
    assert read_video(tmp_path / "v/color.mp4")[0].shape == (NUM_FRAMES, height, beside, 3)
    for share in ("010", "050", "100"):
        assert cv2.imread(str(tmp_path / f"v/correspondences_{share}.png")).shape == (VIDEO_SIZE[0], beside, 3)
    assert len(list((tmp_path / "v").iterdir())) == 8


def test_marks_are_where_the_tracks_are(run, tmp_path):
    """One point, far from the others' colours: the brightest new mark of each frame is at its true position."""
    np.savez(tmp_path / "q.npz", query_points=[[0, 20.0, 50.0]])
    track.main(["--run", "x", "--queries", str(tmp_path / "q.npz"), "--out", str(tmp_path / "t.npz")])
    call("--tracks", tmp_path / "t.npz", "--what", "tracks", "--out", tmp_path, "--scale", 4)
    with np.load(tmp_path / "t.npz") as file:
        positions, colour = file["tracks"][0] * 4, draw.position_colours(np.zeros((1, 2)))[0].astype(int)
    shown = read_video(tmp_path / "tracks.mp4")[0].astype(int)
    assert shown.shape[1:3] == (4 * VIDEO_SIZE[0], 4 * VIDEO_SIZE[1])
    for frame, (x, y) in zip(shown, positions):
        assert np.abs(frame[int(y), int(x)] - colour).max() < 40
        assert np.abs(frame[int(y), int(x) + 12] - colour).max() > 40


def test_a_mask_restricts_the_points(run, tmp_path, monkeypatch):
    seen = []
    draw_points = draw.draw_points
    monkeypatch.setattr(draw, "draw_points", lambda image, at, *rest: seen.append(at) or draw_points(image, at, *rest))
    mask = np.zeros(VIDEO_SIZE, np.uint8)
    mask[20:40, 40:60] = 255
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    call("--what", "tracks", "--mask", tmp_path / "m.png", "--step", 4, "--out", tmp_path, "--query_frame", 2)
    points = seen[2]
    assert len(points) == 25
    assert (points > (40, 20)).all() and (points < (60, 40)).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--what", "tracks,smoke"], "--what smoke: expected some of tracks, trails"),
        (["--what", ","], "nothing to draw"),
        (["--query_frame", 5], "--query_frame: frame 5 is outside"),
        (["--tracks", "missing.npz"], "no such file"),
        (["--tracks", "other.npz"], "--tracks other.npz: 5 frames of 99x51, but this run's video has 5 of 71x51"),
        (["--tracks", "t.npz", "--step", 3], "give one of them"),
        (["--mask", "wrong.png"], "expected 71x51 or 32x24"),
        (["--tracks", "t.npz", "--mask", "empty.png"], "no point of t.npz is on it"),
        (["--mask", "empty.png"], "no point of a grid"),
        (["--out", "wrong.png"], "cannot make this folder"),
    ],
)
def test_mistakes_end_in_one_line(run, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("wrong.png", np.full((10, 10), 255, np.uint8))
    cv2.imwrite("empty.png", np.zeros(VIDEO_SIZE, np.uint8))
    track.main(["--run", "x", "--queries", "grid:20", "--out", "t.npz"])
    with np.load("t.npz") as file:
        np.savez("other.npz", **dict(file) | {"video_size": np.array([51, 99])})
    assert says in commands.refused(capsys, viz.main, "--run", "somewhere", *arguments)
    assert not list(tmp_path.rglob("*.mp4"))


def test_a_moved_or_foreign_data_directory_is_named(run, tmp_path):
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    args = viz.parse_arguments(["--run", "x", "--out", str(tmp_path / "v")])
    with pytest.raises(UserError, match="is gone; name its new place with --data_dir"):
        viz.open_scene(RunSource(run), args)
    run.data_dir, run.model.num_frames = str(tmp_path / "elsewhere"), 9
    with pytest.raises(UserError, match="holds 5 frames of 32x24, but the model was fitted to 9"):
        viz.open_scene(RunSource(run), args)


def test_a_data_directory_alone_is_drawn_without_what_needs_a_model(tmp_path, capsys):
    scene = make_scene("occlusion", 1, 4, 40, 56)
    data = build(scene.video, tmp_path / "data", flow=SceneFlow(scene), quiet=True)
    viz.main(["--data_dir", str(data.path), "--out", str(tmp_path / "v"), "--step", "8"])
    assert "no depth and no color" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "v").iterdir()}
    assert {"tracks.mp4", "trails.mp4", "flow.mp4", "correspondences_100.png"} <= names
    assert not {"depth.mp4", "color.mp4"} & names
    where = "--data_dir", data.path, "--out", tmp_path / "v"
    line = commands.refused(capsys, viz.main, *where, "--what", "flow,depth")
    assert "--what depth needs a fitted model" in line
