"""Train RAFT-small from scratch on generated scenes (preprocess/flow_scenes.py), on a CPU or a GPU.

    python -m preprocess.train_flow --out runs/flow --minutes 60        # the same again continues after an interruption
    python -m preprocess.train_flow --out runs/flow2 --minutes 60 --init_from networks/weights/raft_small_ours.pth
    tensorboard --logdir runs/flow

The recipe is RAFT's: L1 on every iteration's flow, weighted 0.8^(iterations left); AdamW; one cycle of the learning
rate; gradients clipped at 1. What deviates: both directions of a pair are trained on, with each image encoded once;
sizes vary, motion and iterations grow; some steps start warm (--warm_start); --power; progress may be by the clock.
Conventions: progress is in [0, 1]; images are (B, 3, H, W) in [0, 1]; flow (B, 2, H, W) in pixels.
"""

import argparse
import contextlib
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.tensorboard import SummaryWriter

import util
from loaders.flow_files import flow_to_color
from networks import raft
from networks.layers import bfloat16_is_fast
from preprocess import flow_scenes
from preprocess.flow import RaftFlow, end_point_error, read_image, read_pair
from preprocess.raft_weights import load_raft, sha256

SUSPENDED = 30.0  # seconds: what a step takes beyond this, the process was suspended, and is not counted
HELD_OUT_SEED = 2**31  # validation's chance; training uses --seed, which is smaller
# Validation scenes by their mean motion, as a share of the image's width.
MOTION_CLASSES = {"small": (0, 0.02), "medium": (0.02, 0.08), "large": (0.08, 1)}


# ---- what is optimised -----------------------------------------------------------------------------------------------


def both_directions(model, images, iterations, start=None):
    """images (2, B, 3, H, W) -> flow (2, B, 2, H, W) after each iteration: [0] from images[0] to [1], [1] back.

    start: low-resolution flow (2 B, 2, h, w) to begin with, by default zero.
    """
    flat = images.flatten(0, 1) * 2 - 1
    features = model.features(flat)
    updates = model.updates(features, features.roll(images.shape[1], 0), *model.context(flat), iterations, start)
    return [model.upsample(*update).unflatten(0, (2, -1)) for update in updates]


def sequence_loss(predictions, flow, gamma, power=1.0):
    """Mean L1 (pixels) of each iteration's flow (2, B, 2, H, W), the last one counting most.

    Flow longer than the image is left out: it leaves the image whatever its start. power below 1 turns a pixel's
    difference d into (d + 0.01)^power, so that what cannot be matched does not drown small errors (as PWC-Net's q).
    """
    usable = flow.norm(dim=2, keepdim=True) < max(flow.shape[-2:])
    differences = [(prediction - flow).abs() * usable for prediction in predictions]
    if power < 1:
        differences = [(difference + 0.01) ** power for difference in differences]
    losses = [difference.mean() for difference in differences]
    return sum(gamma ** (len(losses) - 1 - k) * loss for k, loss in enumerate(losses))


def earlier_flow(flow, generator):
    """A start (2 B, 2, h, w) as a walk over a video gives it: a share of flow (2, B, 2, H, W), with soft errors."""
    cells = F.avg_pool2d(flow.flatten(0, 1), raft.STRIDE) / raft.STRIDE
    chance = flow_scenes.Chance(generator, len(cells))
    share = chance.uniform(0, 1.1)[:, None, None, None]
    error = F.interpolate(chance.normal(2, 3, 4), size=cells.shape[-2:], mode="bilinear", align_corners=True)
    length = cells.norm(dim=1).mean(dim=(1, 2)) * chance.uniform(0, 1) ** 2
    return share * cells + error * length[:, None, None, None]


def one_cycle(progress, warm_up=0.05):
    """Learning rate as a share of the maximum: linear up from 1/25, then linear down to 0."""
    if progress < warm_up:
        return 0.04 + 0.96 * progress / warm_up
    return max(0.0, (1 - progress) / (1 - warm_up))


