"""The data directory: what preprocessing leaves on disk and everything else reads. The format exists only here.

    manifest.json            format, version, video, settings of each stage, partners, pair counts, finished stages
    color/00000.png          frames, (H, W) RGB
    masks/00000.png          optional object masks, 0 or 255
    flow/00000.npy           int16 (P_i, H, W, 2): direct flow of source frame i to each of its P_i partners
    valid_direct/00000.npy   uint8 (P_i, 2, ceil(H*W/8)): bits of the cycle and the occluded-but-reliable mask
    flow_chained/00000.npy   the same after chaining; the two direct folders are then deleted unless asked for
    valid/00000.npy          the same after chaining
    evidence/NAME.npz        optional correspondences that others gave, one file a source (see loaders/evidence.py)
    counts/00000.npy         uint16 (H, W): number of partners for which the pixel is valid (cycle or occluded)

Conventions: flow (..., 2) is (x, y) in pixels, flow(i, j)[y, x] moves pixel (x, y) of frame i to frame j; stored as
integers of `flow_step` pixels. Letters: N frames of H x W, P_i partners of frame i in rising order.
Every file is written under another name, synced, and renamed, so a file that is there is complete.
"""

import contextlib
import json
import os
import shutil
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
import torch

from util import UserError, atomic_path

FORMAT, VERSION = "omnimotion-data", 1
FINEST_FLOW_STEP = 1 / 32  # pixels; a rounding error of at most 1/64 px, far below any estimator's own error
LARGEST_INTEGER = 32767
DIRECT, CHAINED = ("flow", "valid_direct"), ("flow_chained", "valid")


def flow_step_for(height, width):
    """Pixels per integer: 1/32, or the next power of two at which a flow across the whole image still fits int16."""
    step = FINEST_FLOW_STEP
    while LARGEST_INTEGER * step < max(height, width):
        step *= 2
    return step


def encode_flow(flow, step):
    """Flow float (..., 2) in pixels, numpy or torch on any device -> numpy int16 of `step` pixels.

    Longer flows (outside the image) saturate, NaN too.
    """
    largest = LARGEST_INTEGER * step
    if isinstance(flow, torch.Tensor):
        scaled = torch.nan_to_num(flow, largest, largest, -largest) / step
        return scaled.round().clamp(-LARGEST_INTEGER, LARGEST_INTEGER).to(torch.int16).cpu().numpy()
    scaled = np.nan_to_num(flow, nan=largest, posinf=largest, neginf=-largest) / step
    return np.clip(np.rint(scaled), -LARGEST_INTEGER, LARGEST_INTEGER).astype(np.int16)


def decode_flow(fixed, step):
    """int16 (..., 2), numpy or torch -> float32 pixels; exact, since `step` is a power of two."""
    if isinstance(fixed, torch.Tensor):
        return fixed.float() * step
    return np.asarray(fixed).astype(np.float32) * np.float32(step)


def pack_mask(mask):
    """bool (..., H, W) -> uint8 (..., ceil(H*W/8)), rows first, the first pixel in the highest bit."""
    return np.packbits(mask.reshape(*mask.shape[:-2], -1), axis=-1)


def unpack_mask(bits, height, width):
    """uint8 (..., ceil(H*W/8)) -> bool (..., H, W); inverse of pack_mask."""
    flat = np.unpackbits(np.asarray(bits), axis=-1, count=height * width)
    return flat.reshape(*bits.shape[:-1], height, width).astype(bool)


def mask_byte(index):
    """Where in the bytes of a mask the bits of pixels `index` (..., rows first) are, numpy or torch."""
    return index >> 3


def mask_bit(found, index):
    """Bytes found at mask_byte(index) -> 0 or 1, whether each pixel is set; inverse of pack_mask at single pixels."""
    shift = 7 - (index & 7)
    return found >> (shift.to(torch.uint8) if isinstance(shift, torch.Tensor) else shift) & 1


@contextlib.contextmanager
def writing(path):
    """atomic_path, with the file named in what goes wrong (a full disk)."""
    try:
        with atomic_path(path) as temporary:
            yield temporary
    except OSError as error:
        error.filename = str(path)
        raise


def write_array(path, array):
    """Write a .npy file atomically. (numpy's own writer loses the reason, such as a full disk, of a failed write.)"""
    array = np.ascontiguousarray(array)
    with writing(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)


