"""From videos to tracks in one command: preprocess, train, track, draw; one video or many, here or on a cluster."""

import argparse
import contextlib
import shlex
import shutil
import sys
from pathlib import Path

import train
import viz
from evaluation import report
from evaluation.ground_truth import read_truths
from evaluation.metrics import QUERY_MODES
from exports.formats import FORMATS
from pipeline import engine, plan, resources, status
from pipeline.board import Board
from pipeline.executors import BySubmitit, InProcess, OnRay
from preprocess.__main__ import make_parser as preprocess_parser
from preprocess.report import gigabytes
from util import UserError, command

EPILOG = """examples:
  python run.py my.mp4 --out results/                                  one video
  python run.py videos/ list.txt 'clips/*.mp4' --out results/          many, one after the other
  python run.py videos/ --out results/ --ray local                     beside one another, on all cores of this machine
  python run.py videos/ --out results/ --ray auto                      on the Ray cluster that this machine is part of
  python run.py videos/ --out results/ --slurm --partition gpu --gpus 1
  python run.py davis/ --evaluate davis/ --out results/                what `evaluate.py prepare` wrote, with its table

results/NAME/ holds data/, run/, tracks.npz, videos/, page.html, log.txt and status.json; results/index.html is the
overview, also while it runs. The same command goes on after any interruption, takes up new videos, and does again only
what depends on a changed setting. A video that cannot be done stops no other. Clusters and costs: docs/cluster.md."""
WHAT = (*viz.KINDS, "page")


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("videos", nargs="+", metavar="VIDEO", help="a video file, a folder of frames, a folder of either, a list of "
        "them (.txt, one a line), or a pattern in quotes")
    add("--out", required=True, metavar="DIR", help="a new folder, or earlier results")
    add("--keep", choices=plan.KEEP, default="all", help="of each video that is done: tracks (and what was drawn), run "
        "(with the fitted model), or all (with its data directory, which is large) [all]")
    add("--retries", type=count, default=1, metavar="N", help="times that what failed is tried again, with less memory "
        "where that was short; never what would fail again [1]")
    what = parser.add_argument_group("what to make")
    add = what.add_argument
    add("--config", default="configs/default.txt", metavar="FILE", help="preset of train.py [configs/default.txt]")
    add("--max_minutes", type=float, metavar="M", help="train each video for so long")
    add("--preprocess_args", default="", metavar="'...'", help="further options of python -m preprocess")
    add("--train_args", default="", metavar="'...'", help="further options of train.py")
    add("--queries", nargs="+", default=[], metavar="QUERIES", help="what to track (see track.py), for all videos; "
        "NAME=QUERIES: for that one; a folder: its NAME.npz, where there is one [grid]")
    add("--what", metavar="LIST", help=f"what to draw, any of {','.join(WHAT)}, or none; tracks.npz is always written "
        "[tracks,trails and, where there is the viewer, page]")
    add("--export", default="", metavar="LIST", help="formats of export.py, into exports/")
    add("--evaluate", metavar="GT", help="ground truth of evaluate.py, by the videos' names: a table over all of them")
    add("--query_mode", choices=QUERY_MODES, default="strided", help="of --evaluate [strided]")
    where = parser.add_argument_group("where")
    add = where.add_argument
    add("--ray", metavar="ADDRESS", help="on Ray: local (this machine), auto (the cluster it is part of) or HOST:PORT")
    add("--slurm", nargs="?", const="slurm", choices=["slurm", "local"], help="on SLURM, by submitit; local: the same "
        "as processes of this machine, to try it")
    add("--partition", metavar="P", help="of SLURM")
    add("--job_minutes", type=count, metavar="M", help="time limit of a SLURM job, which is queued again at it [240]")
    add("--gpus", type=count, metavar="N", help="GPUs of a SLURM job; Ray knows how many there are [0]")
    add("--scratch", metavar="DIR", help="data directories go here, on the machine that does a video, and are deleted")
    return parser.parse_args(argv)


