"""Small things that every other module may use: errors, files, devices, pixel coordinates.

Conventions: pixels are (x, y), integer at pixel centres; normalised xy = pixel / (W - 1, H - 1) * 2 - 1, so that
-1 and 1 are the centres of the first and last pixel (grid_sample's align_corners=True).
"""

import argparse
import contextlib
import functools
import hashlib
import importlib.util
import inspect
import os
import re
import signal
import sys
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F

from files import DISK_IS_FULL, full_disk
from files import UserError as UserError  # and these, for whoever has util
from files import atomic_path as atomic_path
from files import load_npz as load_npz

TUNED_SIDE = 256  # pixels of the longer side, see length_unit
# Pixels: flow that differs by less is of one surface, places nearer than it are one; about what flow is off by where it
# is right. Tuned, for all stages at once (docs/method.md). Not in proportion to the frame, as neighbouring pixels' flow
# does not differ by more in larger ones; but for how nearly flow comes back in tracks (tracking/refinement.py).
SAME_MOTION = 2.0


def command(main):
    """Decorate a command's main(): what the user can mend becomes one line on stderr and exit code 2."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, ValueError):  # names of files need not be text
                stream.reconfigure(errors="backslashreplace")
        try:
            return main(*args, **kwargs)
        except UserError as error:
            if "TORCHELASTIC_RUN_ID" in os.environ and os.environ["RANK"] != "0":  # not the first of torchrun's
                sys.exit(0)  # they all meet it, and the first one says so; a 2 would end that, which may be saving
            message, code = str(error), 2
        except KeyboardInterrupt:
            message, code = "interrupted", 130
        except (OSError, MemoryError, RuntimeError) as error:
            message, code = of_the_machine(error), 2
            if message is None:
                raise
        print("error: " + " ".join(message.split("\n")), file=sys.stderr)
        sys.exit(code)

    return wrapped


def of_the_machine(error):
    """One line for an error of the machine: its disk, its memory, its files. None: it is the program's own."""
    if isinstance(error, torch.OutOfMemoryError):
        return ("out of GPU memory: lower --num_pairs, --num_points or --num_samples (training) or --chunk (queries), "
                "or preprocess with a smaller --max_side")
    if isinstance(error, MemoryError) or "not enough memory" in str(error):  # of numpy, of torch
        return f"out of memory ({(str(error).splitlines() or ['no reason given'])[0][:100]})"
    if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
        return full_disk(error.filename or "output")
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return None


def needs_extra(what, module, extra):
    """UserError unless `module`, of the optional requirements-EXTRA.txt, is installed; `what` needs it."""
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{what} needs the extra {extra}: pip install -r requirements-{extra}.txt")


def file_hash(path):
    """sha256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_hash(*modules):
    """12 hexadecimal digits that differ when the source text of any of these imported modules (names) does."""
    text = "".join(inspect.getsource(sys.modules[name]) for name in modules)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Overdue(BaseException):
    """What was being done when a signal came takes longer than was granted."""


class StopSignal:
    """Within the context SIGINT and SIGTERM set `.received` instead of ending the process (a second one ends it).

    grace: seconds after which Overdue is raised where the context is not left by then; None: never.
    """

    def __init__(self, grace=None):
        self.received, self.grace = None, grace if hasattr(signal, "setitimer") else None

    def __enter__(self):
        self._previous = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        if self.grace:
            self._previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._expire)
        return self

    def __exit__(self, *_):
        if self.grace:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number, _frame):
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        if self.grace:
            signal.setitimer(signal.ITIMER_REAL, self.grace)

    def _expire(self, *_):
        raise Overdue


def pick_device(name):
    """torch.device for 'auto', 'cpu' or 'cuda[:n]'. UserError when CUDA is asked for and absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {name}: this torch ({torch.__version__}) sees no CUDA device; use --device cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise UserError(f"--device {name}: expected auto, cpu, cuda or cuda:N")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        line = str(error).splitlines()[0][:80]
        raise UserError(f"--device {name}: not to be had ({line}); expected auto, cpu, cuda or cuda:N") from None
    return device


def whole(text):
    """A whole number, for argparse: in ASCII digits, where int takes those of any script, and underscores."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text[:40]!r}")
    return int(text)


def seed_everything(seed):
    """Seed torch (CPU and CUDA) and numpy."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)


