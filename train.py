"""Optimise one video: python train.py --config configs/default.txt --data_dir DIR --out_dir OUT

Reads a data directory made by `python -m preprocess`; writes checkpoints, TensorBoard curves and the resolved
configuration to OUT. Stop it with Ctrl-C at any time and go on with --resume.

To bind a run's tracks to pins that were set by hand:
python train.py --pins pins.csv --init_from RUN --out_dir NEW
"""

import argparse
import contextlib
import math
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import checkpoints
from configs.options import OPTIONS, add_options, check_moves, resolve, save_config
from evaluation import held_out
from files import locked_folder
from loaders.correspondences import CorrespondencePool
from loaders.data_dir import DataDir
from loaders.pins import PinnedVideo, read_pins, write_pins
from networks import query
from networks.reference import convert_reference, is_reference_checkpoint, reference_architecture
from tracking import pins
from tracking.sources import RunSource, track_queries
from training import ranks
from training.graphs import differentiation
from training.schedules import interval, learning_rate_factor, periods
from training.state import MOST_HALVINGS, Average, Clock, Curves, Parts, Standing, check_finite, make_optimizer
from training.surface import SurfaceObjective
from training.volume import VolumeObjective
from util import Overdue, StopSignal, UserError, atomic_path, command, pick_device, seed_everything

GRACE = 3  # seconds after a signal in which a step may still end, and be saved
OBJECTIVES = {"volume": VolumeObjective, "surface": SurfaceObjective}


@torch.no_grad()
def render_error_maps(model, data):
    """Flow error of the model towards the next frame (of the last frame: the previous one) -> (N, H, W) pixels."""
    maps = []
    for i in range(model.num_frames):
        j = i + 1 if i + 1 < model.num_frames else i - 1
        flow, _ = query.dense_flow(model, i, j)
        maps.append((flow - torch.from_numpy(data.flow(i, j)).to(flow)).norm(dim=-1))
    return torch.stack(maps)


def initial_weights(model, path, device):
    """--init_from: the weights of another run's checkpoint, or of the reference implementation's."""
    path = checkpoints.newest(path) if Path(path).is_dir() else path
    state, hint = checkpoints.read(path, device), ""
    is_reference = is_reference_checkpoint(state)
    if state.get("pins") and ranks.is_first():
        print(f"--init_from {path}: its pins are not taken along; give --pins to pin the new run")
    try:
        if is_reference:
            hint = f"; it needs {reference_architecture(state)}"
        weights = convert_reference(state) if is_reference else state["model"]
        checkpoints.check_finite_weights(weights, path)
        model.load_state_dict(weights)
    except (RuntimeError, KeyError, IndexError, AttributeError) as error:
        line = str(error).splitlines()[-1].strip()
        raise UserError(f"--init_from {path}: does not fit this configuration: {line}{hint}") from None


def check_same_run(state, config, data):
    """A run resumes with the same video and options; only its length and the logging may change."""
    if state["video"]["fingerprint"] != data.fingerprint:
        raise UserError(f"--resume: {data.path} was made from another video than the run's ({state['video']['name']})")
    if state.get("recipe", data.recipe) != data.recipe:  # older runs have none
        raise UserError(f"--resume: {data.path} was preprocessed anew since, with other settings; train into another "
                        "folder, from the run's weights with --init_from if you like")
    free = {"num_iters", "max_minutes", "device", "threads", "storage", "graph"}
    free |= {option.name for option in OPTIONS if option.group == "logging"}
    before = {"held_out": 0.0, "layer": -1} | state["config"]  # older runs held nothing out, and were of everything
    for key, value in vars(config).items():
        if key not in free and before.get(key, value) != value:
            raise UserError(f"--resume: {key} is {value} here but {before[key]} in the run; expected the same")


