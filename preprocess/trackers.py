"""python -m preprocess.trackers VIDEO --tracker NAME --out tracks.npz: run a tracker; its tracks are evidence."""

import argparse
import re
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from preprocess.frames import FrameOptions, checked_size, frame_name, open_source, shrink
from preprocess.tracker_models import KINDS, open_tracker
from preprocess.tracker_windows import track_in_windows, windows
from tracking.queries import parse_queries
from tracking.tracks_file import Tracks, write_tracks
from util import UserError, command, inside_video, pick_device, whole

EPILOG = """trackers:
{kinds}

  Or any entry point of a repository of torch.hub (--repository), or a TorchScript file (--torchscript), that keeps to
  CoTracker's contract: model(video, queries) -> tracks, visibility
      video (1,n,3,H,W) float, 0 to 255; queries (1,m,3) t,x,y; tracks (1,n,m,2) x,y; visibility (1,n,m), bool or share;
      pixels with integer centres

points:
  grid[:STEP]@every:K  every STEP-th pixel of every K-th frame, so that what appears later has points, too
  grid[:STEP][@FRAME]  of one frame;   FILE.npz  query_points (Q,3) t,y,x;   "t,y,x;t,y,x"

examples:
  python -m preprocess.trackers my.mp4 --tracker cotracker3 --non_commercial --max_side 512 --out cotracker.npz
  python -m preprocess.trackers my.mp4 --tracker tapnext --weights tapnextpp_ckpt.pt --out tapnext.npz
  python -m preprocess my.mp4 --data_dir data/my --tracks cotracker.npz tapnext.npz
The code of others runs with all your rights: name repositories and files that you trust."""