def constants(values, like):
    """Numbers -> tensor of the dtype and device of `like`, filled there: new_tensor's copy waits for the device."""
    return torch.stack([like.new_full((), value) for value in values])


def normalise_pixels(pixels, height, width):
    """(..., 2) pixels -> normalised xy. A side of one pixel maps to 0."""
    size = constants([max(width - 1, 1), max(height - 1, 1)], pixels)
    return pixels / size * 2 - 1


def denormalise_pixels(xy, height, width):
    """(..., 2) normalised xy -> pixels; inverse of normalise_pixels."""
    size = constants([max(width - 1, 1), max(height - 1, 1)], xy)
    return (xy + 1) / 2 * size


def pixel_grid(height, width, device=None):
    """(H, W, 2) float32 pixel coordinates (x, y)."""
    y, x = (torch.arange(side, dtype=torch.float32, device=device) for side in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def sample_at_pixels(maps, pixels, mode="bilinear", padding="zeros"):
    """Sample maps (B, C, H, W) at pixels (B, ..., 2) -> (B, ..., C), align_corners, zeros outside by default."""
    height, width = maps.shape[-2:]
    grid = normalise_pixels(pixels, height, width).reshape(maps.shape[0], -1, 1, 2)
    sampled = F.grid_sample(maps, grid.to(maps.dtype), mode=mode, padding_mode=padding, align_corners=True)
    return sampled[..., 0].transpose(1, 2).reshape(*pixels.shape[:-1], maps.shape[1])


def length_unit(height, width):
    """Pixels of a frame of this size that a pixel stands for in a tuned length: of up to 256 pixels a side, 1.

    Lengths were tuned at that size. There what flow misses is noise of pixels, which no smaller frame has less of; in
    larger ones flow is searched in a shrunk frame, and is off, as all moves, in proportion to the size.
    """
    return max(1.0, max(height, width) / TUNED_SIDE)


def inside_image(pixels, height, width, margin=0.0):
    """(...) bool: pixels (..., 2) within the image, or at most `margin` pixels outside it."""
    x, y = pixels[..., 0], pixels[..., 1]
    return (x >= -margin) & (x <= width - 1 + margin) & (y >= -margin) & (y <= height - 1 + margin)


def inside_video(positions, video_size):
    """(...) bool: raster positions (..., 2) on an image of video_size (H, W, ...). False for NaN."""
    x, y = positions[..., 0], positions[..., 1]
    return (x >= 0) & (x <= video_size[1]) & (y >= 0) & (y <= video_size[0])


def to_raster(pixels, size, original_size):
    """Inside pixels (integer centres, at `size` = (H, W)) -> the user's raster: centres at +0.5, at `original_size`."""
    scale = pixels.new_tensor([original_size[1] / size[1], original_size[0] / size[0]])
    return (pixels + 0.5) * scale


def from_raster(raster, size, original_size):
    """The user's raster coordinates (centres at +0.5, at `original_size`) -> inside pixels; inverse of to_raster."""
    scale = raster.new_tensor([size[1] / original_size[1], size[0] / original_size[0]])
    return raster * scale - 0.5


class BoundedCache:
    """cache[key] = compute(key), the most recently used kept as long as their sizes fit together (always at least two).

    size: of an entry, in the unit of `most`; bytes by default.
    """

    def __init__(self, compute, most=2**30, size=lambda entry: entry.nbytes):
        self.compute, self.most, self.size, self.entries, self.total = compute, most, size, OrderedDict(), 0

    def __getitem__(self, key):
        if key not in self.entries:
            self.entries[key] = self.compute(key)
            self.total += self.size(self.entries[key])
            while len(self.entries) > 2 and self.total > self.most:
                self.total -= self.size(self.entries.popitem(last=False)[1])
        self.entries.move_to_end(key)
        return self.entries[key]

    def __contains__(self, key):
        return key in self.entries

    def __len__(self):
        return len(self.entries)

    def forget(self, key):
        """Drop an entry, if it is there."""
        if key in self.entries:
            self.total -= self.size(self.entries.pop(key))

    def clear(self):
        """Drop all entries."""
        self.entries.clear()
        self.total = 0
