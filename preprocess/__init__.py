"""From a video to a data directory of reliable correspondences. See `python -m preprocess --help`."""

import flow  # noqa: F401  before torch: it says how threads wait for one another
from preprocess.driver import build

__all__ = ["build"]
