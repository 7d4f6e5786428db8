"""The stages of preprocessing, in order, each resumable: frames and masks -> flow -> filter -> chain -> counts.

A stage writes one file per source frame; a file that is there is complete (see loaders.data_dir), so progress is kept
whatever interrupts it. The manifest records the settings each stage was done with; where they differ from what is asked
for, that stage and those after it are done again. Direct flow is deleted frame by frame as the chained flow appears.
"""

import contextlib
import io
import json
import shlex
import sys
import time
from dataclasses import asdict, dataclass, replace

import numpy as np

from flow.appearance import Appearance, make_appearance
from flow.candidates import FlowFiles, FusedFlow
from flow.estimators import DisFlow, describe, make_estimator, make_walk
from flow.layers import LayerSettings
from flow.raft_weights import download_large, load_raft
from loaders.data_dir import DataDir
from preprocess import filter as filtering
from preprocess.costs import check_free_disk, tell_time
from preprocess.cuts import find_cuts, refuse, shots_of
from preprocess.depth import depth_source, refresh_depth
from preprocess.evidence import gather, given
from preprocess.features import DEFAULT_FEATURES
from preprocess.frames import FrameOptions, open_source
from preprocess.intake import locked, prepare_frames
from preprocess.labels import GivenLayers, read_layers
from preprocess.pairs import ALL_PAIRS, choose_pairs, describe_rule
from preprocess.report import Progress, changes, gigabytes
from preprocess.stages import (
    FOLDERS,
    FrameList,
    FrameWork,
    carry_layers,
    chain_flow,
    count_valid,
    estimate_flow,
    filter_flow,
    open_work,
)
from preprocess.verify import remove_damaged
from preprocess.workers import Workers, available_memory, one_thread, usable_cores
from util import BoundedCache, UserError, pick_device, source_hash

BY_CHANCE = 0.35  # of the pixels are valid between adjacent frames of noise, blobs, and pictures of different scenes
SUSPICIOUS_VALID = 0.5  # scenes and videos have at least 0.67
WORKER_MEMORY = 1.5e9  # bytes that one may take, at 854 x 480
WORTH_SHARING = 2 * 10**6  # pixels of all pairs: 10 to 20 seconds of one core
CHECKED = ("adjacent", "flow", "layers", "valid_direct", "flow_chained", "valid", "counts")  # what may be kept
AS_IT_IS = "raft", "files"  # methods whose flow of hidden pixels is that of what hides them


@dataclass(frozen=True)
class Plan:
    """What is asked of the stages after the frames, but which flow."""

    partners: list  # of each source frame
    rule: str  # that chose them, in words
    appearance: Appearance
    cycle_threshold: float  # pixels
    max_direct: int  # frames
    chain: bool
    keep_direct: bool
    workers: int  # processes
    layers: GivenLayers | None = None


