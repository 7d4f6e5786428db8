"""Every option of training with its type, default, range and meaning; presets (*.txt beside this file) override them.

Order of precedence: command line, then the file of --config, then the defaults below (the method of the paper as
released). Step counts in schedules are nominal steps of a run of `num_iters`; with fit_schedule, or a time limit, the
whole schedule is stretched or squeezed to the length of the actual run.
"""

import argparse
import json
from typing import NamedTuple

import configargparse

from util import UserError

BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Option(NamedTuple):
    """name, type (int, float, bool, str), default, allowed (choices, or a (low, high) range, or None), help, group."""

    name: str
    type: type
    default: object
    allowed: tuple | None
    help: str
    group: str

    def convert(self, text, where):
        """Text (or an already typed value) -> value; UserError naming the key, the place and what was expected."""
        expected = self.expected()
        try:
            value = BOOLEANS[str(text).strip().lower()] if self.type is bool else self.type(text)
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{where}: {self.name} = {text}: expected {expected}") from None
        is_choice = self.type is str and self.allowed is not None
        if is_choice and value not in self.allowed:
            raise UserError(f"{where}: {self.name} = {text}: expected {expected}")
        if not is_choice and self.allowed is not None and not self.allowed[0] <= value <= self.allowed[1]:
            raise UserError(f"{where}: {self.name} = {text}: expected {expected}")
        return value

    def expected(self):
        if self.type is bool:
            return "true or false"
        if self.type is str:
            return "one of " + ", ".join(self.allowed) if self.allowed else "text"
        kind = "a whole number" if self.type is int else "a number"
        return kind if self.allowed is None else f"{kind} from {self.allowed[0]:g} to {self.allowed[1]:g}"


def _group(title, *rows):
    return [Option(*row, title) for row in rows]


