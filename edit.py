"""Edit a video by the tracks of its pixels: carry masks and paintings, hold it still, clean it, slow it, turn it."""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

import util
from edits import between, clean, files, mask, orbit, paint, stabilise
from edits.clip import open_clip
from flow.rims import rim_radius
from networks import query
from outputs.options import add_run_options, open_source, positive
from outputs.video import video_writer
from tracking.queries import QUERIES_HELP, check_frame, default_step, grid_queries, parse_queries
from tracking.sources import chunk_option, needs_run, resize_map, track_queries
from util import UserError

SURFACE_POINTS = 300  # aimed at on the mask of stabilise

EPILOG = """examples:
  python edit.py mask --data_dir data/dog --first dog.png --out edits/mask
  python edit.py paint --run runs/dog --layer sticker.png --frame 12 --relight
  python edit.py stabilise --data_dir data/dog --mask dog.png --model similarity
  python edit.py clean --data_dir data/dog --mask dog.png --inpaint
  python edit.py between --data_dir data/dog --factor 4
  python edit.py orbit --run runs/dog --amount 0.03

What comes out is a folder: a video, images of each frame, and edit.json with the options. It appears when it is
complete. Images that go in have the size of the video's own frames, and so has all that comes out. With --data_dir
alone pixels move by the flow of preprocessing, with --run by the model's; flow is the more precise where it is seen.
EACH --help says more: python edit.py mask --help"""


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="edit", required=True, metavar="EDIT", title="what to do")
    add_mask(command(kinds, "mask", "carry a mask, or several labels, through the video"))
    add_paint(command(kinds, "paint", "carry a painting on one frame to all frames"))
    add_stabilise(command(kinds, "stabilise", "hold the video still on a surface"))
    add_clean(command(kinds, "clean", "replace what a mask covers by the background that other frames show"))
    add_between(command(kinds, "between", "frames in between, for slow motion or a higher frame rate"))
    add_orbit(command(kinds, "orbit", "a small change of view by pseudo-depth, which is not metric (needs a model)"))
    return parser.parse_args(argv)


def command(kinds, name, summary):
    """A subparser with the options of all edits."""
    parser = kinds.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", epilog=QUERIES_HELP
                              if name == "stabilise" else None, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_options(parser)
    output = parser.add_argument_group("where to")
    output.add_argument("--out", metavar="DIR", type=Path,
                        help=f"a folder, made for this edit; default: edits/{name} in the run, or here without one")
    output.add_argument("--overwrite", action="store_true", help="replace an edit that is in that folder")
    return parser


def add_frame(parser, what):
    parser.add_argument("--frame", type=int, default=0, metavar="K", help=f"the frame {what}; default 0")


def add_mask(parser):
    parser.add_argument("--first", required=True, metavar="FILE",
                        help="grey PNG of 8 bits: 0 the background, 1 to n the objects (a single grey level is 1)")
    add_frame(parser, "that it is of")


def add_paint(parser):
    parser.add_argument("--layer", required=True, metavar="FILE",
                        help="RGBA PNG: what is painted on frame K, transparent where the video stays")
    add_frame(parser, "painted on")
    parser.add_argument("--relight", action="store_true",
                        help="brighten and darken the painting as the surface under it changes")


def add_stabilise(parser):
    surface = parser.add_mutually_exclusive_group(required=True)
    surface.add_argument("--points", metavar="QUERIES", help="points of the surface, seen in frame K")
    surface.add_argument("--mask", metavar="FILE", help="image, not 0 on the surface in frame K")
    add_frame(parser, "that all others are brought to")
    parser.add_argument("--model", default="similarity", choices=list(stabilise.FEWEST),
                        help="how the surface may move: translation; similarity: turned and scaled, too; homography: a "
                             "plane in perspective; warp: bent; default similarity")
    parser.add_argument("--border", default="fill", choices=["fill", "crop"],
                        help="what is outside of a frame: fill leaves it black; crop cuts to the largest rectangle "
                             "that all frames fill; default fill")


def add_clean(parser):
    parser.add_argument("--mask", required=True, metavar="PATH",
                        help="image, not 0 on what is to go in frame K, which is carried to all frames; or a folder of "
                             "images, one a frame")
    add_frame(parser, "that the mask is of")
    parser.add_argument("--grow", type=int, metavar="PX",
                        help="pixels that masks are grown by, for soft rims; default: 1.2 %% of the diagonal")
    parser.add_argument("--inpaint", action="store_true",
                        help="guess what no frame shows from around it, which is else left magenta")


