"""Follow points through a video: from a fitted run (or flow alone) to tracks, dense flow, depth maps and a cloud."""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

import util
from exports.formats import FORMATS, check_format, export, format_of
from exports.formats import SUFFIXES as TRACK_SUFFIXES
from flow.formats import write_flo, write_kitti_flow
from loaders.data_dir import DataDir, write_image
from networks import query
from outputs.depth import write_depth_npz, write_depth_png
from outputs.exr import EXTRA, write_exr, write_motion_vectors, write_stmap
from outputs.options import add_layer_option, add_run_options, make_folder, object_mask, open_source, positive
from outputs.ply import write_ply
from preprocess.original import OriginalFrames
from tracking import pins
from tracking.polish import Plates, polish
from tracking.queries import QUERIES_HELP, check_frame, parse_grid, parse_queries
from tracking.sources import chunk_option, dense_flow, needs_run, progress_bar, resize_map, track_queries
from util import UserError, needs_extra, whole

POLISHED_UP_TO = 2000  # points, by default: more are asked for densely, where the time would count
FLOW_FORMATS = {  # suffix, writer(path, flow, visible)
    "flo": (".flo", lambda path, flow, visible: write_flo(path, flow)),
    "kitti": (".png", lambda path, flow, visible: write_kitti_flow(path, flow)),
    "stmap": (".exr", write_stmap),
    "vectors": (".exr", write_motion_vectors),
}
SUFFIXES = (dict.fromkeys(TRACK_SUFFIXES, "queries") | {suffix: "flow" for suffix, _ in FLOW_FORMATS.values()}
            | {".ply": "canonical"})

EPILOG = """examples:
  python track.py --run runs/dog --queries grid:8 --out tracks.npz          a grid on frame 0, through all frames
  python track.py --run runs/dog --queries grid:4@30 --mask dog.png --out dog.csv
  python track.py --run runs/dog --queries "0,120.5,64;12,40,300" --out two.npz
  python track.py --run runs/dog --flow 0 25 --out flow.flo                 also flow_visible.png beside it
  python track.py --run runs/dog --depth --canonical --out results/
  python track.py --data_dir data/dog --queries grid:8 --out tracks.npz     no model: by the flow of preprocessing

tracks.npz holds query_points (Q,3) t,y,x; tracks (Q,N,2) x,y; occluded (Q,N); occlusion_score (Q,N); depth (Q,N);
visibility (Q,N), 0 visible, 1 occluded, 2 outside the frame, 3 uncertain; frame_size, video_size (height, width); fps;
convention. Positions are pixels of the original video, pixel centres at +0.5 (TAP-Vid's convention). A point that
leaves the frame counts as occluded. Without a model depth is NaN. Of a run with pins (train.py --pins) the pinned
tracks come first, in the order of their file, then those of --queries."""


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run_options(parser)
    wanted = parser.add_argument_group("what to write (at least one)", QUERIES_HELP.replace("what to track", "QUERIES"))
    wanted.add_argument("--queries", metavar="QUERIES", help="track these points through all frames")
    wanted.add_argument("--flow", nargs=2, type=whole, metavar=("I", "J"),
                        help="dense flow from frame I to frame J (.flo, original size) and where it is visible (.png)")
    wanted.add_argument("--depth", action="store_true",
                        help="pseudo-depth of every frame: 16-bit PNGs at the original size and depth.npz")
    wanted.add_argument("--canonical", nargs="*", type=whole, metavar="FRAME",
                        help="the canonical volume as a coloured point cloud (.ply), as seen from these frames "
                             "(default: 5, evenly spaced)")
    wanted.add_argument("--mask", metavar="FILE",
                        help="image of the video's size, not 0 on an object: keeps the grid's points on it (the mask "
                             "is of the grid's FRAME)")
    add_layer_option(wanted)
    wanted.add_argument("--polish", default="auto", choices=["auto", "on", "off"],
                        help="move tracks by fractions of a pixel to where the original frames, at their full size, "
                             "show the point; they are read from what was preprocessed, which has to be where it was. "
                             f"auto: up to {POLISHED_UP_TO:,} points, if it is and was scaled down; default auto")
    output = parser.add_argument_group("where to")
    output.add_argument("--out", metavar="PATH", type=Path,
                        help="a folder, or a file (tracks .npz .csv .nk ..., flow .flo .png .exr, point cloud .ply) "
                             "beside which all else goes; default: the folder outputs/ in the run")
    output.add_argument("--format", choices=["auto", *FORMATS], default="auto", metavar="FORMAT",
                        help="of the tracks: npz as described below, csv (a row per point and frame), cotracker (an "
                             ".npz in CoTracker's layout and pixel convention), or that of another program (nuke, "
                             "blender ...: see export.py --help, which has more options); default: by its ending")
    output.add_argument("--flow_format", choices=FLOW_FORMATS,
                        help="of --flow: flo, kitti (16-bit .png), stmap or vectors (.exr: where in J to find each "
                             "pixel of I, for Nuke's STMap; motion vectors); default: by the file's ending, or flo")
    output.add_argument("--depth_format", choices=["png", "exr"],
                        help="of the images of --depth; exr: unrounded, in channel Z; default png")
    output.add_argument("--stride", type=positive, default=2, metavar="PX",
                        help="pixels between the points of --canonical; default 2")
    return parser.parse_args(argv)