OPTIONS = [
    *_group(
        "run",
        ("num_iters", int, 100_000, (1, 10**8), "training steps in all (a resumed run continues to the same total)"),
        ("max_minutes", float, 0.0, (0, 10**6), "stop after this time, the whole schedule fitted to it; 0: no limit"),
        ("fit_schedule", bool, False, None, "stretch the schedules, written for schedule_iters steps, to num_iters"),
        ("schedule_iters", int, 100_000, (1, 10**8), "nominal length of the schedules below, in steps"),
        ("seed", int, 0, (0, 2**31), "random seed; on a CPU the same seed gives the same run to the bit"),
        ("device", str, "auto", None, "auto, cpu, cuda or cuda:N"),
    ),
    *_group(
        "model",
        ("rendering", str, "volume", ("volume", "surface"), "volume: K samples a ray and density, as published;"
         " surface: one sample, at a learned depth of its pixel"),
        ("depth_cell", int, 2, (1, 64), "surface: pixels per cell of the depth maps"),
        ("depth_margin", float, 0.2, (0.001, 1), "surface: how far hidden points lie behind what hides them"),
        ("mapping", str, "invertible", ("invertible", "grid", "separate"), "grid: couplings that look scale and"
         " shift up in grids; separate: the paper's 'not invertible' ablation"),
        ("coupling_layers", int, 6, (1, 64), "affine coupling layers of the mapping"),
        ("coupling_width", int, 256, (4, 4096), "hidden width of a coupling layer"),
        ("coupling_hidden", int, 3, (1, 16), "hidden layers of a coupling layer"),
        ("affine", bool, True, None, "a 2-D affine map of x and y per frame and depth, before the couplings"),
        ("zero_init", bool, False, None, "start from the identity map (last layers zero) instead of a random one"),
        ("max_log_scale", float, 8.0, (0.01, 20), "bound of a coupling's log-scale; smaller is safer from explosions"),
        ("code_scale", float, 256.0, (0.1, 4096), "frequency scale of the frames' codes: smaller is smoother in time"),
        ("field_width", int, 512, (4, 4096), "width of the canonical colour and density network"),
        ("field_layers", int, 3, (1, 16), "linear layers of that network (and one more Gabor filter)"),
        ("field_scale", float, 256.0, (0.1, 4096), "input scale of its Gabor filters: larger fits finer detail"),
        ("num_samples", int, 32, (2, 512), "samples per ray, K"),
    ),
    *_group(
        "batch and sampling",
        ("num_pairs", int, 8, (1, 65536), "frame pairs per step, P"),
        ("num_points", int, 256, (4, 65536), "points per pair, n"),
        ("sampling", str, "hard", ("hard", "uniform"), "hard: by error maps and count maps; uniform: the ablation"),
        ("count_map", bool, True, None, "before the first error map, favour pixels with few correspondences"),
        ("error_map", str, "render", ("render", "online"), "error maps of hard sampling: rendered every error_map_every"
         " steps, or a running mean of the errors of the batches"),
        ("error_map_every", int, 20_000, (1, 10**8), "steps between rendered error maps"),
        ("interval_start", int, 20, (1, 10**6), "largest frame distance of a pair at the start"),
        ("interval_every", int, 2000, (1, 10**8), "the largest distance grows by one every so many steps"),
        ("pair_weight", str, "cos", ("cos", "inverse_cos"), "weight over frame distance: released code, or paper"),
        ("held_out", float, 0.0, (0, 0.5), "share of the pairs of frames (24 pairs at most) that training leaves out,"
         " to measure at its end what it adds over the flow; 0: none"),
        ("swap", bool, True, None, "half of the time the two frames of a pair swap roles"),
        ("storage", str, "auto", ("auto", "device", "host", "disk"), "where the correspondences live during training"),
    ),
    *_group(
        "loss",
        ("w_flow", float, 1.0, (0, 1e6), "flow: L1 in pixels"),
        ("photometric", bool, True, None, "false: no colour losses (the paper's ablation)"),
        ("w_rgb", float, 10.0, (0, 1e6), "colour: mean squared error, and L1 on contrasts"),
        ("w_rgb_ramp", int, 50_000, (0, 10**8), "steps over which that weight grows from 0"),
        ("w_flow_gradient", float, 0.1, (0, 1e6), "L1 on differences between points of the flow"),
        ("w_flow_gradient_ramp", int, 50_000, (0, 10**8), "steps over which that weight grows from 0"),
        ("w_depth_range", float, 10.0, (0, 1e6), "squared hinge of depths mapped outside [0, 2]"),
        ("w_distortion", float, 10.0, (0, 1e6), "mip-NeRF 360 distortion: weights gather along the ray"),
        ("w_distortion_start", int, 40_000, (0, 10**8), "step at which that weight leaves 0"),
        ("w_distortion_ramp", int, 20_000, (0, 10**8), "steps over which it then grows"),
        ("w_smoothness", float, 20.0, (0, 1e6), "L1 of 3-D acceleration over three frames"),
        ("flow_robust_px", float, 1.0, (0.01, 1e3), "surface: flow errors above this pull less the larger they are"),
        ("flow_robust_start", float, 20.0, (0.01, 1e3), "surface: the same at the start; it falls over the first half"),
        ("w_depth_same", float, 10.0, (0, 1e6), "surface: visible points lie on the surface of the other frame"),
        ("w_depth_front", float, 10.0, (0, 1e6), "surface: no point lies in front of what is seen"),
        ("w_depth_behind", float, 10.0, (0, 1e6), "surface: hidden points lie a margin behind what is seen"),
        ("w_depth_flatness", float, 10.0, (0, 1e6), "surface: total variation of depth within what moves alike"),
        ("w_unit_sphere", float, 0.0, (0, 1e6), "canonical points outside the unit ball"),
        ("mask_near_steps", int, 0, (0, 10**8), "for so many steps the nearest 20 % of a ray's samples are transparent;"
         " helps when surfaces come out in the wrong order (4000 is usual)"),
    ),
    *_group(
        "optimiser",
        ("lr_code", float, 1e-3, (0, 1), "learning rate of the frame codes (Adam)"),
        ("lr_mapping", float, 1e-4, (0, 1), "learning rate of the mapping"),
        ("lr_field", float, 3e-4, (0, 1), "learning rate of the canonical field"),
        ("lr_depth", float, 3e-3, (0, 1), "surface: learning rate of the depth maps"),
        ("lr_schedule", str, "halve", ("halve", "cosine"), "halve every lr_every steps, or warm up and a cosine to 0"),
        ("lr_every", int, 20_000, (1, 10**8), "steps between halvings"),
        ("lr_warmup", int, 0, (0, 10**8), "steps of linear warm-up"),
        ("grad_clip", float, 0.0, (0, 1e9), "largest gradient norm; 0: no clipping"),
        ("ema", float, 0.0, (0, 0.99999), "decay of a running mean of the weights, used for queries; 0: off"),
    ),
    *_group(
        "machine",
        ("amp", bool, True, None, "MLPs in bfloat16 where that is native (CUDA, some CPUs), and TF32 on CUDA"),
        ("compile", bool, False, None, "torch.compile the model (slow start, faster steps on CUDA)"),
        ("threads", int, 0, (0, 1024), "CPU threads; 0: torch's choice"),
    ),
    *_group(
        "logging",
        ("log_every", int, 100, (1, 10**6), "steps between TensorBoard points, and checks for non-finite losses"),
        ("image_every", int, 2000, (0, 10**8), "steps between TensorBoard images, 0: none; at most 3 % of the time"),
        ("save_every", int, 5000, (1, 10**8), "steps between checkpoints"),
        ("keep", int, 3, (1, 1000), "checkpoints kept, besides the best"),
    ),
]
BY_NAME = {option.name: option for option in OPTIONS}
MODEL_OPTIONS = ("rendering", "depth_cell", "depth_margin", "mapping", "coupling_layers", "coupling_width",
                 "coupling_hidden", "affine", "zero_init", "code_scale", "max_log_scale", "field_width", "field_layers",
                 "field_scale", "num_samples", "amp")


