"""What a piece of work costs: time, CPU time, memory, and how busy the GPU was."""

import contextlib
import resource
import subprocess
import threading
import time
from dataclasses import dataclass, field

import psutil
import torch

EVERY_SECONDS = 0.05  # between looks at the memory


@dataclass
class Cost:
    """seconds; cpu_seconds of this process and of those it started and waited for; memory: peak bytes of all these;
    gpu_memory: peak bytes that torch held on the GPU; busy: percent of the time in which the GPU worked, samples.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory: int = 0
    gpu_memory: int = 0
    busy: list = field(default_factory=list)

    @property
    def gpu_busy(self):
        """Mean percent, or None where there is no GPU or the work was too short to see any."""
        return sum(self.busy) / len(self.busy) if self.busy else None


@contextlib.contextmanager
def metered(cost):
    """Add what is done inside to a Cost."""
    gpu, done = torch.cuda.is_available(), threading.Event()
    if gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    watchers = [threading.Thread(target=watch_memory, args=(cost, done), daemon=True)]
    with gpu_samples(cost) if gpu else contextlib.nullcontext():
        for watcher in watchers:
            watcher.start()
        began, cpu = time.perf_counter(), cpu_seconds()
        try:
            yield
        finally:
            if gpu:
                torch.cuda.synchronize()
                cost.gpu_memory = max(cost.gpu_memory, torch.cuda.max_memory_allocated())
            cost.seconds += time.perf_counter() - began
            cost.cpu_seconds += cpu_seconds() - cpu
            done.set()
            for watcher in watchers:
                watcher.join()


def cpu_seconds():
    """Of this process and of those that it started and waited for."""
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (
        resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def watch_memory(cost, done):
    """Until `done` is set, keep the largest resident size in cost.memory."""
    while True:
        cost.memory = max(cost.memory, resident_bytes())
        if done.wait(EVERY_SECONDS):
            return


def resident_bytes():
    """Of this process and of all that it started; libraries that they share count each time."""
    own, total = psutil.Process(), 0
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


@contextlib.contextmanager
def gpu_samples(cost):
    """Append to cost.busy what nvidia-smi says while the context lasts."""
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    try:
        process = subprocess.Popen(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except FileNotFoundError:
        yield
        return
    try:
        yield
    finally:
        process.terminate()
        lines, _ = process.communicate()
        cost.busy += [int(line) for line in lines.split() if line.isdigit()]