def output_paths(args):
    """{kind: path} of everything asked for. UserError when nothing is, or --out names a file of a kind that is not."""
    names = {
        "queries": "tracks" + (".npz" if args.format == "auto" else FORMATS[args.format].suffix),
        "flow": "flow_{:05d}_{:05d}".format(*(args.flow or (0, 0))) + FLOW_FORMATS[args.flow_format or "flo"][0],
        "depth": "depth",
        "canonical": "canonical.ply",
    }
    asked = [kind for kind in names if getattr(args, kind) not in (None, False)]
    if not asked:
        raise UserError("nothing to write: give --queries, --flow I J, --depth or --canonical")
    out = args.out or Path(args.run or ".") / "outputs"
    named = SUFFIXES.get(out.suffix.lower())
    folder = out.parent if named else out
    paths = {kind: out if kind == named else folder / names[kind] for kind in asked}
    if named and named not in asked:
        raise UserError(f"--out {out}: --{named} was not given; name a folder, or a file of what was asked for")
    if not named and out.suffix and not out.is_dir():
        raise UserError(f"--out {out}: expected a folder or a file ending in {', '.join(SUFFIXES)}")
    if asked == ["depth"]:
        paths["depth"] = folder
    return paths


def flow_format(args, path):
    """The name of the flow's format. UserError when --flow_format and the file's ending contradict each other."""
    named = [name for name, (suffix, _) in FLOW_FORMATS.items() if suffix == path.suffix.lower()]
    if args.flow_format is None and len(named) > 1:
        raise UserError(f"{path}: may be {' or '.join(named)}: say which by --flow_format")
    if args.flow_format not in (None, *named):
        raise UserError(f"--flow_format {args.flow_format} and --out {path} contradict each other")
    return args.flow_format or named[0]


def check_formats(args, paths):
    """Settle the formats of what is asked for. UserError for those that cannot be, and options that act on nothing."""
    for option, on in (("mask", "queries"), ("layer", "queries"), ("flow_format", "flow"), ("depth_format", "depth")):
        if getattr(args, option) is not None and on not in paths:
            what = "selects points of a grid: give --queries grid" if on == "queries" else f"acts on --{on}: give that"
            raise UserError(f"--{option} {what} too")
    if args.polish != "auto" and args.queries is None:
        raise UserError("--polish acts on tracks: give --queries too")
    if "queries" in paths:
        args.format = format_of(paths["queries"], None if args.format == "auto" else args.format, "--format")
    if "flow" in paths:
        args.flow_format = flow_format(args, paths["flow"])
    if args.flow_format in ("stmap", "vectors") or args.depth_format == "exr":
        needs_extra("EXR", *EXTRA)


def check_against_video(source, args):
    """Queries (Q, 3), or None when none are asked for. UserError for any frame, point or mask not of this video.

    Of a run with pins those of the pinned tracks come first.
    """
    for option in ("flow", "canonical"):
        for frame in getattr(args, option) or []:
            check_frame(frame, source.num_frames, f"--{option}")
    if args.queries is None:
        return None
    frame = parse_grid(args.queries)[1] if args.queries.startswith("grid") else 0
    check_frame(frame, source.num_frames, f"--queries {args.queries}")
    mask = object_mask(args, source, frame)
    queries = parse_queries(args.queries, source.num_frames, source.video_size, mask)
    return np.concatenate([pins.queries_of(source.pins), queries])


def plates_to_polish_on(source, args):
    """The original frames as Plates, where --polish wants them, or None. UserError: 'on', and there are none."""
    if args.polish == "off" or args.query_points is None:
        return None
    try:
        if args.polish == "auto" and len(args.query_points) > POLISHED_UP_TO:
            raise UserError(f"more than {POLISHED_UP_TO:,} points (--polish on does it all the same)")
        if args.polish == "auto" and source.size == source.video_size:
            raise UserError("the video was not scaled down")
        data = DataDir.open(source.data_dir)
        if source.run:
            data.check_same_video(source.run.video)
        return Plates(tqdm(OriginalFrames(data), desc="original frames", unit="frame"))
    except UserError as error:
        if args.polish == "on":
            raise UserError(f"--polish on: {error}") from None
        print(f"tracks are not polished on the original frames: {error}")
        return None


