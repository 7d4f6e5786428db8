"""What each source of evidence adds: python -m benchmarks.evidence --kinds 3d-walker dog --rows none chained mask

Trackers, features and depth are simulated: the truth of a scene, made worse. On clips of DAVIS a tracker is stood in
for by RAFT-small's flow between neighbours, chained from queries in every fifth frame. Tracks of `flow`, and with
--steps of `both` (model and flow) and of the model alone, are scored without them and with them; so is a simulated
tracker itself, at its own points, beside ours there. Tracks of another video are to be refused. Flow that is in the
work folder is not computed again.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.experiments import (
    FLOW_OPTIONS,
    REAL_VIDEOS,
    SHARED,
    Method,
    mean_table,
    named_scene,
    publish,
    real_video,
    scene_video,
    score_baseline,
    score_run,
    train,
)
from benchmarks.simulated import OWN_SEED, POINTS, PlantedFeatures, simulated_tracks, write_depth
from evaluation.ground_truth import Truth, read_truths
from evaluation.predictions import TracksFile, open_baseline
from evaluation.scoring import score
from loaders.data_dir import read_image, write_image
from preprocess import build
from preprocess.trackers import queries_of
from util import UserError, atomic_path, command

COLUMNS = "AJ", "delta_avg", "OA", "AJ_RD", "PCK", "J", "F"
TRACKERS = {"10": {"outliers": 0.1}, "40": {"outliers": 0.4}, "astray": {"outliers": 0.6, "noise": 0.5, "wrong": 0.05},
            "blurred": {"outliers": 0.0, "noise": 4.0}, "dropped": {"outliers": 0.0, "dropped": 0.6}}  # row: its faults
SEVERAL = {"three": ("astray", "blurred", "dropped")}  # row: trackers with different failures, at once
PLANTED = {"features": 0.0, "features 20": 0.2, "features 50": 0.5}  # row: share of cells with a wrong one
DEPTHS = {"depth": 0.0, "depth 20": 0.2}  # row: share of blocks of 8 pixels whose order is upside down
SIMULATED = {*TRACKERS, *SEVERAL, *PLANTED, *DEPTHS}  # of scenes only
ROWS = ["nothing", "none", *TRACKERS, *SEVERAL, "chained", *PLANTED, *DEPTHS, "mask"]  # nothing: not even SIFT matches


def write_tracks_file(path, positions, visible, queries):
    """Tracks in TAPIR's layout -> path."""
    with atomic_path(path) as temporary:
        np.savez(temporary, tracks=positions, visibles=visible, query_points=queries)
    return path


def chained_tracks(work, video, step=16, every=5):
    """Positions (Q, N, 2), visible (Q, N), queries (Q, 3) of a grid in every few frames along neighbours' flow."""
    data = build(video.source, Path(work) / "data" / "neighbours" / video.name, max_side=video.max_side, fusion=False,
                 max_interval=1, chain=False, keep_direct=True, quiet=True, workers=1, **FLOW_OPTIONS["raft-small"])
    size = data.original_height, data.original_width
    step = step * max(size) // max(data.height, data.width)
    queries = queries_of(f"grid:{step}@every:{every}", data.num_frames, size)
    found = open_baseline("chained", data.path).predict(Truth("grid", queries, data.num_frames, video_size=size))
    return found.tracks, ~found.occluded, queries


def tracks_of_row(name, video, folder, work):
    """The files of tracks that a row of one source stands for."""
    if name == "chained":
        path = folder / f"{video.name} chained.npz"
        return [path if path.exists() else write_tracks_file(path, *chained_tracks(work, video))]
    return [write_tracks_file(folder / f"{video.name} {one}.npz", *simulated_tracks(video.scene, **TRACKERS[one]))
            for one in SEVERAL.get(name, (name,))]


def first_mask(video):
    """(H, W) uint8: the moving objects of the first frame."""
    if video.scene is not None:
        return video.scene.mask(0).astype(np.uint8)
    return (read_image(SHARED / "davis" / video.name / "masks" / "00000.png", grey=True) > 0).astype(np.uint8)


def evidence_of_row(row, video, work):
    """The options of preprocessing that a row of the table stands for: several sources are joined by '+'.

    UserError for simulated sources of a real clip.
    """
    folder, options = Path(work) / "trackers", {"tracks": [], "features": ["sift"]}
    for name in row.split("+"):
        if name in SIMULATED and video.scene is None:
            raise UserError(f"--rows {row}: {name} is made from the truth of a scene; {video.name} is a real clip")
        if name in TRACKERS or name in SEVERAL or name == "chained":
            options["tracks"] += tracks_of_row(name, video, folder, work)
        elif name == "nothing":
            options["features"] = ["none"]
        elif name in PLANTED:
            options["features"].append(PlantedFeatures(video.scene, wrong=PLANTED[name]))
        elif name in DEPTHS:
            options["depth"] = write_depth(folder / f"{video.name} {name}", video.scene, DEPTHS[name])
        elif name == "mask":
            options["layers"] = folder / f"{video.name} mask"
            write_image(options["layers"] / "00000.png", first_mask(video))
    return options


