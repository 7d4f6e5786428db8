"""Does a step cost more for a larger or longer video? python -m benchmarks.step_size --sizes 256x144x50 854x480x50

Steps of a preset on data directories of random frames whose flow pans, alternating in one process; prints the median
CPU milliseconds of each part of a step, as a markdown table, and how each size compares to the first.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import train
from benchmarks.step_profile import WARM_UP, Step
from evaluation import report
from loaders.data_dir import DataDir, encode_flow, pack_mask, write_image
from preprocess.pairs import choose_pairs
from util import UserError, command

PAN = 0.004, 0.002  # of the width and of the height, from each frame to the next
VALID = 0.6  # of the pixels are cycle-consistent


def make_data(path, width, height, num_frames):
    """A data directory as large as that of a real video; what is in it does not matter to the cost."""
    random, partners = np.random.default_rng(0), choose_pairs(num_frames)
    video = {"name": path.name, "source": "random", "fingerprint": "0", "num_frames": num_frames, "fps": 24,
             "height": height, "width": width, "original_height": height, "original_width": width}
    data = DataDir.create(path, video)
    for i in range(num_frames):
        write_image(path / "color" / f"{i:05d}.png", random.integers(0, 256, (height, width, 3), np.uint8))
        pan = (np.array(partners[i]) - i)[:, None] * np.array(PAN) * (width, height)
        flow = encode_flow(pan, data.flow_step)[:, None, None].repeat(height, 1).repeat(width, 2)
        cycle = random.random((len(partners[i]), height, width), np.float32) < VALID
        data.write("flow", i, flow)
        data.write("valid_direct", i, pack_mask(np.stack([cycle, np.zeros_like(cycle)], axis=1)))
        data.write("counts", i, cycle.sum(0).astype(np.uint16))
        data.manifest["pair_counts"].append(cycle.sum((1, 2)).tolist())
    data.manifest |= {"partners": partners, "finished": ["frames", "flow", "filter", "counts"]}
    data.save_manifest()
    return path


def size_of(text):
    """'256x144x50' -> width, height, frames."""
    try:
        width, height, frames = (int(part) for part in text.split("x"))
    except ValueError:
        raise UserError(f"--sizes {text}: expected WIDTHxHEIGHTxFRAMES, such as 256x144x50") from None
    return width, height, frames


def measure(config, sizes, storage, steps, folder):
    """{size: {part of a step: median CPU milliseconds}}"""
    running = {}
    for size in sizes:
        data = make_data(Path(folder) / size, *size_of(size))
        arguments, options = train.parse(["--config", config, "--data_dir", str(data), "--out_dir", f"{data}-run",
                                          "--depth_start", "flat", "--storage", storage, "--device", "cpu"])
        torch.set_num_threads(options.threads or torch.get_num_threads())
        running[size] = Step(arguments, options, torch.device("cpu"), clock=time.process_time)
        for _ in range(WARM_UP):
            running[size]()
        running[size].parts.sampler.publish()  # pixels are drawn by error maps from here on
        running[size].seconds.clear()
    for _ in range(steps):
        for step in running.values():
            step()
    return {size: {part: 1e3 * statistics.median(seconds) for part, seconds in step.seconds.items()}
            for size, step in running.items()}


@command
def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.step_size", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["256x144x50", "854x480x50"], metavar="WxHxN",
                        help="width, height and number of frames [256x144x50 854x480x50]")
    parser.add_argument("--config", metavar="FILE", default="configs/default.txt", help="a preset [%(default)s]")
    parser.add_argument("--storage", default="auto", help="of train.py [%(default)s]")
    parser.add_argument("--steps", type=int, default=30, help="timed steps of each size [%(default)s]")
    own = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        parts = measure(own.config, own.sizes, own.storage, own.steps, folder)
    whole = {size: sum(milliseconds.values()) for size, milliseconds in parts.items()}
    first = own.sizes[0]
    print(f"CPU ms of a step of {own.config}; torch {torch.__version__}, {torch.get_num_threads()} thread(s)\n")
    print(report.markdown_table(["size", *parts[first], "all", "of the first"], [
        [size, *(f"{value:.1f}" for value in parts[size].values()), f"{whole[size]:.1f}",
         f"{whole[size] / whole[first]:.2f}"] for size in own.sizes
    ]))


if __name__ == "__main__":
    main()
