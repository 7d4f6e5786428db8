"""Every option of training with its type, default, range and meaning; presets (*.txt beside this file) override them.

Order of precedence: command line, then the file of --config, then the defaults below (the method of the paper as
released). Schedules are in shares of the run, so they fit whatever its length: of the paper's 100,000 steps, 0.2 are
20,000. An option that cannot act on the model that is chosen is refused.
"""

import argparse
import io
import json
import re
from typing import NamedTuple

import configargparse

from files import UserError, read_bytes

BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Option(NamedTuple):
    """name, type (int, float, bool, str), default, allowed (choices, or a (low, high) range, or None), help, group.

    acts_on: {another option: the values of it with which this one acts, None: any but 0}.
    """

    name: str
    type: type
    default: object
    allowed: tuple | None
    help: str
    group: str
    acts_on: dict

    def convert(self, text, where):
        """Text (or an already typed value) -> value; UserError naming the key, the place and what was expected."""
        expected = self.expected()
        try:
            if not (self.type is str or str(text).isascii()):  # digits of other scripts
                raise ValueError
            value = BOOLEANS[str(text).strip().lower()] if self.type is bool else self.type(text)
        except (ValueError, KeyError, TypeError, OverflowError):
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


def _group(title, acts_on, *rows):
    return [Option(*row, title, acts_on) for row in rows]


# What an option acts on: only with these values of other options does it do anything.
VOLUME, SURFACE = {"rendering": ("volume",)}, {"rendering": ("surface",)}
INVERTIBLE, MLPS = {"mapping": ("invertible",)}, {"mapping": ("invertible", "separate")}
COUPLINGS = {"mapping": ("invertible", "grid")}

