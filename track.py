"""Follow points through a video: from a fitted run (or flow alone) to tracks, dense flow, depth maps and a cloud."""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

import util
from flow.formats import write_flo
from loaders.data_dir import DataDir, write_image
from networks import query
from outputs.depth import write_depth_npz, write_depth_png
from outputs.options import add_run_options, make_folder, open_source, positive
from outputs.ply import write_ply
from preprocess.original import OriginalFrames
from tracking.polish import Plates, polish
from tracking.queries import QUERIES_HELP, check_frame, parse_queries, read_mask
from tracking.sources import chunk_option, dense_flow, needs_run, progress_bar, resize_map, track_queries
from tracking.tracks_file import WRITERS
from util import UserError, whole

POLISHED_UP_TO = 2000  # points, by default: more are asked for densely, where the time would count
SUFFIXES = {".npz": "queries", ".csv": "queries", ".flo": "flow", ".ply": "canonical"}

EPILOG = """examples:
  python track.py --run runs/dog --queries grid:8 --out tracks.npz          a grid on frame 0, through all frames
  python track.py --run runs/dog --queries grid:4@30 --mask dog.png --out dog.csv
  python track.py --run runs/dog --queries "0,120.5,64;12,40,300" --out two.npz
  python track.py --run runs/dog --flow 0 25 --out flow.flo                 also flow_visible.png beside it
  python track.py --run runs/dog --depth --canonical --out results/
  python track.py --data_dir data/dog --queries grid:8 --out tracks.npz     no model: by the flow of preprocessing

tracks.npz holds query_points (Q,3) t,y,x; tracks (Q,N,2) x,y; occluded (Q,N); occlusion_score (Q,N); depth (Q,N);
frame_size, video_size (height, width); fps; convention. Positions are pixels of the original video, pixel centres at
+0.5 (TAP-Vid's convention). A point that leaves the frame counts as occluded. Without a model depth is NaN."""


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
    wanted.add_argument("--polish", default="auto", choices=["auto", "on", "off"],
                        help="move tracks by fractions of a pixel to where the original frames, at their full size, "
                             "show the point; they are read from what was preprocessed, which has to be where it was. "
                             f"auto: up to {POLISHED_UP_TO:,} points, if it is and was scaled down; default auto")
    output = parser.add_argument_group("where to")
    output.add_argument("--out", metavar="PATH", type=Path,
                        help="a folder, or a file (tracks .npz .csv, flow .flo, point cloud .ply) beside which all "
                             "else goes; default: the folder outputs/ in the run")
    output.add_argument("--format", choices=["auto", *WRITERS], default="auto",
                        help="of the tracks: npz as described below, csv (a row per point and frame), or cotracker (an "
                             ".npz in CoTracker's layout and pixel convention); default: by the file's ending")
    output.add_argument("--stride", type=positive, default=2, metavar="PX",
                        help="pixels between the points of --canonical; default 2")
    return parser.parse_args(argv)


def output_paths(args):
    """{kind: path} of everything asked for. UserError when nothing is, or --out names a file of a kind that is not."""
    names = {
        "queries": "tracks.csv" if args.format == "csv" else "tracks.npz",
        "flow": "flow_{:05d}_{:05d}.flo".format(*(args.flow or (0, 0))),
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


def tracks_format(args, path):
    """The name of the writer. UserError when --format and the file's ending contradict each other."""
    by_ending = path.suffix.lower().lstrip(".")
    if args.format == "auto":
        return by_ending
    if by_ending != ("csv" if args.format == "csv" else "npz"):
        raise UserError(f"--format {args.format} and --out {path} contradict each other")
    return args.format


def check_against_video(source, args):
    """Queries (Q, 3), or None when none are asked for. UserError for any frame, point or mask not of this video."""
    for option in ("flow", "canonical"):
        for frame in getattr(args, option) or []:
            check_frame(frame, source.num_frames, f"--{option}")
    if args.queries is None:
        return None
    mask = read_mask(args.mask, [source.video_size, source.size]) if args.mask else None
    return parse_queries(args.queries, source.num_frames, source.video_size, mask)


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
        if source.run and data.fingerprint != source.run.video["fingerprint"]:
            raise UserError(f"{data.path}: made from another video than the run")
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
    WRITERS[tracks_format(args, path)](path, tracks)
    visible, note = 1 - tracks.occluded.mean(), "" if source.run else "; by flow alone, so that depth is unknown (NaN)"
    print(f"{path}: {len(args.query_points)} points over {source.num_frames} frames, {visible:.0%} visible{note}")


def write_flow(source, args, path):
    flow, visible = dense_flow(source, *args.flow)
    write_flo(path, flow)
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
        write_depth_png(folder / f"{frame:05d}.png", resize_map(depths[frame], source.video_size))
    write_depth_npz(folder / "depth.npz", depths, source.video_size)
    print(f"{folder}: {len(depths)} 16-bit PNGs (pseudo-depth = grey level * 2 / 65535, near is dark) and depth.npz")


def write_canonical(source, args, path):
    frames = args.canonical or evenly_spaced(source.num_frames)
    clouds = []
    for frame in tqdm(frames, desc="canonical", unit="frame"):
        cloud = query.canonical_points(source.run.model, frame, args.stride, **chunk_option(args.chunk))
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
    if args.mask and args.queries is None:
        raise UserError("--mask selects points of a grid: give --queries grid too")
    if args.queries is not None:
        tracks_format(args, paths["queries"])
    elif args.polish != "auto":
        raise UserError("--polish acts on tracks: give --queries too")
    source = open_source(args)
    for kind in {"depth", "canonical"} & set(paths):
        needs_run(source, f"--{kind}")
    args.query_points = check_against_video(source, args)
    args.plates = plates_to_polish_on(source, args)
    writers = {"queries": write_tracks, "flow": write_flow, "depth": write_depth, "canonical": write_canonical}
    for kind, path in paths.items():
        make_folder(path if kind == "depth" else path.parent)
        writers[kind](source, args, path)


if __name__ == "__main__":
    main()
