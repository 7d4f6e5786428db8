"""Odd but legal input works; paths are paths, whatever they look like; and one process writes a file at a time."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

import preprocess
import viz
from benchmarks.scenes import SceneFlow, make_scene
from files import UserError, atomic_path, locked_folder
from outputs.video import video_writer
from tests.faults import workshop
from tests.helpers.commands import call, refused
from tests.helpers.moving_clip import MovingFlow, make
from tests.helpers.paths import ROOT
from tests.helpers.training_run import run


@pytest.mark.parametrize("height, width", [(16, 400), (400, 16), (16, 16)])
def test_thin_and_small_videos_go_through_every_command(tmp_path, height, width):
    scene = make_scene("demo", seed=1, num_frames=3, height=height, width=width)
    preprocess.build(scene.video, tmp_path / "data", flow=SceneFlow(scene), quiet=True, cuts="ignore")
    run(tmp_path / "data", tmp_path / "run", "--num_iters", 2)
    for source in (["--run", "{}/run"], ["--data_dir", "{}/data"]):
        for command in ("viz --out {}/videos", "track --queries grid --flow 0 2 --out {}/o"):
            code, said = workshop.run(*command.split(), *source, folder=tmp_path)
            assert code == 0, said
    names = ["color", "depth", "flow", "tracks", "trails"]
    assert sorted(file.stem for file in (tmp_path / "videos").glob("*.mp4")) == names


@pytest.mark.parametrize("options, says", [
    (["--cycle_th", "1e-300"], "--cycle_th 1e-300: expected pixels from 0.01"), (["--device", "mps"], "--device mps"),
    (["--device", "meta"], "--device meta: expected auto, cpu, cuda"), (["--device", "cuda:x"], "--device cuda:x"),
    (["--max_side", "\u0663\u0662"], "expected a whole number"), (["--end", "1_0"], "expected a whole number"),
])
def test_options_that_cannot_be_meant_are_refused(tmp_path, options, says):
    (tmp_path / "in").mkdir()
    code, said = workshop.run("preprocess", "{}/in", "--data_dir", "{}/new", *options, folder=tmp_path)
    assert code == 2 and says in said.splitlines()[-1] and not (tmp_path / "new").exists()


@pytest.mark.parametrize("wrong", [True, False])
def test_flow_that_is_consistent_no_more_than_by_chance_is_warned_of(tmp_path, capsys, wrong):
    make(tmp_path / "data", MovingFlow(lambda i, j: wrong and abs(i - j) == 1), quiet=False)
    assert ("warning: little of the flow is consistent" in capsys.readouterr().out) == wrong


def test_a_scale_that_no_picture_has_is_refused_before_it_is_drawn(data_dir, tmp_path, capsys):
    line = refused(capsys, viz.main, "--data_dir", data_dir, "--out", tmp_path, "--scale", 500, "--what", "tracks")
    assert "--scale 500: frames of 24000x16000; expected at most 67 million pixels" in line


@pytest.mark.parametrize("name", ["-v", "a:b", "tcp:", "%05d", "é ü", "x" * 240, "a\nb", "file:x", "-", "'"])
def test_paths_that_look_like_options_or_addresses_are_paths(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    frames = [np.full((16, 16, 3), level, np.uint8) for level in (0, 100, 200)]
    with video_writer(workshop.Path(name) / "v.mp4", 5) as write:
        for frame in frames:
            write(frame)
    assert os.listdir() == [name] and os.listdir(name) == ["v.mp4"]
    found = list(preprocess.frames.VideoSource(workshop.Path(name) / "v.mp4").frames())
    assert len(found) == 3 and all(abs(int(image.mean()) - level) < 8 for image, level in zip(found, (0, 100, 200)))


def test_what_a_dead_process_left_is_taken_over_and_a_living_one_is_named(tmp_path):
    code = ("import os, sys; sys.path.insert(0, sys.argv[1])\nfrom files import atomic_path\n"
            "with atomic_path('x.npz') as path:\n    path.write_bytes(b'half'); print('here', flush=True); input()")
    writer = subprocess.Popen([sys.executable, "-c", code, str(ROOT)], cwd=tmp_path, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "here\n"
    with pytest.raises(UserError, match=rf"x.npz: in use by process {writer.pid} \(.*python"):
        atomic_path(tmp_path / "x.npz").__enter__()
    writer.kill()
    writer.wait()
    assert [file.name for file in tmp_path.iterdir()] == [".x.tmp.npz"]
    with atomic_path(tmp_path / "x.npz") as path:
        assert path.stat().st_size == 0
        path.write_bytes(b"whole")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"x.npz": b"whole"}


def test_a_folder_is_held_by_one_and_swept_by_the_next(tmp_path):
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    for name in (".best.tmp.pt", ".step_000000007.123.tmp.pt", "step_000000006.pt"):
        (tmp_path / "run/checkpoints" / name).write_bytes(b"x")
    with locked_folder(tmp_path / "run"), pytest.raises(UserError, match=f"run: in use by process {os.getpid()}"):
        locked_folder(tmp_path / "run").__enter__()
    assert [file.name for file in (tmp_path / "run/checkpoints").iterdir()] == ["step_000000006.pt"]
    with locked_folder(tmp_path / "new/deep"):
        pass
    assert not (tmp_path / "new/deep").exists()  # nothing came of it


def test_training_beside_the_data_is_refused_and_a_data_directory_made_anew_is_noticed(tmp_path, capsys, monkeypatch):
    import train
    from training.state import Curves
    scene = make_scene("demo", seed=1, num_frames=3, height=16, width=24)
    data = preprocess.build(scene.video, tmp_path / "data", flow=SceneFlow(scene), quiet=True, cuts="ignore")
    assert "is the data directory" in refused(capsys, train.main, "--data_dir", tmp_path / "data", "--out_dir",
                                              tmp_path / "data/../data")
    fetch = Curves.fetch

    def remade(curves):
        data.manifest["settings"]["flow"] = {"method": "another"}
        data.save_manifest()
        return fetch(curves)

    monkeypatch.setattr(Curves, "fetch", remade)
    with pytest.raises(UserError, match="made anew, while training read it; the state after step 4 is saved"):
        run(tmp_path / "data", tmp_path / "run", "--num_iters", 8, "--log_every", 4)
    assert (tmp_path / "run/checkpoints/step_000000004.pt").exists()


def test_a_damaged_newest_checkpoint_is_passed_over_when_told(data_dir, tmp_path, capsys):
    import train
    from tests.helpers.training_run import TINY
    options = [*TINY, "--data_dir", data_dir, "--out_dir", tmp_path / "run", "--save_every", 1, "--depth_start", "flat",
               "--held_out", 0]
    call(train.main, *options, "--num_iters", 3)
    newest = tmp_path / "run/checkpoints/step_000000003.pt"
    newest.write_bytes(newest.read_bytes()[:2000])
    line = refused(capsys, train.main, *options, "--num_iters", 3, "--resume")
    assert "step_000000003.pt" in line and "newest sound one is" in line and "step_000000002.pt" in line
    call(train.main, *options, "--num_iters", 3, "--resume", "--skip_damaged")
    assert newest.exists() and newest.with_suffix(".damaged").stat().st_size == 2000


def test_frames_of_every_kind_keep_working(tmp_path):
    """EXIF rotation, CMYK, 16 bits, palettes and alpha, each beside a frame of the same picture in plain RGB."""
    from PIL import Image
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[:12, :16] = 255
    plain = Image.fromarray(picture)
    rotated = Image.fromarray(np.rot90(picture, 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees, clockwise
    saved = {"plain.png": (plain, {}), "cmyk.jpg": (plain.convert("CMYK"), {"quality": 100}),
             "palette.png": (plain.convert("P"), {}), "alpha.png": (plain.convert("RGBA"), {}),
             "turned.jpg": (rotated, {"exif": exif, "quality": 100})}
    for name, (image, options) in saved.items():
        image.save(tmp_path / name, **options)
    cv2.imwrite(str(tmp_path / "deep.png"), picture[..., 0].astype(np.uint16) * 257)
    for name in [*saved, "deep.png"]:
        found = preprocess.frames.read_rgb(tmp_path / name).astype(int)
        assert found.shape == picture.shape and np.abs(found - picture).mean() < 3, name