OPTIONS = [
    *_group(
        "run", {},
        ("num_iters", int, 100_000, (1, 10**8), "training steps in all (a resumed run continues to the same total)"),
        ("max_minutes", float, 0.0, (0, 10**6), "train for so long instead, all schedules fitted to it; 0: no limit"),
        ("seed", int, 0, (0, 2**31), "random seed; on a CPU the same seed gives the same run to the bit"),
        ("device", str, "auto", None, "auto, cpu, cuda or cuda:N"),
    ),
    *_group(
        "model", {},
        ("rendering", str, "volume", ("volume", "surface"), "volume: K samples a ray and density, as published;"
         " surface: one sample, at a learned depth of its pixel"),
        ("mapping", str, "invertible", ("invertible", "grid", "separate"), "grid: couplings that look scale and"
         " shift up in grids; separate: the paper's 'not invertible' ablation"),
        ("coupling_layers", int, 6, (1, 64), "affine coupling layers of the mapping"),
        ("field_width", int, 512, (4, 4096), "width of the canonical colour and density network"),
        ("field_layers", int, 3, (1, 16), "linear layers of that network (and one more Gabor filter)"),
        ("field_scale", float, 256.0, (0.1, 4096), "input scale of its Gabor filters: larger fits finer detail"),
    ),
    *_group(
        "model: a volume", VOLUME,
        ("num_samples", int, 32, (2, 512), "samples per ray, K"),
    ),
    *_group(
        "model: a surface", SURFACE,
        ("depth_cell", int, 0, (0, 64), "pixels per cell of the depth maps; 0: as many as leave 128 cells along the"
         " longer side, at least 2"),
        ("depth_start", str, "occlusions", ("occlusions", "flat"), "depth before any training: in the order that the"
         " flow's occlusions show, or in none"),
        ("depth_margin", float, 0.2, (0.001, 1), "how far hidden points lie behind what hides them"),
    ),
    *_group(
        "model: couplings, invertible or in grids", COUPLINGS,
        ("max_log_scale", float, 8.0, (0.01, 20), "bound of a coupling's log-scale; smaller is safer from explosions"),
    ),
    *_group(
        "model: mappings by MLPs", MLPS,
        ("coupling_width", int, 256, (4, 4096), "hidden width of a coupling layer"),
        ("code_scale", float, 256.0, (0.1, 4096), "frequency scale of the frames' codes: smaller is smoother in time"),
        ("lr_code", float, 1e-3, (0, 1), "learning rate of the frame codes (Adam)"),
    ),
    *_group(
        "model: the invertible mapping by MLPs", INVERTIBLE,
        ("coupling_hidden", int, 3, (1, 16), "hidden layers of a coupling layer"),
        ("affine", bool, True, None, "a 2-D affine map of x and y per frame and depth, before the couplings"),
        ("zero_init", bool, False, None, "start from the identity map (last layers zero) instead of a random one"),
    ),
    *_group(
        "batch and sampling", {},
        ("num_pairs", int, 8, (1, 65536), "frame pairs per step, P"),
        ("num_points", int, 256, (4, 65536), "points per pair, n"),
        ("sampling", str, "hard", ("hard", "uniform"), "hard: by error maps and count maps; uniform: the ablation"),
        ("interval_start", int, 20, (0, 10**6), "largest frame distance of a pair at the start; 0: any, always"),
        ("pair_weight", str, "cos", ("cos", "inverse_cos"), "weight over frame distance: released code, or paper"),
        ("held_out", float, 0.0, (0, 0.5), "share of the pairs of frames (24 pairs at most) that training leaves out,"
         " to measure at its end what it adds over the flow; 0: none"),
        ("storage", str, "auto", ("auto", "device", "host", "disk"), "where the correspondences live during training"),
    ),
    *_group(
        "batch and sampling: hard", {"sampling": ("hard",)},
        ("error_map", str, "render", ("render", "online"), "error maps: rendered every error_map_every, or a running"
         " mean of the errors of the batches"),
    ),
    *_group(
        "batch and sampling: rendered error maps", {"sampling": ("hard",), "error_map": ("render",)},
        ("error_map_every", float, 0.2, (1e-6, 1), "share of the run between error maps"),
    ),
    *_group(
        "batch and sampling: a growing distance", {"interval_start": None},
        ("interval_every", float, 0.02, (1e-6, 1), "share of the run after which the largest distance grows by one"),
    ),
    *_group(
        "batch and sampling: a surface", SURFACE,
        ("layer", int, -1, (-1, 254), "fit this object of preprocessing's --layers alone (0: the background); what is"
         " beside it is tracked by flow alone; -1: all there is"),
    ),
    *_group(
        "batch and sampling: a volume", VOLUME,
        ("swap", bool, True, None, "half of the time the two frames of a pair swap roles"),
    ),
    *_group(
        "batch and sampling: a volume, hard", VOLUME | {"sampling": ("hard",)},
        ("count_map", bool, True, None, "before the first error map, favour pixels with few correspondences"),
    ),
    *_group(
        "loss", {},
        ("w_flow", float, 1.0, (0, 1e6), "flow: L1 in pixels"),
        ("photometric", bool, True, None, "false: no colour losses (the paper's ablation)"),
        ("w_depth_range", float, 10.0, (0, 1e6), "squared hinge of depths mapped outside [0, 2]"),
        ("w_smoothness", float, 20.0, (0, 1e6), "L1 of 3-D acceleration over three frames"),
    ),
    *_group(
        "loss: colours", {"photometric": (True,)},
        ("w_rgb", float, 10.0, (0, 1e6), "colour: mean squared error (of a volume also L1 on contrasts)"),
        ("w_rgb_ramp", float, 0.5, (0, 1), "share of the run over which that weight grows from 0"),
    ),
    *_group(
        "loss: a volume", VOLUME,
        ("w_flow_gradient", float, 0.1, (0, 1e6), "L1 on differences between points of the flow"),
        ("w_flow_gradient_ramp", float, 0.5, (0, 1), "share of the run over which that weight grows from 0"),
        ("w_distortion", float, 10.0, (0, 1e6), "mip-NeRF 360 distortion: weights gather along the ray"),
        ("w_distortion_start", float, 0.4, (0, 1), "share of the run after which that weight leaves 0"),
        ("w_distortion_ramp", float, 0.2, (0, 1), "share of the run over which it then grows"),
        ("w_unit_sphere", float, 0.0, (0, 1e6), "canonical points outside the unit ball"),
        ("mask_near", float, 0.0, (0, 1), "for this share of the run the nearest 20 % of a ray's samples are"
         " transparent; helps when surfaces come out in the wrong order (0.04 is usual)"),
    ),
    *_group(
        "loss: a surface", SURFACE,
        ("flow_robust_px", float, 1.0, (0.01, 1e3), "flow errors above this pull less the larger they are"),
        ("flow_robust_start", float, 20.0, (0.01, 1e3), "the same at the start; it falls over the first half"),
        ("w_depth_same", float, 10.0, (0, 1e6), "visible points lie on the surface of the other frame"),
        ("w_depth_front", float, 10.0, (0, 1e6), "no point lies in front of what is seen"),
        ("w_depth_behind", float, 10.0, (0, 1e6), "hidden points lie a margin behind what is seen"),
        ("w_depth_flatness", float, 10.0, (0, 1e6), "total variation of depth within what moves alike"),
        ("w_depth_rank", float, 0.3, (0, 1e6), "order of depths by monocular depth, if the data directory has any,"
         " times how far it is believed; 0: not used, not for the first order either"),
        ("evidence_share", float, 0.125, (0, 1), "share of the points that is drawn from the evidence of the data"
         " directory, if it has any; 0: not used"),
        ("lr_depth", float, 3e-3, (0, 1), "learning rate of the depth maps"),
    ),
    *_group(
        "optimiser", {},
        ("lr_mapping", float, 1e-4, (0, 1), "learning rate of the mapping (Adam)"),
        ("lr_field", float, 3e-4, (0, 1), "learning rate of the canonical field"),
        ("lr_schedule", str, "halve", ("halve", "cosine"), "halve every lr_every, or warm up and a cosine to 0"),
        ("lr_warmup", float, 0.0, (0, 1), "share of the run with a linear warm-up"),
        ("grad_clip", float, 0.0, (0, 1e9), "largest gradient norm; 0: no clipping"),
        ("ema", float, 0.0, (0, 0.99999), "decay of a running mean of the weights, used for queries; 0: off"),
    ),
    *_group(
        "optimiser: halving", {"lr_schedule": ("halve",)},
        ("lr_every", float, 0.2, (1e-6, 1), "share of the run between halvings"),
    ),
    *_group(
        "machine", {},
        ("amp", bool, True, None, "MLPs in bfloat16 where that is native (CUDA, some CPUs), and TF32 on CUDA"),
        ("threads", int, 0, (0, 1024), "CPU threads; 0: torch's choice"),
    ),
    *_group(
        "machine: a surface", SURFACE,
        ("graph", bool, True, None, "on CUDA, record a step once and replay it: far faster, with the same result"),
    ),
    *_group(
        "machine: a volume", VOLUME,
        ("compile", bool, False, None, "torch.compile the model (slow start, faster steps on CUDA)"),
    ),
    *_group(
        "logging", {},
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
        text = read_bytes(path, 2**20, "--config, a preset such as those in configs/").decode("utf-8")
        check_lines(text, path)
        pairs = configargparse.DefaultConfigFileParser().parse(io.StringIO(text))
    except (configargparse.ConfigFileParserException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}; expected lines of the form key = value") from None
    return validate(pairs, path)


def check_lines(text, where):
    """UserError for a [section], which would mean nothing, and for a key that is there twice."""
    seen = set()
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        key = re.split(r"[\s:=]", line.lstrip("-"), maxsplit=1)[0]
        if line.startswith("[") or key in seen:
            what = "a [section]" if line.startswith("[") else f"{key} for the second time"
            raise UserError(f"{where}: line {number}: {what}; expected lines of the form key = value, each key once")
        if key and line[0] not in "#;":
            seen.add(key)


def validate(pairs, where):
    """dict of texts or values -> dict of typed values; UserError for an unknown key, a wrong type or range."""
    unknown = [key for key in pairs if key not in BY_NAME]
    if unknown:
        raise UserError(f"{where}: unknown key {unknown[0]}; python train.py --help lists all keys")
    return {key: BY_NAME[key].convert(value, where) for key, value in pairs.items()}


def idle(option, values):
    """None, or why an option cannot act beside the values (dict) of the others: what it acts on, and what is there."""
    for name, needed in option.acts_on.items():
        if needed is None and not values[name]:
            return f"{name} other than 0; here it is 0"
        if needed is not None and values[name] not in needed:
            return f"{name} {' or '.join(map(as_typed, needed))}; here it is {as_typed(values[name])}"
    return None


def check_acts(given, values, where):
    """UserError for the first of the `given` options that cannot act beside all `values`."""
    for name in given:
        why = idle(BY_NAME[name], values)
        if why:
            raise UserError(f"{where}: {name} acts on {why}")


def check_moves(config, where):
    """UserError where nothing can come of training: every learning rate that acts is 0, or every weight."""
    values = vars(config)
    for prefix, what in (("lr_", "learning rates"), ("w_", "weights of the loss")):
        acting = [name for name in values if name in BY_NAME and name.startswith(prefix) and BY_NAME[name].type is float
                  and not name.endswith(("_ramp", "_start", "_every", "_warmup")) and not idle(BY_NAME[name], values)]
        if not any(values[name] for name in acting):
            raise UserError(f"{where}: all {what} are 0 ({', '.join(acting)}): nothing would be learned")


def as_typed(value):
    """As people type it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def add_options(parser):
    """Declare every option on an argparse parser, by group; values stay None unless given."""
    groups = {}
    for option in OPTIONS:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        metavar = "{" + ",".join(option.allowed) + "}" if option.type is str and option.allowed else (
            {int: "N", float: "X", bool: "true|false", str: "TEXT"}[option.type])
        text = f"{option.help} [{as_typed(option.default)}]".replace("%", "%%")  # argparse formats help texts
        groups[option.group].add_argument(f"--{option.name}", metavar=metavar, default=None, help=text)


def resolve(arguments, preset=None):
    """Parsed arguments and the preset's path -> argparse.Namespace with a value for every option.

    UserError for an option that cannot act. What a preset says of one model is dropped where the command line takes
    another model.
    """
    defaults = {option.name: option.default for option in OPTIONS}
    of_preset = read_preset(preset) if preset else {}
    check_acts(of_preset, defaults | of_preset, preset)
    given = {o.name: getattr(arguments, o.name) for o in OPTIONS if getattr(arguments, o.name, None) is not None}
    given = validate(given, "command line")
    values = defaults | of_preset | given
    check_acts(given, values, "command line")
    dropped = {name: defaults[name] for name in of_preset if name not in given and idle(BY_NAME[name], values)}
    return argparse.Namespace(**values | dropped)


def save_config(config, path):
    """Write the resolved options as JSON (path: an already atomic or fresh path)."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(vars(config), file, indent=1)
