"""view.py: what it opens, what it saves, and what it refuses."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
import webbrowser
from functools import partial

import cv2
import numpy as np
import pytest

import track
import view
from tests.helpers import commands
from tests.helpers.analytic_run import NUM_FRAMES, SIZE
from tests.helpers.paths import ROOT
from tracking.tracks_file import read_tracks
from viewer.frames import VideoFrames

call = partial(commands.call, view.main, "--run", "somewhere")


def data_of(page):
    """What a saved page holds, by its own markup alone."""
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="saved">(.*?)</script>', text)[1])


def test_a_saved_page_holds_frames_layers_and_tracks(run, tmp_path, capsys):
    call("--save", tmp_path / "new" / "page.html", "--step", 10)
    assert f"{NUM_FRAMES} frames and their tracks in one page" in capsys.readouterr().out
    page = tmp_path / "new" / "page.html"
    data, text = data_of(page), page.read_text(encoding="utf-8")
    assert set(data["images"]) == {"original", "rendered", "depth", "flow", "mask"}
    assert all(len(urls) == NUM_FRAMES for urls in data["images"].values())
    assert [tracks["count"] for tracks in data["tracks"][0]] == [35] * 3  # grids on frames 0, 2, 4
    assert "somewhere" not in text.replace('"name":"somewhere"', "")  # no command with the folders of who saved it
    assert not re.search(r'(src|href)="(?!data:)', text) and "default-src 'none'" in text


def test_a_saved_page_of_50_frames_is_small(tmp_path):
    """A texture that moves by a pixel a frame, and 600 points on it."""
    random, size, count = np.random.default_rng(0), (144, 256), 50
    texture = sum(cv2.resize(random.uniform(-40, 40, (size[0] // k, 320 // k, 3)), (320, size[0])) for k in (2, 8, 24))
    (tmp_path / "clip").mkdir()
    for i in range(count):
        image = np.clip(128 + texture[:, i : i + size[1]], 0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"clip/{i:02d}.png"), image)
    starts = random.uniform(0, 1, (600, 2)) * size[::-1]
    places = starts[:, None] - np.arange(count)[:, None] * [1, 0]
    hidden = places[..., 0] < 0
    np.savez(tmp_path / "t.npz", query_points=np.insert(starts[:, ::-1], 0, 0, axis=1), tracks=places, occluded=hidden,
             occlusion_score=hidden * 1.0, depth=np.zeros(hidden.shape), fps=24, frame_size=size, video_size=size,
             convention="")
    clip, tracks, page = (tmp_path / name for name in ("clip", "t.npz", "page.html"))
    commands.call(view.main, "--tracks", tracks, "--video", clip, "--save", page)
    data = data_of(tmp_path / "page.html")
    assert data["num_frames"] == count and data["tracks"][0][0]["count"] == 600
    assert (tmp_path / "page.html").stat().st_size < 4e6


def test_saving_needs_no_server(run, tmp_path, monkeypatch):
    for name in ("starlette", "uvicorn", "viewer.app"):
        monkeypatch.setitem(sys.modules, name, None)
    call("--save", tmp_path / "page.html")
    assert (tmp_path / "page.html").exists()


def test_a_missing_extra_is_named(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    line = commands.refused(capsys, view.main, "--run", "x")
    assert "pip install -r requirements-viewer.txt" in line and "uvicorn" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "which model? give --run DIR"),
        (["--tracks", "t.npz"], "give --video PATH or --data_dir DIR"),
        (["--tracks", "t.npz", "--data_dir", "data", "--refine", "on"], "--refine acts on a model's tracks"),
        (["--tracks", "missing.npz", "--data_dir", "data"], "no such file"),
        (["--tracks", "other.npz", "--data_dir", "data"], "other.npz: of 5 frames of 99x51, but the video shown"),
        (["--run", "x", "--compare", "other.npz"], "has 5 of 71x51"),
        (["--run", "x", "--compare", "nowhere"], "expected a run's folder, a data directory or a tracks.npz"),
        (["--run", "x", "--compare", "page.txt"], "page.txt: not a readable .npz file"),
        (["--run", "x", "--video", "clip"], "of 5 frames of 71x51, but the video shown"),
        (["--run", "x", "--video", "no.mp4"], "no such file"),
        (["--run", "x", "--save", "old.html"], "old.html: exists; give --overwrite"),
        (["--run", "x", "--save", "page.txt"], "expected a file ending in .html"),
        (["--run", "x", "--save", "a.html", "--port", 80], "--port acts on the live page"),
        (["--run", "x", "--save", "a.html", "--open"], "--open acts on the live page"),
        (["--run", "x", "--overwrite"], "--overwrite acts on a saved page"),
        (["--run", "x", "--step", 4], "--step acts on a saved page"),
        (["--run", "x", "--pins", "bad.csv"], "bad.csv line 3: frame 7 is outside the video"),
        (["--tracks", "t.npz", "--data_dir", "data", "--pins", "far.csv"], "line 2: there is no track 99 in t.npz"),
        (["--run", "x", "--host", "no.such.host.invalid"], "no.such.host.invalid"),
    ],
)
def test_mistakes_end_in_one_line(run, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    track.main(["--run", "x", "--queries", "grid:20", "--out", "t.npz"])
    with np.load("t.npz") as file:
        np.savez("other.npz", **dict(file) | {"video_size": np.array([51, 99])})
    (tmp_path / "old.html").write_text("old")
    (tmp_path / "page.txt").write_text("no archive")
    (tmp_path / "bad.csv").write_text("track,frame,x,y,visible\n0,0,1,1,1\n0,7,1,1,1\n")
    (tmp_path / "far.csv").write_text("track,frame,x,y,visible\n99,0,1,1,1\n99,1,1,1,1\n")
    (tmp_path / "clip").mkdir()
    for i in range(3):
        cv2.imwrite(f"clip/{i}.png", np.zeros((51, 71, 3), np.uint8))
    assert says in commands.refused(capsys, view.main, *arguments)
    assert (tmp_path / "old.html").read_text() == "old" and not (tmp_path / "a.html").exists()


def test_a_run_of_another_video_than_its_data_is_refused(run, tmp_path, capsys):
    run.video = run.video | {"fingerprint": "1"}
    assert "made from another video than the run" in commands.refused(capsys, view.main, "--run", "x")


def test_files_alone_are_answered_by_their_numbers(run, tmp_path):
    track.main(["--run", "x", "--queries", "grid:20", "--out", str(tmp_path / "t.npz")])
    options = ["--tracks", str(tmp_path / "t.npz"), "--data_dir", run.data_dir]
    scene = view.open_scene(view.parse_arguments(options))
    whole, some = scene.answers[0].tracks("all"), scene.answers[0].tracks("track:4;track:1")
    np.testing.assert_array_equal(whole.tracks, read_tracks(tmp_path / "t.npz").tracks)
    np.testing.assert_array_equal(some.tracks, whole.tracks[[4, 1]])
    for text in ("track:6", "track:1;", "track:-1", "1,2,3", "grid:8"):
        with pytest.raises(ValueError, match='expected "all", or "track:K;track:K" with K from 0 to 5'):
            scene.answers[0].tracks(text)
    assert scene.layers.names == ["original", "mask"] and scene.pins == tmp_path / "data" / "pins.csv"


def test_frames_of_a_video_are_its_own(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame[..., ::-1])
    found = VideoFrames(tmp_path)
    assert (found.num_frames, found.size, found.video_size) == (3, SIZE, SIZE)
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(found.frame(i), frame)


@pytest.fixture
def started(monkeypatch):
    """Sockets that the server was started with; it ends at once."""
    uvicorn = pytest.importorskip("uvicorn")
    sockets = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: found.extend(sockets))
    found = sockets
    yield found
    for one in found:
        one.close()


def test_a_port_in_use_is_replaced_and_said(run, started, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        call("--port", port)
    said = capsys.readouterr().out
    assert f"port {port} is in use: another is taken" in said
    (listener,) = started
    assert listener.getsockname()[0] == "127.0.0.1" and f"http://127.0.0.1:{listener.getsockname()[1]}/" in said


def test_open_shows_the_address_in_the_browser_that_is_there(run, started, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(webbrowser, "get", lambda: type("Browser", (), {"open": staticmethod(opened.append)}))
    call("--port", 0, "--open")
    assert opened == [f"http://127.0.0.1:{started[0].getsockname()[1]}/"]

    def none():
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", none)
    assert "--open: no browser was found" in commands.refused(capsys, view.main, "--run", "x", "--open")
    assert len(started) == 1


def test_it_serves_until_it_is_interrupted(data_dir):
    """As a process: a data directory alone, by its flow."""
    pytest.importorskip("starlette")
    command = [sys.executable, "view.py", "--data_dir", str(data_dir), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://\S+", process.stdout.readline())[0]
        scene = json.load(urllib.request.urlopen(f"{address}scene", timeout=60))
        assert (scene["num_frames"], scene["width"], scene["answers"][0]["depth"]) == (6, 48, False)
        assert scene["layers"] == ["original", "flow"]
        assert urllib.request.urlopen(f"{address}layer/flow/5", timeout=60).read(4) == b"\x89PNG"
        packed = json.load(urllib.request.urlopen(f"{address}tracks?queries=5,16,24", timeout=60))
        assert packed["count"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0 and process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
