"""python -m preprocess INPUT --data_dir DIR: from a video to correspondences that train.py can use."""

import argparse
import sys

from flow.appearance import FEATURE_THRESHOLD
from preprocess.chain import COLOR_THRESHOLD
from preprocess.driver import build
from preprocess.filter import CYCLE_THRESHOLD
from preprocess.frames import FOLDER_FPS
from preprocess.pairs import ALL_PAIRS_UP_TO, DEFAULT_MAX_INTERVAL, REACH, SPACED
from preprocess.verify import verify
from util import command, whole

DESCRIPTION = """\
Compute optical flow between many pairs of frames of a video, keep what is consistent, and chain it across time.
The result is a data directory for train.py. Interrupt it whenever you like: the same command goes on where it was
(but for --features and --depth, which are found in one go), and with other options it does again only what depends on
them."""

EPILOG = """\
examples:
  python -m preprocess clip.mp4 --data_dir data/clip --max_side 512 --fps 15
  python -m preprocess davis/frames --masks davis/masks --data_dir data/davis --flow raft --raft_weights raft-things.pth
"""


def make_parser():
    parser = argparse.ArgumentParser(
        prog="python -m preprocess",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "input",
        nargs="?",
        metavar="INPUT",
        help="a video file (mp4, mov, webm, gif ...), or a folder of frames (png, jpg), taken in natural order",
    )
    parser.add_argument(
        "--data_dir",
        metavar="DIR",
        help="where the result goes: a new folder, or an earlier result of the same video",
    )
    parser.add_argument(
        "--verify",
        metavar="DIR",
        help="nothing but this: check the checksum of every file of a data directory, and say which are missing or "
        "damaged",
    )
    add_frame_options(parser.add_argument_group("frames"))
    add_flow_options(parser.add_argument_group("optical flow"))
    add_evidence_options(parser.add_argument_group("evidence from elsewhere"))
    add_filter_options(parser.add_argument_group("filtering and chaining"))
    add_other_options(parser.add_argument_group("other"))
    return parser


def add_frame_options(group):
    group.add_argument(
        "--max_side",
        type=whole,
        metavar="N",
        help="scale frames down to at most N pixels on the longer side (default: as they are); time and disk space "
        "grow with its square",
    )
    group.add_argument(
        "--fps",
        type=float,
        metavar="F",
        help="resample a video to F frames per second (default: every frame once, whatever its time stamp). For a "
        f"folder it only says how fast it plays (default: {FOLDER_FPS:g})",
    )
    group.add_argument(
        "--start", type=whole, metavar="I", help="first frame, counted from 0 after resampling (default: 0)"
    )
    group.add_argument("--end", type=whole, metavar="I", help="the frame after the last one (default: up to the end)")
    group.add_argument(
        "--cuts",
        default="refuse",
        choices=("refuse", "ignore", "split"),
        help="what to do where the video cuts to another shot, which no track can cross: refuse says at which frames; "
        "split makes a data directory of each shot, DIR/shot_000 and so on (default: %(default)s)",
    )
    group.add_argument(
        "--masks",
        metavar="DIR",
        help="object masks, one image a frame, of the frames' size: white, or any object number, on black. Not needed "
        "for training; serves stabilised trails and evaluation (default: none)",
    )


def add_flow_options(group):
    group.add_argument(
        "--flow",
        default="auto",
        choices=("auto", "raft", "dis"),
        help="dis: OpenCV's DIS, walked over the video, which needs no weights; raft: the same with RAFT's flow as a "
        "candidate; auto: raft where there are weights and, without a GPU, time for it; else dis (default: "
        "%(default)s)",
    )
    group.add_argument(
        "--flow_files",
        metavar="DIR",
        help="flow of another estimator as a further candidate: I_J.flo from frame I to J (00000_00005.flo), of the "
        "frames' size after --max_side, in any number (default: none)",
    )
    group.add_argument(
        "--no_fusion",
        action="store_true",
        help="store the flow of --flow raft, or of --flow_files, as it is, not as a candidate: as the paper does",
    )
    group.add_argument(
        "--raft_weights",
        metavar="FILE",
        help="RAFT weights, small or large, by the reference's (raft-things.pth) or torchvision's names (default: "
        "what is found; --flow raft downloads RAFT large)",
    )
    group.add_argument(
        "--iters",
        dest="iterations",
        type=whole,
        default=20,
        metavar="N",
        help="RAFT's iterations a pair (default: %(default)s)",
    )
    group.add_argument(
        "--max_interval",
        type=whole,
        metavar="N",
        help=f"estimate flow between all frames up to N apart, and, up to {REACH}N, between those that are "
        f"{', '.join(map(str, SPACED))} apart (default: all pairs of up to {ALL_PAIRS_UP_TO} frames, "
        f"{DEFAULT_MAX_INTERVAL} for longer videos)",
    )