def add_between(parser):
    parser.add_argument("--factor", type=positive, default=4, metavar="F",
                        help="F - 1 frames between any two; default 4")
    parser.add_argument("--slow", action="store_true", help="keep the frame rate: F times slower, not F times smoother")


def add_orbit(parser):
    parser.add_argument("--amount", type=float, default=0.03, metavar="SHARE",
                        help="how far the nearest surface moves against the farthest, as a share of the width, at most "
                             "0.2; default 0.03")
    parser.add_argument("--frame", type=int, metavar="K",
                        help="turn around this frame, held; default: the video plays on")


# The edits: each checks its options, and returns a function that writes into a folder and says what it wrote.


def prepare_mask(clip, args):
    check_frame(args.frame, len(clip), "--frame")
    first = files.read_labels("--first", args.first, clip.size)

    def write(folder):
        labels = mask.carry_labels(clip.frames, clip.flow, first, args.frame, bar("mask"))
        with video_writer(folder / "mask.mp4", clip.fps) as append:
            for k, (frame, found) in enumerate(zip(clip.frames, labels)):
                files.write_png(folder / "masks" / f"{k:05d}.png", found)
                append(mask.tinted(frame, found))
        return f"masks/ (labels 0 to {first.max()}) and mask.mp4; {np.mean(labels > 0):.1%} of all pixels are set"

    return write


def prepare_paint(clip, args):
    check_frame(args.frame, len(clip), "--frame")
    layer = paint.premultiplied(files.read_layer("--layer", args.layer, clip.size))

    def write(folder):
        with video_writer(folder / "paint.mp4", clip.fps) as append:
            for k, frame in enumerate(bar("paint")(clip.frames)):
                carried = layer
                if k != args.frame:
                    flow, visible = clip.flow(k, args.frame)
                    carried = paint.carried_layer(layer, flow, visible, frame)
                    if args.relight:
                        carried = paint.relit(carried, frame, clip.frames[args.frame], flow, visible)
                files.write_png(folder / "layer" / f"{k:05d}.png", paint.as_rgba(carried))
                append(paint.over(carried, frame))
        return "paint.mp4 and layer/, the painting alone as RGBA"

    return write


def prepare_stabilise(clip, args):
    check_frame(args.frame, len(clip), "--frame")
    if args.mask:
        surface = files.read_labels("--mask", args.mask, clip.size) > 0
        queries = grid_queries(args.frame, default_step(clip.size, surface, SURFACE_POINTS), clip.size, surface)
    else:
        queries = parse_queries(args.points, len(clip), clip.size)
    if len(queries) < stabilise.FEWEST[args.model]:
        raise UserError(f"--model {args.model} needs {stabilise.FEWEST[args.model]} points or more, got {len(queries)}")

    def write(folder):
        tracks = track_queries(clip.source, queries)
        found = stabilise.motions(args.model, tracks.tracks - 0.5, ~tracks.occluded, args.frame, clip.size)
        lost = sum(motion is None for motion in found)
        if lost >= len(clip) - 1 and len(clip) > 1:
            raise UserError(f"--model {args.model}: no other frame shows enough of the points that frame {args.frame} "
                            f"shows (at least {stabilise.FEWEST[args.model]}); give more points, or a mask")
        top, left, height, width = crop_of(clip, args, found)
        with video_writer(folder / "stabilised.mp4", clip.fps) as append:
            for k, frame in enumerate(bar("stabilise")(clip.frames)):
                image = stabilise.held_still(frame, stabilise.dense(found, k, clip.size, args.model == "warp"))
                image = image[top : top + height, left : left + width]
                files.write_png(folder / "frames" / f"{k:05d}.png", image)
                append(image)
        share = height * width / np.prod(clip.size)
        note = f"; {lost} frames without points enough lie between others" if lost else ""
        return (f"stabilised.mp4 and frames/: {args.model}, by {len(queries)} points; {args.border}: "
                f"{width}x{height} from x {left}, y {top}, {share:.0%} of the frame{note}")

    return write


def crop_of(clip, args, found):
    """(top, left, height, width) that --border keeps. UserError when nothing is seen in all frames."""
    if args.border == "fill":
        return 0, 0, *clip.size
    inside = np.ones(clip.size, bool)
    for k in range(len(clip)):
        inside &= stabilise.within(stabilise.dense(found, k, clip.size, args.model == "warp"), clip.size)
    rectangle = stabilise.largest_rectangle(inside)
    if min(rectangle[2:]) < 2:
        raise UserError("--border crop: no part of the picture is seen in all frames; use --border fill")
    return rectangle