def read_preset(path):
    """key = value lines (# comments) of a preset -> dict of typed values. UserError for unknown keys or bad values."""
    try:
        with open(path, encoding="utf-8") as file:
            pairs = configargparse.DefaultConfigFileParser().parse(file)
    except OSError as error:
        raise UserError(f"--config {path}: cannot be read ({error.strerror}); presets are in configs/") from None
    except (configargparse.ConfigFileParserException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}; expected lines of the form key = value") from None
    return validate(pairs, path)


def validate(pairs, where):
    """dict of texts or values -> dict of typed values; UserError for an unknown key, a wrong type or range."""
    unknown = [key for key in pairs if key not in BY_NAME]
    if unknown:
        raise UserError(f"{where}: unknown key {unknown[0]}; python train.py --help lists all keys")
    return {key: BY_NAME[key].convert(value, where) for key, value in pairs.items()}


def add_options(parser):
    """Declare every option on an argparse parser, by group; values stay None unless given."""
    groups = {}
    for option in OPTIONS:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        metavar = "{" + ",".join(option.allowed) + "}" if option.type is str and option.allowed else (
            {int: "N", float: "X", bool: "true|false", str: "TEXT"}[option.type])
        default = str(option.default).lower() if option.type is bool else option.default
        text = f"{option.help} [{default}]".replace("%", "%%")  # argparse formats help texts
        groups[option.group].add_argument(f"--{option.name}", metavar=metavar, default=None, help=text)


def resolve(arguments, preset=None):
    """Parsed arguments and the preset's path -> argparse.Namespace with a value for every option."""
    values = {option.name: option.default for option in OPTIONS}
    if preset:
        values |= read_preset(preset)
    given = {o.name: getattr(arguments, o.name) for o in OPTIONS if getattr(arguments, o.name, None) is not None}
    values |= validate(given, "command line")
    return argparse.Namespace(**values)


def save_config(config, path):
    """Write the resolved options as JSON (path: an already atomic or fresh path)."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(vars(config), file, indent=1)