def build(
    source, data_dir, *, flow="auto", raft_weights=None, iterations=20, flow_files=None, fusion=True,
    tracks=(), tracks_convention=None, tracks_size=None, correspondences=None, features=None, depth=None,
    max_side=None, fps=None, start=None, end=None, masks=None, layers=None, chain=True,
    cycle_threshold=filtering.CYCLE_THRESHOLD, max_direct=None, appearance="census", dino_weights=None,
    max_interval=None, keep_direct=False, device="auto", workers=None, cuts="refuse", overwrite=False, quiet=False,
):
    """Preprocess `source` (folder of frames, video file, or uint8 array (N, H, W, 3)) into `data_dir` -> DataDir.

    flow: 'auto', 'raft', 'dis', or an estimator (see flow.estimator), whose flow is not fused with any other. features:
    as of --features; None: its default, but none beside flow that is not fused. The other arguments are the options of
    `python -m preprocess`. An earlier, interrupted call with the same arguments is continued. A list of DataDirs where
    cuts is 'split' and there are some. UserError: anything wrong with the arguments or the input.
    """
    asked = {name: value for name, value in locals().items() if name not in ("source", "data_dir", "start", "end")}
    began, bar, device = time.monotonic(), Progress(quiet), pick_device(device)
    check_options(flow, raft_weights, cycle_threshold, max_interval, max_direct, iterations, workers, cuts)
    check_fusion(flow, flow_files, fusion)
    files = FlowFiles(flow_files) if flow_files is not None else None
    if features is None:
        features = DEFAULT_FEATURES if isinstance(flow, str) and fusion else ()
    sources = given(tracks, correspondences, tracks_convention, tracks_size, features, device, bar)
    maps = depth_source(depth, device)
    options, opened = FrameOptions(max_side, fps, start, end), open_source(source)
    descriptor = make_appearance(appearance, device, dino_weights, raft_weights)
    with locked(data_dir) as path, contextlib.redirect_stdout(io.StringIO() if quiet else sys.stdout):
        data = prepare_frames(path, opened, options, masks, overwrite, bar)
        found = shots(data, cuts, bar)
        if len(found) > 1:
            check_one_shot(sources, layers)
            return [build(source, path / f"shot_{k:03d}", start=(start or 0) + first, end=(start or 0) + end, **asked)
                    for k, (first, end) in enumerate(found)]
        partners, rule = choose_pairs(data.num_frames, max_interval), describe_rule(data.num_frames, max_interval)
        bar.write(f"pairs: {sum(map(len, partners))} of {data.num_frames} frames ({rule})")
        refresh_depth(data, maps, options, bar)
        given_layers = read_layers(layers, data) if layers is not None else None
        workers = workers or default_workers(data, partners)
        hints = gather(data, sources, partners, workers, bar.write)
        estimator = make_flow(data, hints, flow=flow, raft_weights=raft_weights, iterations=iterations, files=files,
                              fusion=fusion, device=device, num_pairs=sum(map(len, partners)))
        if given_layers is not None and isinstance(estimator, (DisFlow, FusedFlow)):
            estimator.take_layers(given_layers)
        plan = Plan(partners, rule, descriptor, cycle_threshold, max_direct=max_direct or data.num_frames,
                    chain=bool(chain), keep_direct=keep_direct, workers=workers, layers=given_layers)
        do_stages(data, estimator, plan, device, bar)
        summarise(data, time.monotonic() - began, bar)
    return DataDir.open(path)


def do_stages(data, estimator, plan, device, bar):
    """Record the settings of all stages after the frames, discard what was done with others, and do what is left."""
    discard_stale(data, settings_of_stages(estimator, plan), bar)
    data.manifest.update(partners=plan.partners, chained=plan.chain)
    data.save_manifest()
    remove_damaged(data, CHECKED, bar)
    todo = unfinished_frames(data, plan)
    check_free_disk(data, todo, plan.keep_direct, bar)
    tell_time(data, estimator, todo["flow"], plan.workers, device, bar)
    run_stages(data, todo, estimator, plan, device, bar)


def settings_of_stages(estimator, plan):
    """What each stage is done with, as the manifest records it."""
    return {
        "flow": {**estimator.description, "pairs": plan.rule},
        "filter": {"cycle_threshold": plan.cycle_threshold, "max_direct": plan.max_direct,
                   "appearance": plan.appearance.description, **layers_settings(plan)},
        "chain": {"chain": plan.chain,
                  "untrusted": "chained" if estimator.description["method"] in AS_IT_IS else "direct",
                  **({} if plan.rule == ALL_PAIRS else {"along": "partners"})},
        "counts": {},
    }


def layers_settings(plan):
    """What the filter's settings say of layers, nothing where there are none."""
    if plan.layers is None:
        return {}
    return {"layers": {**plan.layers.description, **asdict(LayerSettings()),
                       "code": source_hash("flow.images", "flow.layers", "flow.rims", "preprocess.labels")}}


def check_options(flow, raft_weights, cycle_threshold, max_interval, max_direct, iterations, workers, cuts):
    """UserError for what can be known to be wrong before anything is written."""
    if flow == "raft" or raft_weights is not None:
        load_raft(raft_weights or download_large())
    elif isinstance(flow, str) and flow not in ("auto", "dis"):
        raise UserError(f"--flow {flow}: expected auto, raft or dis")
    if not 0.01 <= cycle_threshold < 1000:
        raise UserError(f"--cycle_th {cycle_threshold:g}: expected pixels from 0.01 on and below 1000")
    if cuts not in ("refuse", "ignore", "split"):
        raise UserError(f"--cuts {cuts}: expected refuse, ignore or split")
    for name, value, what in (("max_interval", max_interval, "1 frame"), ("max_direct", max_direct, "1 frame"),
                              ("workers", workers, "1 process")):
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: expected at least {what}")
    if iterations < 1:
        raise UserError(f"--iters {iterations}: expected at least 1")


