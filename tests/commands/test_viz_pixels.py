"""What viz.py draws, pixel by pixel, of frames, depths and motions that differ where a mistake would show."""

from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import torch

import viz
from flow.formats import flow_to_color
from loaders.data_dir import write_image
from outputs import draw
from tests.helpers import analytic_run, commands
from tests.helpers.analytic_run import FPS, NUM_FRAMES, SCALE, SIZE, VIDEO_SIZE
from tracking.tracks_file import Tracks, write_tracks

HEIGHT, WIDTH = VIDEO_SIZE
COLOURS = [(20 + 50 * i, 100, 240 - 50 * i) for i in range(NUM_FRAMES)]  # of the input frames, each of one colour


def subdued(colour):
    """Of 35 % its grey, by the luminance of BT.601."""
    grey = round(0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2])
    return [0.65 * part + 0.35 * grey for part in colour]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """{name of a video: its frames before they are encoded}, of a run with frames of one colour each."""
    run, data = analytic_run.install(monkeypatch, tmp_path / "data")
    for i, colour in enumerate(COLOURS):
        write_image(data.path / f"color/{i:05d}.png", np.full((*SIZE, 3), colour, np.uint8))
    videos = {}

    @contextmanager
    def record(path, fps):
        assert fps == FPS
        yield videos.setdefault(path.stem, []).append

    monkeypatch.setattr(viz, "video_writer", record)
    return videos


def call(tmp_path, *arguments):
    commands.call(viz.main, "--run", "somewhere", "--out", tmp_path / "v", *arguments)


def one_track(path, start=(40.0, 20.0), step=(0.0, 3.0)):
    """A tracks file with one point, seen in all frames, on the stored mask in frame 0."""
    positions = np.array(start) + np.arange(NUM_FRAMES)[:, None] * np.array(step)
    nothing = np.zeros((1, NUM_FRAMES))
    write_tracks(path, Tracks(np.array([[0, start[1], start[0]]]), positions[None], nothing > 0, nothing, nothing, SIZE,
                              VIDEO_SIZE, FPS))
    return positions


def test_every_frame_is_drawn_on_its_own_image(drawn, tmp_path):
    positions = one_track(tmp_path / "t.npz")
    call(tmp_path, "--what", "tracks,trails", "--tracks", tmp_path / "t.npz")
    mark = draw.position_colours(np.zeros((1, 2)))[0]
    for name in ("tracks", "trails"):
        assert len(drawn[name]) == NUM_FRAMES
        for image, colour, (x, y) in zip(drawn[name], COLOURS, positions):
            assert image.shape == (HEIGHT, WIDTH, 3)
            assert image[40, 10] == pytest.approx(subdued(colour), abs=1.5)
            assert np.abs(image[int(y), int(x)].astype(int) - mark).max() < 40


@pytest.mark.parametrize(("start", "ends"), [(0, (1, 2, 4)), (1, (2, 3, 4)), (4, (3, 2, 0))])
def test_matches_are_of_the_frames_that_their_labels_say(drawn, tmp_path, monkeypatch, start, ends):
    labels, label = [], draw.with_label
    monkeypatch.setattr(draw, "with_label", lambda image, text, *at: labels.append(text) or label(image, text, *at))
    positions = one_track(tmp_path / "t.npz")
    call(tmp_path, "--what", "correspondences", "--tracks", tmp_path / "t.npz", "--query_frame", start)
    mark = draw.position_colours(np.zeros((1, 2)))[0]
    for share, end in zip(("010", "050", "100"), ends):
        image = cv2.imread(str(tmp_path / f"v/correspondences_{share}.png"))[..., ::-1]
        right = WIDTH + draw.GAP
        for frame, left in ((start, 0), (end, right)):
            assert image[45, left + 5] == pytest.approx(subdued(COLOURS[frame]), abs=1.5)
            x, y = positions[frame]
            assert np.abs(image[int(y), left + int(x)].astype(int) - mark).max() < 60
    assert labels == [f"frame {frame}" for end in ends for frame in (start, end)]


def test_input_is_left_and_rendered_is_right(drawn, tmp_path, monkeypatch):
    def render_frame(model, frame, chunk=8192, progress=None):
        rgb = torch.tensor([0.2 * frame, 0.5, 1.5])  # brighter than white is white
        return {"rgb": rgb.expand(*SIZE, 3), "depth": torch.ones(SIZE)}

    monkeypatch.setattr("networks.query.render_frame", render_frame)
    call(tmp_path, "--what", "color")
    assert len(drawn["color"]) == NUM_FRAMES
    for frame, image in enumerate(drawn["color"]):
        assert image[40, 30].tolist() == list(COLOURS[frame])
        assert image[40, WIDTH + draw.GAP + 30].tolist() == [51 * frame, 128, 255]


