"""A data directory that is there already: other settings, another video, files that are not ours."""

import json
import os
import re

import numpy as np
import pytest

from flow.dis import DisFlow
from loaders.data_dir import DataDir
from preprocess import build, driver
from tests.helpers.moving_clip import NUM_FRAMES, SIZE, MovingFlow, files_of, make, moving_clip
from util import UserError

CHANGES = {  # changed option: (stages that are done again, what is said)
    "nothing": ({}, set(), None),
    "cycle_threshold": ({"cycle_threshold": 2.0}, {"valid_direct", "valid"}, "filter: done again.*3.0, now 2.0"),
    "chain": ({"chain": False}, {"chain"}, "chain: done again"),
    "max_interval": ({"max_interval": 2}, {"flow", "valid_direct", "valid"}, "flow: done again.*now up to 2"),
    "estimator": ({"estimator": MovingFlow(version=2)}, {"flow", "valid_direct", "valid"}, "flow: done again.*version"),
    "frames": ({"end": 5}, {"color", "flow", "valid_direct", "valid"}, "frames: done again.*end was unset, now 5"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_setting_does_again_what_depends_on_it(tmp_path, capsys, change):
    options, redone, message = CHANGES[change]
    make(tmp_path, keep_direct=True)
    before = {folder: (tmp_path / folder / "00000.npy") for folder in ("flow", "valid_direct", "valid")}
    before["color"] = tmp_path / "color/00000.png"
    ages = {folder: file.stat().st_mtime_ns for folder, file in before.items()}
    capsys.readouterr()
    make(tmp_path, **{"keep_direct": True, "quiet": False, **options})
    changed = {name for name, file in before.items() if not file.exists() or file.stat().st_mtime_ns != ages[name]}
    assert changed - {"valid"} == redone - {"valid", "chain"}
    assert ("valid" in changed) == bool(redone)
    said = capsys.readouterr().out
    assert re.search(message, said) if message else "again" not in said
    assert files_of(tmp_path).keys() == files_of(make(tmp_path / "new", keep_direct=True, **options).path).keys()


def test_results_after_a_change_equal_those_of_a_new_directory(tmp_path):
    wrong = MovingFlow(wrong=lambda i, j: abs(i - j) == 3)
    make(tmp_path / "changed", wrong)
    changed = make(tmp_path / "changed", wrong, cycle_threshold=0.7, max_interval=2)
    new = make(tmp_path / "new", wrong, cycle_threshold=0.7, max_interval=2)
    assert files_of(changed.path) == files_of(new.path)


def test_deleted_direct_flow_is_estimated_again_when_a_later_stage_needs_it(tmp_path, capsys):
    make(tmp_path)
    estimator = MovingFlow()
    make(tmp_path, estimator, quiet=False, cycle_threshold=2.0)
    assert estimator.asked == list(range(NUM_FRAMES))
    assert "direct flow was deleted" in capsys.readouterr().out


def test_a_continued_auto_does_not_choose_anew(tmp_path, monkeypatch):
    def attempt(chosen, **options):
        asked = []

        def make_estimator(name, weights, iterations, device, image_size, num_pairs):
            asked.append((name, image_size))
            return DisFlow() if chosen == "dis" else MovingFlow()

        monkeypatch.setattr(driver, "make_estimator", make_estimator)
        build(moving_clip(), tmp_path / chosen, flow="auto", quiet=True, device="cpu", **options)
        return asked

    assert attempt("dis") == attempt("true") == [("auto", SIZE)]
    assert attempt("dis", cycle_threshold=2.0) == []  # DIS again, without measuring RAFT
    assert attempt("true", cycle_threshold=2.0) == [("auto", None)]  # the same weights, without measuring
    assert attempt("dis", iterations=9) == [("auto", SIZE)]  # asked for something else: choose anew


def test_another_video_is_refused_unless_it_may_replace_the_first(tmp_path):
    make(tmp_path / "data")
    before = files_of(tmp_path / "data")
    other = moving_clip(seed=1)
    with pytest.raises(UserError, match="made from another video.*--overwrite"):
        build(other, tmp_path / "data", flow=MovingFlow(), quiet=True, device="cpu")
    assert files_of(tmp_path / "data") == before
    data = build(other, tmp_path / "data", flow=MovingFlow(), quiet=True, device="cpu", overwrite=True)
    assert np.array_equal(data.frames(), other)


def test_another_version_is_refused_unless_it_may_be_replaced(tmp_path):
    data = make(tmp_path)
    data.manifest["version"] = 99
    data.save_manifest()
    with pytest.raises(UserError, match="version 99"):
        make(tmp_path)
    assert make(tmp_path, overwrite=True).manifest["version"] == 1


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "color").mkdir()
    (tmp_path / "color/mine.png").write_bytes(b"x")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"holds other files \(color\)"):
            make(tmp_path, overwrite=overwrite)
    with pytest.raises(UserError, match="a file; expected a new folder"):
        make(tmp_path / "color/mine.png")
    assert list(files_of(tmp_path)) == ["color/mine.png"]


def test_two_at_once_do_not_share_a_directory(tmp_path):
    pytest.importorskip("fcntl")

    class Nested(MovingFlow):
        def flow_from(self, i, partners):
            with pytest.raises(UserError, match=rf"in use by process {os.getpid()} \("):
                make(tmp_path / "data")
            return super().flow_from(i, partners)

    make(tmp_path / "data", Nested())


def test_a_directory_of_earlier_code_is_read_and_its_flow_is_only_made_again_on_request(tmp_path, capsys):
    make(tmp_path, "dis", features=())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    code = manifest["settings"]["flow"].pop("code")
    del manifest["checksum"], manifest["checksums"]
    manifest["settings"]["flow"] = {"method": "dis", "revision": 5, "pairs": manifest["settings"]["flow"]["pairs"]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    before = files_of(tmp_path)
    assert DataDir.open(tmp_path).flow(0, 1).shape == (*SIZE, 2) and files_of(tmp_path) == before
    make(tmp_path, "dis", features=(), quiet=False)
    assert "flow: done again" in capsys.readouterr().out
    assert json.loads((tmp_path / "manifest.json").read_text())["settings"]["flow"]["code"] == code
