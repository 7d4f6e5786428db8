"""Damage of every kind in a data directory is found, named, and made good by the same command as before."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from loaders.data_dir import DataDir
from preprocess.__main__ import main
from tests.helpers.commands import call, refused
from tests.helpers.moving_clip import SIZE, files_of, make, moving_clip
from util import UserError


def flip(path, where=0.6, bit=4):
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    path.write_bytes(content)


def swap(path):
    other = path.with_name(path.name.replace("1", "2"))
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def fold(path):
    path.unlink()
    path.mkdir()


DAMAGE = {
    "flipped": flip, "flipped header": lambda path: flip(path, 0, 2), "flipped seal": lambda path: flip(path, 0.99999),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "without its seal": lambda path: path.write_bytes(path.read_bytes()[:-8]),
    "empty": lambda path: path.write_bytes(b""), "a folder": fold, "another's": swap,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
}


def with_masks(tmp_path):
    (tmp_path / "masks").mkdir(exist_ok=True)
    for number in range(6):
        mask = np.zeros(SIZE, np.uint8)
        mask[:, : 2 * number + 4] = 255
        Image.fromarray(mask).save(tmp_path / f"masks/{number}.png")
    return tmp_path / "masks"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    make(folder / "data", masks=with_masks(folder))
    return folder


@pytest.mark.parametrize("file", ["color/00001.png", "masks/00001.png", "flow_chained/00001.npy", "valid/00001.npy",
                                  "counts/00001.npy"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(finished, tmp_path, capsys, kind, file):
    shutil.copytree(finished / "data", tmp_path / "data")
    DAMAGE[kind](tmp_path / "data" / file)
    assert "missing or damaged" in refused_after(capsys, file, "--verify", tmp_path / "data")


def refused_after(capsys, file, *arguments):
    """The one line of a refusal, printed after a line that names the file."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        call(main, *arguments)
    said = capsys.readouterr()
    assert stopped.value.code == 2 and file in said.out, said
    return said.err


@pytest.mark.parametrize("file", ["color/00002.png", "masks/00002.png", "flow_chained/00002.npy", "counts/00002.npy"])
@pytest.mark.parametrize("kind", ["gone", "flipped", "a folder", "another's"])
def test_the_same_command_makes_it_good(finished, tmp_path, kind, file):
    shutil.copytree(finished / "data", tmp_path / "data")
    if kind == "gone":
        (tmp_path / "data" / file).unlink()
    else:
        DAMAGE[kind](tmp_path / "data" / file.replace("2", "1") if kind == "another's" else tmp_path / "data" / file)
    make(tmp_path / "data", masks=finished / "masks")
    assert files_of(tmp_path / "data") == files_of(finished / "data")


def test_frames_are_made_good_without_any_flow_being_estimated_again(finished, tmp_path, monkeypatch):
    shutil.copytree(finished / "data", tmp_path / "data")
    flip(tmp_path / "data/color/00003.png")
    monkeypatch.setattr("preprocess.stages.FrameWork.flow", lambda *_: 1 / 0)
    make(tmp_path / "data", masks=finished / "masks")
    assert files_of(tmp_path / "data") == files_of(finished / "data")


def test_a_manifest_whose_numbers_were_changed_is_damaged(finished, tmp_path):
    shutil.copytree(finished / "data", tmp_path / "data")
    file = tmp_path / "data/manifest.json"
    for old, new in (('"fps": 24.0', '"fps": 25.0'), ('"chained": true', '"chained": false')):
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        with pytest.raises(UserError, match="manifest.json: damaged"):
            DataDir.open(tmp_path / "data")
        file.write_text(text)


@pytest.mark.parametrize("change, expected", [
    ({"flow_step": 0}, "flow_step is 0; expected 0.03125"), ({"partners": 3}, "partners is 3; expected a list"),
    ({"partners": [[0]] * 6}, "partners of frame 0"), ({"partners": [[9]] * 6}, "partners: expected 6 lists"),
    ({"pair_counts": [[1]] * 6}, "do not fit"), ({"chained": None}, "chained is None"), ({"video": 1}, "of the video"),
    ({"finished": [1]}, "finished is"), ({"settings": []}, "settings is"),
    *(({"video": {key: value}}, f"{key} is .*; expected") for key, value in (
        ("fps", float("nan")), ("fps", "fast"), ("num_frames", -1), ("num_frames", True), ("height", 1e99),
        ("width", 2**40), ("name", None), ("original_height", 0))),
])
def test_a_manifest_that_makes_no_sense_is_refused_in_one_line(finished, tmp_path, change, expected):
    shutil.copytree(finished / "data", tmp_path / "data")
    file = tmp_path / "data/manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["checksum"], manifest["checksums"]
    if isinstance(change.get("video"), dict):
        change = {"video": manifest["video"] | change["video"]}
    file.write_text(json.dumps(manifest | change))
    with pytest.raises(UserError, match=expected) as error:
        DataDir.open(tmp_path / "data")
    assert "\n" not in str(error.value)


def test_frames_of_another_video_are_not_those_of_the_manifest(finished, tmp_path):
    shutil.copytree(finished / "data", tmp_path / "data")
    shutil.rmtree(tmp_path / "data/color")
    other = make(tmp_path / "other", max_interval=1)
    assert other.fingerprint == DataDir.open(finished / "data").fingerprint
    from preprocess import build
    from tests.helpers.moving_clip import MovingFlow
    build(moving_clip(seed=1), tmp_path / "another", flow=MovingFlow(), quiet=True, device="cpu")
    shutil.copytree(tmp_path / "another/color", tmp_path / "data/color")
    with pytest.raises(UserError, match="not those of its manifest"):
        DataDir.open(tmp_path / "data").frames()
    (tmp_path / "data/manifest.json").write_bytes((tmp_path / "another/manifest.json").read_bytes())
    with pytest.raises(UserError, match="flow_chained.00000.npy: damaged .its checksum"):
        DataDir.open(tmp_path / "data").flow(0, 1)


def test_a_directory_of_before_there_were_checksums_is_read(finished, tmp_path, capsys):
    shutil.copytree(finished / "data", tmp_path / "data")
    for file in [*(tmp_path / "data").rglob("*.npy"), *(tmp_path / "data").rglob("*.png")]:
        file.write_bytes(file.read_bytes()[:-8])
    file = tmp_path / "data/manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["checksum"], manifest["checksums"]
    file.write_text(json.dumps(manifest))
    data = DataDir.open(tmp_path / "data")
    assert np.array_equal(data.frames(), moving_clip()) and data.flow(0, 1).shape == (*SIZE, 2)
    call(main, "--verify", tmp_path / "data")
    assert "all files are sound (made before there were checksums" in capsys.readouterr().out


def test_verify_says_when_all_is_sound(finished, capsys):
    call(main, "--verify", finished / "data")
    assert capsys.readouterr().out.strip().endswith("data: all files are sound")
    assert "no data directory here" in refused(capsys, main, "--verify", finished)