def motion_limit(progress, width, warm_motion):
    """The motion (pixels) that scenes go up to: from a sixteenth of the width to a third, at progress `warm_motion`."""
    share = 1.0 if warm_motion == 0 else min(1.0, progress / warm_motion)
    return width / 16 * (16 / 3) ** share


def size_and_batch(size, batch, scales, step):
    """(height, width, scenes) of a step: `size` times the step's scale, with fewer scenes where they are larger.

    Trained at one size only, the network fails at others: of the coarse levels it knows little but the outside (0).
    """
    scale = scales[step % len(scales)]
    height, width = (max(raft.MIN_SIDE, round(side * scale / raft.STRIDE) * raft.STRIDE) for side in size)
    return height, width, max(1, round(batch / scale**2))


def iterations_at(progress, most, fewest=3):
    """RAFT iterations in training: few at first, where they teach as much and cost less."""
    return min(most, round(fewest + (most - fewest) * progress * 4 / 3))


# ---- validation ------------------------------------------------------------------------------------------------------


def held_out_scenes(height, width, count, device, seed=HELD_OUT_SEED):
    """{class: Pairs of `count` scenes} with textures and motion of their own chance."""
    generator = torch.Generator(device).manual_seed(seed)
    textures = flow_scenes.make_textures(32, generator)
    kept = {name: [] for name in MOTION_CLASSES}
    while any(len(scenes) < count for scenes in kept.values()):
        pairs = flow_scenes.make_pairs(textures, 4, height, width, width / 3, generator, with_visibility=True)
        for b, motion in enumerate(pairs.flow[0].norm(dim=1).mean(dim=(1, 2)) / width):
            for name, (low, high) in MOTION_CLASSES.items():
                if low <= motion < high and len(kept[name]) < count:
                    kept[name].append([part[:, b : b + 1] for part in pairs])
    join = lambda scenes: flow_scenes.Pairs(*(torch.cat(part, dim=1) for part in zip(*scenes)))  # noqa: E731
    return {name: join(scenes) for name, scenes in kept.items()}


def held_out_sizes(size, largest_scale, device):
    """{class at size: Pairs}: held-out scenes of the base size and of the largest one."""
    height, width, _ = size_and_batch(size, 1, [largest_scale], 0)
    sizes = {"": (*size, 8)} | ({f"_{width}x{height}": (height, width, 4)} if largest_scale > 1 else {})
    return {
        name + label: pairs
        for label, (height, width, count) in sizes.items()
        for name, pairs in held_out_scenes(height, width, count, device).items()
    }


@torch.no_grad()
def scene_errors(model, held_out, iterations=12):
    """{class: mean end-point error (pixels) over visible pixels}, both directions."""
    errors = {}
    for name, pairs in held_out.items():
        error = (both_directions(model, pairs.images, iterations)[-1] - pairs.flow).norm(dim=2)
        errors[name] = float(error[pairs.visible].mean())
    return errors


def pair_errors(model, folder, device):
    """{pair: end-point error} of the folder's image pairs, as they are (not enlarged)."""
    estimator = RaftFlow(model, "", "", iterations=12, device=device, scale=1)
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    return {path.name: end_point_error(estimator, *read_pair(path)) for path in folders}


def overview(model, pairs, count=4):
    """uint8 (H', W', 3): first image, second image, true flow, estimated flow of a few scenes."""
    with torch.no_grad():
        estimated = both_directions(model, pairs.images[:, :count], 12)[-1][0]
    rows = []
    for b in range(min(count, len(estimated))):
        truth, found = (flow[b].permute(1, 2, 0).cpu().numpy() for flow in (pairs.flow[0], estimated))
        longest = float(np.linalg.norm(truth, axis=-1).max())
        images = [(image[b].permute(1, 2, 0).cpu().numpy() * 255).astype(np.uint8) for image in pairs.images]
        rows.append(np.concatenate([*images, flow_to_color(truth, longest), flow_to_color(found, longest)], axis=1))
    return np.concatenate(rows)


# ---- textures --------------------------------------------------------------------------------------------------------


IMAGE_TYPES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


