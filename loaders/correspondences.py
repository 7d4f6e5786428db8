"""Training batches: which frame pairs, which pixels, by the published sampling with hard mining (paper section 5.3).

Conventions: P pairs of n points; pixels (x, y) with integer centres. The choice of frames is the host's (numpy), all
work over pixels runs where the correspondences live, without waiting for the device. A batch opens no file (but for
storage 'disk', where the memory map pages in what is read).
"""

import functools
import math
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from loaders.data_dir import decode_flow, mask_bit, mask_byte
from util import constants, inside_image

HOST_LIMIT = 2 * 2**30  # bytes: above this, training on a CPU reads the memory map instead of a copy
CELLS = 64  # of an error map along the longer side
DEVICE_SHARE = 0.4  # of the free GPU memory may go to correspondences


@dataclass(frozen=True)
class MiningSettings:
    """Running error maps; python -m benchmarks.sensitivity --stages training shows what they do."""

    rate: float = 0.2  # by which a cell moves to the errors of a batch
    largest_error: float = 5.0  # px; larger ones count as this: they are outliers of the flow, mostly


SETTINGS = MiningSettings()


class Batch(NamedTuple):
    """frames_1, frames_2 (P,) long; pixels_1, pixels_2 (P, n, 2); rgb_1 (P, n, 3) in [0, 1]; weight (P, n).

    source_frames (P,), source_cells (P, n): where in the error maps the points were drawn.
    """

    frames_1: torch.Tensor
    frames_2: torch.Tensor
    pixels_1: torch.Tensor
    pixels_2: torch.Tensor
    rgb_1: torch.Tensor
    weight: torch.Tensor
    source_frames: torch.Tensor
    source_cells: torch.Tensor

    def to(self, device):
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


