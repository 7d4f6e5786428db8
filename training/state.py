"""What the training loop is made of: clock, optimiser, averaged weights, curves, saving and restoring.

Conventions: a step is one optimiser step; progress in [0, 1] is how much of the run is over.
"""

import copy
import math
import time
from typing import NamedTuple

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

import checkpoints
from loaders.correspondences import Sampler
from networks import query, rendering
from networks.model import VideoModel
from training import ranks
from util import seed_everything

MOST_HALVINGS = 3  # of the learning rates, after losses that were not finite
IMAGE_TIME_SHARE = 0.03  # of the training time may go to TensorBoard images


class Clock:
    """Progress of a run by steps or, with a time limit, by training time."""

    def __init__(self, config, elapsed=0.0):
        self.config, self.limit, self.started = config, config.max_minutes * 60, time.monotonic() - elapsed

    @property
    def elapsed(self):
        """Seconds of training, those before a resume included."""
        return time.monotonic() - self.started

    def progress(self, step):
        return min(self.elapsed / self.limit if self.limit else step / self.config.num_iters, 1.0)

    def position(self, step):
        """What the progress bar counts: steps, or seconds."""
        return min(int(self.elapsed), int(self.limit)) if self.limit else step

    def bar(self, step, name, quiet):
        """A tqdm bar over the whole run, standing at `step`."""
        total, unit = (int(self.limit), "s") if self.limit else (self.config.num_iters, "step")
        return tqdm(desc=name, total=total, initial=self.position(step), unit=unit, disable=quiet, dynamic_ncols=True)


class Average:
    """Running mean of the weights (EMA), used for queries; warms up so that the random start is forgotten quickly."""

    def __init__(self, model, decay):
        self.decay, self.weights = decay, [p.detach().clone() for p in model.parameters()] if decay else None
        self.names = [name for name, _ in model.named_parameters()]

    @torch.no_grad()
    def update(self, model, step):
        if self.decay:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.weights, [p.detach() for p in model.parameters()], 1 - decay)

    def state_dict(self, model):
        """A state dict of the model with averaged weights, or None."""
        return model.state_dict() | dict(zip(self.names, self.weights)) if self.decay else None

    def load(self, state):
        if self.decay and state is not None:
            for name, weight in zip(self.names, self.weights):
                weight.copy_(state[name])


def make_optimizer(rates):
    """Adam with a group for each {name: (parameters, learning rate)}; the rates are set every step."""
    groups = [{"name": name, "params": parameters, "base_lr": rate} for name, (parameters, rate) in rates.items()]
    return torch.optim.Adam(groups, fused=True)


def set_learning_rates(optimizer, factor):
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


class Parts(NamedTuple):
    """What changes during a run, and so what a checkpoint saves and --resume restores."""

    model: VideoModel
    optimizer: torch.optim.Optimizer
    sampler: Sampler
    average: Average

    def update(self, step, rate_factor, grad_clip):
        """Move the weights along their gradients, which are cleared -> the gradients' norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), grad_clip or math.inf, foreach=True)
        set_learning_rates(self.optimizer, rate_factor)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.model, step)
        return norm

    def snapshot(self, step, elapsed, config, data):
        """A checkpoint's content; copies, so that later steps do not change it."""
        state = {
            "config": vars(config), "video": checkpoints.describe_video(data), "data_dir": str(data.path.resolve()),
            "recipe": data.recipe, "step": step, "elapsed": elapsed, "model": self.model.state_dict(),
            "ema": self.average.state_dict(self.model), "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state_dict(), "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }
        return torch.utils._pytree.tree_map(lambda v: v.clone() if isinstance(v, torch.Tensor) else v, state)

    def restore(self, state):
        """Go on from a snapshot, to the bit on a CPU."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state_dict(state["sampler"])
        self.average.load(state["ema"])
        torch.set_rng_state(state["rng"].cpu())
        if state["cuda_rng"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda_rng"].cpu())

    def reseed(self, seed):
        """Draw from here on what no other rank draws."""
        seed_everything(seed)
        self.sampler.reseed(seed)


class Standing:
    """Where a run stands: its step, how often its learning rates were halved, and its last sound state."""

    def __init__(self, parts, clock, config, data, state=None):
        self.parts, self.clock, self.config, self.data = parts, clock, config, data
        self.step, self.halvings = (state["step"], state.get("halvings", 0)) if state else (0, 0)
        self.pins = state.get("pins", []) if state else []
        self.good = self.snapshot()

    def snapshot(self):
        """A checkpoint's content, as it is now."""
        return self.parts.snapshot(self.step, self.clock.elapsed, self.config, self.data) | {
            "halvings": self.halvings, "pins": self.pins}

    def fall_back(self):
        """Go back to the last sound state, with half the learning rates, if not halved too often -> how often then."""
        tries = self.halvings + 1
        self.halvings = min(tries, MOST_HALVINGS)
        self.good |= {"halvings": self.halvings}
        self.step = self.good["step"]
        self.parts.restore(copy.deepcopy(self.good))  # the optimiser takes tensors as they are, and changes them
        return tries


