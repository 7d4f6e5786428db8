"""Training runs so small that a test can afford several."""

import torch

import checkpoints
import train
from tests.helpers.paths import ROOT

TINY = ["--config", str(ROOT / "configs/default.txt"), "--field_width", "16",
        "--num_pairs", "8", "--num_points", "16", "--quiet"]
RENDERING = {"surface": ["--rendering", "surface"],  # and the mapping in grids, of default.txt
             "volume": ["--rendering", "volume", "--mapping", "invertible", "--coupling_hidden", "1",
                        "--coupling_width", "16", "--num_samples", "6", "--zero_init", "true", "--affine", "false",
                        "--lr_code", "3e-3"]}


def run(data_dir, out_dir, *options):
    """Train; returns the newest checkpoint's content. Surfaces start flat, which is quick, unless told otherwise."""
    start = [] if "volume" in options else ["--depth_start", "flat"]
    arguments, config = train.parse(
        ["--data_dir", str(data_dir), "--out_dir", str(out_dir), *TINY, *start, *map(str, options)])
    train.train(arguments, config)
    return checkpoints.read(checkpoints.newest(out_dir))


def assert_equal(a, b):
    """Equal to the bit, however nested."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b
