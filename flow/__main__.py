"""Optical flow between two images: python -m flow IMAGE_1 IMAGE_2 --out FILE.flo"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from flow.candidates import walked_with_matches
from flow.dis import as_array
from flow.estimators import make_estimator
from flow.formats import flow_to_color, read_image, write_flo
from util import UserError, atomic_path, command


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m flow", description="Optical flow between two images. DIS: "
                                     "with the motion around SIFT matches as a candidate.")
    parser.add_argument("image_1", metavar="IMAGE_1")
    parser.add_argument("image_2", metavar="IMAGE_2")
    parser.add_argument("--out", required=True, metavar="FILE.flo", help="where the flow goes (Middlebury .flo)")
    parser.add_argument("--flow", default="auto", metavar="{auto,raft,dis}", help="estimator (default: %(default)s)")
    parser.add_argument("--raft_weights", metavar="FILE", help="RAFT weights, small or large, by the reference's or "
                        "torchvision's names; --flow raft without it downloads RAFT large")
    parser.add_argument("--iters", dest="iterations", type=int, default=20, metavar="N",
                        help="RAFT's iterations (default: %(default)s)")
    parser.add_argument("--png", action="store_true", help="also write the flow as colours, to FILE.png")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    return parser.parse_args(arguments)


@command
def main(arguments=None):
    args = parse_arguments(arguments)
    out = Path(args.out)
    if out.suffix != ".flo":
        raise UserError(f"--out {out}: expected a name that ends in .flo")
    frames = [read_image(args.image_1), read_image(args.image_2)]
    if frames[0].shape != frames[1].shape:
        sizes = ["{1}x{0}".format(*frame.shape) for frame in frames]
        raise UserError(f"{args.image_2} is {sizes[1]}, {args.image_1} is {sizes[0]}: expected equal sizes")
    estimator = make_estimator(args.flow, args.raft_weights, args.iterations, args.device, frames[0].shape[:2])
    if estimator.walks:
        estimator = walked_with_matches(frames, estimator)
    else:
        estimator.load_frames(frames)
    flow = as_array(estimator.flow_from(0, [1])[0])
    write_flo(out, flow)
    if args.png:
        with atomic_path(out.with_suffix(".png")) as temporary:
            cv2.imencode(".png", flow_to_color(flow)[..., ::-1])[1].tofile(temporary)
    print(f"{out}: mean length {np.linalg.norm(flow, axis=-1).mean():.2f} px, longest {np.abs(flow).max():.2f} px")


if __name__ == "__main__":
    main()
