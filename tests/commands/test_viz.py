import cv2
import imageio.v3 as iio
import numpy as np
import pytest

import track
import viz
from benchmarks.scenes import SceneFlow, make_scene
from outputs import draw, video
from outputs.stabilise import camera_motion, stabilised_history
from outputs.video import video_writer
from preprocess import build
from tests.helpers import analytic_run
from tests.helpers.analytic_run import FPS, NUM_FRAMES, VIDEO_SIZE
from tracking.sources import RunSource
from util import UserError

try:
    import resource
except ImportError:  # Windows
    resource = None

GREY = np.full((40, 60, 3), 128, np.uint8)


def changed(image, base=GREY):
    return (image.astype(int) != base).any(axis=-1)


def read_video(path):
    return iio.imread(path, plugin="FFMPEG"), iio.immeta(path, plugin="FFMPEG")


# Video files


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (33, 50), (50, 33), (2, 2), (1, 7)])
def test_videos_of_any_size_play(tmp_path, size):
    height, width = size
    frames = [np.full((height, width, 3), (200, 40 * i, 90), np.uint8) for i in range(4)]
    with video_writer(tmp_path / "é v.mp4", 29.97) as write:
        for frame in frames:
            write(frame)
    shown, meta = read_video(tmp_path / "é v.mp4")
    assert meta["codec"] == "h264" and meta["pix_fmt"].startswith("yuv420p(")
    assert meta["fps"] == pytest.approx(29.97)
    assert shown.shape == (4, height + height % 2, width + width % 2, 3), "an odd side grows by one line"
    for image, frame in zip(shown, frames):
        assert np.abs(image[:height, :width].astype(int) - frame).max() <= 6


def test_the_extra_line_repeats_the_last_one(tmp_path):
    frame = np.zeros((15, 21, 3), np.uint8)
    frame[:, -1], frame[-1] = 255, 255
    with video_writer(tmp_path / "v.mp4", 10) as write:
        write(frame)
    shown = read_video(tmp_path / "v.mp4")[0][0]
    assert shown[:, 21].min() > 200 and shown[15].min() > 200 and shown[:14, :20].mean() < 20


def test_an_interrupted_video_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), video_writer(tmp_path / "v.mp4", 10) as write:
        write(GREY)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(resource is None, reason="no limit of file sizes on this system")
def test_a_video_that_cannot_be_written_whole_is_an_error(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3), dtype=np.uint8)
    popen = video.subprocess.Popen

    def limited(*args, **kwargs):
        return popen(*args, **kwargs, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999)))

    monkeypatch.setattr(video.subprocess, "Popen", limited)
    fails = pytest.raises(UserError, match="v.mp4: the video encoder failed")
    with fails, video_writer(tmp_path / "v.mp4", 10) as write:
        for frame in noise:
            write(frame)
    assert list(tmp_path.iterdir()) == []


# Drawing


@pytest.mark.parametrize("position", [(20.5, 15.5), (20.0, 15.0), (33.25, 21.8)])
def test_a_disc_is_centred_on_its_position(position):
    black = np.zeros((40, 60, 3), np.uint8)
    white = np.array([[255, 255, 255]], np.uint8)
    image = draw.draw_points(black, np.array([position]), white, np.array([False]), 5.0)
    y, x = np.mgrid[:40, :60] + 0.5
    weight = image[..., 0].astype(float)
    centroid = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
    assert np.allclose(centroid, position, atol=0.1)
    assert not black.any(), "drawn on a copy"


def test_a_hollow_cross_is_hollow_and_centred():
    image = draw.draw_points(GREY, np.array([[30.5, 20.5]]), np.array([[255, 0, 0]], np.uint8), np.array([True]), 6.0)
    marked = changed(image)
    assert not marked[20, 30], "its middle shows the image"
    assert marked.any(axis=0).nonzero()[0][[0, -1]].sum() == 60
    assert marked.any(axis=1).nonzero()[0][[0, -1]].sum() == 40
    assert marked[10:12].any() and not marked[10:12, 30].any(), "an x: nothing straight above the middle"
    disc = draw.draw_points(GREY, np.array([[30.5, 20.5]]), np.array([[255, 0, 0]], np.uint8), np.array([False]), 6.0)
    assert changed(disc)[20, 30]


@pytest.mark.parametrize("position", [(-0.1, 5), (60.1, 5), (5, 40.1), (1e30, 5), (np.nan, 5), (np.inf, -np.inf)])
@pytest.mark.parametrize("occluded", [True, False])
def test_points_outside_the_frame_are_not_drawn(position, occluded):
    image = draw.draw_points(GREY, np.array([position]), np.array([[9, 9, 9]], np.uint8), np.array([occluded]), 3.0)
    assert not changed(image).any()


def test_trails_fade_with_age_and_stop_where_a_point_is_hidden():
    history = np.array([[[x, 10.5]] for x in (2.5, 12.5, 22.5, 32.5, 42.5)])
    white = np.array([[255, 255, 255]], np.uint8)
    drawable = np.ones((5, 1), bool)
    row = draw.draw_trails(GREY, history, drawable, white, 1)[10, :, 0].astype(int)
    assert row[7] < row[17] < row[27] < row[37], "older is fainter"
    assert row[7] > 128 and (row[46:] == 128).all()
    drawable[2] = False
    row = draw.draw_trails(GREY, history, drawable, white, 1)[10, :, 0].astype(int)
    assert (row[14:31] == 128).all() and row[7] > 128 and row[37] > 128
    assert np.array_equal(draw.draw_trails(GREY, history[:1], drawable[:1], white, 1), GREY), "one frame: no trail yet"


