"""RAFT weights on disk: which files there are, downloading, reading and checking them."""

import os
import urllib.error
import urllib.request
from pathlib import Path

import torch

import util
from files import regular_file
from networks import raft_names

LARGE_URL = "https://download.pytorch.org/models/raft_large_C_T_SKHT_V2-ff5fadd5.pth"  # torchvision's, BSD-3-Clause


def cache_folder():
    """Where downloads go: $OMNIMOTION_CACHE, else omnimotion in $XDG_CACHE_HOME (~/.cache)."""
    if os.environ.get("OMNIMOTION_CACHE"):
        return Path(os.environ["OMNIMOTION_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "omnimotion"


def cached_large(url=LARGE_URL):
    """Path of the downloaded RAFT-large weights, whether or not they are there."""
    return cache_folder() / url.rpartition("/")[2]


def download_large(url=LARGE_URL):
    """Path of the RAFT-large weights, downloaded (checksum verified) unless they are there.

    UserError when offline, naming the file and where to put it; or when the checksum in the file's name is not met.
    """
    path = cached_large(url)
    if path.exists():
        return path
    print(f"flow: downloading {url} to {path}")
    with util.atomic_path(path) as temporary:
        try:
            with urllib.request.urlopen(url, timeout=30) as response, open(temporary, "wb") as file:
                while block := response.read(2**20):
                    file.write(block)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            raise util.UserError(
                f"cannot download {url} ({getattr(error, 'reason', error)}): fetch it elsewhere and put it at {path},"
                " or name another file with --raft_weights"
            ) from error
        expected, found = path.stem.rpartition("-")[2], util.file_hash(temporary)
        if not found.startswith(expected):
            raise util.UserError(f"{url}: damaged download: sha256 {found[:8]}..., expected {expected}...; try again")
    return path


def load_raft(path):
    """(RAFT in evaluation mode on the CPU, sha256 of its file). UserError when it is missing or of another kind."""
    path = Path(path)
    what = "RAFT weights (.pth) by the reference's or by torchvision's names"
    expected = f"expected {what}"
    regular_file(path, what)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling an arbitrary file may raise
        raise util.UserError(f"--raft_weights {path}: not a readable PyTorch weights file; {expected}") from error
    if isinstance(state, dict):
        state = state.get("state_dict", state.get("model", state))
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise util.UserError(f"--raft_weights {path}: holds no state dict; {expected}")
    if not all(torch.isfinite(value).all() for value in state.values()):
        raise util.UserError(f"--raft_weights {path}: a weight is not a number, or infinite; {expected}")
    try:
        return raft_names.from_state_dict(state), util.file_hash(path)
    except ValueError as error:
        raise util.UserError(f"--raft_weights {path}: {error}; {expected}") from error
