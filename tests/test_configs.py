"""Options and presets: what they take, what they refuse, and the paper's numbers."""

import pytest

import train
from configs.options import OPTIONS, read_preset
from tests.helpers.paths import ROOT
from tests.helpers.training_run import RENDERING, TINY
from util import UserError


@pytest.mark.parametrize("line, message", [
    ("num_itres = 5", "unknown key num_itres"),
    ("num_iters = many", "num_iters = many: expected a whole number from 1"),
    ("lr_code = 7", "lr_code = 7: expected a number from 0 to 1"),
    ("sampling = soft", "sampling = soft: expected one of hard, uniform"),
    ("affine = perhaps", "affine = perhaps: expected true or false"),
])
def test_bad_preset_names_key_file_and_expectation(tmp_path, line, message):
    path = tmp_path / "my preset.txt"
    path.write_text(line + "\n")
    with pytest.raises(UserError) as error:
        read_preset(path)
    assert message in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("name", ["default.txt", "volume.txt", "paper.txt"])
def test_presets_hold_what_differs_from_the_defaults(name):
    preset = read_preset(ROOT / "configs" / name)
    assert preset
    defaults = {option.name: option.default for option in OPTIONS}
    assert not {key for key, value in preset.items() if defaults[key] == value}


def test_the_published_numbers():
    """The paper's section 5 and the released configuration, all that differs from none: not our defaults' own word."""
    _, config = train.parse(["--data_dir", "d", "--out_dir", "o", "--config", str(ROOT / "configs/paper.txt")])
    expected = {
        "rendering": "volume", "mapping": "invertible", "num_iters": 100_000, "num_pairs": 8, "num_points": 256,
        "num_samples": 32, "coupling_layers": 6, "coupling_width": 256, "coupling_hidden": 3, "affine": True,
        "field_width": 512, "field_layers": 3, "sampling": "hard", "count_map": True, "error_map": "render",
        "error_map_every": 20_000 / 1e5, "interval_start": 20, "interval_every": 2000 / 1e5, "pair_weight": "cos",
        "w_flow": 1, "w_rgb": 10, "w_rgb_ramp": 50_000 / 1e5, "w_flow_gradient": 0.1,
        "w_flow_gradient_ramp": 50_000 / 1e5, "w_depth_range": 10, "w_distortion": 10,
        "w_distortion_start": 40_000 / 1e5, "w_distortion_ramp": 20_000 / 1e5, "w_smoothness": 20, "w_unit_sphere": 0,
        "mask_near": 0, "lr_code": 1e-3, "lr_mapping": 1e-4, "lr_field": 3e-4, "lr_schedule": "halve",
        "lr_every": 20_000 / 1e5, "lr_warmup": 0, "grad_clip": 0, "ema": 0, "amp": False, "held_out": 0,
        "photometric": True, "swap": True,
    }
    assert {key: vars(config)[key] for key in expected} == expected


@pytest.mark.parametrize("options, message", [
    (["--swap", "false"], "command line: swap acts on rendering volume; here it is surface"),
    (["--mask_near", "0.1"], "mask_near acts on rendering volume"),
    (["--zero_init", "true"], "zero_init acts on mapping invertible; here it is grid"),
    (["--interval_every", "0.1"], "interval_every acts on interval_start other than 0; here it is 0"),
    (["--error_map_every", "0.1"], "error_map_every acts on error_map render; here it is online"),
    (["--photometric", "false", "--w_rgb", "3"], "w_rgb acts on photometric true; here it is false"),
    (["--rendering", "volume", "--depth_cell", "4"], "depth_cell acts on rendering surface; here it is volume"),
])
def test_an_option_that_cannot_act_is_refused(options, message):
    with pytest.raises(UserError) as error:
        train.parse(["--data_dir", "d", "--out_dir", "o", *TINY, *options])
    assert message in str(error.value)


def test_presets_are_refused_what_cannot_act_and_drop_it_beside_another_model(tmp_path):
    (tmp_path / "mine.txt").write_text("rendering = surface\nnum_samples = 8\n")
    with pytest.raises(UserError, match=r"mine.txt: num_samples acts on rendering volume"):
        train.parse(["--data_dir", "d", "--out_dir", "o", "--config", str(tmp_path / "mine.txt")])
    _, config = train.parse(["--data_dir", "d", "--out_dir", "o", *TINY, *RENDERING["volume"]])
    assert config.w_depth_same == 10 and config.num_samples == 6 and config.w_smoothness == 5


def test_every_option_has_a_valid_default_and_a_help():
    for option in OPTIONS:
        assert option.convert(option.default, "default") == option.default
        assert len(option.help) > 10
