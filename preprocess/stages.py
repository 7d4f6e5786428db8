"""The stages after the frames: flow -> filter -> chain -> counts. Each does the source frames it is given.

A stage writes one file per source frame; a file that is there is complete (see loaders.data_dir), so what is finished
is kept whatever interrupts it. One source frame's pairs are in memory at a time; for a GPU, those of several.
"""

import numpy as np
import torch

from flow.layers import SURE, UNKNOWN, crossing
from loaders.data_dir import DataDir, encode_flow, pack_mask, unpack_mask
from preprocess import chain as chaining
from preprocess import filter as filtering
from preprocess.labels import label_frames
from util import BoundedCache, UserError

FOLDERS = {  # what each stage writes; a stage that is done again makes those after it stale
    "flow": ("adjacent", "ahead", "flow", "first_pass"),  # ahead and first_pass: what older versions may have left
    "filter": ("layers", "valid_direct"),
    "chain": ("flow_chained", "valid"),
    "counts": ("counts",),
}
FRAME_CACHE_BYTES, IMAGE_CACHE_BYTES, FEATURE_CACHE_BYTES = 2**27, 2**28, 2**29  # of each process
FLOW_BYTES_AT_ONCE = 2**29  # float32 flow of the source frames that are estimated together
SOURCES_AT_ONCE = 8
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
        self.frames = BoundedCache(data.frame, FRAME_CACHE_BYTES)  # uint8 (H, W, 3)
        self.images = BoundedCache(self.image, IMAGE_CACHE_BYTES)  # float (H, W, 3) in [0, 1]
        self.open_arrays = BoundedCache(lambda key: data.array(*key), OPEN_ARRAYS, size=lambda _: 1)  # (folder, frame)
        self.features = BoundedCache(lambda i: appearance(self.frames[i]), FEATURE_CACHE_BYTES)
        self.layers = BoundedCache(self.sure_layers, FRAME_CACHE_BYTES)

    def sure_layers(self, i):
        """uint8 (H, W): labels, UNKNOWN where they are not sure."""
        labels, confidence = self.data.layers(i)
        return np.where(confidence >= SURE, labels, np.uint8(UNKNOWN))

    def crossing(self, i, j, flow):
        """bool (H, W), on the device: flow (H, W, 2) from frame i to frame j leads from one layer to another."""
        return torch.from_numpy(crossing(self.layers[i], self.layers[j], flow.cpu().numpy())).to(self.device)

    def image(self, i):
        return torch.from_numpy(self.frames[i]).to(self.device).float() / 255

    def flow(self, i, j):
        """Direct flow (H, W, 2); where it is deleted already chained flow, the same where the direct one is trusted."""
        try:
            stored = self.open_arrays["flow", i]
        except UserError:  # deleted already, maybe by another process just now
            stored = self.open_arrays["flow_chained", i]
        fixed = np.array(stored[self.data.partners(i).index(j)])
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


