"""The stages after the frames: flow -> filter -> chain -> counts. Each does the source frames it is given.

A stage writes one file per source frame; a file that is there is complete (see loaders.data_dir), so what is finished
is kept whatever interrupts it. One source frame's pairs are in memory at a time.
"""

import numpy as np
import torch

from loaders.data_dir import encode_flow, pack_mask, unpack_mask
from preprocess import chain as chaining
from preprocess import filter as filtering
from util import BoundedCache

FOLDERS = {  # what each stage writes; a stage that is done again makes those after it stale
    "flow": ("first_pass", "flow"),
    "filter": ("valid_direct",),
    "chain": ("flow_chained", "valid"),
    "counts": ("counts",),
}
IMAGE_CACHE_BYTES = 2**29
FLOW_BYTES_AT_ONCE = 2**29  # float32 flow of the source frames that are estimated together
SOURCES_AT_ONCE = 8  # on CUDA
OPEN_ARRAYS = 200  # memory-mapped files held open


def finish(data, stage):
    """Record that a stage is complete."""
    if stage not in data.manifest["finished"]:
        data.manifest["finished"].append(stage)
        data.save_manifest()


class Reader:
    """Frames, features, flow and masks as tensors on the device, read when needed and cached within bounds."""

    def __init__(self, data, appearance, device):
        self.data, self.device = data, device
        self.frames = BoundedCache(data.frame, IMAGE_CACHE_BYTES)  # uint8 (H, W, 3)
        self.images = BoundedCache(self.image, IMAGE_CACHE_BYTES)  # float (H, W, 3) in [0, 1]
        self.open_arrays = BoundedCache(lambda key: data.array(*key), OPEN_ARRAYS, size=lambda _: 1)  # (folder, frame)
        self.features = BoundedCache(lambda i: appearance(self.frames[i]))

    def image(self, i):
        return torch.from_numpy(self.frames[i]).to(self.device).float() / 255

    def flow(self, i, j):
        """Direct flow (H, W, 2); where it is deleted already, adjacent pairs' chained flow is the same."""
        folder = "flow" if ("flow", i) in self.open_arrays or self.data.has("flow", i) else "flow_chained"
        fixed = np.array(self.open_arrays[folder, i][self.data.partners(i).index(j)])
        return torch.from_numpy(fixed).to(self.device).float() * self.data.flow_step

    def masks(self, i, j):
        """Direct cycle and occluded masks (H, W)."""
        bits = self.open_arrays["valid_direct", i][self.data.partners(i).index(j)]
        return torch.from_numpy(unpack_mask(bits, self.data.height, self.data.width)).to(self.device).unbind()

    def delete_direct_flow(self, i):
        """Delete source frame i's direct flow; an open file would keep its disk space."""
        self.open_arrays.forget(("flow", i))
        self.data.remove("flow", i)


class FrameList:
    """The frames as a sequence for flow estimators, decoded when asked for."""

    def __init__(self, data, frames):
        self.data, self.frames = data, frames

    def __len__(self):
        return self.data.num_frames

    def __getitem__(self, i):
        return self.frames[i]


def estimate_flow(data, estimator, reader, todo, device, bar):
    """Flow of every source frame to its partners. On CUDA several source frames go together where the estimator can."""
    pixels, longest = data.height * data.width, max(map(len, data.manifest["partners"]))
    at_once = min(SOURCES_AT_ONCE, max(1, FLOW_BYTES_AT_ONCE // (8 * pixels * longest))) if device.type == "cuda" else 1
    with bar.pairs("flow", data, todo) as advance:
        if todo:
            estimator.load_frames(FrameList(data, reader.frames))
        for first in range(0, len(todo), at_once):
            sources = [(i, data.partners(i)) for i in todo[first : first + at_once]]
            if at_once > 1 and hasattr(estimator, "flow_from_many"):
                flows = estimator.flow_from_many(sources)
            else:
                flows = (estimator.flow_from(i, partners) for i, partners in sources)
            for (i, partners), flow in zip(sources, flows):
                assert flow.shape == (len(partners), data.height, data.width, 2), flow.shape
                data.write("flow", i, np.stack([encode_flow(one, data.flow_step) for one in flow]))
                advance(len(partners))
    finish(data, "flow")


def filter_flow(data, reader, todo, cycle_threshold, max_direct, bar):
    """Cycle and occluded masks of the direct flow; empty for frames more than max_direct apart."""
    with bar.pairs("filter", data, todo) as advance:
        for i in todo:
            masks = filtering.filter_frame(i, data.partners(i), reader.flow, reader.features, cycle_threshold)
            masks[[abs(i - j) > max_direct for j in data.partners(i)]] = False
            data.write("valid_direct", i, pack_mask(masks))
            advance(len(masks))
    finish(data, "filter")


def chain_flow(data, reader, todo, keep_direct, bar):
    """Chained flow and masks; each source frame's direct flow is deleted once its chained flow is there."""
    height, width, settings = data.height, data.width, data.manifest["settings"]
    direct_up_to = settings["filter"]["max_direct"] if settings["chain"]["untrusted"] == "direct" else 0
    with bar.pairs("chain", data, todo) as advance:
        for i in todo:
            partners = data.partners(i)
            flows = np.empty((len(partners), height, width, 2), np.int16)
            bits = np.empty((len(partners), 2, -(-height * width // 8)), np.uint8)
            walk = chaining.chain_frame(i, partners, reader.flow, reader.masks, reader.images, reader.features,
                                        direct_up_to)
            for j, flow, cycle, occluded in walk:
                flows[partners.index(j)] = encode_flow(flow.cpu().numpy(), data.flow_step)
                bits[partners.index(j)] = pack_mask(torch.stack([cycle, occluded]).cpu().numpy())
                advance(1)
            data.write("flow_chained", i, flows)
            data.write("valid", i, bits)
            if not keep_direct:
                reader.delete_direct_flow(i)
    finish(data, "chain")


def count_valid(data, bar):
    """Per pixel, the number of pairs it is valid in; per pair, the number of valid pixels (into the manifest)."""
    pair_counts = []
    with bar.pairs("counts", data, range(data.num_frames)) as advance:
        for i in range(data.num_frames):
            count_map, row = np.zeros((data.height, data.width), np.uint16), []
            for bits in data.valid_bits(i):
                valid = unpack_mask(bits, data.height, data.width).any(axis=0)
                count_map += valid
                row.append(int(valid.sum()))
            data.write("counts", i, count_map)
            pair_counts.append(row)
            advance(len(row))
    data.manifest["pair_counts"] = pair_counts
    finish(data, "counts")