def count(text):
    """A whole number from 0 on, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return int(text)


# From options to settings


def settings_of(args):
    """The plan's Settings. UserError for what the commands would refuse, as far as it can be known now."""
    for name in ("partition", "job_minutes", "gpus"):
        if getattr(args, name) is not None and args.slurm is None:
            raise UserError(f"--{name} acts on --slurm: give that too, or leave it out")
    if args.ray is not None and args.slurm is not None:
        raise UserError("--ray and --slurm: expected one of them")
    config, preprocess_args = str(preset(args.config)), shlex.split(args.preprocess_args)
    train_args = shlex.split(args.train_args)
    train_args += [] if args.max_minutes is None else ["--max_minutes", f"{args.max_minutes:g}"]
    train.parse(["--config", config, "--data_dir", "d", "--out_dir", "o", *train_args])
    what, page = drawings(args.what)
    truth = str(Path(args.evaluate).resolve()) if args.evaluate else None
    return plan.Settings(
        config=config, preprocess_args=tuple(preprocess_args), train_args=tuple(train_args),
        shape=shape_of(preprocess_args), queries=queries_of(args.queries), what=what, page=page,
        export=suffixes(args.export), truth=truth, query_mode=args.query_mode, keep=args.keep,
        truths=frozenset(one.name for one in read_truths(truth, args.query_mode)) if truth else frozenset(),
        scratch=str(Path(args.scratch).resolve()) if args.scratch else None,
    )


def preset(text):
    """The path of --config; also of a preset of this project, from anywhere."""
    return Path(text).resolve() if Path(text).exists() else plan.ROOT / text


def shape_of(preprocess_args):
    """What the options of preprocessing say of sizes and the device. UserError for options that it has not."""
    parser = preprocess_parser()
    parser.error = lambda message: refuse(f"--preprocess_args: {message}")
    parsed = parser.parse_args(["input", "--data_dir", "d", *preprocess_args])
    if parsed.cuts == "split":
        raise UserError("--preprocess_args: --cuts split makes several data directories of a video; split it before")
    own = [name for name in ("masks", "layers", "tracks", "correspondences", "flow_files") if getattr(parsed, name)]
    depth = Path(parsed.depth or "none")
    own += ["depth"] if depth.is_dir() and not (depth / "config.json").exists() else []  # maps, and no network
    sizes = {name: getattr(parsed, name) for name in ("max_side", "start", "end", "max_interval")}
    return sizes | {"of_one_video": own, "on_cpu": parsed.device == "cpu"}


def refuse(message):
    raise UserError(message)


def drawings(text):
    """--what -> (kinds for viz.py, whether the viewer's page is wanted)."""
    names = ["tracks", "trails", "page"] if text is None else listed(text)
    names = [] if names == ["none"] else names
    for name in names:
        if name not in WHAT:
            raise UserError(f"--what {name}: expected some of {', '.join(WHAT)}, or none")
    return tuple(name for name in viz.KINDS if name in names), "page" in names


def listed(text):
    return [name.strip() for name in text.split(",") if name.strip()]


def suffixes(text):
    """--export -> {format: suffix}. UserError for one that export.py has not."""
    names = listed(text)
    for name in names:
        if name not in FORMATS:
            raise UserError(f"--export {name}: expected some of {', '.join(FORMATS)}")
    return {name: FORMATS[name].suffix for name in names}