def add_evidence_options(group):
    group.add_argument(
        "--tracks",
        nargs="+",
        default=(),
        metavar="FILE",
        help="tracks of other trackers (.npz): of track.py, CoTracker, TAPIR, TAPNext or TAP-Vid predictions. Motion "
        "around their points is a candidate of the walk; training is fitted to them, too (default: none)",
    )
    group.add_argument(
        "--tracks_convention",
        choices=("raster", "integer"),
        help="where pixel centres are in --tracks: at +0.5 or at integers (default: integers in CoTracker's layout, "
        "+0.5 in all others)",
    )
    group.add_argument(
        "--tracks_size",
        metavar="WxH",
        help="the size in whose pixels --tracks are that do not say so, such as 256x256 (default: the video's)",
    )
    group.add_argument(
        "--correspondences",
        metavar="FILE",
        help="known correspondences, a table (csv) with the columns frame_1,x_1,y_1,frame_2,x_2,y_2 and maybe weight, "
        "in pixels of the video, centres at +0.5 (default: none)",
    )
    group.add_argument(
        "--features",
        nargs="+",
        default=None,
        metavar="WHICH",
        help="places of two frames that look alike, however far apart the frames are. sift: keypoints, which need no "
        "weights; a folder with config.json and model.safetensors of DINOv2 or DINOv3, or its name at huggingface.co, "
        "from where it is downloaded once, such as facebook/dinov2-small (Apache-2.0; both need "
        "requirements-dino.txt); both; or none (default: sift, but none beside --no_fusion)",
    )
    group.add_argument(
        "--depth",
        metavar="WHICH",
        help="monocular depth of each frame, for the order of surfaces: auto, Depth-Anything-V2-Small (Apache-2.0; "
        "needs requirements-dino.txt; downloaded once); a folder of maps, one a frame (.png of 16 bits, .npy, or .exr "
        "with requirements-exr.txt), of depth or inverse depth in any unit; another depth network's folder; or none. "
        "Training believes it as far as the occlusions that the flow shows bear it out (default: none)",
    )
    group.add_argument(
        "--layers",
        metavar="DIR",
        help="which object a pixel shows: images of some frames (one is enough) of the video's size, each named by its "
        "frame, such as 00000.png; 0 the background, other grey levels or indices of a palette an object each. No "
        "correspondence crosses from one to another; other frames' labels follow the flow and the colours "
        "(default: none)",
    )


def add_filter_options(group):
    group.add_argument(
        "--cycle_th",
        dest="cycle_threshold",
        type=float,
        default=CYCLE_THRESHOLD,
        metavar="PX",
        help="a pixel's flow is consistent when going there and back ends within PX pixels of it (default: "
        "%(default)g)",
    )
    group.add_argument(
        "--max_direct",
        type=whole,
        metavar="N",
        help="trust estimated flow between frames up to N apart; pairs further apart hold what chaining brings there "
        "(default: no limit)",
    )
    group.add_argument(
        "--appearance",
        default="census",
        choices=("census", "raft", "dino"),
        help=f"what decides that two pixels look alike (cosine similarity above {FEATURE_THRESHOLD}). census: local "
        "order of brightness, needs no weights; raft: RAFT's matching features; dino: DINO's, see --dino_weights "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--dino_weights",
        metavar="PATH",
        help="for --appearance dino (needs requirements-dino.txt): a folder with config.json and model.safetensors of "
        "DINO, DINOv2 or DINOv3, such as a clone of facebook/dino-vits16, or a TorchScript file (images to feature "
        "maps, 16-pixel patches) (default: none)",
    )
    group.add_argument(
        "--no_chain",
        action="store_true",
        help="do not fill in far-apart pairs by flow from partner to partner as long as appearance and colour (RGB "
        f"within {COLOR_THRESHOLD}) agree: faster, but sparser",
    )


def add_other_options(group):
    group.add_argument(
        "--keep_direct",
        action="store_true",
        help="keep the flow as estimated beside the chained one (for the rows direct, chained and mft of evaluate.py); "
        "doubles the disk space",
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a data directory that was made from another video or by another version",
    )
    group.add_argument(
        "--workers",
        type=whole,
        metavar="N",
        help="processes that share the source frames, each with one thread and up to about 1.5 GB of memory; the "
        "result does not depend on it; one process feeds a GPU (default: one for each core, as memory allows; one for "
        "a small video)",
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")


@command
def main(arguments=None):
    parser = make_parser()
    args = vars(parser.parse_args(arguments))
    directory = args.pop("verify")
    if directory is not None:
        return verify(directory)
    if args["input"] is None or args["data_dir"] is None:
        parser.error("expected INPUT and --data_dir DIR, or --verify DIR")
    args["source"], args["chain"] = args.pop("input"), not args.pop("no_chain")
    args["fusion"] = not args.pop("no_fusion")
    try:
        build(**args)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    return None


if __name__ == "__main__":
    main()