def make_parser():
    kinds = "\n".join(f"  {name:<12}{kind.licence}; {kind.source}" for name, kind in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m preprocess.trackers", description="Run a tracker of others over a video, window by window, and "
        "write its tracks for python -m preprocess --tracks.", epilog=EPILOG.format(kinds=kinds),
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("input", metavar="VIDEO", help="a video file, or a folder of frames, as preprocessing is given it")
    add("--out", required=True, metavar="FILE.npz", type=Path, help="where the tracks go, in the layout of track.py")
    add("--overwrite", action="store_true", help="replace --out where it exists")
    add("--tracker", metavar="NAME", help=f"{', '.join(KINDS)}, or an entry point of --repository")
    add("--repository", metavar="PLACE",
        help="a folder with a hubconf.py, or OWNER/NAME[:REF] on GitHub (default: the tracker's own)")
    add("--torchscript", metavar="FILE", help="a TorchScript file, in place of --tracker")
    add("--weights", metavar="FILE", help="of bootstapir and tapnext, which are not fetched (without it you are told "
        "where they are)")
    add("--non_commercial", action="store_true", help="yours is no commercial use: for trackers that allow no other")
    add("--ahead_only", action="store_true",
        help="this repository's or file's tracker goes only forwards: run it on the video reversed, too")
    add("--points", default="grid:16@every:10", metavar="POINTS", help="which, see below (default: %(default)s)")
    add("--max_side", type=whole, metavar="N",
        help="the tracker sees frames of at most N pixels on the longer side (default: as they are); bootstapir: a "
        "square of N, a multiple of 8 (default: 256); not of tapnext, which sees 256")
    for name, words in (("start", "first frame"), ("end", "the frame after the last one")):
        add(f"--{name}", type=whole, metavar="I", help=f"{words}, as preprocessing is given it")
    add("--fps", type=float, metavar="F", help="resample a video, as preprocessing is told to")
    add("--window", type=whole, default=60, metavar="N",
        help="frames that are tracked together, which bounds the memory (default: %(default)s)")
    add("--overlap", type=whole, default=16, metavar="N",
        help="frames that two windows share; a point that is seen in none of them is lost (default: %(default)s)")
    add("--at_once", type=whole, default=2000, metavar="N",
        help="points that are tracked together, which bounds the memory, too (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    return parser


def check_options(args):
    """UserError for options that do not fit each other."""
    if (args.tracker is None) == (args.torchscript is None):
        raise UserError(f"expected --tracker ({', '.join(KINDS)}, or an entry point of --repository) or --torchscript "
                        "FILE")
    if args.tracker is not None and args.tracker not in KINDS and args.repository is None:
        raise UserError(f"--tracker {args.tracker}: expected {', '.join(KINDS)}, or --repository for an entry point of "
                        "that name")
    kind = KINDS.get(args.tracker)
    for option, acts, where in (
        ("repository", args.tracker is not None and (kind is None or kind.entry), "trackers of torch.hub"),
        ("weights", kind and kind.weights, "bootstapir and tapnext"),
        ("non_commercial", kind and not kind.commercial, "trackers that allow no other use"),
        ("ahead_only", kind is None, "an entry point of --repository, and --torchscript"),
        ("max_side", args.tracker != "tapnext", "all but tapnext, which sees 256 pixels"),
    ):
        if getattr(args, option) not in (None, False) and not acts:
            raise UserError(f"--{option}: acts on {where} only")
    if args.tracker == "bootstapir" and (args.max_side or 8) % 8:
        raise UserError(f"--max_side {args.max_side}: expected a multiple of 8 for bootstapir")
    for option, least in (("window", 2), ("at_once", 1)):
        if getattr(args, option) < least:
            raise UserError(f"--{option} {getattr(args, option)}: expected at least {least}")
    windows(2 * args.window, args.window, args.overlap)  # says so where it cannot be
    if args.out.suffix != ".npz":
        raise UserError(f"--out {args.out}: expected a name that ends in .npz")
    if args.out.exists() and not args.overwrite:
        raise UserError(f"--out {args.out} exists: name another file, or give --overwrite")


def spool(source, options, file):
    """The chosen frames, written to an open file as they come -> memory map (N, H, W, 3), original size (H, W)."""
    original, number = None, 0
    for number, frame in enumerate(tqdm(options.select(source.frames(options.fps)), desc="frames", unit="frame"), 1):
        if original is None:
            original, size = frame.shape[:2], checked_size(source, frame, options.max_side)
        if frame.shape[:2] != original:
            raise UserError(f"{frame_name(source, options, number)}: of another size than the frames before it")
        file.write(np.ascontiguousarray(shrink(frame, size)).data)
    if number < 2:
        raise UserError(f"{source.path}: {number} frame(s); expected at least 2")
    file.flush()
    return np.memmap(file, np.uint8, "r", shape=(number, *size, 3)), original


def queries_of(text, num_frames, video_size):
    """(Q, 3) t, y, x of --points, in raster pixels of the video."""
    spread = re.fullmatch(r"(grid(?::[0-9]{1,9})?)@every:([0-9]{1,9})", text)
    if spread and not int(spread[2]):
        raise UserError(f"--points {text}: expected every 1 or more frames")
    texts = [f"{spread[1]}@{frame}" for frame in range(0, num_frames, int(spread[2]))] if spread else [text]
    try:
        return np.concatenate([parse_queries(one, num_frames, video_size) for one in texts])
    except UserError as error:
        raise UserError(str(error).replace("--queries", "--points")) from None


def tracks_of(track, frames, queries, video_size, fps, window, overlap, at_once):
    """Tracks in raster pixels of the video: what is lost is hidden, and what is outside; a query is where it is."""
    size = frames.shape[1:3]
    scale = np.array(video_size[::-1]) / size[::-1]
    asked = np.column_stack([queries[:, 0], queries[:, [2, 1]] / scale - 0.5])
    positions, visible = track_in_windows(track, frames, asked, window, overlap, at_once,
                                          lambda parts: tqdm(parts, desc="tracking", unit="window"))
    positions = ((positions + 0.5) * scale).astype(np.float32)
    each, at = np.arange(len(queries)), queries[:, 0].astype(int)
    positions[each, at], visible[each, at] = queries[:, [2, 1]], True
    hidden = ~(visible & inside_video(positions, video_size))
    hidden[each, at] = False
    unknown = np.full(hidden.shape, np.nan, np.float32)
    return Tracks(queries, positions, hidden, hidden.astype(np.float32), unknown, size, tuple(video_size), fps)


@command
def main(arguments=None):
    args = make_parser().parse_args(arguments)
    check_options(args)
    square = args.tracker == "bootstapir"
    options = FrameOptions(None if square else args.max_side, args.fps, args.start, args.end)
    source, kind = open_source(args.input), KINDS.get(args.tracker)
    track = open_tracker(args.tracker, args.repository, args.torchscript, args.weights, args.non_commercial,
                         args.ahead_only, args.max_side if square else None, pick_device(args.device))
    if kind:
        print(f"{args.tracker}: {kind.licence}" + ("" if kind.commercial else ": not for commercial use"))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=args.out.parent) as file:
        frames, video_size = spool(source, options, file)
        queries = queries_of(args.points, len(frames), video_size)
        tracks = tracks_of(track, frames, queries, video_size, float(args.fps or source.fps), args.window,
                           args.overlap, args.at_once)
    write_tracks(args.out, tracks)
    print(f"{args.out}: {len(queries)} points over {len(frames)} frames, {1 - tracks.occluded.mean():.0%} visible; "
          f"next: python -m preprocess {args.input} --data_dir DIR --tracks {args.out}")


if __name__ == "__main__":
    main()
