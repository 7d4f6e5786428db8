"""Trackers as their makers publish them, each made into one function.

No code and no weights of others are part of this program. What is called, and how, is what the makers' repositories
show: CoTracker's hubconf.py and predictor; of google-deepmind/tapnet `tapnet.torch.tapir_model`,
`tapnet.tapnext.tapnext_torch` and their notebooks.

Any other repository with a hubconf.py, or a TorchScript file, may be used that keeps to CoTracker's contract:
model(video, queries) -> tracks, visibility; video float32 (1, n, 3, H, W), 0 to 255; queries (1, m, 3) t, x, y; tracks
(1, n, m, 2) x, y; visibility (1, n, m), bool or a share of which more than a half is visible; pixels with integer
centres.

Conventions: what is returned is a tracker of preprocess.tracker_windows.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from files import UserError, regular_file
from preprocess.tracker_windows import both_ways

TAPNET = ("the package tapnet (Apache-2.0): pip install 'tapnet[torch] @ "
          "git+https://github.com/google-deepmind/tapnet.git'")
STORE = "https://storage.googleapis.com/dm-tapnet"
SIDE = 256  # pixels of the square that TAPIR and TAPNext were trained on


@dataclass(frozen=True)
class Kind:
    """A known tracker."""

    licence: str
    source: str  # where it comes from: a repository of torch.hub, or a package
    entry: str = ""  # of the repository
    weights: str = ""  # where the file of --weights comes from
    commercial: bool = True  # whether the licence allows that


KINDS = {
    "cotracker3": Kind("CC-BY-NC-4.0", "facebookresearch/co-tracker", entry="cotracker3_offline", commercial=False),
    "bootstapir": Kind("Apache-2.0", TAPNET, weights=f"{STORE}/bootstap/bootstapir_checkpoint_v2.pt"),
    "tapnext": Kind("Apache-2.0", TAPNET,
                    weights=f"{STORE}/tapnext/bootstapnext_ckpt.npz or {STORE}/tapnextpp/tapnextpp_ckpt.pt"),
}


def open_tracker(name=None, repository=None, torchscript=None, weights=None, non_commercial=False, ahead_only=False,
                 side=None, device="cpu"):
    """The tracker that the options name. UserError: what is missing, where it is to be had, and its licence.

    name: one of KINDS, or an entry point of `repository` (a folder, or OWNER/NAME[:REF] on GitHub). ahead_only: of
    others than KINDS, that they track only forwards. side: of the square that bootstapir sees.
    """
    kind = KINDS.get(name)
    if torchscript is not None:
        track = hub_tracker(read_torchscript(torchscript, device), device)
        return both_ways(track) if ahead_only else track
    if kind is None:
        track = hub_tracker(load_hub(repository, name, name, device), device)
        return both_ways(track) if ahead_only else track
    if not kind.commercial and not non_commercial:
        raise UserError(f"--tracker {name}: {kind.source} is licensed {kind.licence}, not for commercial use: give "
                        "--non_commercial where yours is not")
    if kind.entry:
        model = load_hub(repository or kind.source, kind.entry, name, device)
        return hub_tracker(model, device, backward_tracking=True)
    make = {"bootstapir": bootstapir, "tapnext": tapnext}[name]
    return make(weights, device, side or SIDE)


# CoTracker's contract


def load_hub(repository, entry, name, device):
    """The model of an entry point of a torch.hub repository, local where there is such a folder."""
    local = Path(repository).is_dir()
    if local and not (Path(repository) / "hubconf.py").is_file():
        raise UserError(f"--repository {repository}: no hubconf.py in it; expected a repository of torch.hub")
    if not local and repository.count("/") != 1:
        raise UserError(f"--repository {repository}: no such folder; expected one, or OWNER/NAME[:REF] on GitHub")
    try:
        # of a repository on GitHub that was not used before, torch.hub itself asks whether its code is trusted
        return torch.hub.load(str(repository), entry, source="local" if local else "github").to(device).eval()
    except Exception as error:  # the code of others
        licence = f", {KINDS[name].licence}" if name in KINDS else ""
        address = f"https://github.com/{repository.partition(':')[0]}"
        hint = "" if local else f"; clone {address} and give --repository FOLDER"
        raise UserError(f"--tracker {name}: entry point {entry} of {repository}{licence} cannot be loaded "
                        f"({first_line(error)}){hint}") from error


def read_torchscript(path, device):
    """A TorchScript module."""
    regular_file(path, "a TorchScript file")
    try:
        return torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(f"--torchscript {path}: not a TorchScript file ({first_line(error)})") from error


def hub_tracker(model, device, **options):
    """A model of CoTracker's contract as a tracker."""

    @torch.no_grad()
    def track(frames, queries):
        video = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))[None].to(device).float()
        asked = torch.from_numpy(np.ascontiguousarray(queries, np.float32))[None].to(device)
        try:
            tracks, visibility = model(video, asked, **options)[:2]
            shapes = tuple(tracks.shape), tuple(visibility.shape)
        except Exception as error:  # the code of others
            raise UserError(f"the tracker fails ({first_line(error)}); it is called model(video (1, n, 3, H, W), "
                            "queries (1, m, 3) t, x, y)") from error
        n, m = len(frames), len(queries)
        if shapes != ((1, n, m, 2), (1, n, m)):
            raise UserError(f"the tracker returns {shapes[0]} and {shapes[1]}; expected tracks (1, {n}, {m}, 2) and "
                            f"visibility (1, {n}, {m})")
        return tracks[0].transpose(0, 1).float().cpu().numpy(), visibility[0].T.float().cpu().numpy() > 0.5

    return track


