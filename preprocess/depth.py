"""Monocular depth of each frame: of a network, or given as a folder of maps; stored as ranks within its frame.

Nothing but the order within a frame is taken from it, so that metres, shares and inverse depth all do; which of them
it is, and how far it is to be believed, training finds out (training/mono_depth.py).
"""

from pathlib import Path

import cv2
import numpy as np
import torch

from files import UserError, read_npy, regular_file
from flow.appearance import IMAGENET_MEAN, IMAGENET_STD
from flow.hub import model_folder, pretrained
from loaders.data_dir import owner_of_image, write_image
from preprocess.frames import files_fingerprint, natural, open_image, staged_folder
from util import file_hash, needs_extra

NETWORK = "depth-anything/Depth-Anything-V2-Small-hf"  # Apache-2.0
EXPECTED = ("auto (Depth-Anything-V2-Small, Apache-2.0), a folder of one map a frame (.png of 16 bits, .npy, .exr), or "
            "a folder with config.json and model.safetensors of a depth network")
SHORT_SIDE, PATCH = 518, 14  # pixels, as Depth Anything is trained
SUFFIXES = {".png", ".npy", ".exr"}


class DepthFiles:
    """A folder of maps, for each chosen frame or for each of the video."""

    def __init__(self, folder):
        self.folder = folder
        self.files = sorted((file for file in Path(folder).iterdir() if file.suffix.lower() in SUFFIXES
                             and not file.name.startswith(".")), key=natural)
        if not self.files:
            raise UserError(f"--depth {folder}: no maps there; expected {EXPECTED}")
        if any(file.suffix.lower() == ".exr" for file in self.files):
            needs_extra(f"--depth {folder}", "OpenEXR", "exr")
        self.description = {"method": "files", "sha256": files_fingerprint(self.files)}

    def maps(self, data, options):
        """Yield (H, W) of each frame. UserError: their number or a size does not fit, or a value is not a number."""
        files = self.files if len(self.files) == data.num_frames else list(options.select(self.files))
        if len(files) != data.num_frames:
            raise UserError(f"--depth {self.folder}: {len(self.files)} map(s); expected {data.num_frames}, one a frame")
        for file in files:
            values = read_map(file)
            sizes = (data.height, data.width), (data.original_height, data.original_width)
            if values.shape not in sizes:
                got, expected = ("x".join(map(str, size[::-1])) for size in (values.shape, sizes[1]))
                raise UserError(f"{file}: depth of {got}; expected {expected} pixels, as the frames")
            if np.isnan(values).any():
                raise UserError(f"{file}: a depth is not a number (NaN); expected a number at every pixel")
            yield values


class DepthNetwork:
    """A depth network of the transformers library, in a folder."""

    def __init__(self, name, device="cpu"):
        folder = model_folder(name, "--depth", EXPECTED)
        model = pretrained("AutoModelForDepthEstimation", folder, "--depth", EXPECTED)
        self.model, self.device = model.to(device), device
        self.description = {"method": "network", "weights": str(name),
                            "sha256": file_hash(folder / "model.safetensors")}

    @torch.no_grad()
    def maps(self, data, options):
        """Yield (H, W) of each frame."""
        mean, std = (torch.tensor(v, device=self.device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        scale = SHORT_SIDE / min(data.height, data.width)
        size = [max(1, round(side * scale / PATCH)) * PATCH for side in (data.height, data.width)]
        for i in range(data.num_frames):
            image = cv2.resize(data.frame(i), size[::-1], interpolation=cv2.INTER_CUBIC)
            image = torch.from_numpy(image).to(self.device).float().movedim(-1, 0) / 255
            found = self.model(pixel_values=((image - mean) / std)[None]).predicted_depth[0]
            yield found.float().cpu().numpy()


def depth_source(depth, device="cpu"):
    """What the option --depth names; None of 'none'. UserError: there is no such thing, or the extra is missing."""
    if depth is None or str(depth) == "none":
        return None
    if str(depth) == "auto":
        return DepthNetwork(NETWORK, device)
    if not Path(depth).is_dir():
        raise UserError(f"--depth {depth}: no such folder; expected {EXPECTED}, or none")
    return DepthNetwork(depth, device) if (Path(depth) / "config.json").exists() else DepthFiles(depth)


def refresh_depth(data, source, options, bar):
    """Have the data directory hold the ranks of what `source` says (None: nothing), unless it does already."""
    wanted = source and source.description
    if data.manifest["settings"].get("depth") == wanted:
        return
    plain = True
    if source is not None:
        with bar.steps("depth", data.num_frames) as advance, staged_folder(data.path / "depth") as staged:
            for i, values in enumerate(source.maps(data, options)):
                plain &= values.min() == values.max()
                found = ranks(values, (data.height, data.width))
                write_image(staged / f"{i:05d}.png", found, owner_of_image("depth", i))
                advance(1)
    if plain:
        data.remove("depth")
    if plain and source is not None:
        bar.write("warning: --depth: every map is constant: it says nothing of the order of surfaces, and is not used")
    data.manifest["video"]["has_depth"] = not plain
    data.manifest["settings"]["depth"] = wanted
    data.save_manifest()


def ranks(values, size):
    """Depth (H', W') -> uint8 (H, W), of a frame of that size: the share of its pixels with less, half the equal ones.
    """
    if values.shape != tuple(size):
        values = cv2.resize(values.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    rising = np.sort(values, axis=None)
    below, up_to = (np.searchsorted(rising, values, side) for side in ("left", "right"))
    return np.rint((below + up_to) * (127.5 / values.size)).astype(np.uint8)


def read_map(path):
    """One channel of a file, (H, W). UserError: it cannot be read, or has more of them."""
    kind = Path(path).suffix.lower()
    if kind == ".npy":
        values = read_npy(path, "a map of depth").squeeze()
    else:
        values = (read_exr(path) if kind == ".exr" else np.asarray(open_image(path))).squeeze()
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise UserError(f"{path}: an array {values.dtype} {values.shape}; expected depth, numbers (H, W)")
    return values


def read_exr(path):
    """The channel of an OpenEXR file that is depth: Z, else Y, R, or its only one."""
    import OpenEXR

    regular_file(path, "a map of depth")
    try:
        channels = OpenEXR.File(str(path), separate_channels=True).channels()
    except Exception as error:  # the library raises many kinds
        raise UserError(f"{path}: not a readable OpenEXR file ({str(error).splitlines()[0][:80]})") from None
    name = next((name for name in ("Z", "Y", "R", *channels) if name in channels), None)
    if name is None:
        raise UserError(f"{path}: has no channel; expected one of depth")
    return channels[name].pixels