def check_fusion(flow, flow_files, fusion):
    """UserError where flow cannot be kept as it is."""
    if fusion or not isinstance(flow, str):
        return
    named = [f"--flow {flow}"] if flow != "auto" else []
    named += ["--flow_files"] if flow_files is not None else []
    if named not in (["--flow raft"], ["--flow_files"]):
        got = " and ".join(named) or "neither"
        raise UserError(f"--no_fusion: keeps flow as it is: expected one of --flow raft and --flow_files, got {got}")


# What is to be done


def shots(data, cuts, bar):
    """[(first frame, frame after the last)] of the shots to be done apart; UserError where cuts are to be refused."""
    if cuts == "ignore":
        data.manifest.pop("shots", None)
        return [(0, data.num_frames)]
    if "cuts" not in data.manifest:
        with bar.steps("cuts", data.num_frames - 1) as advance:
            frames = FrameList(data, BoundedCache(data.frame, most=0))
            data.manifest["cuts"] = find_cuts(frames, advance)
        data.save_manifest()
    found = data.manifest["cuts"]
    if found and cuts == "refuse":
        refuse(found, data.num_frames)
    every = shots_of(found, data.num_frames)
    if found:
        data.manifest["shots"] = every
        data.save_manifest()
    for first, end in every:
        if end - first < 2:
            raise UserError(f"--cuts split: frame {first} is a shot of its own; expected at least 2 frames in each "
                            "(--start, --end, or --cuts ignore)")
    return every


def check_one_shot(sources, layers=None):
    """UserError where there is evidence of a video that is to be split: its frames are those of the whole."""
    names = [source.name for source in sources if source.of_whole_video] + ([str(layers)] if layers is not None else [])
    if names:
        raise UserError(f"--cuts split: evidence ({', '.join(names)}) is of one shot; preprocess each by --start and "
                        "--end with evidence of its own")


def make_flow(data, hints, *, flow, raft_weights, iterations, files, fusion, device, num_pairs):
    """The flow estimator: of what `flow` names, flow files and `hints` {name: estimator}.

    They are candidates of the walk; fusion False: one of them as it is.
    """
    if not isinstance(flow, str):
        return flow
    if files is not None and not fusion:
        return files
    estimator = requested_estimator(data, flow, raft_weights, iterations, device, num_pairs)
    sources = {"raft": estimator} if estimator.description["method"] != "dis" else {}
    sources |= {"files": files} if files is not None else {}
    sources |= hints
    if not sources or not fusion:
        return estimator
    reasons = dict.fromkeys(source.reason for source in sources.values())
    print(f"flow: walked DIS with {' and '.join(reasons)} as candidates")
    return FusedFlow(sources, estimator.reason, make_walk(device))


def requested_estimator(data, flow, raft_weights, iterations, device, num_pairs):
    """What `flow` names. A continued `auto` does not measure and choose anew: it might change its mind half-way."""
    requested = {"flow": flow, "raft_weights": raft_weights and str(raft_weights), "iterations": iterations}
    earlier = data.manifest.get("requested_flow", {})
    chosen = earlier.get("chosen") if earlier == {**requested, "chosen": earlier.get("chosen")} else None
    if flow == "auto" and chosen == "dis":
        estimator = make_walk(device, "as chosen before")
        print(f"flow: {describe(estimator)} ({estimator.reason})")
    else:  # again, where it was chosen before, without measuring whether RAFT is fast enough
        image_size = None if flow == "auto" and chosen else (data.height, data.width)
        estimator = make_estimator(flow, raft_weights, iterations, str(device), image_size, num_pairs)
    data.manifest["requested_flow"] = {**requested, "chosen": estimator.description["method"]}
    return estimator


def discard_stale(data, settings, bar):
    """Delete the files of stages that were done with other settings, and of all stages after them.

    The manifest disowns the files before they are deleted, so that an interruption cannot make them look valid.
    """
    recorded, names = data.manifest["settings"], list(FOLDERS)
    wanted = json.loads(json.dumps({name: settings[name] for name in names}))  # as it will be read back
    first = next((k for k, name in enumerate(names) if recorded.get(name) != wanted[name]), len(names))
    stale = names[first:]
    if stale and recorded.get(stale[0]) is not None:
        bar.write(f"{stale[0]}: done again ({changes(recorded[stale[0]], wanted[stale[0]])}), and all stages after")
    for name in stale:
        recorded.pop(name, None)
    data.manifest["finished"] = [name for name in data.manifest["finished"] if name not in stale]
    data.save_manifest()
    for name in stale:
        for folder in FOLDERS[name]:
            data.remove(folder)
    recorded.update(wanted)
    data.save_manifest()