def prepare(arguments, config, data, device):
    """-> Parts, the objective, and the state to resume from (None for a new run)."""
    saved = checkpoints.saved_steps(arguments.out_dir)
    if saved and not arguments.resume:
        raise UserError(f"--out_dir {arguments.out_dir}: holds a run already; add --resume or choose another folder")
    if arguments.resume and not saved and ranks.is_first():
        print(f"--resume: there is no checkpoint in {arguments.out_dir}: training from the start")
    state = checkpoints.read_newest(arguments.out_dir, device, arguments.skip_damaged) if saved else None
    if state is not None:
        check_same_run(state, config, data)
    model = checkpoints.model_from(vars(config), checkpoints.describe_video(data)).to(device)
    objective = OBJECTIVES[config.rendering](model, CorrespondencePool(data, device, config.storage), config)
    if state is None and arguments.init_from:
        initial_weights(model, arguments.init_from, device)
    elif state is None and ranks.is_first():
        objective.start()
    ranks.copy_first(model)
    parts = Parts(model, make_optimizer(objective.rates()), objective.sampler, Average(model, config.ema))
    if state is not None:
        try:
            parts.restore(state)
        except (KeyError, ValueError, RuntimeError, TypeError, AttributeError, IndexError) as error:
            reason = (str(error).splitlines() or ["no reason given"])[0][:100]
            raise UserError(f"--resume: {saved[-1]} does not hold all of a run's state ({reason})") from None
    if not ranks.is_first():
        parts.reseed(ranks.seed_of(config.seed, ranks.rank(), state["step"] if state else 0))
    return parts, objective, state


def maps_are_due(before, progress, config):
    """Whether error maps are to be rendered now that progress has come so far from where it was before."""
    rendered = config.sampling == "hard" and config.error_map == "render" and progress < 1
    return rendered and periods(progress, config.error_map_every) > periods(before, config.error_map_every)


def record(run, curves, out_dir, extra):
    """Log the steps since the last record -> whether all were finite; else the run is at its last sound state again.

    UserError when it has gone back too often, or its data directory is not what it was; the state is saved first.
    """
    rows = curves.fetch()
    problem = check_finite(rows, curves.names, run.step - len(rows))
    if problem:
        tries, sound = run.fall_back(), f"the state after step {run.step}"
        if ranks.is_first():
            checkpoints.delete_after(out_dir, run.step)  # they were saved between two looks at the losses
        save(run, curves, out_dir)
        if tries > MOST_HALVINGS:
            raise UserError(f"{problem}, for all that the learning rates were halved {MOST_HALVINGS} times; {sound} is "
                            f"saved in {out_dir}. Lower them further, set grad_clip, or try another seed")
        tqdm.write(f"{problem}: going on from {sound} with half the learning rates ({tries} of {MOST_HALVINGS} times)")
        return False
    rates = {f"learning_rate/{group['name']}": group["lr"] for group in run.parts.optimizer.param_groups}
    curves.write(run.step, rows, rates | extra | {"learning_rate/halvings": run.halvings})
    return True


def save(run, curves, out_dir):
    """Save the last sound state, if this is the process that saves."""
    if ranks.is_first():
        checkpoints.save_state(out_dir, run.good | {"best": curves.best}, run.config.keep)


def check_data(run, curves, out_dir):
    """UserError, after saving, when the data directory was deleted or made anew under the run."""
    if run.data.changed():
        save(run, curves, out_dir)
        raise UserError(f"{run.data.path}: deleted, or made anew, while training read it; the state after step "
                        f"{run.step} is saved in {out_dir}")


def loop(run, objective, curves, stop, bar, out_dir):
    """The training loop -> the name of the signal that ended it, or None. UserError: see record and check_data."""
    config, model, sampler, clock = run.config, run.parts.model, run.parts.sampler, run.clock
    device = next(model.parameters()).device
    all_on_gpu = device.type == "cuda" and sampler.pool.storage == "device"
    differentiate = differentiation(objective, record=all_on_gpu and objective.recordable)
    progress, received = ranks.agree(clock.progress(run.step), stop.received)
    while progress < 1 and received is None:
        max_interval = interval(progress, config.interval_start, config.interval_every, model.num_frames - 1)
        batch = sampler.sample(config.num_pairs, config.num_points, max_interval).to(device)

        loss, terms, statistics, error = differentiate(batch, progress)  # the objective, forwards and backwards
        ranks.average(p.grad for p in model.parameters())
        factor = learning_rate_factor(progress, config) * 0.5**run.halvings
        norm = run.parts.update(run.step, factor, config.grad_clip)
        sampler.learn(batch, error)
        curves.add(loss, terms, statistics | {"gradient_norm": norm} | sampler.beliefs())
        run.step += 1

        before = progress
        progress, received = ranks.agree(clock.progress(run.step), stop.received)
        done, log_is_due = progress >= 1 or received is not None, run.step % config.log_every == 0
        if maps_are_due(before, progress, config):
            sampler.set_error_maps(render_error_maps(model, run.data))
        if log_is_due or done:
            if not record(run, curves, out_dir, {"max_interval": max_interval}):
                progress = clock.progress(run.step)
                continue
            if log_is_due:  # not where a run happens to end: a resumed one sees the same maps
                ranks.average(sampler.learned())
                sampler.publish()
            run.good = run.snapshot()
            check_data(run, curves, out_dir)
            curves.images(run.step, model, run.data, clock.elapsed)
            bar.set_postfix_str(f"flow error {curves.error:.2f} px")
        if ranks.is_first() and (run.step % config.save_every == 0 or done):
            is_best, latest = curves.is_best(), run.good if run.good["step"] == run.step else run.snapshot()
            checkpoints.save_state(out_dir, latest | {"best": curves.best}, config.keep, is_best)
        bar.update(clock.position(run.step) - bar.n)
    return received


