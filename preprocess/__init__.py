"""From a video to a data directory of reliable correspondences. See `python -m preprocess --help`."""

from preprocess.driver import build

__all__ = ["build"]
