"""Preprocessing that is interrupted, killed, or out of disk goes on to the same result."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from loaders.data_dir import DataDir
from preprocess import build
from preprocess.__main__ import main
from tests.helpers.moving_clip import NUM_FRAMES, Interrupted, MovingFlow, files_of, interrupt_after, make, moving_clip
from tests.helpers.paths import ROOT
from util import UserError


@pytest.mark.parametrize("keep_direct", [False, True])
def test_interrupted_anywhere_it_goes_on_to_the_same_result(tmp_path, monkeypatch, keep_direct):
    clip = moving_clip(3)

    def attempt(path):
        return build(clip, path, flow=MovingFlow(), quiet=True, device="cpu", keep_direct=keep_direct)

    expected = files_of(attempt(tmp_path / "whole").path)
    interruptions = 0
    for writes in range(0, 100, 2):
        path = tmp_path / str(writes)
        with monkeypatch.context() as patch:
            interrupt_after(patch, writes)
            try:
                attempt(path)
                break
            except Interrupted:
                interruptions += 1
        assert not path.exists() or (path / "manifest.json").exists()
        if path.exists():
            with pytest.raises(UserError, match="unfinished"):
                DataDir.open(path)
        attempt(path)
        assert files_of(path) == expected, writes
    assert interruptions > 8


def test_a_resumed_run_keeps_the_flow_that_was_finished(tmp_path, monkeypatch):
    first = MovingFlow()
    with monkeypatch.context() as patch:
        patch.setattr("preprocess.driver.filter_flow", lambda *_: (_ for _ in ()).throw(Interrupted))
        with pytest.raises(Interrupted):
            make(tmp_path, first)
    (tmp_path / "flow/00002.npy").unlink()
    (tmp_path / "flow/.00002.99.tmp.npy").write_bytes(b"half")
    second = MovingFlow()
    make(tmp_path, second)
    assert first.asked == list(range(NUM_FRAMES))
    assert second.asked == [2]
    assert not list(tmp_path.rglob("*.tmp*"))


KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
from tests.helpers.moving_clip import MovingFlow, moving_clip
from preprocess import build
for writes in (2, 9, 14, 18, 24):
    if os.fork() == 0:
        real, left = os.fsync, [writes]
        def fsync(descriptor):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real(descriptor)
        os.fsync = fsync
        build(moving_clip(4), {path!r}, flow=MovingFlow(), quiet=True, device="cpu")
        os._exit(0)
    print(os.WTERMSIG(os.wait()[1]), sorted(os.listdir({path!r})))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_with_signal_9_again_and_again(tmp_path):
    path = tmp_path / "data"
    script = KILLED.format(root=str(ROOT), path=str(path))
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["9", "9", "9"], result.stderr
    expected = build(moving_clip(4), tmp_path / "whole", flow=MovingFlow(), quiet=True, device="cpu")
    build(moving_clip(4), path, flow=MovingFlow(), quiet=True, device="cpu")
    assert files_of(path) == files_of(expected.path)


def test_a_full_disk_is_one_line_and_nothing_false_is_left(tmp_path, monkeypatch, capsys):
    Path(tmp_path / "in").mkdir()
    for number, frame in enumerate(moving_clip(3)):
        Image.fromarray(frame).save(tmp_path / f"in/{number}.png")
    arguments = [str(tmp_path / "in"), "--data_dir", str(tmp_path / "out"), "--flow", "dis", "--device", "cpu"]
    with monkeypatch.context() as patch:
        interrupt_after(patch, 12, OSError(28, "No space left on device"))
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
    assert stopped.value.code == 2
    assert re.search(r"the disk is full while writing .*\.npy", capsys.readouterr().err.splitlines()[-1])
    assert not list(tmp_path.rglob("*.tmp*"))
    main(arguments)
    DataDir.open(tmp_path / "out")


@pytest.mark.parametrize("folder", ["flow_chained", "valid", "counts"])
def test_a_deleted_file_is_made_again(tmp_path, folder):
    make(tmp_path)
    before = files_of(tmp_path)
    (tmp_path / folder / "00001.npy").unlink()
    make(tmp_path)
    assert files_of(tmp_path) == before