def train(arguments, config):
    """Train to the end or a signal -> step, seconds, the signal's name. UserError: see loop and prepare."""
    data, device, out_dir = DataDir.open(arguments.data_dir), ranks.own_device(config.device), Path(arguments.out_dir)
    first = ranks.is_first()  # of several processes, of which it writes and prints
    data = data.without(held_out.choose(data, config.held_out, config.seed))
    seed_everything(config.seed)
    if first and not arguments.quiet:
        print(f"{data.name}: reading {sum(map(len, data.manifest['partners']))} pairs of frames", flush=True)
    parts, objective, state = prepare(arguments, config, data, device)
    if first:
        with atomic_path(out_dir / "config.json") as temporary:
            save_config(config, temporary)
    run = Standing(parts, Clock(config, state["elapsed"] if state else 0.0), config, data, state)
    curves = Curves(out_dir if first else None, run.step, config, state.get("best", math.inf) if state else math.inf)
    if config.compile and first:
        print("the model is compiled before the first step, which takes a minute or more", flush=True)
    with StopSignal(GRACE if ranks.size() == 1 else None) as stop, run.clock.bar(
            run.step, data.name, arguments.quiet or not first) as bar:
        try:
            received = loop(run, objective, curves, stop, bar, out_dir)
        except Overdue:  # in the midst of something that takes long: what it would have made is made by --resume
            run.step, received = run.good["step"], stop.received
            save(run, curves, out_dir)
    if first and (beliefs := parts.sampler.beliefs()):
        print("believed, of 1:", ", ".join(f"{name} {float(belief):.2f}" for name, belief in beliefs.items()))
    return run.step, run.clock.elapsed, received


def measure_held_out(arguments, config):
    """Print and write what the run's newest weights, and the flow, make of the pairs that training left out."""
    data = DataDir.open(arguments.data_dir)
    run = checkpoints.load_run(arguments.out_dir, device=pick_device(config.device))
    held_out.report(run, arguments.out_dir, data, held_out.choose(data, config.held_out, config.seed), config.seed)