def texture_bank(seed, first, count, images, device):
    """(count, 4, S, S): the textures first, first + 1 ... of an endless list that the seed alone determines.

    images: paths; where there are any, every other texture is a crop of one.
    """
    textures = []
    for index in range(first, first + count):
        generator = torch.Generator(device).manual_seed(seed * 2**31 + index)
        photograph = images and index % 2
        textures.append(image_texture(images, generator) if photograph else flow_scenes.make_texture(generator))
    return torch.stack(textures)


def image_texture(paths, generator):
    """(4, S, S): a random crop of a random image, mirrored so that it repeats."""
    side, device = flow_scenes.TEXTURE_SIDE // 2, generator.device
    image = read_image(paths[torch.randint(len(paths), (), generator=generator, device=device)])
    scale = max(1.0, side / min(image.shape[:2]))
    image = cv2.resize(image, None, fx=scale, fy=scale) if scale > 1 else image
    u, v = torch.rand(2, generator=generator, device=device).tolist()
    top, left = int(u * (image.shape[0] - side)), int(v * (image.shape[1] - side))
    crop = torch.from_numpy(image[top : top + side, left : left + side] / np.float32(255)).permute(2, 0, 1)
    crop = torch.cat([crop, crop.flip(-1)], dim=-1)
    crop = torch.cat([crop, crop.flip(-2)], dim=-2).to(device)
    return torch.cat([crop, flow_scenes.noise(generator, 1, 1.7)])


def find_images(folders):
    """Paths of all images in the folders. UserError when folders are given and hold none."""
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in IMAGE_TYPES)
    if folders and not paths:
        raise util.UserError(f"--images {' '.join(map(str, folders))}: no png or jpg files there")
    return paths


