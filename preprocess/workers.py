"""Source frames shared out among processes, for stages that run on the CPU.

Each worker is a fresh process with one thread a library, which makes its state once and then does a frame at a time. A
frame that is done is on the disk, so that a worker that dies loses the frames in hand and nothing else; matches of
features alone are stored when all are found.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import cv2
import psutil
import torch

from util import UserError

IN_HAND = 2  # frames a worker may have waiting for it
STATE = None  # of a worker: what its initialiser made


def usable_cores():
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def one_thread():
    """Within the context, torch and OpenCV use one thread."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    set_threads(1, 1)
    try:
        yield
    finally:
        set_threads(*before)


def set_threads(of_torch, of_opencv):
    torch.set_num_threads(of_torch)
    cv2.setNumThreads(of_opencv)


def available_memory():
    """Bytes that processes can have without swapping."""
    return psutil.virtual_memory().available


class Workers:
    """So many processes, started when first needed. make(*arguments), called in each, makes its state; both pickle."""

    def __init__(self, count, make, *arguments):
        self.count, self.pool = count, None
        self.made_from = pickle.dumps((make, arguments))  # as they are now

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def do(self, what, tasks):
        """Have the state's method of that name called with each of `tasks` (tuples); yields results as they come.

        Tasks are taken as they are needed, few ahead. UserError: a worker died.
        """
        if self.pool is None:
            context = multiprocessing.get_context("spawn")
            self.pool = ProcessPoolExecutor(self.count, context, start, (self.made_from,))
        waiting = set()
        try:
            for task in tasks:
                waiting.add(self.pool.submit(call, what, task))
                while len(waiting) >= self.count * IN_HAND:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BrokenProcessPool:
            raise UserError(
                f"a worker process ended while doing {what} (stopped by the system for want of memory?): what is done "
                f"is kept; run the same command again, with fewer --workers (now {self.count}) or a smaller --max_side "
                "(a script of your own that calls build has to do so under if __name__ == '__main__')"
            ) from None
        finally:
            for future in waiting:
                future.cancel()


# In a worker


def start(made_from):
    """Make the state, with one thread. Ctrl-C is the first process's to handle; without that one nothing is to do."""
    global STATE
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    set_threads(1, 1)
    make, arguments = pickle.loads(made_from)
    STATE = make(*arguments)


def end_with_parent():
    """End this process when the one that started it is gone, however that ended."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def call(what, task):
    return getattr(STATE, what)(*task)