class Curves:
    """What TensorBoard shows. Values wait on the device and are fetched once every log_every steps."""

    def __init__(self, out_dir, step, config, best=math.inf):
        self.writer = SummaryWriter(str(out_dir), purge_step=step or None) if out_dir else None  # the first rank's
        self.rows, self.names = [], None
        self.last, self.image_seconds, self.image_every = time.monotonic(), 0.0, config.image_every
        self.next_image, self.error, self.best = step + config.image_every, math.inf, best

    def add(self, loss, terms, statistics):
        values = {"loss/total": loss} | {f"loss/{name}": value for name, value in terms.items()} | statistics
        self.names = list(values)
        self.rows.append(torch.stack([value.detach().float() for value in values.values()]))

    def fetch(self):
        """Values (steps, names) since the last fetch, on the CPU: the only wait for the device in the loop.

        The means over all ranks: what is not finite in one of them is so in all.
        """
        rows, self.rows = torch.stack(self.rows).cpu(), []
        ranks.average([rows])
        return rows

    def write(self, step, rows, extra):
        """Write the means of the fetched rows, and the scalars `extra`."""
        seconds, self.last = time.monotonic() - self.last, time.monotonic()
        means = dict(zip(self.names, rows.mean(0).tolist()))
        self.error = means["flow_error_px/all"]
        if self.writer is None:
            return
        for name, value in (means | extra | {"speed/steps_per_second": len(rows) / seconds}).items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def is_best(self):
        """Whether the flow error is the lowest of all calls so far, those before a resume included."""
        improved, self.best = self.error < self.best, min(self.error, self.best)
        return improved

    def images(self, step, model, data, elapsed):
        """Now and then input, rendered colour and depth of a frame, as long as they cost less than their share."""
        if self.writer is None or not self.image_every or step < self.next_image:
            return
        if self.image_seconds > IMAGE_TIME_SHARE * elapsed:
            return
        start, self.next_image = time.monotonic(), step + self.image_every
        frame = step // self.image_every % model.num_frames
        rendered = query.render_frame(model, frame)
        depth = (rendered["depth"] / rendering.FAR).cpu()[..., None].expand(-1, -1, 3)
        target = torch.from_numpy(data.frame(frame)).float() / 255
        strip = torch.cat([target, rendered["rgb"].cpu(), depth], dim=1)
        self.writer.add_image("images/input_color_depth", strip, step, dataformats="HWC")
        self.image_seconds += time.monotonic() - start


def check_finite(rows, names, first_step):
    """None, or a line that names the first step with a non-finite value and the values concerned."""
    bad = ~torch.isfinite(rows)
    if not bad.any():
        return None
    row = int(bad.any(1).nonzero()[0])
    culprits = ", ".join(name for name, is_bad in zip(names, bad[row].tolist()) if is_bad)
    return f"step {first_step + row}: non-finite {culprits}"
