"""Where a method's errors lie: python -m benchmarks.error_maps --method "both default 4 min" --flow gt

Reads what benchmarks.quality left in its work folder. Prints, for every possible cause, the share of the truly visible
points that it touches, their error rate against that of all other points, and the share of all errors that it touches;
an error is a prediction further off than 4 pixels at 256 x 256. With --images: pictures of the dense error. Causes
overlap, so shares do not add up to 100.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from benchmarks.experiments import named_scene
from evaluation import report
from evaluation.ground_truth import read_npz
from evaluation.metrics import evaluated, share
from evaluation.predictions import RunTracks, TracksFile
from evaluation.scoring import metric_arguments
from flow.formats import flow_to_color
from loaders.data_dir import write_image
from util import UserError, command

ERROR_ABOVE = 4.0  # pixels at 256 x 256
NEAR = 3.0  # processed pixels: what counts as close to a boundary
SMALL = 0.02  # of the frame's area: what counts as a small object
FLAT = 6.0  # grey levels: standard deviation in a 7 x 7 window below which there is no texture


def scene_of(truth):
    """The scene that a truth named KIND-SEED was made from."""
    kind, seed = truth.name.rsplit("-", 1)
    return named_scene(kind, int(seed), truth.num_frames, *truth.video_size)


def causes_of(scene, truth):
    """{cause: (Q, N) bool}, possible reasons why a point of the truth may be hard to place in a frame."""
    frames = np.round(truth.query_points[:, 0]).astype(int)
    pixels = truth.query_points[:, [2, 1]] - 0.5
    positions = truth.target_points - 0.5
    edge = [distance_to_boundary(scene.layer_map(t)) for t in range(truth.num_frames)]
    near_query = np.array([look_up(edge[t], pixel) for t, pixel in zip(frames, pixels)]) < NEAR
    near_now = np.stack([look_up(edge[t], positions[:, t]) for t in range(truth.num_frames)], axis=1) < NEAR
    hidden_between = np.zeros(truth.occluded.shape, bool)
    outside_between = hidden_between.copy()
    outside = ~scene.inside(positions)
    for q, t in np.ndindex(truth.occluded.shape):
        between = slice(min(frames[q], t), max(frames[q], t) + 1)
        hidden_between[q, t] = (truth.occluded[q, between] & ~outside[q, between]).any()
        outside_between[q, t] = outside[q, between].any()
    layers = np.array([int(scene.top_layer(t, pixel[None])[0]) for t, pixel in zip(frames, pixels)])
    areas = np.array([[(scene.layer_map(t) == k).mean() for k in range(len(scene.layers))] for t in frames])
    size = np.array([scene.width, scene.height]) - 1
    border = (np.minimum(positions, size - positions) < NEAR).any(-1)
    distance = np.abs(np.arange(truth.num_frames)[None] - frames[:, None])
    everywhere = np.ones(truth.occluded.shape, bool)
    return {
        "at a motion boundary": near_query[:, None] | near_now,
        "hidden in between": hidden_between,
        "out of frame in between": outside_between,
        "at the frame's border": border,
        "on a small object": (areas[np.arange(len(layers)), layers] < SMALL)[:, None] & everywhere,
        "no texture": (texture(scene, frames, pixels) < FLAT)[:, None] & everywhere,
        "far in time (over half the video)": distance > truth.num_frames / 2,
        "on a moving object": np.array([scene.layers[k].foreground for k in layers])[:, None] & everywhere,
    }


def distance_to_boundary(layers):
    """(H, W) distance in pixels to the nearest pixel of another layer."""
    distance = np.full(layers.shape, np.inf, np.float32)
    for value in np.unique(layers):
        inside = layers == value
        if not inside.all():
            distance[inside] = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5)[inside]
    return distance


def look_up(values, pixels):
    """Values (H, W) at the nearest pixels to (..., 2)."""
    x, y = np.moveaxis(np.round(pixels).astype(int), -1, 0)
    return values[y.clip(0, values.shape[0] - 1), x.clip(0, values.shape[1] - 1)]


def texture(scene, frames, pixels):
    """(Q,) standard deviation of grey levels around each query."""
    found = np.empty(len(pixels))
    for frame in np.unique(frames):
        grey = scene.video[frame].mean(-1).astype(np.float32)
        spread = np.sqrt(np.maximum(cv2.blur(grey**2, (7, 7)) - cv2.blur(grey, (7, 7)) ** 2, 0))
        found[frames == frame] = look_up(spread, pixels[frames == frame])
    return found


def count_errors(truth, prediction):
    """(Q, N) bool: points that count, and those of them that are errors."""
    frames, true_tracks, occluded, tracks = metric_arguments(truth, prediction.tracks, truth.video_size)
    counted = evaluated(frames, truth.num_frames, "strided") & ~occluded
    return counted, counted & ~(np.linalg.norm(tracks - true_tracks, axis=-1) < ERROR_ABOVE)


def cause_rows(cases):
    """Rows (cause, share of points, error rate with, error rate without, share of the errors), most errors first."""
    rows = []
    for cause in cases[0][2]:
        counted, wrong, touched = (np.concatenate([part.ravel() for part in parts]) for parts in zip(
            *((counted, wrong, causes[cause]) for counted, wrong, causes in cases)))
        inside, others = counted & touched, counted & ~touched
        rows.append((
            cause,
            share(inside.sum(), counted.sum()),
            share((wrong & inside).sum(), inside.sum()),
            share((wrong & others).sum(), others.sum()),
            share((wrong & inside).sum(), wrong.sum()),
        ))
    return sorted(rows, key=lambda row: -np.nan_to_num(row[4]))


def error_picture(scene, run, source=0):
    """Rows of (frame, prediction, truth, error) towards frames a quarter, a half and all of the video away, uint8."""
    from networks import query

    rows = []
    for target in sorted({max(1, (scene.num_frames - 1) // 4), (scene.num_frames - 1) // 2, scene.num_frames - 1}):
        flow, _ = query.dense_flow(run.model, source, target)
        flow = flow.cpu().numpy()
        truth, visible = scene.flow(source, target)
        largest = float(np.linalg.norm(truth, axis=-1).max())
        error = np.linalg.norm(flow - truth, axis=-1)
        heat = cv2.applyColorMap((error.clip(0, 8) / 8 * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1].copy()
        heat[~visible] //= 3
        colours = [flow_to_color(field, largest) for field in (flow, truth)]
        rows.append(np.concatenate([scene.video[target], *colours, heat], axis=1))
    return np.concatenate(rows)


def run_name(method):
    """The name of the run behind a row of the table. UserError for rows of flow alone, which have none."""
    row, _, name = method.partition(" ")
    if row not in ("model", "both") or not name:
        raise UserError(f"--images draws a model's dense flow: --method 'model ...' or 'both ...', not {method!r}")
    return name


def parse_arguments(arguments):
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks.error_maps", description=__doc__, formatter_class=style)
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="work folder of benchmarks.quality")
    parser.add_argument("--method", required=True, help="a row of benchmarks.quality: flow, 'model ...', 'both ...'")
    parser.add_argument("--flow", default="gt", help="the method's input flow (default: gt)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="picture of each scene's dense error: frame, "
                        "predicted flow, true flow, error (black 0, bright 8 px and more; hidden points darker)")
    return parser.parse_args(arguments)


@command
def main(arguments=None):
    options = parse_arguments(arguments)
    folder = options.work / "tracks" / f"{options.flow}-{options.method}"
    cases = []
    for file in sorted(folder.glob("*.npz")):
        truth_file = options.work / "scenes" / file.stem / "ground_truth.npz"
        if not truth_file.exists():
            continue  # a real video
        truth = read_npz(truth_file, "strided", file.stem)
        scene = scene_of(truth)
        cases.append((*count_errors(truth, TracksFile(file).predict(truth)), causes_of(scene, truth)))
        if options.images:
            run = RunTracks(options.work / "runs" / run_name(options.method) / options.flow / file.stem).run
            write_image(options.images / f"{file.stem}.png", error_picture(scene, run))
    if not cases:
        raise UserError(f"{folder}: no tracks of scenes; run benchmarks.quality first, see --method")
    points, errors = (sum(int(case[k].sum()) for case in cases) for k in (0, 1))
    print(f"{options.method}, {options.flow} flow: {share(errors, points):.1f} % of {points} "
          f"visible points in {len(cases)} scenes are more than {ERROR_ABOVE:g} px off\n")
    header = ["cause", "% of the points", "error rate %", "of the others %", "% of the errors"]
    rows = [[cause, *(f"{value:.1f}" for value in values)] for cause, *values in cause_rows(cases)]
    print(report.markdown_table(header, rows))


if __name__ == "__main__":
    main()