class CorrespondencePool:
    """All correspondences of one video as tensors. Its pairs of frames are numbered, by source frame, then target.

    sources, targets (R,): frames of each pair, numpy; flow: int16 (R, H*W, 2); bits: uint8 (R, 2, B). With storage
    'disk', flow and bits are lists of R memory maps instead. Functions that look up take pair numbers (P,) on `device`.
    """

    def __init__(self, data, device, storage="auto"):
        self.height, self.width, self.num_frames = data.height, data.width, data.num_frames
        self.flow_step, rows = data.flow_step, [data.rows(i) for i in self._frames()]
        self.sources = np.repeat(np.arange(self.num_frames), [len(of_frame) for of_frame in rows])
        self.targets = np.concatenate([list(of_frame) for of_frame in rows]).astype(np.int64)
        self.keys = self.sources * self.num_frames + self.targets  # rising
        self.pair_counts = data.pair_counts
        self.storage = self._choose_storage(data, device) if storage == "auto" else storage
        self.device = device if self.storage == "device" else torch.device("cpu")
        rows = [list(of_frame.values()) for of_frame in rows]
        self.flow = self._load(lambda i: data.flow_fixed(i).reshape(-1, self.height * self.width, 2), rows)
        self.bits = self._load(data.valid_bits, rows)
        self.frames = torch.from_numpy(data.frames()).flatten(1, 2).to(self.device)  # (N, H*W, 3) uint8
        self.data = data

    def _frames(self):
        return range(self.num_frames)

    def _choose_storage(self, data, device):
        size = sum(data.flow_fixed(i).nbytes + data.valid_bits(i).nbytes for i in self._frames())
        if device.type == "cuda":
            return "device" if size < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0] else "disk"
        return "host" if size < HOST_LIMIT else "disk"

    def _load(self, read, rows):
        """Rows of what read(i) gives of each source frame, (P_i, ...) -> (R, ...) in one block, or R memory maps.

        For a block a frame's map is gone before the next is read: it counts as memory while it is there.
        """
        if self.storage == "disk":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # the map is read-only, and so is what is done with it
                arrays = [torch.from_numpy(read(i)) for i in self._frames()]
                return [array[row] for array, of_frame in zip(arrays, rows) for row in of_frame]
        first, counts = read(0), [len(of_frame) for of_frame in rows]
        block = torch.empty((sum(counts), *first.shape[1:]), dtype=getattr(torch, first.dtype.name), device=self.device)
        for i, (part, of_frame) in enumerate(zip(block.split(counts), rows)):
            part.copy_(torch.from_numpy(np.array(read(i)[of_frame])))
        return block

    @functools.cached_property
    def counts(self):
        """int32 (N, H*W): number of valid partners of every pixel; of all samplers only the volume's wants them."""
        counts = np.stack([self.data.count_map(i) for i in self._frames()]).astype(np.int32)
        return torch.from_numpy(counts).flatten(1).to(self.device)

    # Numbers of pairs (numpy)

    def number(self, sources, targets):
        """Numbers of the pairs of frames (P,), (P,); -1 where a pair is not stored."""
        wanted = sources * self.num_frames + targets
        place = np.searchsorted(self.keys, wanted).clip(max=len(self.keys) - 1)
        return np.where(self.keys[place] == wanted, place, -1)

    def numbers_near(self, sources, max_interval):
        """first, end (P,): the pairs of each frame (P,) at most max_interval apart are numbered first to end - 1."""
        start, last = sources * self.num_frames, self.num_frames - 1
        return (np.searchsorted(self.keys, start + (sources - max_interval).clip(min=0)),
                np.searchsorted(self.keys, start + (sources + max_interval).clip(max=last), side="right"))

    # What the pairs hold

    def masks(self, numbers):
        """Pair numbers (P,) -> cycle, occluded bool (P, H*W)."""
        bits = torch.stack([self.bits[row] for row in numbers.tolist()]) if self.on_disk else self.bits[numbers]
        shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=bits.device)
        flat = (bits[..., None] >> shifts & 1).flatten(2)[..., : self.height * self.width].bool()
        return flat[:, 0], flat[:, 1]

    def cycle_at(self, numbers, index):
        """Pair numbers (P,), pixel index (P, n) -> whether cycle-consistent, bool (P, n)."""
        return self._mask_at(0, numbers, index)

    def occluded_at(self, numbers, index):
        """The same -> whether hidden, with the flow of what hides the pixel that returns to itself."""
        return self._mask_at(1, numbers, index)

    def _mask_at(self, which, numbers, index):
        if self.on_disk:
            found = torch.stack([self.bits[row][which, at] for row, at in zip(numbers.tolist(), mask_byte(index))])
        else:
            start = numbers[:, None] * self.bits[0].numel() + which * self.bits[0].shape[-1]
            found = self.bits.flatten()[start + mask_byte(index)]
        return mask_bit(found, index).bool()

    def flow_at(self, numbers, index):
        """Pair numbers (P,), pixel index (P, n) -> flow (P, n, 2) in pixels."""
        if self.on_disk:
            flow = torch.stack([self.flow[row][at] for row, at in zip(numbers.tolist(), index)])
        else:
            flow = self.flow.flatten(0, 1)[numbers[:, None] * (self.height * self.width) + index]
        return decode_flow(flow, self.flow_step)

    @property
    def on_disk(self):
        return self.storage == "disk"

    def colours(self, frames, pixels):
        """Bilinear colours of frames (P,) at pixels (P, n, 2) -> (P, n, 3) in [0, 1]; zeros outside."""
        base = pixels.floor()
        total = 0
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
            corner = base + constants([dx, dy], pixels)
            weight = (1 - (pixels - corner).abs()).prod(-1) * inside_image(corner, self.height, self.width)
            x = corner[..., 0].clamp(0, self.width - 1).long()
            y = corner[..., 1].clamp(0, self.height - 1).long()
            total = total + weight[..., None] * self.frames[frames[:, None], y * self.width + x]
        return total / 255


def pair_weight(distance, max_interval, kind="cos"):
    """Weight of pairs by frame distance d: cos((d - 1) / d_max * pi/2) as released, its inverse in the paper."""
    weight = np.cos((np.asarray(distance) - 1.0) / max_interval * np.pi / 2)
    return weight if kind == "cos" else 1 / np.maximum(weight, 1e-3)  # 1e-3: d may come near d_max + 1