class Textures:
    """A window of texture_bank that moves on by 8 textures every `fresh_every` steps; a function of the step alone."""

    def __init__(self, args, device):
        self.draw = lambda first, count: texture_bank(args.seed, first, count, find_images(args.images), device)
        self.count, self.fresh_every = args.textures, args.fresh_every
        self.first = self.bank = None

    def at(self, step):
        """(count, 4, S, S)."""
        first = 8 * (step // self.fresh_every)
        if self.bank is None:
            self.bank = self.draw(first, self.count)
        elif first != self.first:
            self.bank = torch.cat([self.bank[8:], self.draw(first + self.count - 8, 8)])
        self.first = first
        return self.bank


# ---- state -----------------------------------------------------------------------------------------------------------


def save_state(path, model, optimizer, generator, counters):
    """Everything that a continued run needs (12 MB), atomically."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "generator": generator.get_state()}
    with util.atomic_path(path) as temporary:
        torch.save(state | {"counters": counters}, temporary)


def load_state(path, model, optimizer, generator, device):
    """Fill model, optimizer and generator; returns the counters."""
    state = torch.load(path, map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"].cpu())
    return state["counters"]


def export(model, path):
    """Write the weights in half precision under the reference's names (2 MB)."""
    with util.atomic_path(path) as temporary:
        torch.save({key: value.half() for key, value in model.state_dict().items()}, temporary)


# ---- the loop --------------------------------------------------------------------------------------------------------


def progress_of(counters, args):
    """Progress in [0, 1]: by steps or by trained minutes, whichever is further."""
    by_steps = counters["step"] / args.num_steps if args.num_steps else 0
    by_clock = counters["seconds"] / (60 * args.minutes) if args.minutes else 0
    return min(1.0, max(by_steps, by_clock))


def autocast(device, precision):
    """Half precision for the convolutions when asked for; correlation and flow stay in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def train_step(model, optimizer, pairs, iterations, start, args):
    """One update; returns (loss, mean end-point error of the last iteration, norm of the gradient), tensors."""
    with autocast(pairs.images.device, args.precision):
        predictions = both_directions(model, pairs.images, iterations, start)
    loss = sequence_loss(predictions, pairs.flow, args.gamma, args.power)
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
    optimizer.step()
    return loss.detach(), (predictions[-1].detach() - pairs.flow).norm(dim=2).mean(), norm


def validate(model, held_out, args, device, writer, counters):
    """Log the held-out errors; keep the weights when their geometric mean over the classes is the best so far."""
    model.eval()
    errors = scene_errors(model, held_out)
    score = float(np.exp(np.mean(np.log(list(errors.values())))))
    if args.pairs:
        errors |= pair_errors(model, args.pairs, device)
    for name, error in errors.items():
        writer.add_scalar(f"end_point_error/{name}", error, counters["step"])
    writer.add_image("held_out", overview(model, held_out["medium"]), counters["step"], dataformats="HWC")
    best = score < counters["best"]
    if best:
        counters["best"] = score
        export(model, args.out / "best.pth")
    export(model, args.out / "last.pth")
    listed = ", ".join(f"{name} {error:.2f}" for name, error in errors.items())
    print(f"step {counters['step']}: end-point error {listed}{' (best)' if best else ''}", flush=True)
    model.train()


def train(args, device):
    """The loop: scenes -> both directions' flow -> loss -> step -> log -> validate -> save."""
    torch.manual_seed(args.seed)
    generator = torch.Generator(device).manual_seed(args.seed)
    model = raft.RAFT(small=True).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay, eps=1e-8)
    counters = {"step": 0, "seconds": 0.0, "best": float("inf")}
    state = args.out / "state.pt"
    if state.exists():
        counters = load_state(state, model, optimizer, generator, device)
        print(f"continuing {state} at step {counters['step']}, {counters['seconds'] / 60:.1f} min")
    elif args.init_from:
        model.load_state_dict(load_raft(args.init_from)[0].state_dict())
    writer = SummaryWriter(args.out)
    held_out = held_out_sizes(args.size, max(args.scales), device)
    textures = Textures(args, device)
    validated = saved = logged = time.monotonic()
    with util.StopSignal() as stop, contextlib.closing(writer):
        while progress_of(counters, args) < 1 and stop.received is None:
            began, progress = time.monotonic(), progress_of(counters, args)
            height, width, scenes = size_and_batch(args.size, args.batch, args.scales, counters["step"])
            limit, bank = motion_limit(progress, width, args.warm_motion), textures.at(counters["step"])
            pairs = flow_scenes.make_pairs(bank, scenes, height, width, limit, generator, args.layers)
            started = torch.rand((), generator=generator, device=device) < args.warm_start
            start = earlier_flow(pairs.flow, generator) if started else None
            optimizer.param_groups[0]["lr"] = args.lr * one_cycle(progress)
            loss, error, norm = train_step(model, optimizer, pairs, iterations_at(progress, args.iters), start, args)
            counters["step"] += 1
            counters["seconds"] += min(time.monotonic() - began, SUSPENDED)
            if counters["step"] % args.log_every == 0:
                if not loss.isfinite():
                    raise util.UserError(f"step {counters['step']}: the loss is {loss}; lower --lr")
                rate, logged = args.log_every / (time.monotonic() - logged), time.monotonic()
                log(writer, counters, progress, loss, error, norm, args, rate)
            if time.monotonic() - validated > 60 * args.validate_minutes:
                validate(model, held_out, args, device, writer, counters)
                validated = time.monotonic()
            if time.monotonic() - saved > 60 * args.save_minutes:
                save_state(state, model, optimizer, generator, counters)
                saved = time.monotonic()
        if stop.received is None:
            validate(model, held_out, args, device, writer, counters)
        save_state(state, model, optimizer, generator, counters)
    if stop.received:
        print(f"stopped by {stop.received} at step {counters['step']}; the same command continues")
    else:
        print(f"done: {args.out / 'best.pth'}, sha256 {sha256(args.out / 'best.pth')[:16]}...")