def write_tracks(source, args, path):
    tracks = track_queries(source, args.query_points)
    if args.plates is not None:
        with progress_bar("polishing", tracks.occluded.size) as bar:
            polished = polish(tracks, args.plates, progress=bar.update)
        print(f"polished on the original frames: {polished.sum() / (~tracks.occluded).sum():.0%} of what is visible")
    pins.put(source.pins, tracks)  # polished or not
    export(path, args.format, tracks)
    visible, note = 1 - tracks.occluded.mean(), "" if source.run else "; by flow alone, so that depth is unknown (NaN)"
    first = len(pins.queries_of(source.pins))
    note += f"; the first {first} are the pinned ones" if first else ""
    print(f"{path}: {len(args.query_points)} points over {source.num_frames} frames, {visible:.0%} visible{note}")


def write_flow(source, args, path):
    flow, visible = dense_flow(source, *args.flow)
    FLOW_FORMATS[args.flow_format][1](path, flow, visible)
    visible_path = path.with_name(f"{path.stem}_visible.png")
    write_image(visible_path, visible.astype(np.uint8) * 255)
    length = np.median(np.linalg.norm(flow, axis=-1))
    print(f"{path}: frame {args.flow[0]} to {args.flow[1]}, median length {length:.2f} px; "
          f"{visible_path.name}: white where visible ({visible.mean():.0%})")


def write_depth(source, args, folder):
    depths = np.empty((source.num_frames, *source.size), np.float32)
    for frame in tqdm(range(source.num_frames), desc="depth", unit="frame"):
        rendered = query.render_frame(source.run.model, frame, **chunk_option(args.chunk))
        depths[frame] = rendered["depth"].cpu().numpy()
        depth = resize_map(depths[frame], source.video_size)
        if args.depth_format == "exr":
            write_exr(folder / f"{frame:05d}.exr", {"Z": depth})
        else:
            write_depth_png(folder / f"{frame:05d}.png", depth)
    write_depth_npz(folder / "depth.npz", depths, source.video_size)
    images = ("EXRs (pseudo-depth in Z)" if args.depth_format == "exr"
              else "16-bit PNGs (pseudo-depth = grey level * 2 / 65535, near is dark)")
    print(f"{folder}: {len(depths)} {images} and depth.npz")


def write_canonical(source, args, path):
    frames, masks = args.canonical or evenly_spaced(source.num_frames), source.of_layer()
    if masks is not None:  # of the object that the run was fitted to alone
        seen = [frame for frame in frames if masks[frame, :: args.stride, :: args.stride].any()]
        if not seen:
            raise UserError(f"--canonical: layer {source.run.layer}, which the run was fitted to alone, is not seen in "
                            f"frames {', '.join(map(str, frames))}")
        frames = seen
    clouds = []
    for frame in tqdm(frames, desc="canonical", unit="frame"):
        keep = None if masks is None else masks[frame]
        cloud = query.canonical_points(source.run.model, frame, args.stride, keep=keep, **chunk_option(args.chunk))
        clouds.append([tensor.cpu().numpy() for tensor in cloud])
    points, rgb, weight = (np.concatenate(part) for part in zip(*clouds))
    write_ply(path, points, rgb, weight)
    print(f"{path}: {len(points)} points seen from frames {', '.join(map(str, frames))}")


def evenly_spaced(num_frames, count=5):
    """At most `count` frame numbers from the first to the last."""
    return sorted({round(i * (num_frames - 1) / (count - 1)) for i in range(count)})


@util.command
def main(argv=None):
    args = parse_arguments(argv)
    paths = output_paths(args)
    check_formats(args, paths)
    source = open_source(args)
    for kind in {"depth", "canonical"} & set(paths):
        needs_run(source, f"--{kind}")
    args.query_points = check_against_video(source, args)
    warning = check_format(args.format, len(args.query_points)) if args.queries is not None else None
    if warning:
        print(warning)
    args.plates = plates_to_polish_on(source, args)
    writers = {"queries": write_tracks, "flow": write_flow, "depth": write_depth, "canonical": write_canonical}
    for kind, path in paths.items():
        make_folder(path if kind == "depth" else path.parent)
        writers[kind](source, args, path)


if __name__ == "__main__":
    main()