def parse(argv=None):
    """Command line -> arguments, resolved configuration."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Every grouped option may also stand in the file of --config as 'key = value'. In [brackets]: defaults.")
    parser.add_argument("--config", metavar="FILE", help="preset: configs/default.txt, volume.txt or paper.txt")
    parser.add_argument("--data_dir", metavar="DIR", help="what python -m preprocess wrote; with --pins, if not "
                        "given, the run's")
    parser.add_argument("--out_dir", required=True, metavar="OUT", help="folder of the run: checkpoints and curves")
    parser.add_argument("--resume", action="store_true", help="go on with the newest checkpoint, to the same total")
    parser.add_argument("--skip_damaged", action="store_true",
                        help="with --resume: where the newest checkpoint is damaged, go on with the newest sound one")
    parser.add_argument("--init_from", metavar="FILE",
                        help="start from the weights of this run (its folder), of a checkpoint of one (.pt), or of the "
                             "reference code's (.pth)")
    parser.add_argument("--pins", metavar="FILE",
                        help="in place of training: write the run of --init_from to --out_dir, with tracks that pass "
                             "through these pins (a pins.csv of view.py) and take along what is near: docs/evidence.md")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_options(parser)
    arguments = parser.parse_args(argv)
    if not (arguments.data_dir or arguments.pins):
        parser.error("the following arguments are required: --data_dir")
    return arguments, resolve(arguments, arguments.config)


@command
def main(argv=None):
    arguments, config = parse(argv)
    if config.threads:
        torch.set_num_threads(config.threads)
    if arguments.pins:
        check_pinning(arguments)
        with locked_folder(arguments.out_dir):
            pin(arguments, pick_device(config.device))
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.amp
    check_folders(arguments.out_dir, arguments.data_dir)
    check_moves(config, "configuration")
    with contextlib.ExitStack() as held:
        with ranks.joined(config.device):
            if ranks.is_first():
                held.enter_context(locked_folder(arguments.out_dir))
            result = train(arguments, config)
            if not ranks.is_first():
                return
        finish(arguments, config, *result)


def check_pinning(arguments):
    """UserError for what has no meaning with --pins, and where there is no run to pin, or one already."""
    given = [name for name in ("config", "resume", "skip_damaged") if getattr(arguments, name)]
    given += [option.name for option in OPTIONS if getattr(arguments, option.name) is not None]
    for name in (name for name in given if name not in ("device", "threads")):
        raise UserError(f"--{name} acts on training, and --pins keeps the weights of --init_from: leave it out")
    if ranks.launched():
        raise UserError("--pins: one process writes the run; start train.py without torchrun")
    if not arguments.init_from:
        raise UserError("--pins: which run are they of? give --init_from RUN too")
    if checkpoints.saved_steps(arguments.out_dir):
        raise UserError(f"--out_dir {arguments.out_dir}: holds a run already; choose another folder")


def pin(arguments, device):
    """--pins: the run of --init_from as a new one, whose tracks pass through the pins of a file."""
    source, out_dir = Path(arguments.init_from), Path(arguments.out_dir)
    state = checkpoints.read_newest(source, device) if source.is_dir() else checkpoints.read(source, device)
    if is_reference_checkpoint(state):
        raise UserError(f"--init_from {source}: of the reference implementation; --pins wants a run of this program")
    video = state["video"]
    size = video["original_height"], video["original_width"]
    rows = read_pins(Path(arguments.pins), PinnedVideo(video["name"], video["num_frames"], size))
    if not rows:
        raise UserError(f"--pins {arguments.pins}: no pins there; expected a file such as view.py writes")
    if arguments.data_dir:
        data = DataDir.open(arguments.data_dir)
        data.check_same_video(video)
        state["data_dir"] = str(data.path.resolve())
    check_folders(out_dir, state["data_dir"])
    state["pins"] = [list(row) for row in rows]
    if not arguments.quiet:
        print(f"{video['name']}: the pinned tracks are followed", flush=True)
    said = pinned(checkpoints.run_of(state, source, device=device))
    write_pins(out_dir / "pins.csv", rows)
    with atomic_path(out_dir / "config.json") as temporary:
        save_config(argparse.Namespace(**state["config"]), temporary)
    checkpoints.save_state(out_dir, state, keep=1)
    print(f"{said}\nnext: python track.py --run {out_dir} --queries grid --out tracks.npz   (the pinned tracks first)")


def pinned(run):
    """How far tracks were off the pins of a run, and are, in a line. UserError when it cannot be tracked."""
    queries, rows = pins.queries_of(run.pins), pins.rows_of(run.pins)
    off = []
    for source in (RunSource(run._replace(pins=())), RunSource(run)):
        tracks = track_queries(source, queries).tracks
        off.append(np.mean([np.hypot(*(tracks[row, pin.frame] - (pin.x, pin.y))) for row, pin in rows]))
    return f"tracks: {len(queries)}, pins: {len(rows)}; {off[0]:.2f} px off them on average before, {off[1]:.2f} now"


def check_folders(out_dir, data_dir):
    """UserError where the run would be written into the data directory."""
    if Path(out_dir).resolve() == Path(data_dir).resolve():
        raise UserError(f"--out_dir {out_dir}: is the data directory; expected a folder of the run's own")


def finish(arguments, config, step, seconds, received):
    """Say what there is now and, at the end of a run, what the model adds on the pairs that were held out."""
    why = f"stopped by {received}; go on with --resume" if received else "done"
    print(f"{why}: {step} steps, {seconds / 60:.1f} minutes; checkpoint in {checkpoints.newest(arguments.out_dir)}")
    if config.held_out and not received:  # whoever stops a run wants it to end
        measure_held_out(arguments, config)
    print(f"next: python track.py --run {arguments.out_dir} --queries grid --out tracks.npz")
    print(f"      python viz.py --run {arguments.out_dir} --out videos/")


if __name__ == "__main__":
    main()