def log(writer, counters, progress, loss, error, norm, args, steps_per_second):
    """Curves, and a line."""
    values = {
        "loss": float(loss),
        "train_end_point_error": float(error),
        "gradient_norm": float(norm),
        "learning_rate": args.lr * one_cycle(progress),
        "steps_per_second": steps_per_second,
    }
    for name, value in values.items():
        writer.add_scalar(f"train/{name}", value, counters["step"])
    parts = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
    print(f"step {counters['step']} ({progress:.1%}): {parts}", flush=True)


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m preprocess.train_flow",
        description="Train RAFT-small from scratch on generated scenes with exact flow.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="run folder (state, best.pth, last.pth, curves); continued if there")
    add("--minutes", type=float, help="train this long, counted over interruptions")
    add("--num_steps", type=int, help="train this many steps")
    add("--init_from", type=Path, metavar="FILE", help="RAFT-small weights to start from, instead of random ones")
    add("--images", type=Path, nargs="*", default=[], metavar="DIR", help="image folders: half of the textures then")
    add("--pairs", type=Path, metavar="DIR", help="Middlebury or KITTI pairs to validate on (never trained on)")
    add("--size", type=int, nargs=2, default=(96, 128), metavar=("H", "W"), help="of the scenes; multiples of 8")
    add("--scales", type=float, nargs="+", default=(1, 1.5, 1, 2, 1, 1.5, 3), help="of --size, step by step in turn")
    add("--batch", type=int, default=4, help="scenes a step at scale 1; each gives two pairs, forward and back")
    add("--iters", type=int, default=8, help="RAFT iterations at the end of training (3 at its start)")
    add("--layers", type=int, default=6, help="of a scene, the background included")
    add("--lr", type=float, default=4e-4, help="maximum learning rate")
    add("--weight_decay", type=float, default=1e-5, help="AdamW's")
    add("--gamma", type=float, default=0.8, help="an iteration's weight in the loss, against the next one's")
    add("--power", type=float, default=1.0, help="of a pixel's difference in the loss; below 1 small errors count more")
    add("--clip", type=float, default=1.0, help="largest norm of the gradient")
    add("--warm_motion", type=float, default=0.3, help="share of training in which motion grows to width / 3")
    add("--warm_start", type=float, default=0.3, help="share of the steps that begin near the true flow, as in a walk")
    add("--textures", type=int, default=96, help="textures at hand, from 8")
    add("--fresh_every", type=int, default=100, help="steps between renewals of 8 textures")
    add("--precision", choices=("fp32", "bf16"), default="fp32", help="of the convolutions; bf16 on GPUs and some CPUs")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--threads", type=int, help="CPU threads (default: torch's choice)")
    add("--seed", type=int, default=0, help="of weights, scenes and textures")
    add("--log_every", type=int, default=50, help="steps between log lines")
    add("--validate_minutes", type=float, default=5, help="minutes between validations")
    add("--save_minutes", type=float, default=2, help="minutes between saved states")
    return parser.parse_args(arguments)


def check_arguments(args):
    """UserError for what cannot be trained."""
    if not args.minutes and not args.num_steps:
        raise util.UserError("expected --minutes or --num_steps: how long to train")
    if min(args.size) < raft.MIN_SIDE or any(side % raft.STRIDE for side in args.size):
        raise util.UserError(f"--size {args.size[0]} {args.size[1]}: expected multiples of 8 from {raft.MIN_SIDE}")
    if not 0 < args.power <= 1:
        raise util.UserError(f"--power {args.power}: expected above 0, at most 1")
    if min(args.scales) <= 0 or args.batch < 1:
        raise util.UserError(f"--scales {args.scales}, --batch {args.batch}: expected positive numbers")
    if not 0 <= args.seed < HELD_OUT_SEED:
        raise util.UserError(f"--seed {args.seed}: expected 0 to {HELD_OUT_SEED - 1}")
    if args.textures < 8:
        raise util.UserError(f"--textures {args.textures}: expected at least 8")
    if args.pairs and not args.pairs.is_dir():
        raise util.UserError(f"--pairs {args.pairs}: no such folder")


@util.command
def main(arguments=None):
    args = parse_arguments(arguments)
    check_arguments(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    device = util.pick_device(args.device)
    if args.precision == "bf16" and not bfloat16_is_fast(device):
        raise util.UserError(f"--precision bf16: {device} only imitates it, ten times slower; use fp32")
    args.out.mkdir(parents=True, exist_ok=True)
    train(args, device)


if __name__ == "__main__":
    main()