def row_of_table(text):
    """The row of --rows. argparse.ArgumentTypeError where it names no source."""
    if unknown := set(text.split("+")) - set(ROWS):
        raise argparse.ArgumentTypeError(f"'{unknown.pop()}': expected any of {', '.join(ROWS)}, joined by +")
    return text


def refusal(work, video, other):
    """What preprocessing says to the tracks of another scene: the line that refuses them, or 'taken'."""
    path = write_tracks_file(Path(work) / "trackers" / f"{video.name} is {other.name}.npz", *simulated_tracks(other))
    try:
        folder = Path(work) / "data" / "other" / video.name
        build(video.source, folder, flow="dis", quiet=True, workers=1, tracks=[path])
    except UserError as error:
        return str(error)
    return "taken"


def own_truth(work, video):
    """The truth at a tracker's own points."""
    path = Path(work) / "scenes" / video.name / "own.npz"
    with atomic_path(path) as temporary:
        np.savez(temporary, **video.scene.ground_truth(POINTS, seed=OWN_SEED))
    return next(iter(read_truths(path)))


def figures_of(name, video, data, run):
    """Figures {name of the tracks: {}} of flow's tracks and of a run's (None: of flow's alone)."""
    rows = {f"{name}: flow": score_baseline(video, "flow", data)}
    if run is not None:
        rows |= {f"{name}: both": score_run(video, run, data),
                 f"{name}: model": score_run(video, run, data, refine="off")}
    return rows


def video_of(kind, args):
    """A scene with the truth of its points, or a clip of DAVIS with all of its truth."""
    if kind in REAL_VIDEOS:
        return real_video(kind, max(args.size))
    video = scene_video(args.work, kind, args.seed, args.frames, *args.size)
    return replace(video, truths=[truth for truth in video.truths if truth.mask_images is None])


def measure(row, video, args):
    """Figures {name of the tracks: {}} of one row on one video."""
    given = evidence_of_row(row, video, args.work)
    data = build(video.source, Path(args.work) / "data" / row / video.name, max_side=video.max_side, keep_direct=True,
                 quiet=True, workers=1, **FLOW_OPTIONS[args.flow], **given)
    run = Path(args.work) / "runs" / row / video.name if args.steps or args.minutes else None
    if run is not None:
        length = ("--num_iters", args.steps) if args.steps else ()
        train(data.path, run, Method(row, "configs/default.txt", args.minutes, length))
    rows = figures_of(row, video, data, run)
    if given["tracks"] and video.scene is not None:
        own = replace(video, truths=[own_truth(args.work, video)])
        rows |= figures_of(f"{row}, at its own points", own, data, run)
        for path in given["tracks"]:
            rows[f"{path.stem.removeprefix(video.name + ' ')} itself there"] = score(
                own.truths[0], TracksFile(path).predict(own.truths[0]))
    return rows


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--kinds", nargs="+", default=["3d-walker", "3d-tumble"],
        help=f"scenes, or {' or '.join(REAL_VIDEOS)} of DAVIS, whole (default: %(default)s)")
    add("--seed", type=int, default=2, help="of the scenes (default: %(default)s)")
    add("--frames", type=int, default=12, help="their length (default: %(default)s)")
    add("--size", type=int, nargs=2, default=(96, 128), metavar=("H", "W"), help="of scenes; clips get its longer side "
        "(default: 96 128)")
    add("--rows", nargs="+", type=row_of_table, default=["none", *TRACKERS], metavar="ROW",
        help=f"any of {', '.join(ROWS)}, or several at once: 10+sift. Tracks by their share of gross outliers, "
        "features by that of wrong cells, depth by that of wrong blocks, in percent; the first frame's mask "
        "(default: %(default)s)")
    add("--steps", type=int, default=0, help="of training (default: no model, and flow alone is scored)")
    add("--minutes", type=float, default=0, help="of training, in place of --steps")
    add("--flow", choices=FLOW_OPTIONS, default="dis", help="(default: %(default)s)")
    add("--work", default="runs/evidence", metavar="DIR", help="(default: %(default)s)")
    add("--out", metavar="FILE", help="where the table goes (default: the work folder)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    groups, notes = {}, []
    for kind in args.kinds:
        video = video_of(kind, args)
        for row in args.rows:
            groups |= {(video.name, name): [figures] for name, figures in measure(row, video, args).items()}
            print(mean_table(["scene", "evidence"], groups, COLUMNS), flush=True)
        if set(args.rows) & TRACKERS.keys():
            other = named_scene("3d-balls", args.seed + 1, args.frames, *args.size)
            notes.append(f"{video.name}, tracks of {other.name}: {refusal(args.work, video, other)}")
    table = mean_table(["scene", "evidence"], groups, COLUMNS)
    publish(args.out or Path(args.work) / "table.md", "\n".join([table, "", *notes, ""]))


if __name__ == "__main__":
    main()