def queries_of(texts):
    """--queries -> {name: QUERIES}, "" for all others. Files by their absolute path."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if Path(text).is_dir():
            found |= {path.stem: str(path.resolve()) for path in sorted(Path(text).glob("*.npz"))}
            continue
        name, value = (name, value) if equals else ("", text)
        if name in found and not name:
            raise UserError(f"--queries {found[name]} and {value}: expected one for all; name the others: NAME=...")
        found[name] = str(Path(value).resolve()) if value.lower().endswith(".npz") else value
        if value.lower().endswith(".npz") and not Path(value).is_file():
            raise UserError(f"--queries {text}: no such file")
    return found


# Doing it


def open_executor(args):
    if args.ray is not None:
        return OnRay(args.ray, args.retries)
    if args.slurm is not None:
        return BySubmitit(args.out, args.slurm, args.partition, args.job_minutes or 240, args.gpus or 0)
    return InProcess()


def tell_sizes(plans, settings, out):
    """Say how much there is to do and how much disk it takes. UserError when it will not fit."""
    undone = [one for one in plans if plan.left(one)]
    shape = {key: settings.shape[key] for key in ("max_side", "start", "end")}
    sizes = [resources.as_processed(one.video.size, **shape) for one in undone if one.video.size]
    needed = [resources.disk(size, settings.shape["max_interval"]) for size in sizes]
    frames = sum(size[0] for size in sizes)
    unknown = f" ({len(undone) - len(sizes)} do not tell their size)" if len(undone) > len(sizes) else ""
    print(f"{len(plans)} videos, {len(undone)} of them to do{unknown}: {frames} frames")
    if not sizes:
        return
    free = shutil.disk_usage(out).free
    kept = settings.keep == "all" and not settings.scratch
    together = f", {gigabytes(sum(needed))} together" if kept else ", deleted when a video is done"
    print(f"data directories: up to {gigabytes(max(needed))} each{together}; {gigabytes(free)} are free", flush=True)
    if kept and sum(needed) > free:
        raise UserError(f"--out {out}: the data directories need up to {gigabytes(sum(needed))}, {gigabytes(free)} are "
                        "free: --keep run deletes each when its video is done; or lower --max_side (--preprocess_args)")


def scores(plans):
    """{video: {method: figures}} of all that were scored."""
    found = {}
    for one in plans:
        for figures in status.read_json(Path(one.folder) / "score.json").get("videos", {}).values():
            found[one.name] = {method: {name: float("nan") if value is None else value for name, value in row.items()}
                               for method, row in figures.items()}
    return found


def tell_scores(plans, settings, out):
    """Print the table over all videos, and write it to OUT/scores.md and scores.json."""
    results = scores(plans)
    if not results:
        raise UserError(f"--evaluate {settings.truth}: knows none of these videos; it has "
                        f"{', '.join(sorted(settings.truths)[:5])}")
    print("\n" + report.results_table(results))
    for name in ("scores.md", "scores.json"):
        report.write_results(out / name, results, settings.query_mode)


@contextlib.contextmanager
def sole(out):
    """Hold the results for this process. UserError when another has them."""
    out.mkdir(parents=True, exist_ok=True)
    with status.locked(out, wait=False) as held:
        if not held:
            raise UserError(f"--out {out}: in use by another run.py; wait for it or stop it")
        yield


def do(plans, args, out):
    """All of the plans on the executor that the options name -> {name: reason} of those that failed."""
    executor = open_executor(args)
    try:
        with Board(out, [one.name for one in plans]) as board:
            engine.carry_out_all(plans, executor, args.retries, board.settled)
    finally:
        executor.close()
        for one in plans if not executor.goes_on else ():
            if status.read(one.folder)["state"] == "running":  # interrupted
                status.update(one.folder, state="waiting")
    return board.failed


@command
def main(argv=None):
    args = parse_arguments(argv)
    settings, out = settings_of(args), Path(args.out).resolve()
    plan.read_earlier(out)
    with sole(out):
        plans = plan.make_plan(args.videos, out, settings)
        tell_sizes(plans, settings, out)
        failed = do(plans, args, out)
        print(f"{len(plans) - len(failed)} of {len(plans)} videos are done: {out / 'index.html'}")
        if settings.truth:
            tell_scores(plans, settings, out)
    if failed:
        print(f"failed ({len(failed)}):", file=sys.stderr)
        for name, reason in failed.items():
            print(f"  {name}: {reason}; {Path(args.out) / name / 'log.txt'}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