def write_image(path, image):
    """Write uint8 (H, W, 3) RGB or (H, W) as PNG, atomically."""
    encoded = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)[1]
    with writing(path) as temporary:
        temporary.write_bytes(encoded.data)


def read_image(path, grey=False):
    """PNG -> uint8 (H, W, 3) RGB, or (H, W). UserError when it is missing or unreadable."""
    try:
        data = np.fromfile(path, np.uint8)  # not cv2.imread: that fails on non-ASCII paths on Windows
        image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR) if data.size else None
    except FileNotFoundError:
        image = None
    if image is None:
        raise UserError(f"{path}: missing or not a readable image; delete the data directory and preprocess again")
    return image if grey else np.ascontiguousarray(image[..., ::-1])


class DataDir:
    """One video's frames and correspondences on disk. Readers use DataDir.open, preprocessing DataDir.create."""

    def __init__(self, path, manifest, left_out=frozenset()):
        self.path, self.manifest, self.left_out, self._rows = Path(path), manifest, left_out, {}

    def __reduce__(self):  # to another process, without what was looked up
        return type(self), (self.path, self.manifest, self.left_out)

    @classmethod
    def open(cls, path, unfinished=False):
        """Read the manifest. UserError when there is none, it is of another version, or (by default) not finished."""
        path = Path(path)
        command = f"python -m preprocess INPUT --data_dir {path}"
        try:
            manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{path}: no data directory here (no manifest.json); make it with: {command}") from None
        except ValueError as error:
            raise UserError(f"{path}/manifest.json: not valid JSON ({error}); make it again with: {command}") from None
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise UserError(f"{path}/manifest.json: not the manifest of a data directory (expected format {FORMAT!r})")
        if manifest.get("version") != VERSION:
            raise UserError(
                f"{path}: data directory of version {manifest.get('version')}, this program reads version {VERSION}; "
                f"make it again with: {command} --overwrite"
            )
        if not unfinished and "shots" in manifest:
            shots = ", ".join(f"shot_{k:03d}" for k in range(len(manifest["shots"])))
            raise UserError(f"{path}: a video of several shots, each with a data directory of its own in it: {shots}")
        finished = manifest.get("finished", [])
        if not unfinished and "counts" not in finished:
            raise UserError(
                f"{path}: preprocessing is unfinished (stages done: {', '.join(finished) or 'none'}); "
                f"finish it with the same command as before: {command}"
            )
        return cls(path, manifest)

    @classmethod
    def create(cls, path, video):
        """Start a data directory that holds `video` (dict: name, source, ... fps), with no stage finished."""
        data = cls(path, {
            "format": FORMAT, "version": VERSION, "video": video, "settings": {}, "finished": [],
            "flow_step": flow_step_for(video["height"], video["width"]), "chained": False, "partners": [],
            "pair_counts": [],
        })
        data.save_manifest()
        return data

    def save_manifest(self):
        """Write the manifest atomically, one line for each of its entries."""
        lines = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in self.manifest.items())
        with writing(self.path / "manifest.json") as temporary:
            temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")

    # The video

    name = property(lambda self: self.manifest["video"]["name"])
    fingerprint = property(lambda self: self.manifest["video"]["fingerprint"])
    num_frames = property(lambda self: self.manifest["video"]["num_frames"])
    height = property(lambda self: self.manifest["video"]["height"])
    width = property(lambda self: self.manifest["video"]["width"])
    original_height = property(lambda self: self.manifest["video"]["original_height"])
    original_width = property(lambda self: self.manifest["video"]["original_width"])
    fps = property(lambda self: self.manifest["video"]["fps"])
    flow_step = property(lambda self: self.manifest["flow_step"])
    chained = property(lambda self: self.manifest["chained"])

    def frame(self, i):
        """uint8 (H, W, 3) RGB."""
        return read_image(self._file("color", i, ".png"))

    def frames(self):
        """uint8 (N, H, W, 3) RGB."""
        return np.stack([self.frame(i) for i in range(self.num_frames)])

    def mask(self, i):
        """bool (H, W) object mask, or None when the directory has none."""
        if not self.manifest["video"].get("has_masks"):
            return None
        return read_image(self._file("masks", i, ".png"), grey=True) > 127

    # Correspondences

    def without(self, pairs):
        """The same directory for readers, as if the pairs of frames {(i, j)} were not stored."""
        return DataDir(self.path, self.manifest, frozenset(pairs))

    def rows(self, i):
        """{j: row}, read-only, of frame i's partners in rising order: where its arrays hold them (see flow_fixed)."""
        stored = self.manifest["partners"][i]
        if self._rows.get(i, (None, None))[0] is not stored:  # first asked for, or preprocessing chose other pairs
            found = {j: row for row, j in enumerate(stored) if (i, j) not in self.left_out}
            self._rows[i] = stored, MappingProxyType(found)
        return self._rows[i][1]

    def partners(self, i):
        """Rising list of the frames j for which the pair (i, j) is stored."""
        return list(self.rows(i))

    def flow_fixed(self, i, direct=False):
        """int16 (P_i, H, W, 2) memory map: flow of frame i to its partners in units of flow_step pixels.

        What is left out still has its row here, as in the file; so it has in valid_bits.
        """
        return self.array(self._folders(direct)[0], i)

    def valid_bits(self, i, direct=False):
        """uint8 (P_i, 2, ceil(H*W/8)) memory map: bits of the cycle and of the occluded mask (see unpack_mask)."""
        return self.array(self._folders(direct)[1], i)

    def flow(self, i, j, direct=False):
        """float32 (H, W, 2) pixels, chained if the directory is, or as estimated. UserError when it is not stored."""
        return decode_flow(self.flow_fixed(i, direct)[self._row(i, j)], self.flow_step)

    def valid(self, i, j, direct=False):
        """Two bool (H, W): cycle-consistent pixels, and occluded ones whose flow is reliable. They are disjoint."""
        bits = self.valid_bits(i, direct)[self._row(i, j)]
        return tuple(unpack_mask(bits, self.height, self.width))

    def count_map(self, i):
        """uint16 (H, W): the number of partners of frame i for which the pixel is valid."""
        counts, stored = np.asarray(self.array("counts", i)), self.manifest["partners"][i]
        for row in set(range(len(stored))) - set(self.rows(i).values()):
            counts = counts - unpack_mask(self.valid_bits(i)[row], self.height, self.width).any(0)
        return counts

    @property
    def pair_counts(self):
        """int64 (N, N): number of valid pixels of each pair, 0 where the pair is not stored."""
        counts = np.zeros((self.num_frames, self.num_frames), np.int64)
        for i, of_frame in enumerate(self.manifest["pair_counts"]):
            for j, row in self.rows(i).items():
                counts[i, j] = of_frame[row]
        return counts

    # Files

    def has(self, folder, i):
        """Whether source frame i's array is there, and so complete."""
        return self._file(folder, i).exists()

    def array(self, folder, i):
        """Memory map of source frame i's array in one of the folders. UserError when it is missing or damaged."""
        try:
            return np.load(self._file(folder, i), mmap_mode="r")
        except FileNotFoundError:
            hint = "direct flow is deleted after chaining; run preprocessing again with --keep_direct" if (
                folder in DIRECT) else "run preprocessing again"
            raise UserError(f"{self._file(folder, i)}: missing ({hint})") from None
        except (ValueError, EOFError) as error:
            raise UserError(
                f"{self._file(folder, i)}: damaged ({error}); delete it and run preprocessing again"
            ) from None

    def write(self, folder, i, array):
        """Write source frame i's array, atomically."""
        write_array(self._file(folder, i), array)

    def remove(self, folder, i=None):
        """Delete source frame i's array, or the whole folder."""
        if i is not None:
            self._file(folder, i).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty yet
                (self.path / folder).rmdir()
        elif (self.path / folder).exists():
            shutil.rmtree(self.path / folder)

    def disk_used(self):
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())

    def _file(self, folder, i, suffix=".npy"):
        return self.path / folder / f"{i:05d}{suffix}"

    def _folders(self, direct):
        return CHAINED if self.chained and not direct else DIRECT

    def _row(self, i, j):
        try:
            return self.rows(i)[j]
        except (KeyError, IndexError):
            raise UserError(
                f"{self.path}: no flow from frame {i} to {j} is stored (frames 0 to {self.num_frames - 1}); "
                f"preprocess with a larger --max_interval"
            ) from None


def remove_stale_files(path):
    """Delete what an interrupted writer left under a temporary name in the data directory `path`."""
    for stale in Path(path).rglob(".*.tmp*"):
        if stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)
        elif stale.exists():
            os.unlink(stale)