def test_depth_is_warm_where_it_is_near(drawn, tmp_path):
    """Depth is 0.2 + 0.05 y and rises by 0.01 a frame: red above, blue below, and bluer with time."""
    call(tmp_path, "--what", "depth")
    first, last = drawn["depth"][0].astype(int), drawn["depth"][-1].astype(int)
    x = WIDTH - 5  # the legend is in the other corner
    assert first[0, x] == pytest.approx([158, 1, 66], abs=8) and last[-1, x] == pytest.approx([94, 79, 162], abs=8)
    warmth = first[:, x, 0] - first[:, x, 2]  # red less blue
    assert warmth[5:15].min() > 60 and warmth[-8:].max() < -60
    assert (first[20:30, x] != last[20:30, x]).any(axis=-1).all()  # one range of colours for the whole video
    left = drawn["depth"][0][: HEIGHT // 2]
    assert np.abs(left.astype(int) - left[:, :1]).max() <= 1  # depth does not depend on x


def test_flow_shows_directions_and_lengths_in_pixels_of_the_video(drawn, tmp_path, monkeypatch):
    """To the right, down, to the left, and half as far up, by 2 pixels of the model."""
    moves, asked, legends = [(2.0, 0.0), (0.0, 2.0), (-2.0, 0.0), (0.0, -1.0)], [], []

    def dense_flow(model, i, j, method="max_weight", chunk=8192, progress=None):
        asked.append((i, j))
        return torch.tensor(moves[i]).expand(*SIZE, 2), torch.zeros(SIZE)

    legend = draw.with_flow_legend
    monkeypatch.setattr("networks.query.dense_flow", dense_flow)
    monkeypatch.setattr(draw, "with_flow_legend", lambda image, most: legends.append(most) or legend(image, most))
    call(tmp_path, "--what", "flow")
    assert asked == [(i, i + 1) for i in range(NUM_FRAMES - 1)]
    longest = 2 * WIDTH / SIZE[1]
    assert legends == pytest.approx([longest] * 4, rel=1e-3)
    right, down, left, up = (image[25, 10].astype(int) for image in drawn["flow"])
    assert right.tolist() == [255, 0, 0]  # the Middlebury wheel
    assert down[0] > 200 and down[1] > 180 and down[2] < 30  # yellow; a little paler, for the video is wider than high
    assert left[0] < 30 and left[2] > 200
    assert up[0] > 120 and up[1] > 120 and up[2] > 240  # violet, half as strong
    height_ratio = HEIGHT / SIZE[0]
    for image, move in zip((right, down, left, up), moves):
        expected = flow_to_color(np.array(move, np.float32)[None, None] * (longest / 2, height_ratio), longest)[0, 0]
        assert np.abs(image - expected.astype(int)).max() <= 1


def test_trails_of_a_mask_are_the_objects_and_as_if_the_camera_stood_still(drawn, tmp_path, monkeypatch):
    """What starts on the stored mask moves by (1, 0) a frame, all else by (-0.5, 0.25), in pixels of the model."""

    def track_points(model, frames, pixels, target_frames=None, method="max_weight", chunk=8192, progress=None):
        x, y = pixels.unbind(-1)
        on_object = (x > 9.5) & (x < 21.5) & (y > 7.5) & (y < 15.5)
        velocity = torch.where(on_object[:, None], torch.tensor([1.0, 0.0]), torch.tensor([-0.5, 0.25]))
        times = torch.arange(model.num_frames)[None, :, None] - frames[:, None, None]
        none = torch.zeros(len(frames), model.num_frames)
        return {"pixels": pixels[:, None] + times * velocity[:, None], "occlusion_score": none, "depth": none}

    calls, draw_trails = [], draw.draw_trails
    monkeypatch.setattr("networks.query.track_points", track_points)
    monkeypatch.setattr(draw, "draw_trails",
                        lambda image, *rest: calls.append(rest) or draw_trails(image, *rest))
    call(tmp_path, "--what", "trails", "--trail_length", 3)
    assert [len(history) for history, *_ in calls] == [1, 2, 3, 4, 4]
    start, end = calls[1][0]
    assert (end - [SCALE[0], 0] > np.array([10, 8]) * SCALE).all()  # on the object in frame 0
    assert (end - [SCALE[0], 0] < np.array([22, 16]) * SCALE).all() and len(end) > 4
    assert start == pytest.approx(end - np.array([1.5, -0.25]) * SCALE, abs=1e-3)  # less the camera's motion
    assert calls[4][0][0] == pytest.approx(calls[4][0][-1] - 3 * np.array([1.5, -0.25]) * SCALE, abs=1e-3)


@pytest.mark.parametrize("scale", [1, 3])
def test_scaled_drawings_keep_their_places_and_the_videos_ratio(drawn, tmp_path, scale):
    positions = one_track(tmp_path / "t.npz", start=(50.5, 20.5), step=(2.0, 4.0))
    call(tmp_path, "--what", "tracks", "--tracks", tmp_path / "t.npz", "--scale", scale)
    for image, colour, (x, y) in zip(drawn["tracks"], COLOURS, positions):
        assert image.shape == (scale * HEIGHT, scale * WIDTH, 3)
        weight = np.abs(image - np.array(subdued(colour))).sum(-1) > 40
        centre = np.argwhere(weight).mean(axis=0) + 0.5
        assert centre == pytest.approx([scale * y, scale * x], abs=0.6)
