"""python -m preprocess: a video in and everything out, bad arguments, what its help says."""

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from loaders.data_dir import DataDir
from preprocess.__main__ import main, make_parser
from tests.helpers.moving_clip import files_of, make, moving_clip
from tests.helpers.paths import ROOT
from util import UserError


def test_video_in_and_everything_out_by_the_command(tmp_path, capsys):
    import imageio

    path, data_dir = tmp_path / "vidéo 1.mp4", tmp_path / "data dir"
    smooth = np.kron(moving_clip()[:, :20:4, :32:4], np.ones((1, 10, 10, 1), np.uint8))[:, :49, :77]
    imageio.mimwrite(path, smooth, fps=5, macro_block_size=1, output_params=["-pix_fmt", "yuv444p"])
    main([str(path), "--data_dir", str(data_dir), "--flow", "dis", "--max_side", "64", "--end", "4", "--device", "cpu"])
    data = DataDir.open(data_dir)
    assert (data.name, data.num_frames, data.fps) == ("vidéo 1", 4, 5.0)
    assert (data.height, data.width, data.original_height, data.original_width) == (41, 64, 49, 77)
    said = capsys.readouterr().out
    assert "DIS" in said
    assert re.search(r"12 pairs, \d+\.\d% of their pixels valid, \d+\.\d MB on disk", said)
    assert f"python train.py --config configs/default.txt --data_dir '{data_dir}' --out_dir 'runs/vidéo 1'" in said


def frames_folder(path, count=3):
    path.mkdir()
    for number, frame in enumerate(moving_clip(count)):
        Image.fromarray(frame).save(path / f"{number}.png")
    return path


BAD_COMMANDS = {  # arguments after INPUT: what the message says
    "--flow dis --cycle_th 0": "--cycle_th 0",
    "--flow dis --max_interval 0": "--max_interval 0",
    "--flow dis --max_side 4": "--max_side 4",
    "--flow dis --start 3 --end 4": "--end 4",
    "--flow dis --start 2": r"1 frame\(s\) from frame 2 on",
    "--flow raft --raft_weights nowhere.pth": "nowhere.pth: no such file",
    "--flow raft --raft_weights {input}/0.png": "0.png: not a readable PyTorch weights file",
    "--flow dis --masks {input}/nowhere": "nowhere: no such folder",
    "--flow dis --masks {masks}": r"2 mask\(s\); expected 3",
    "--flow dis --masks {small}": "mask of 20x20 pixels; expected 40x24",
    "--flow dis --appearance dino": "--dino_weights",
    "--flow dis --iters 0": "--iters 0",
    "--flow dis --device tpu9": "--device tpu9",
    "--flow dis --no_fusion": "--no_fusion.*got --flow dis",
    "--no_fusion": "--no_fusion.*got neither",
    "--flow_files {input}": r"--flow_files .*in: no flow there; expected files such as 00000_00005.flo",
    "--flow_files {input}/nowhere": "--flow_files .*nowhere: no such folder",
}


@pytest.mark.parametrize("arguments", BAD_COMMANDS)
def test_bad_arguments_are_one_line_exit_code_2_and_leave_nothing(tmp_path, capsys, arguments):
    paths = {"input": frames_folder(tmp_path / "in"), "masks": frames_folder(tmp_path / "masks", 2)}
    paths["small"] = tmp_path / "small"
    paths["small"].mkdir()
    for number in range(3):
        Image.new("L", (20, 20)).save(paths["small"] / f"{number}.png")
    with pytest.raises(SystemExit) as stopped:
        main([str(paths["input"]), "--data_dir", str(tmp_path / "out"), *arguments.format(**paths).split()])
    assert stopped.value.code == 2
    messages = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(messages) == 1
    assert re.search(BAD_COMMANDS[arguments], messages[0])
    assert not (tmp_path / "out").exists()


def test_a_failed_input_leaves_an_earlier_result_alone(tmp_path):
    make(tmp_path / "data")
    before = files_of(tmp_path / "data")
    with pytest.raises(UserError, match="expected sides of 16"):
        make(tmp_path / "data", max_side=16)
    assert files_of(tmp_path / "data") == before


def test_every_option_says_what_it_does_and_its_default():
    for action in make_parser()._actions:
        assert action.help, action.dest
        has_none = action.dest in ("data_dir", "verify")
        takes_value = action.option_strings and action.nargs != 0 and not has_none
        assert not takes_value or "default" in action.help.lower(), action.dest


def test_the_flow_command_runs_without_a_warning():
    result = subprocess.run(
        [sys.executable, "-m", "flow", "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert result.stderr == "" and "--raft_weights" in result.stdout