def draw(weights, count, generator):
    """`count` indices per row of weights (P, M), with replacement, proportional to the weights -> (P, count) long."""
    cumulative = weights.double().cumsum(-1)  # float64: a long float32 sum would swallow small weights
    uniform = torch.rand(len(weights), count, generator=generator, dtype=torch.float64, device=weights.device)
    index = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return index.clamp(max=weights.shape[1] - 1)


def blur(maps):
    """5 x 5 Gaussian blur of maps (N, h, w), the binomial kernel of cv2.GaussianBlur((5, 5), 0)."""
    kernel = torch.tensor([1.0, 4, 6, 4, 1], device=maps.device) / 16
    padded = F.pad(maps[:, None], (2, 2, 2, 2), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 5, 1)), kernel.view(1, 1, 1, 5))[:, 0]


class Sampler:
    """Draws batches from a pool; hard mining once it has error maps (set_error_maps, or learn with online=True)."""

    def __init__(self, pool, seed=0, hard=True, count_map=True, online=False, pair_weight="cos", swap=True):
        self.pool, self.hard, self.count_map, self.pair_weight, self.swap = pool, hard, count_map, pair_weight, swap
        self.generator = torch.Generator(pool.device)
        self.reseed(seed)
        # online error maps are a running mean over square cells
        self.cell = max(2, round(max(pool.height, pool.width) / CELLS)) if online else 1
        self.grid = (math.ceil(pool.height / self.cell), math.ceil(pool.width / self.cell))
        y, x = torch.meshgrid(torch.arange(pool.height), torch.arange(pool.width), indexing="ij")
        self.cell_of_pixel = (y // self.cell * self.grid[1] + x // self.cell).flatten().to(pool.device)
        self.online = online
        self.running = torch.zeros(pool.num_frames, math.prod(self.grid), device=pool.device) if online else None
        self.error_maps = None  # (N, cells), pixels
        self.frame_error = None  # (N,) numpy

    def reseed(self, seed):
        self.random = np.random.default_rng(seed)
        self.generator.manual_seed(seed)

    def sample(self, num_pairs, num_points, max_interval):
        """One batch of pairs at most max_interval frames apart."""
        pool = self.pool
        numbers = self._choose_pairs(num_pairs, max_interval)
        distance = np.abs(pool.sources[numbers] - pool.targets[numbers])
        sources, targets, weight, adjacent, numbers = self._to_pool(
            pool.sources[numbers], pool.targets[numbers],
            pair_weight(distance, max_interval, self.pair_weight).astype(np.float32), distance == 1, numbers)
        cycle, occluded = pool.masks(numbers)
        mask = cycle | occluded | adjacent[:, None]
        empty = ~mask.any(-1, keepdim=True)
        index = draw(self._pixel_weights(mask | empty, sources), num_points, self.generator)
        pixels_1 = torch.stack([index % pool.width, index // pool.width], dim=-1).float()
        pixels_2 = pixels_1 + pool.flow_at(numbers, index)
        weight = (weight[:, None] * ~empty).expand(-1, num_points)
        return self._swap(sources, targets, pixels_1, pixels_2, weight=weight, covisible=cycle.gather(1, index),
                          index=index)

    def _to_pool(self, *arrays):
        """numpy arrays -> tensors where the correspondences live."""
        return [torch.from_numpy(array).to(self.pool.device, non_blocking=True) for array in arrays]

    def _choose_pairs(self, num_pairs, max_interval):
        """-> numbers of pairs (P,), numpy."""
        sources = self.random.choice(self.pool.num_frames, num_pairs, p=self._frame_probability())
        return self._choose_targets(sources, max_interval)

    def _frame_probability(self):
        """(N,) that pairs start from each frame; None: from all alike."""
        return self.frame_error / self.frame_error.sum() if self.hard and self.frame_error is not None else None

    def _choose_targets(self, sources, max_interval):
        """Source frames (P,) -> numbers of pairs (P,), one of each frame's at most max_interval apart."""
        ranges = zip(sources.tolist(), *self.pool.numbers_near(sources, max_interval))
        return np.array([first + self.random.choice(end - first, p=self._probability(i, self.pool.targets[first:end]))
                         for i, first, end in ranges])

    def _probability(self, i, partners):
        """Proportional to the number of valid correspondences; the adjacent frames get 0.5 each, then all is scaled."""
        weights = self.pool.pair_counts[i, partners].astype(float)
        weights /= max(weights.sum(), 1)
        weights[np.abs(partners - i) == 1] = 0.5
        return weights / weights.sum()

    def _pixel_weights(self, mask, sources):
        """Sampling weights (P, H*W) of the pixels in mask (P, H*W), for pairs with source frames (P,)."""
        mask = mask.float()
        if not self.hard:
            return mask
        if self.error_maps is None:
            return mask / (self.pool.counts[sources] + 1).sqrt() if self.count_map else mask
        error = self.error_maps[sources][:, self.cell_of_pixel] * mask
        # half by error, half uniform; where all errors are 0 only the uniform half is left
        return error / error.sum(-1, keepdim=True).clamp(min=1e-12) + mask / mask.sum(-1, keepdim=True)

    def _swap(self, frames_1, frames_2, pixels_1, pixels_2, weight, covisible, index):
        cells, sources = self.cell_of_pixel[index], frames_1
        if self.swap:
            swap = torch.rand(len(frames_1), generator=self.generator, device=frames_1.device) < 0.5
            weight = weight * (covisible | ~swap[:, None])
            frames_1, frames_2 = torch.where(swap, frames_2, frames_1), torch.where(swap, frames_1, frames_2)
            swap = swap[:, None, None]
            pixels_1, pixels_2 = torch.where(swap, pixels_2, pixels_1), torch.where(swap, pixels_1, pixels_2)
        rgb_1 = self.pool.colours(frames_1, pixels_1)
        return Batch(frames_1, frames_2, pixels_1, pixels_2, rgb_1=rgb_1, weight=weight, source_frames=sources,
                     source_cells=cells)

    # Hard mining

    def set_error_maps(self, maps):
        """Error maps (N, H, W) in pixels, rendered by the trainer; blurred here."""
        self.error_maps = blur(maps.to(self.pool.device).float()).flatten(1)
        self.frame_error = maps.float().mean((1, 2)).double().cpu().numpy() + 1e-6  # 1e-6: a perfect frame is kept too

    def learn(self, batch, error):
        """Online maps: move the cells that the batch touched towards its flow errors (P, n), in pixels."""
        if not self.online:
            return
        # copies that wait, where the pool is not on the model's device: what is read here has to have arrived
        frames, places, weight, error = (tensor.detach().to(self.pool.device) for tensor in (
            batch.source_frames, batch.source_cells, batch.weight, error))
        cells = frames[:, None] * math.prod(self.grid) + places
        weighted = (weight > 0).float().flatten()
        error = error.flatten().clamp(max=SETTINGS.largest_error) * weighted
        running = self.running.flatten()
        total = torch.zeros_like(running).index_add_(0, cells.flatten(), error)
        number = torch.zeros_like(running).index_add_(0, cells.flatten(), weighted)
        step = SETTINGS.rate * (total / number.clamp(min=1) - running)
        self.running += torch.where(number > 0, step, 0).view_as(self.running)

    def learned(self):
        """What batches have taught it, in place: tensors, or None. Of several processes each sees its own batches."""
        return [self.running]

    def beliefs(self):
        """{name: tensor} of what else the curves are to show."""
        return {}

    def publish(self):
        """Online maps: sample by the running errors from now on. Waits for the device: call it rarely."""
        if self.online:
            self.error_maps = self.running
            self.frame_error = self.running.mean(-1).double().cpu().numpy() + 1e-6

    def state_dict(self):
        """Everything that the next batches depend on."""
        return {"random": self.random.bit_generator.state, "generator": self.generator.get_state(),
                "running": self.running, "error_maps": self.error_maps,
                "frame_error": None if self.frame_error is None else self.frame_error.tolist()}

    def load_state_dict(self, state):
        self.random.bit_generator.state = state["random"]
        self.generator.set_state(state["generator"].cpu())
        self.running, maps = (None if state[key] is None else state[key].to(self.pool.device)
                              for key in ("running", "error_maps"))
        self.error_maps = self.running if self.online and maps is not None else maps
        self.frame_error = None if state["frame_error"] is None else np.array(state["frame_error"])
