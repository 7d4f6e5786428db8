"""Score tracks against ground truth: TAP-Vid metrics (AJ, delta_avg, OA), temporal coherence, PCK, and mask J & F."""

import argparse
import sys
from pathlib import Path

import numpy as np

from evaluation import report, tapvid
from evaluation.baselines import BASELINES, CYCLE_THRESHOLD
from evaluation.ground_truth import read_truths
from evaluation.metrics import QUERY_MODES, evaluated, occlusion_curve
from evaluation.predictions import ROWS, RunTracks, TracksFile, open_baseline, with_size
from evaluation.published import TABLES, published_table
from evaluation.scoring import errors_by_distance, score
from loaders.tracks_layouts import parse_size
from tracking.sources import HIDDEN_ABOVE, check_threshold
from util import UserError, command, whole

OCCLUSION_THRESHOLDS = np.round(np.arange(0.05, 0.96, 0.05), 2).tolist()

EPILOG = """\
further commands (each has its own --help):
  python evaluate.py prepare tapvid_davis.pkl --out DIR         the official TAP-Vid files as folders of frames
  python run.py DIR --evaluate DIR --out results/               all of them through the pipeline, and the table

ground truths:
  FILE.npz      query_points (Q,3) t,y,x; target_points (Q,N,2) x,y; occluded (Q,N); video_size (H,W): pixels of the
                video, centres at +0.5. Without query_points they are sampled as TAP-Vid does, by --query_mode.
                hidden_positions_known (): whether target_points are right where occluded, too; object_ids (Q,) and
                object_names: for --by object
  FILE.pkl      TAP-Vid DAVIS, RGB-Stacking or a Kinetics shard; or a folder of such shards
  FOLDER        of prepared videos; or of mask images (DAVIS), for region J and boundary F
  FILE.json     BADJA joints, for PCK; give the object's masks with --masks

With several videos --run, --tracks and --data_dir name folders that hold an entry for each video: its name, its name
with .npz, or for prepared videos NAME/run and NAME/data. Errors are measured on a 256 x 256 image.
AJ_RD is AJ of the positions that are seen again after having been hidden since the query; hidden: the error at
positions that are hidden but inside the picture, for truths that know them."""


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        prog="evaluate.py", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--ground_truth", required=True, metavar="GT", help="file or folder, see below")
    add("--tracks", nargs="+", default=[], metavar="FILE",
        help="tracks to score: of track.py, CoTracker, TAPIR, TAPNext, or TAP-Vid predictions (npz)")
    add("--tracks_size", metavar="WxH",
        help="the size in whose pixels --tracks are that do not say so, such as 256x256 (default: the truth's)")
    add("--published", choices=TABLES, help="print the figures that others published below, marked as such")
    add("--run", nargs="+", default=[], metavar="OUT", help="output folders of train.py to score")
    add("--rows", default="", metavar="LIST",
        help="of each --run, any of model (alone), both (refined by flow), flow (that flow alone), a row for each; "
        "default: one row, as --refine says")
    add("--only", nargs="+", default=[], metavar="VIDEO", help="of a ground truth of several videos, only these")
    add("--baselines", default="", metavar="LIST",
        help=f"any of {','.join(BASELINES)}: flow is tracked by all stored pairs; direct, chained and mft use the flow "
        "as it was estimated where preprocessing kept it (--keep_direct), else the stored, chained flow")
    add("--data_dir", metavar="DIR",
        help="data directory of the runs and for the baselines (default: where training found it, that of the first "
        "--run); alone, the row flow is scored")
    add("--query_mode", choices=QUERY_MODES, default="strided",
        help="strided: every frame but the query's counts; first: those after it (default: strided)")
    add("--masks", metavar="DIR", help="folder of the object's mask images, for BADJA")
    add("--mask_stride", type=whole, metavar="PX", help="spacing of the points that carry a mask (default: about 5000)")
    add("--cycle_th", type=float, default=CYCLE_THRESHOLD, metavar="PX",
        help="forward-backward error above which a baseline's point is hidden (default: %(default)s)")
    add("--refine", default="auto", choices=["auto", "on", "off"],
        help="sharpen a run's tracks with its flow; auto: for surface models (default: auto)")
    add("--occlusion_th", type=float, default=HIDDEN_ABOVE, metavar="T",
        help="occlusion score above which a run's point is hidden (default: %(default)s)")
    add("--out", metavar="FILE", help="write the results: .md, .csv or .json")
    add("--per_track", action="store_true", help="with --out FILE.json: the figures of every track, too")
    add("--by", choices=["object", "time"],
        help="a further table: by object (if the ground truth has object_ids), or by frames from the query")
    add("--plot", metavar="DIR", help="write plots: thresholds, error over time from the query")
    add("--occlusion_curve", action="store_true",
        help="precision, recall and OA of `occluded` against its threshold, as a table (and a plot)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    options = parser.parse_args(arguments)
    check_options(options)
    return options


def check_options(options):
    """UserError for options that do not fit each other."""
    check_threshold(options.occlusion_th)
    options.baselines = listed("--baselines", options.baselines, BASELINES)
    options.rows = listed("--rows", options.rows, ROWS)
    if options.rows and not options.run:
        raise UserError("--rows: these are rows of a run: give --run OUT too")
    if options.rows and options.refine != "auto":
        raise UserError("--refine and --rows both say how a run is refined: give one of them")
    if options.data_dir and not (options.tracks or options.run or options.baselines):
        options.baselines = ["flow"]
    if not (options.tracks or options.run or options.baselines):
        raise UserError(f"nothing to score: give --tracks FILE, --run OUT or --baselines {','.join(BASELINES)}")
    if options.tracks_size:
        if not options.tracks:
            raise UserError("--tracks_size: acts on --tracks only, which is not given")
        options.tracks_size = parse_size(options.tracks_size)
    report.check_format(options.out)
    if options.per_track and not (options.out or "").endswith(".json"):
        raise UserError("--per_track: the figures of every track go to a .json file: give --out FILE.json")
    if options.mask_stride is not None and options.mask_stride < 1:
        raise UserError(f"--mask_stride {options.mask_stride}: expected at least 1")


def listed(option, text, names):
    """The names in a text of names separated by commas. UserError for one that is unknown."""
    found = [name for name in text.replace(" ", "").split(",") if name]
    for name in found:
        if name not in names:
            raise UserError(f"{option} {name}: expected any of {', '.join(names)}")
    return found


# ---------------------------------------------------------------- which prediction belongs to which video


def locate(path, video, kind, suffixes=("",)):
    """The entry of video `video` in the folder `path`, or `path` itself when it holds none."""
    for suffix in suffixes:
        for entry in (Path(path) / f"{video}{suffix}" / kind, Path(path) / f"{video}{suffix}"):
            if entry.exists():
                return entry
    return Path(path)


def predictors(options, video):
    """What to score on a video: predictors by name, and the errors of the baselines that cannot be had, by name.

    Equal names of different paths are told apart by their paths.
    """
    found, missing = {}, {}

    def add(predictor, path):
        found[predictor.name if predictor.name not in found else str(path)] = predictor

    for path in options.tracks:
        located = locate(path, video, "tracks.npz", (".npz", ""))
        predictor = TracksFile(located, options.tracks_size)
        predictor.name = Path(path).stem
        add(predictor, path)
    runs, data_dir = [], locate(options.data_dir, video, "data") if options.data_dir else None
    for path in options.run:
        located = locate(path, video, "run")
        predictor = RunTracks(located, data_dir, options.device, options.occlusion_th, refine=options.refine)
        predictor.name = Path(path).name
        runs.append(predictor.run)
        for kind in options.rows:
            add(predictor.row(kind), f"{path} {kind}")
        if not options.rows:
            add(predictor, path)
    data_dir = data_dir or (runs[0].data_dir if runs else None)
    for name in options.baselines:
        try:
            add(open_baseline(name, data_dir, options.cycle_th), name)
        except UserError as error:
            missing[name] = error
    return found, missing


# ---------------------------------------------------------------- scoring


def evaluate(options):
    """Score everything: results {video: {method: figures}}, errors and occlusion curves {method: ...} for the plots.

    A baseline that cannot be had on a video is left out of it, with a line that says why; UserError if nothing is left.
    """
    results, errors, scores = {}, {}, {}
    for truth in read_truths(options.ground_truth, options.query_mode, options.masks, options.mask_stride):
        if options.only and truth.name not in options.only:
            continue
        found, missing = predictors(options, truth.name)
        truth = with_size(truth, found.values()) if found else truth
        results[truth.name] = {}
        for name, predictor in found.items():
            try:
                prediction = predictor.predict(truth)
            except UserError as error:
                if name not in options.baselines:
                    raise
                missing[name] = error
                continue
            results[truth.name][name] = score(truth, prediction, options.query_mode, options.per_track)
            if truth.mask_images is None and truth.radius is None:
                errors.setdefault(name, []).append(errors_by_distance(truth, prediction, options.query_mode))
                if prediction.occlusion_score is not None:
                    frames = np.round(truth.query_points[:, 0])
                    counted = evaluated(frames, truth.num_frames, options.query_mode)
                    parts = prediction.occlusion_score[counted], truth.occluded[counted]
                    scores.setdefault(name, []).append(parts)
        if missing and not results[truth.name]:
            raise next(iter(missing.values()))
        for name, error in missing.items():
            print(f"{truth.name}: no row {name}: {error}", file=sys.stderr)
    if missing := set(options.only) - results.keys():
        raise UserError(f"--only {' '.join(sorted(missing))}: {options.ground_truth} has no video of that name")
    return results, errors, occlusion_curves(scores) if options.occlusion_curve else {}


def occlusion_curves(scores):
    """{method: occlusion_curve over all videos} from {method: [(scores, true occlusion), ...]}."""
    if not scores:
        raise UserError("--occlusion_curve: no scored tracks have occlusion scores (runs and track.py's files do)")
    curves = {}
    for name, parts in scores.items():
        values, truth = (np.concatenate(arrays) for arrays in zip(*parts))
        curves[name] = occlusion_curve(values, truth, np.ones(truth.shape, bool), OCCLUSION_THRESHOLDS)
    return curves


def by_table(results, kind):
    """--by's table. UserError when no ground truth tells the positions apart."""
    if not any(kind in figures.get("by", {}) for methods in results.values() for figures in methods.values()):
        needed = {"object": "has no object_ids and object_names", "time": "is not one of points"}[kind]
        raise UserError(f"--by {kind}: the ground truth {needed}")
    return report.parts_table(results, kind)


def print_curves(curves):
    for name, curve in curves.items():
        rows = [
            [threshold, *(report.format_value(key, curve[key][k]) for key in curve)]
            for k, threshold in enumerate(OCCLUSION_THRESHOLDS)
        ]
        best = OCCLUSION_THRESHOLDS[int(np.argmax(curve["OA"]))]
        print(f"\n{name}: `occluded` by threshold of its score; OA is highest at {best}\n")
        print(report.markdown_table(["threshold", *curve], rows))


@command
def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["prepare"]:
        return prepare(arguments[1:])
    options = parse_arguments(arguments)
    results, errors, curves = evaluate(options)
    print(report.results_table(results))
    if options.published:
        print("\n" + published_table(options.published))
    if options.by:
        print("\n" + by_table(results, options.by))
    print_curves(curves)
    if options.out:
        report.write_results(options.out, results, options.query_mode)
    if options.plot and errors:
        folder = Path(options.plot)
        report.plot_thresholds(folder / "thresholds.png", results)
        report.plot_errors(folder / "error_over_time.png", errors)
        if curves:
            report.plot_occlusion(folder / "occlusion.png", curves, OCCLUSION_THRESHOLDS)
    return None


def prepare(arguments):
    """evaluate.py prepare: the official files as folders."""
    parser = argparse.ArgumentParser(
        prog="evaluate.py prepare",
        description="Write TAP-Vid's videos as OUT/<video>/frames and ground_truth.npz. Those that are there are kept.",
    )
    parser.add_argument("source", help="tapvid_davis.pkl, tapvid_rgb_stacking.pkl, a folder of Kinetics shards, or the "
                        "Kinetics csv (with --videos)")
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--resolution", type=whole, default=256, help="side in pixels, 0: as it is (default: 256)")
    parser.add_argument("--videos", metavar="DIR", help="the mp4 files that a csv is about")
    options = parser.parse_args(arguments)
    if options.resolution < 0:
        raise UserError(f"--resolution {options.resolution}: expected pixels, or 0 to keep the size")
    folders = tapvid.prepare(options.source, options.out, options.resolution, options.videos)
    following = f"python run.py {options.out} --evaluate {options.out} --out results/"
    print(f"{len(folders)} videos in {options.out}; next: {following}")


if __name__ == "__main__":
    main()