class FrameWork:
    """The stages of one source frame, each from what the data directory holds to what it shall hold.

    Each returns the number of pairs that it has done.
    """

    def __init__(self, data, estimator, plan, device):
        self.data, self.estimator, self.plan = data, estimator, plan
        self.reader, self.loaded = Reader(data, plan.appearance, device), False

    def load(self):
        """Give the frames to the estimator, once."""
        if not self.loaded:
            self.estimator.load_frames(FrameList(self.data, self.reader.frames), self.adjacent_flow)
            self.loaded = True

    def adjacent_flow(self, i):
        """What `adjacent` has stored, or stores now."""
        if not self.data.has("adjacent", i):
            self.adjacent(i)
        return np.array(self.data.array("adjacent", i))

    def adjacent(self, *frames):
        """Flow between frames and the next ones, on which the flow of many frames depends."""
        self.load()
        for i, flow in zip(frames, self.estimator.adjacent_many(frames)):
            self.data.write("adjacent", i, flow)
        return len(frames)

    def flow(self, *frames):
        """Flow to the partners, of one frame or of several at once."""
        self.load()
        data, sources = self.data, [(i, self.data.partners(i)) for i in frames]
        for (i, partners), flow in zip(sources, self.estimator.flow_from_many(sources)):
            assert flow.shape == (len(partners), data.height, data.width, 2), flow.shape
            data.write("flow", i, np.stack([encode_flow(one, data.flow_step) for one in flow]))
        return sum(len(partners) for _, partners in sources)

    def filter(self, i):
        """Cycle and occluded masks of the direct flow; empty for frames more than max_direct apart."""
        partners, reader, plan = self.data.partners(i), self.reader, self.plan
        masks = filtering.filter_frame(i, partners, reader.flow, reader.features, plan.cycle_threshold)
        masks[[abs(i - j) > plan.max_direct for j in partners]] = False
        if plan.layers is not None:
            for pair, j in enumerate(partners):
                masks[pair, 0] &= ~reader.crossing(i, j, reader.flow(i, j)).cpu().numpy()
        self.data.write("valid_direct", i, pack_mask(masks))
        return len(partners)

    def chain(self, i):
        """Chained flow and masks; the frame's direct flow is deleted once its chained flow is there."""
        data, reader, partners = self.data, self.reader, self.data.partners(i)
        untrusted = data.manifest["settings"]["chain"]["untrusted"]
        flows = np.empty((len(partners), data.height, data.width, 2), np.int16)
        bits = np.empty((len(partners), 2, -(-data.height * data.width // 8)), np.uint8)
        walk = chaining.chain_frame(i, partners, reader.flow, reader.masks, reader.images, reader.features,
                                    trusted_up_to=self.plan.max_direct,
                                    direct_up_to=self.plan.max_direct if untrusted == "direct" else 0)
        for j, flow, cycle, occluded in walk:
            if self.plan.layers is not None:
                cycle = cycle & ~reader.crossing(i, j, flow)
            flows[partners.index(j)] = encode_flow(flow.cpu().numpy(), data.flow_step)
            bits[partners.index(j)] = pack_mask(torch.stack([cycle, occluded]).cpu().numpy())
        data.write("flow_chained", i, flows)
        data.write("valid", i, bits)
        if not self.plan.keep_direct:
            reader.delete_direct_flow(i)
        return len(partners)


def open_work(path, *arguments):
    """FrameWork in a worker process: of the data directory `path`."""
    return FrameWork(DataDir.open(path, unfinished=True), *arguments, torch.device("cpu"))


def estimate_flow(data, work, workers, todo, bar):
    """Flow of every source frame of `todo` to its partners."""
    walks = todo and work.estimator.walks
    missing = [i for i in range(data.num_frames - 1) if not data.has("adjacent", i)] if walks else []
    with bar.steps("adjacent flow", len(missing)) as advance:
        share_out("adjacent", at_once(missing, 2, work, workers), work, workers, advance)
    longest = max(map(len, data.manifest["partners"]))
    with bar.pairs("flow", data, todo) as advance:
        share_out("flow", at_once(todo, longest, work, workers), work, workers, advance)
    data.remove("adjacent")
    finish(data, "flow")


def at_once(frames, pairs, work, workers):
    """Groups of the frames, of so many pairs each, whose flow is estimated together: several here, for a GPU."""
    together = 1
    if workers is None and work.reader.device.type != "cpu":
        held = 8 * work.data.height * work.data.width * pairs * work.estimator.flows_held
        together = min(SOURCES_AT_ONCE, max(1, FLOW_BYTES_AT_ONCE // held))
    return [frames[k : k + together] for k in range(0, len(frames), together)]


def carry_layers(data, work, bar):
    """Layers of all frames, from those of some; here, one frame after the other, as each asks the one before."""
    missing = [i for i in range(data.num_frames) if not data.has("layers", i)]
    if work.plan.layers is None or not missing:
        return
    with bar.steps("layers", len(missing)) as advance:
        flow = BoundedCache(lambda pair: work.reader.flow(*pair).cpu().numpy(), FRAME_CACHE_BYTES)
        label_frames(data, work.plan.layers, lambda i, j: flow[i, j], advance)


def filter_flow(data, work, workers, todo, bar):
    """Masks of the direct flow of every source frame of `todo`."""
    with bar.pairs("filter", data, todo) as advance:
        share_out("filter", zip(todo), work, workers, advance)
    finish(data, "filter")


def chain_flow(data, work, workers, todo, bar):
    """Chained flow and masks of every source frame of `todo`."""
    with bar.pairs("chain", data, todo) as advance:
        share_out("chain", zip(todo), work, workers, advance)
    finish(data, "chain")


def share_out(what, groups, work, workers, advance):
    """Have each group of frames done, by the workers or, where there are none, here."""
    done = (getattr(work, what)(*frames) for frames in groups) if workers is None else workers.do(what, groups)
    for pairs in done:
        advance(pairs)


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
