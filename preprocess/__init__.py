"""From a video to a data directory of reliable correspondences. See `python -m preprocess --help`."""

import os

# Threads that wait actively for one another slow RAFT tenfold on a machine that also does other work. OpenMP reads this
# when torch is imported, so it stands before anything that imports it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from preprocess.driver import build

__all__ = ["build"]
