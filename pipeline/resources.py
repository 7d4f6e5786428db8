"""What a task of a video asks of a machine: cores, bytes of memory, a share of a GPU; and bytes of disk.

Sizes are (N, H, W) as processed. Figures behind the constants: docs/figures.md and benchmarks/results/.
"""

import math
from dataclasses import dataclass, replace

from preprocess.frames import processed_size
from preprocess.pairs import choose_pairs

UNKNOWN = (100, 480, 854)  # what a video is taken to be that does not tell its size
PROGRAM = 0.8e9  # bytes of a process with torch
FLOW_WORKER = 1.5e9  # bytes of a worker at 854 x 480
ON_GPU = 2.5e9  # bytes of training on a GPU, besides its correspondences
GPU_MEMORY = 16e9  # bytes that a GPU is taken to have: a share is of that
MOST_CORES = 8  # of one preprocessing
WORTH_A_CORE = 20e6  # pixels of all pairs that are worth another core: about half a minute


@dataclass(frozen=True)
class Need:
    """cores; memory in bytes; gpus: whole ones, or a share of one in quarters."""

    cores: int = 1
    memory: int = int(PROGRAM)
    gpus: float = 0

    def within(self, cores, memory, gpus):
        """No more than the largest machine has: a request for more would wait for ever."""
        return Need(max(1, min(self.cores, cores)), min(self.memory, memory), min(self.gpus, gpus))

    def more(self):
        """What is asked for after memory was short."""
        return replace(self, memory=2 * self.memory)


def as_processed(size, max_side=None, start=None, end=None):
    """(N, H, W) after preprocessing's options."""
    count, height, width = size or UNKNOWN
    count = len(range(count)[start or 0 : end])
    return max(2, count), *processed_size(height, width, max_side)


def num_pairs(size, max_interval=None):
    return sum(map(len, choose_pairs(size[0], max_interval)))


def correspondences(size, max_interval=None):
    """Bytes of flow and masks of all pairs."""
    return 4.25 * num_pairs(size, max_interval) * size[1] * size[2]


def disk(size, max_interval=None):
    """Bytes that a data directory takes at most while it is made: direct flow goes as the chained one comes."""
    count, height, width = size
    return 1.1 * correspondences(size, max_interval) + 5 * count * height * width


def needs(size, max_interval=None, flow_on_gpu=False):
    """{task: Need}: of data (preprocessing), fit (training) and outputs, where there are GPUs (see Need.within)."""
    pixels, stored = size[1] * size[2], correspondences(size, max_interval)
    cores = max(1, min(MOST_CORES, int(pixels * num_pairs(size, max_interval) // WORTH_A_CORE)))
    worker = FLOW_WORKER * max(0.2, pixels / (854 * 480))
    share = min(1, math.ceil(4 * (ON_GPU + stored) / GPU_MEMORY) / 4)
    return {
        "data": Need(cores, int(PROGRAM + cores * worker), share if flow_on_gpu else 0),
        "fit": Need(1, int(PROGRAM + stored), share),
        "outputs": Need(1, int(PROGRAM + stored / 2), share),
    }


def greatest(several):
    """The Need that covers each of them."""
    several = list(several)
    return Need(*(max(getattr(need, field) for need in several) for field in ("cores", "memory", "gpus")))
