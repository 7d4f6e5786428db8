"""Hand tracks over to another program, or take its tracks back: export.py tracks.npz --to nuke --out tracks.nk"""

import argparse
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

import util
from exports.formats import FORMATS, READABLE, check_format, export, format_of, read
from exports.options import Video, check_names, hide_unsure, spread
from files import UserError, read_text
from outputs.options import positive
from tracking.queries import points_on_mask, read_mask
from tracking.tracks_file import select

EPILOG = """formats:
{formats}

examples:
  python export.py tracks.npz --out tracks.nk --first_frame 1001         by suffix, where only one format has it
  python export.py tracks.npz --to blender --out tracks.py               blender --python tracks.py -- my.mp4 my.blend
  python export.py tracks.npz --to dlc --out pose.csv --names nose,tail --min_confidence 0.6
  python export.py --from dlc fixed.csv --video_size 1920x1080 --fps 25 --to npz --out queries.npz
  python track.py --run runs/my --queries queries.npz --out tracks.npz   points that came back are tracked again

Positions that are hidden have no key (--hidden keep: the estimated one); formats marked * have all, and say which are
hidden. What each program makes of it, and how to load it: docs/exports.md."""


def parse_arguments(argv=None):
    rows = "\n".join(f"  {name:<16}{format.suffix:<10}{format.program}{' *' if format.says_hidden else ''}"
                     f"{' (also --from)' if format.read else ''}" for name, format in FORMATS.items())
    parser = argparse.ArgumentParser(
        prog="export.py", description=__doc__, epilog=EPILOG.format(formats=rows),
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tracks", metavar="FILE", type=Path, help="tracks.npz of track.py, or a file of --from")
    parser.add_argument("--to", choices=FORMATS, metavar="FORMAT", help="see below; default: by the suffix of --out")
    parser.add_argument("--out", required=True, metavar="FILE", type=Path, help="what to write")
    parser.add_argument("--overwrite", action="store_true", help="replace --out where it exists")
    parser.add_argument("--from", dest="source", choices=READABLE, metavar="FORMAT",
                        help="what FILE is; default: by its suffix")
    chosen = parser.add_argument_group("which points")
    chosen.add_argument("--mask", metavar="IMAGE",
                        help="image of the video's size, not 0 on an object: only points whose query lies on it")
    chosen.add_argument("--limit", type=positive, metavar="N", help="at most N points, evenly spaced among all")
    chosen.add_argument("--min_confidence", type=share, metavar="C",
                        help="what is less sure to be seen than C (0 to 1; 1 - occlusion_score) counts as hidden")
    chosen.add_argument("--hidden", choices=["gap", "keep"],
                        help="hidden positions: gap, no key; keep, the estimated position like any other; default gap")
    target = parser.add_argument_group("in the target")
    target.add_argument("--first_frame", type=int, metavar="F",
                        help="the number of the video's first frame there (nuke, natron: 1; ae, fusion: 0)")
    target.add_argument("--names", metavar="NAMES",
                        help="a name for each point: a,b,c, or a text file with one in each line")
    video = parser.add_argument_group("what a file of --from does not say")
    video.add_argument("--video_size", type=width_by_height, metavar="WxH", help="pixels of its video")
    video.add_argument("--num_frames", type=positive, metavar="N", help="of its video; default: up to the last it has")
    video.add_argument("--fps", type=rate, metavar="R", help="frames per second; of any tracks, in place of their own")
    return parser.parse_args(argv)


def share(text):
    """A number from 0 to 1, for argparse."""
    return bounded(text, lambda value: 0 <= value <= 1, "a number from 0 to 1")


def rate(text):
    """A positive number, for argparse."""
    return bounded(text, lambda value: 0 < value < float("inf"), "a positive number")


def bounded(text, fits, expected):
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not fits(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value


def width_by_height(text):
    """'1920x1080' -> (1080, 1920), for argparse."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, for example 1920x1080, got {text!r}")
    return int(match[2]), int(match[1])


def check_acts(args, source, target):
    """UserError for an option that cannot act on these formats."""
    names = {
        "first_frame": [name for name, format in FORMATS.items() if format.first_frame is not None],
        "names": [name for name, format in FORMATS.items() if format.has_names],
        "hidden": [name for name, format in FORMATS.items() if not format.says_hidden],
        "fps": [name for name, format in FORMATS.items() if format.needs_fps],
    }
    for option, formats in names.items():
        if getattr(args, option) is not None and target not in formats:
            raise UserError(f"--{option} acts on {', '.join(formats)}, not on {target}")
    for option, formats in {"video_size": ("npz",), "num_frames": ("npz", "cotracker")}.items():
        if getattr(args, option) is not None and source in formats:
            raise UserError(f"--{option}: {args.tracks} says that itself")


def read_names(text, count):
    """The names of --names, for `count` points."""
    path = Path(text)
    if not path.suffix and not path.is_file():
        names = [name.strip() for name in text.split(",")]
    else:
        names = read_text(path, "--names, a text file with a name in each line").splitlines()
    return check_names(names, count, f"--names {text}")


def choose(tracks, args):
    """Rows of the points that --mask and --limit leave. UserError when there are none."""
    chosen = np.arange(len(tracks.tracks))
    if args.mask:
        mask = read_mask(args.mask, [tracks.video_size, tracks.frame_size])
        chosen = chosen[points_on_mask(tracks.query_points[:, [2, 1]], mask)]
        if not len(chosen):
            raise UserError(f"--mask {args.mask}: no point's query lies on it")
    return chosen[spread(len(chosen), args.limit)] if args.limit else chosen


def write(args, target, tracks, names):
    """Write --out, and say what is in it."""
    format, keep = FORMATS[target], args.hidden == "keep"
    some = export(args.out, target, tracks, names, args.first_frame, keep)
    count, num_frames = tracks.occluded[some].shape
    if count < len(some):
        print(f"warning: {len(some) - count} points are never visible and are left out")
    hidden = "marked as hidden" if format.says_hidden else "written like visible ones" if keep else "left out"
    print(f"{args.out}: {count} points over {num_frames} frames for {format.program.split(',')[0]}; the "
          f"{tracks.occluded[some].mean():.0%} of positions that are hidden are {hidden}")


@util.command
def main(argv=None):
    args = parse_arguments(argv)
    source = format_of(args.tracks, args.source, "--from", READABLE)
    target = format_of(args.out, args.to, "--to")
    check_acts(args, source, target)
    if args.out.exists() and not args.overwrite:
        raise UserError(f"--out {args.out} exists: name another file, or give --overwrite")
    tracks, names = read(args.tracks, source, Video(args.video_size, args.num_frames, args.fps))
    if args.names:
        names = read_names(args.names, len(tracks.tracks))
    tracks = replace(tracks, fps=args.fps or tracks.fps)
    if tracks.fps is None and FORMATS[target].needs_fps:
        raise UserError(f"{args.tracks} does not say how many frames a second its video has: give --fps")
    if args.min_confidence is not None:
        tracks = hide_unsure(tracks, args.min_confidence)
    chosen = choose(tracks, args)
    names = [names[row] for row in chosen] if names else None
    tracks = select(tracks, chosen)
    warning = check_format(target, len(chosen))
    if warning:
        print(warning)
    write(args, target, tracks, names)


if __name__ == "__main__":
    main()
