"""What masks as layers add: python -m benchmarks.layers --kinds 3d-walker --seed 2 --davis DIR/dog

Clips with true masks, scaled down, are preprocessed without layers, with the first mask as a layer, and with all masks.
J and F, as DAVIS has them, of the layers themselves (without: the first mask looked up along flow back to it), and of
the first mask carried by tracks of flow. With --steps a surface is fitted to all there is, and one to the object alone
(train.py --layer 1), with all masks given: AJ and delta of the scenes' points on the object, of model and flow, and of
the model alone. Nothing is computed again that is in the work folder.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.experiments import Method, Video, named_scene, score_baseline, score_run, train
from evaluation.ground_truth import Truth
from evaluation.masks import boundary_f, mask_metrics, query_grid, region_j
from evaluation.report import markdown_table
from flow.images import sample_along
from loaders.data_dir import read_image, write_image
from preprocess import build
from tracking.sources import open_flow, track_queries
from util import command

GIVEN = {"none": lambda count: [], "first": lambda count: [0], "all": range}  # row: frames whose masks are given


def scene_clip(kind, options):
    """Name, frames (N, H, W, 3), true masks (N, H, W) of a scene."""
    scene = named_scene(kind, options.seed, options.frames, *options.size)
    return f"{kind} {options.seed}", scene.video, np.stack([scene.mask(k) for k in range(options.frames)])


def davis_clip(folder, options):
    """The same of a clip of DAVIS, scaled down."""
    frames = [read_image(path) for path in sorted((folder / "frames").iterdir())[: options.frames]]
    masks = [read_image(path, grey=True) for path in sorted((folder / "masks").iterdir())[: options.frames]]
    scale = options.max_side / max(frames[0].shape)
    size = tuple(round(side * scale) for side in frames[0].shape[1::-1])
    frames, masks = ([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images] for images in
                     (frames, [np.float32(mask > 0) for mask in masks]))
    return folder.name, np.stack(frames), np.stack(masks) > 0.5


def scores(data, masks):
    """J and F of the layers, or of the first mask looked up, and of the first mask carried by tracks of flow."""
    if data.layers(0) is not None:
        found = [data.layers(k)[0] == 1 for k in range(len(masks))]
    else:
        first = masks[0].astype(np.float32)
        found = [masks[0], *(sample_along(data.flow(k, 0, direct=True), first) > 0.5 for k in range(1, len(masks)))]
    inner = range(1, len(masks) - 1)
    of_layers = [np.mean([measure(masks[k], found[k]) for k in inner]) for measure in (region_j, boundary_f)]
    tracks = track_queries(open_flow(data.path), query_grid(masks.shape[1:], 2))
    carried = mask_metrics(masks, tracks.tracks, tracks.occluded)
    return [*of_layers, carried["J"], carried["F"]]


def object_points(scene, count=256):
    """The Video of a scene with the truth of those of its points that are queried on the object."""
    truth = scene.ground_truth(count)
    t, y, x = truth["query_points"].astype(int).T
    on_it = np.array([scene.mask(frame)[row, column] for frame, row, column in zip(t, y, x)])
    return Video(scene.name, scene.video, [Truth(
        "object", truth["query_points"][on_it], scene.num_frames, tuple(truth["video_size"]),
        truth["target_points"][on_it], truth["occluded"][on_it])], scene)


def fitted(scene, data, options):
    """Rows [what is fitted, AJ and delta of model and flow, and of the model alone] on the object's points."""
    video, rows = object_points(scene), []
    for name, layer in (("flow alone", None), ("all there is", ()), ("the object", ("--layer", 1))):
        if layer is None:
            found = [score_baseline(video, "flow", data)]
        else:
            run = options.work / "runs" / f"{scene.name} {name} {options.steps}"
            train(data.path, run, Method(name, "configs/default.txt", 0, ("--num_iters", options.steps, *layer)))
            found = [score_run(video, run, data, refine=refine) for refine in ("on", "off")]
        rows.append([scene.name, name, *(f"{figures[key]:.1f}" for figures in found for key in ("AJ", "delta_avg"))])
        print(" | ".join(rows[-1]), flush=True)
    return [row + [""] * (6 - len(row)) for row in rows]


@command
def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--kinds", nargs="*", default=[], help="scenes")
    add("--seed", type=int, default=2, help="of the scenes (default: %(default)s)")
    add("--davis", nargs="*", type=Path, default=[], metavar="DIR", help="clips with frames/ and masks/")
    add("--frames", type=int, default=12, help="the first (default: %(default)s)")
    add("--size", type=int, nargs=2, default=(96, 128), metavar=("H", "W"), help="of scenes (default: 96 128)")
    add("--max_side", type=int, default=128, help="of clips (default: %(default)s)")
    add("--rows", nargs="+", choices=GIVEN, default=list(GIVEN), help="which masks are given (default: none first all)")
    add("--steps", type=int, default=0, help="of fitting surfaces to scenes (default: none is fitted)")
    add("--work", type=Path, default=Path("runs/layers"), metavar="DIR", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    clips = [(scene_clip, kind) for kind in options.kinds] + [(davis_clip, folder) for folder in options.davis]
    rows, fits = [], []
    for read, which in clips:
        name, frames, masks = read(which, options)
        for row in options.rows:
            given = GIVEN[row](len(frames))
            folder = options.work / "masks" / f"{name} {row}"
            for k in given:
                write_image(folder / f"{k:05d}.png", masks[k].astype(np.uint8))
            data = build(frames, options.work / "data" / row / name, flow="dis", keep_direct=True, quiet=True,
                         workers=1, layers=folder if given else None)
            rows.append([name, row, *(f"{score:.1f}" for score in scores(data, masks))])
            print(" | ".join(rows[-1]), flush=True)
            if options.steps and row == "all" and read is scene_clip:
                fits += fitted(named_scene(which, options.seed, options.frames, *options.size), data, options)
    print(markdown_table(["clip", "given", "J, layers", "F", "J, tracks", "F"], rows))
    if fits:
        print(markdown_table(["scene", "fitted to", "AJ, both", "delta", "AJ, model", "delta"], fits))


if __name__ == "__main__":
    main()