# The package tapnet: square frames from -1 to 1; points t, y, x and tracks in raster pixels of them


def bootstapir(weights, device, side):
    """BootsTAPIR, which tracks both ways in time; side: a multiple of 8."""
    model = imported("bootstapir", "tapnet.torch.tapir_model").TAPIR(pyramid_level=1)
    restore(model, "bootstapir", weights, lambda: torch.load(weights, map_location="cpu", weights_only=True))
    model.to(device).eval()

    def predict(video, queries):
        found = model(video, queries)
        sure = (1 - torch.sigmoid(found["occlusion"])) * (1 - torch.sigmoid(found["expected_dist"]))
        return found["tracks"][0], sure[0] > 0.5

    return square_tracker(predict, device, side)


def tapnext(weights, device, side):
    """TAPNext or TAPNext++, which go ahead frame by frame."""
    module = imported("tapnext", "tapnet.tapnext.tapnext_torch")
    try:
        model = module.TAPNext(image_size=(side, side))
    except Exception as error:  # some versions are made for CUDA only
        raise UserError(f"--tracker tapnext: cannot be made on this machine ({first_line(error)})") from error
    if str(weights or "").endswith(".npz"):
        regular_file(weights)
        imported("tapnext", "tapnet.tapnext.tapnext_torch_utils").restore_model_from_jax_checkpoint(model, str(weights))
    else:
        restore(model, "tapnext", weights, lambda: {
            name.replace("tapnext.", ""): value for name, value in
            torch.load(weights, map_location="cpu", weights_only=True)["state_dict"].items()})
    model.to(device).eval()

    def predict(video, queries):
        steps, state = [], None
        for k in range(video.shape[1]):
            given = {"state": state} if k else {"query_points": queries}
            tracks, _, visible, state = model(video=video[:, k : k + 1], **given)
            steps.append((tracks[0, 0].flip(-1), visible[0, 0, :, 0] > 0))  # y, x
        return tuple(torch.stack(parts, 1) for parts in zip(*steps))

    return both_ways(square_tracker(predict, device, side))


def square_tracker(predict, device, side):
    """A tracker made of predict(video (1, n, S, S, 3), queries (1, m, 3)) -> tracks (m, n, 2), visible (m, n)."""

    @torch.no_grad()
    def track(frames, queries):
        scale = side / np.float32(frames.shape[2:0:-1])  # of x, y
        video = np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in frames])
        video = torch.from_numpy(video)[None].to(device).float() / 255 * 2 - 1
        points = (queries[:, 1:] + 0.5) * scale
        asked = torch.from_numpy(np.column_stack([queries[:, 0], points[:, ::-1]]).astype(np.float32))[None].to(device)
        tracks, visible = predict(video, asked)
        return tracks.float().cpu().numpy() / scale - 0.5, visible.cpu().numpy()

    return track


def imported(name, module):
    """A module of a package that need not be there."""
    try:
        return importlib.import_module(module)
    except Exception as error:  # ImportError, or what a package of another version raises while it is imported
        raise UserError(f"--tracker {name}: needs {KINDS[name].source} ({first_line(error)})") from error


def restore(model, name, weights, read):
    """Give a model its weights, which read() reads."""
    where = f"it is to be had at {KINDS[name].weights} ({KINDS[name].licence})"
    if weights is None:
        raise UserError(f"--tracker {name}: give --weights FILE; {where}")
    regular_file(weights, f"weights; {where}")
    try:
        model.load_state_dict(read())
    except Exception as error:  # damaged files raise many kinds
        raise UserError(f"--weights {weights}: not weights of {name} ({first_line(error)}); {where}") from error


def first_line(error):
    """What an error says first, for one line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__