def prepare_clean(clip, args):
    check_frame(args.frame, len(clip), "--frame")
    if args.grow is not None and args.grow < 0:
        raise UserError(f"--grow {args.grow}: expected 0 or more pixels")
    grow = rim_radius(clip.size) if args.grow is None else args.grow
    if Path(args.mask).is_dir():
        given = files.read_masks("--mask", args.mask, len(clip), clip.size)
    else:
        first = (files.read_labels("--mask", args.mask, clip.size) > 0).astype(np.uint8)
        given = None

    def write(folder):
        masks = given
        if masks is None:
            masks = mask.carry_labels(clip.frames, clip.flow, first, args.frame, bar("mask")) > 0
        masks = np.stack([clean.grown(found, grow) if grow else found for found in masks])
        never, total = 0, max(1, masks.sum())
        with video_writer(folder / "clean.mp4", clip.fps) as append:
            for k in bar("clean")(range(len(clip))):
                image, origin = clean.clean_frame(clip.frames, masks, clip.flow, k)
                never += (origin == clean.NEVER).sum()
                image = clean.inpainted(image, origin) if args.inpaint else image
                files.write_png(folder / "sources" / f"{k:05d}.png", origin)
                files.write_png(folder / "frames" / f"{k:05d}.png", image)
                append(image)
        left = "guessed from around it" if args.inpaint else "left magenta"
        return (f"clean.mp4, frames/ and sources/ (16 bits: 0 the frame's own, k + 1 from frame k, {clean.NEVER} never "
                f"seen); {1 - never / total:.1%} of what was covered is seen elsewhere, the rest is {left}")

    return write


def prepare_between(clip, args):
    if len(clip) < 2 or args.factor < 2:
        raise UserError(f"--factor {args.factor} of {len(clip)} frames: expected at least 2 of both")

    def write(folder):
        fps, number = clip.fps * (1 if args.slow else args.factor), 0
        with video_writer(folder / "between.mp4", fps) as append:
            for k in bar("between")(range(len(clip) - 1)):
                there, back = clip.flow(k, k + 1), clip.flow(k + 1, k)
                append(clip.frames[k])
                for step in range(1, args.factor):
                    pair = clip.frames[k], clip.frames[k + 1]
                    image = between.frame_between(step / args.factor, *pair, there, back)
                    files.write_png(folder / "frames" / f"{k:05d}_{step:03d}.png", image)
                    append(image)
                    number += 1
            append(clip.frames[-1])
        return f"between.mp4 at {fps:g} frames a second, and frames/, the {number} new ones"

    return write


def prepare_orbit(clip, args):
    needs_run(clip.source, "orbit")
    if args.frame is not None:
        check_frame(args.frame, len(clip), "--frame")
    if not 0 < args.amount <= 0.2:
        raise UserError(f"--amount {args.amount:g}: expected a share above 0, at most 0.2; more is all guesswork")

    def write(folder):
        model, amount = clip.source.run.model, args.amount * clip.size[1]
        guessed, range_of = [], None
        with video_writer(folder / "orbit.mp4", clip.fps) as append:
            for k in bar("orbit")(range(len(clip))):
                frame = k if args.frame is None else args.frame
                if k == 0 or args.frame is None:
                    depth = query.render_frame(model, frame, **chunk_option(clip.source.chunk))["depth"].cpu().numpy()
                    depth = resize_map(depth, clip.size)
                range_of = np.percentile(depth, [2, 98]) if range_of is None else range_of
                view = orbit.view_at(k / len(clip), amount)
                image, hidden = orbit.seen_from(clip.frames[frame], depth, view, *range_of)
                guessed.append(hidden.mean())
                append(image)
        return f"orbit.mp4: by pseudo-depth, not metric; {np.mean(guessed):.1%} of the pixels are guesses, from around"

    return write


PREPARE = {"mask": prepare_mask, "paint": prepare_paint, "stabilise": prepare_stabilise, "clean": prepare_clean,
           "between": prepare_between, "orbit": prepare_orbit}


def bar(name):
    return lambda frames: tqdm(frames, desc=name, unit="frame")


@util.command
def main(argv=None):
    args = parse_arguments(argv)
    out = args.out or Path(args.run or ".") / "edits" / args.edit
    files.check_folder(out, args.overwrite)
    clip = open_clip(open_source(args))
    write = PREPARE[args.edit](clip, args)
    with files.edit_folder(out, vars(args)) as folder:
        said = write(folder)
    print(f"{out}: {said}")


if __name__ == "__main__":
    main()
