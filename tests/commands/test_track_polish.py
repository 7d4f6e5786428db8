"""track.py --polish: on the frames that were preprocessed, wherever they came from, or one line that says why not."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import track
from benchmarks.scenes import SceneFlow, make_scene, write_mp4
from flow.estimator import Estimator
from loaders.data_dir import DataDir, write_image
from preprocess import build
from preprocess.original import OriginalFrames
from tracking.sources import open_flow
from tracking.tracks_file import read_tracks
from util import UserError

SIZE, NUM_FRAMES, FIRST = (128, 192), 8, 2


class HalfSizedFlow(SceneFlow):
    """The true flow of `video` from frame FIRST on, at half its size, a pixel of the original off."""

    def __init__(self):
        super().__init__(make_scene("camera", 0, NUM_FRAMES, SIZE[0] // 2, SIZE[1] // 2))

    def load_frames(self, frames, adjacent=None):
        pass

    def flow_from(self, i, partners):
        return super().flow_from(i + FIRST, [j + FIRST for j in partners]) + 0.5


class NoMotion(Estimator):
    """Flow 0."""

    description, reason = {"method": "none"}, "none"

    def load_frames(self, frames, adjacent=None):
        self.size = frames[0].shape[:2]

    def flow_from(self, i, partners):
        return np.zeros((len(partners), *self.size, 2), np.float32)


@pytest.fixture(scope="module")
def video():
    return make_scene("camera", 0, NUM_FRAMES, *SIZE).video


@pytest.fixture(scope="module")
def made(video, tmp_path_factory):
    """A data directory of frames 2 to 5 of a folder, at half their size."""
    folder = tmp_path_factory.mktemp("polish")
    for i, frame in enumerate(video):
        write_image(folder / f"plates/{i:05d}.png", frame)
    build(folder / "plates", folder / "data", flow=HalfSizedFlow(), max_side=96, start=FIRST, end=6, quiet=True)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy of it that a test may damage."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    manifest = json.loads((tmp_path / "data/manifest.json").read_text(encoding="utf-8"))
    manifest["video"]["source"] = str(tmp_path / "plates")
    del manifest["checksum"]
    manifest["checksums"] = False
    (tmp_path / "data/manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return tmp_path


def tracks_of(folder, *options):
    track.main(["--data_dir", str(folder / "data"), "--queries", "grid:24@1", "--out", str(folder / "t.npz"), *options])
    return read_tracks(folder / "t.npz")


def refusal(folder, capsys, *options):
    """The one line with which track.py ends."""
    with pytest.raises(SystemExit) as ended:
        tracks_of(folder, *options)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert ended.value.code == 2 and len(lines) == 1 and not (folder / "t.npz").exists()
    return lines[0]


def test_the_original_frames_are_the_ones_that_were_taken(folder, video):
    frames = OriginalFrames(DataDir.open(folder / "data"))
    for _ in range(2):
        assert np.array_equal(np.stack(list(frames)), video[FIRST:6])
    assert len(frames) == 4


def test_frames_of_a_resampled_video(video, tmp_path):
    write_mp4(tmp_path / "clip.mp4", np.repeat(video, 2, axis=0), fps=24)
    data = build(tmp_path / "clip.mp4", tmp_path / "data", flow=NoMotion(), max_side=48, fps=12, start=1, quiet=True)
    frames = np.stack(list(OriginalFrames(data)))
    assert len(frames) == data.num_frames and np.abs(frames.astype(int) - video[-len(frames):]).mean() < 4


def test_polishing_moves_what_is_visible_a_little(folder, capsys):
    before, after = tracks_of(folder, "--polish", "off"), tracks_of(folder)
    assert "polished on the original frames: " in capsys.readouterr().out
    changed, far = (before.tracks != after.tracks).any(-1), np.abs(before.tracks - after.tracks).max()
    assert changed[~before.occluded].mean() > 0.5 and not changed[before.occluded].any() and far <= 4.001
    assert not changed[:, 1].any(), "the queries"
    on = tracks_of(folder, "--polish", "on")
    assert np.array_equal(on.tracks, after.tracks)


def test_off_changes_no_bit(folder, monkeypatch):
    """Without polishing the file is what it is where there is nothing to polish on."""
    off = tracks_of(folder, "--polish", "off")
    written = (folder / "t.npz").read_bytes()
    shutil.rmtree(folder / "plates")
    tracks_of(folder)
    assert (folder / "t.npz").read_bytes() == written
    assert off.tracks.dtype == np.float32


@pytest.mark.parametrize(("damage", "says"), [
    (lambda folder: shutil.rmtree(folder / "plates"), "no such file; expected a video"),
    (lambda folder: write_image(folder / "plates/00003.png", np.zeros((*SIZE, 3), np.uint8)), "changed since"),
    (lambda folder: (folder / "plates/00007.png").unlink(), "changed since"),
    (lambda folder: (folder / "plates/00003.png").write_bytes(b""), "changed since"),
])
def test_frames_that_are_gone_or_others(folder, capsys, damage, says):
    damage(folder)
    line = refusal(folder, capsys, "--polish", "on")
    assert line.startswith("error: --polish on: ") and says in line and "plates" in line
    tracks_of(folder)
    said = [line for line in capsys.readouterr().out.splitlines() if "not polished" in line]
    assert len(said) == 1 and says in said[0]


def test_frames_that_were_never_files(video, tmp_path):
    data = build(video[:3], tmp_path / "small", flow=NoMotion(), max_side=96, quiet=True)
    with pytest.raises(UserError, match="frames in memory"):
        OriginalFrames(data)
    data = build(video[:3], tmp_path / "same", flow=NoMotion(), quiet=True)
    assert np.array_equal(np.stack(list(OriginalFrames(data))), video[:3]), "not scaled: the data directory's own"


def test_by_default_few_points_only_and_of_scaled_frames(folder, capsys, monkeypatch, video):
    monkeypatch.setattr(track, "POLISHED_UP_TO", 5)
    tracks_of(folder)
    assert "not polished on the original frames: more than 5 points" in capsys.readouterr().out
    build(video[:3], folder / "same/data", flow=NoMotion(), quiet=True)
    monkeypatch.setattr(track, "POLISHED_UP_TO", 2000)
    tracks_of(folder / "same")
    assert "not scaled down" in capsys.readouterr().out
    tracks_of(folder / "same", "--polish", "on")
    assert "polished on the original frames: " in capsys.readouterr().out


def test_a_runs_tracks_are_polished_on_its_own_video_only(folder, monkeypatch, capsys):
    source = open_flow(folder / "data")
    monkeypatch.setattr(track, "open_source", lambda args: source)
    source.run = SimpleNamespace(video={"fingerprint": "another's"})
    assert "made from another video than the run" in refusal(folder, capsys, "--polish", "on")
    source.run.video["fingerprint"] = source.data.fingerprint
    tracks_of(folder, "--polish", "on")
    assert "polished on the original frames: " in capsys.readouterr().out


def test_polish_acts_on_tracks(folder, capsys):
    with pytest.raises(SystemExit):
        track.main(["--data_dir", str(folder / "data"), "--flow", "0", "1", "--polish", "on", "--out", str(folder)])
    assert "--polish acts on tracks" in capsys.readouterr().err