def test_colours_tell_positions_apart():
    y, x = np.mgrid[:5, :9]
    colours = draw.position_colours(np.stack([x, y], axis=-1).reshape(-1, 2)).astype(int).reshape(5, 9, 3)
    flat = colours.reshape(-1, 3)
    distance = np.abs(flat[:, None] - flat[None]).sum(-1) + 999 * np.eye(45, dtype=int)
    assert distance.min() > 0
    far = np.abs(colours[:, 0] - colours[:, -1]).sum(-1)
    assert far.min() > 90, "the left and the right edge differ"
    assert flat.max(axis=1).min() > 120, "none is dark"
    assert draw.position_colours(np.zeros((1, 2))).shape == (1, 3)


def test_marks_do_not_touch():
    y, x = np.mgrid[:10, :10] * 9.0
    assert draw.mark_radius((1000, 1000), np.stack([x, y], axis=-1).reshape(-1, 2)) < 4.5
    assert draw.mark_radius((1000, 1000), np.zeros((1, 2))) == pytest.approx(0.006 * np.hypot(1000, 1000))


def test_near_is_warm_and_far_is_cold():
    (near, far), = draw.depth_colours(np.array([[0.3, 1.2]]), 0.3, 1.2).astype(int)
    assert near[0] > near[2] + 60 and far[2] > far[0] + 60
    image = draw.with_depth_legend(np.full((100, 160, 3), 255, np.uint8))
    legend = np.argwhere(changed(image, 255))
    assert legend[:, 0].min() > 60 and legend[:, 1].max() < 90, "the legend stays in its corner"


def test_the_flow_legend_is_in_the_lower_right_corner():
    image = draw.with_flow_legend(np.full((100, 160, 3), 255, np.uint8), 12.5)
    legend = np.argwhere(changed(image, 255))
    assert legend[:, 0].min() > 70 and legend[:, 1].min() > 70


def test_matches_end_where_the_point_is():
    start, end = np.array([[10.5, 20.5], [15.5, 5.5], [20.5, 30.5]]), np.array([[40.5, 20.5], [30.5, 8.5], [70.0, 9]])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    image = draw.draw_matches(GREY, GREY, start, end, colours, np.array([False, True, False]), 3.0, gap=8)
    assert image.shape == (40, 60 + 8 + 60, 3)
    assert image[20, 10].tolist() == image[20, 68 + 40].tolist() == [255, 0, 0]
    assert image[20, 50, 0] > 200, "a line joins the visible match"
    base = draw.side_by_side(GREY, GREY, 8)
    assert not changed(image[6:9, 25:60], base[6:9, 25:60]).any(), "and none an occluded one"
    blue = (image[..., 2].astype(int) - image[..., 0]) > 60
    assert blue[:, :60].any() and not blue[:, 60:].any(), "a point that left has no mark on the right"


def test_spread_out_takes_the_farthest_each_time():
    positions = np.random.default_rng(0).random((40, 2))
    chosen = draw.spread_out(positions, 12)
    for count in range(1, 12):
        taken = positions[chosen[:count]]
        nearest = [min(np.hypot(*(p - q)) for q in taken) for p in positions]
        assert nearest[chosen[count]] == pytest.approx(max(nearest))
    assert sorted(draw.spread_out(positions, 99)) == list(range(40))


# Stabilised trails


def test_the_camera_motion_is_the_backgrounds_median():
    random = np.random.default_rng(0)
    path = np.cumsum(random.normal(0, 3, (8, 2)), axis=0)
    path -= path[0]
    background = random.uniform(0, 100, (50, 1, 2)) + path
    background[:20] += np.cumsum(random.uniform(2, 9, (20, 8, 2)), axis=1)  # 40 % of the points move otherwise
    visible = random.random((50, 8)) > 0.2
    single = np.broadcast_to(path, (1, 8, 2))
    assert np.allclose(camera_motion(single, np.ones((1, 8), bool)), path)
    exact = camera_motion(background[20:], visible[20:])
    assert np.allclose(exact, path)
    assert np.abs(camera_motion(background, visible) - path).max() < 12 < np.abs(path).max() * 4
    visible[:, 4] = False
    rest = camera_motion(background, visible)
    assert np.array_equal(rest[3], rest[4]) and np.array_equal(rest[4], rest[5])


def test_a_point_of_the_background_leaves_no_trail():
    path = np.array([[0, 0], [3, 1], [5, -2], [9, 0.5]])
    positions = np.array([[10.0, 20.0], [30.0, 5.0]]) + path[:, None]
    history = stabilised_history(positions, path, -1)
    assert np.allclose(history, positions[-1])


@pytest.mark.parametrize(
    ("start", "share", "expected"),
    [(0, 0.1, 5), (0, 0.5, 25), (0, 1.0, 50), (50, 0.1, 45), (50, 1.0, 0), (30, 0.5, 5), (30, 1.0, 0), (10, 1.0, 50)],
)
def test_frames_at_a_distance(start, share, expected):
    assert viz.frame_at_distance(start, share, 51) == expected


# The command


@pytest.fixture
def run(monkeypatch, tmp_path):
    return analytic_run.install(monkeypatch, tmp_path / "data")[0]


def call(*arguments):
    viz.main(["--run", "somewhere", *map(str, arguments)])


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
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        call(*arguments)
    error = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and len(error) == 1 and says in error[0]
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
    with pytest.raises(SystemExit):
        viz.main(["--data_dir", str(data.path), "--out", str(tmp_path / "v"), "--what", "flow,depth"])
    assert "--what depth needs a fitted model" in capsys.readouterr().err
