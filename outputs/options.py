"""Options that track.py and viz.py share: which run or data directory, which device, which object."""

import argparse

import cv2
import numpy as np

import checkpoints
from loaders.data_dir import DataDir
from tracking.queries import read_mask
from tracking.sources import HIDDEN_ABOVE, RunSource, check_threshold, open_flow
from util import UserError, pick_device

OF_MODELS = {"method": "max_weight", "refine": "auto", "chunk": None}  # options with no meaning for flow: defaults


def add_run_options(parser):
    """Options that say which fitted model to use, or which flow."""
    group = parser.add_argument_group("the fitted model, or the flow of a data directory alone")
    group.add_argument("--run", metavar="DIR", help="what train.py wrote (its --out_dir)")
    group.add_argument("--checkpoint", metavar="FILE",
                       help="this checkpoint instead of the run's newest; with --data_dir it needs no --run, and may "
                            "be one of the reference implementation (.pth)")
    group.add_argument("--data_dir", metavar="DIR",
                       help="with no --run and no --checkpoint: tracks by the flow in this data directory alone; "
                            "with them: the data directory, where it is not where training found it")
    group.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu or cuda[:N]; default auto")
    group.add_argument("--chunk", type=positive, metavar="RAYS",
                       help="rays computed at once: lower it when memory runs out")
    group.add_argument("--method", default="max_weight", choices=["max_weight", "composite"],
                       help="where a point goes: with the sample of largest weight on its ray, which keeps motion "
                            "boundaries sharp, or with the weighted mean of all samples; default max_weight")
    group.add_argument("--refine", default="auto", choices=["auto", "on", "off"],
                       help="sharpen tracks with the flow of the data directory; auto: for surface models, where that "
                            "is still there; default auto")
    group.add_argument("--occlusion_th", type=float, metavar="T", default=HIDDEN_ABOVE,
                       help="a point is occluded when its occlusion score, 0 to 1, exceeds T; default 0.5 (of a "
                            "volume: where 99 %% of its ray are absorbed in front of it, as in the paper)")


def open_source(args):
    """What the options name: a RunSource, or the FlowSource of --data_dir alone. UserError when they name none."""
    check_threshold(args.occlusion_th)
    if args.run is None and args.checkpoint is None and args.data_dir is not None:
        for name, default in OF_MODELS.items():
            if getattr(args, name) != default:
                raise UserError(f"--{name} acts on a model's tracks: give --run DIR, or leave it out")
        return open_flow(args.data_dir, args.occlusion_th)
    if args.run is None and (args.checkpoint is None or args.data_dir is None):
        raise UserError("which model? give --run DIR, or both --checkpoint FILE and --data_dir DIR; for tracks by flow "
                        "alone, --data_dir DIR")
    device = pick_device(args.device)
    run = checkpoints.load_run(args.run, checkpoint=args.checkpoint, data_dir=args.data_dir, device=device)
    return RunSource(run, args.method, args.occlusion_th, args.chunk, args.refine)


def add_layer_option(group):
    """The option that names an object by the layers of preprocessing."""
    group.add_argument("--layer", type=positive, metavar="N",
                       help="the same by object N of the layers that preprocessing was given (--layers), in that frame")


def object_mask(args, source, frame):
    """bool (H, W) of the original size, of --mask or of --layer in a frame; None without both. UserError: no such."""
    if args.layer is None:
        return read_mask(args.mask, [source.video_size, source.size]) if args.mask else None
    if args.mask:
        raise UserError("--layer and --mask both say which object: give one of them")
    data = DataDir.open(source.data_dir)
    if source.run:
        data.check_same_video(source.run.video)
    found = data.layers(frame)
    if found is None:
        raise UserError(f"--layer {args.layer}: {source.data_dir} has no layers; preprocess with --layers")
    mask = cv2.resize(found[0], source.video_size[::-1], interpolation=cv2.INTER_NEAREST) == args.layer
    if not mask.any():
        seen = ", ".join(str(layer) for layer in np.unique(found[0]) if 0 < layer < 255) or "none"
        raise UserError(f"--layer {args.layer}: not seen in frame {frame}, where there are: {seen}")
    return mask


def make_folder(path):
    """Make the folder `path`, before any work is done for it. UserError when that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {path}: cannot make this folder ({error.strerror})") from error


def positive(text):
    """A positive integer, for argparse."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)