def unfinished_frames(data, plan):
    """Source frames that the flow, filter and chain stages still have to do: a dict of lists.

    Once a frame is chained its direct flow and masks are needed no more, unless they are to be kept.
    """

    def missing(*folders):
        return [i for i in range(data.num_frames) if not all(data.has(folder, i) for folder in folders)]

    keep = plan.keep_direct or not plan.chain
    chain = missing(*FOLDERS["chain"]) if plan.chain else []
    filtered = missing("valid_direct") if chain or keep else []
    flow = missing("flow") if filtered or keep else [i for i in chain if not data.has("flow", i)]
    return {"flow": flow, "filter": filtered, "chain": chain}


# The stages


def run_stages(data, todo, estimator, plan, device, bar):
    """Do what is left of every stage, `todo` as unfinished_frames says, and clean up."""
    if todo["flow"] and "flow" in data.manifest["finished"]:
        bar.write("flow: done again, as the direct flow was deleted after chaining (--keep_direct would keep it)")
    work = FrameWork(data, estimator, plan, device)
    with crew(data, estimator, plan, max(map(len, todo.values())), device) as workers:
        on_cpu = workers if device.type == "cpu" else None  # the rest goes to the GPU
        estimate_flow(data, work, workers, todo["flow"], bar)
        carry_layers(data, work, bar)
        filter_flow(data, work, on_cpu, todo["filter"], bar)
        if plan.chain:
            chain_flow(data, work, on_cpu, todo["chain"], bar)
    if "counts" not in data.manifest["finished"] or not all(data.has("counts", i) for i in range(data.num_frames)):
        count_valid(data, bar)
    work.reader.open_arrays.clear()  # open files would keep their disk space
    if plan.chain and not plan.keep_direct:
        data.remove("flow")
        data.remove("valid_direct")


def default_workers(data, partners):
    """One for each core, if there is memory for all; one alone where the work takes less than starting others."""
    pixels = data.height * data.width * sum(map(len, partners))
    if pixels < WORTH_SHARING:
        return 1
    return max(1, min(usable_cores(), int(available_memory() // WORKER_MEMORY)))


@contextlib.contextmanager
def crew(data, estimator, plan, frames, device):
    """Workers for so many source frames; None where one process is asked for, or one frame is left.

    One thread each, as this process then has: so the bytes do not depend on their number.
    """
    for_workers, count = estimator.for_workers(), min(plan.workers, frames)
    with one_thread() if device.type == "cpu" else contextlib.nullcontext():
        if count < 2 or for_workers is None:
            yield None
            return
        if device.type != "cpu":  # workers only find flow, on the CPU: they open no GPU
            plan = replace(plan, appearance=None)
        with Workers(count, open_work, data.path, for_workers, plan) as workers:
            yield workers


# What the user sees


def adjacent_share(data):
    """Median share of pixels that are valid, of the pairs of adjacent frames."""
    counts = data.pair_counts
    return float(np.median([counts.diagonal(1), counts.diagonal(-1)])) / (data.height * data.width)


def summarise(data, seconds, bar):
    """What there is now, what it took, and what to do with it."""
    pairs = sum(map(len, data.manifest["partners"]))
    valid = data.pair_counts.sum() / (pairs * data.height * data.width)
    bar.write(
        f"done: {data.num_frames} frames of {data.width}x{data.height}, {pairs} pairs, {valid:.1%} of their pixels "
        f"valid, {gigabytes(data.disk_used())} on disk, {seconds:.0f} s"
    )
    adjacent = adjacent_share(data)
    if adjacent < SUSPICIOUS_VALID:
        bar.write(f"warning: little of the flow is consistent: {adjacent:.0%} of the pixels between adjacent frames, "
                  f"where unrelated pictures have up to {BY_CHANCE:.0%}; expect poor tracks (cuts? --start, --end)")
    bar.write(
        f"next: python train.py --config configs/default.txt --data_dir {shlex.quote(str(data.path))} "
        f"--out_dir {shlex.quote('runs/' + data.name)}"
    )
