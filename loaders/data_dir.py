"""The data directory: what preprocessing leaves on disk and everything else reads. The format exists only here.

    manifest.json            format, version, video, settings of each stage, partners, pair counts, finished stages,
                             flow_step, whether flow is chained; cuts and shots, what flow was asked for, checksums
    color/00000.png          frames, (H, W) RGB
    masks/00000.png          optional object masks, 0 or 255
    depth/00000.png          optional ranks of depth, or of inverse depth, 0 to 255: of a pixel among those of its frame
    layers/00000.npy         optional uint8 (2, H, W): which object a pixel shows (255: unknown), and how sure that
                             is, 0 to 255, the latter where it was given
    flow/00000.npy           int16 (P_i, H, W, 2): direct flow of source frame i to each of its P_i partners
    valid_direct/00000.npy   uint8 (P_i, 2, ceil(H*W/8)): bits of the cycle and the occluded-but-reliable mask
    flow_chained/00000.npy   the same after chaining; the two direct folders are then deleted unless asked for
    valid/00000.npy          the same after chaining
    evidence/NAME.npz        optional correspondences that others gave, one file a source (see loaders/evidence.py)
    counts/00000.npy         uint16 (H, W): number of partners for which the pixel is valid (cycle or occluded)
    adjacent/                while flow is estimated: flow between adjacent frames, for all processes

Conventions: flow (..., 2) is (x, y) in pixels, flow(i, j)[y, x] moves pixel (x, y) of frame i to frame j; stored as
integers of `flow_step` pixels. Letters: N frames of H x W, P_i partners of frame i in rising order.
Every file is written under another name, synced, and renamed, so a file that is there is complete. Images and arrays
end in a checksum of their content and place (loaders/sealed.py); in directories made before there were any, as
`checksums` in the manifest says, they may not.
"""

import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from files import UserError, check_image_size, read_bytes, read_json, write_file
from loaders.manifest import check_manifest, checksum
from loaders.sealed import decode, open_array, read_sealed_image
from loaders.sealed import write_array as write_array  # and these, for whoever has the format
from loaders.sealed import write_image as write_image

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


def read_image(path, grey=False):
    """An image file -> uint8 (H, W, 3) RGB, or (H, W). UserError when it is missing, too large or unreadable."""
    check_image_size(path)
    return decode(path, np.frombuffer(read_bytes(path, 2**30, "an image"), np.uint8), grey)


class DataDir:
    """One video's frames and correspondences on disk. Readers use DataDir.open, preprocessing DataDir.create."""

    def __init__(self, path, manifest, left_out=frozenset()):
        self.path, self.manifest, self.left_out, self._rows = Path(path), manifest, left_out, {}
        self._sound = set()  # arrays whose checksum was verified: each once

    def __reduce__(self):  # to another process, without what was looked up
        return type(self), (self.path, self.manifest, self.left_out)

    @classmethod
    def open(cls, path, unfinished=False):
        """Read the manifest. UserError when there is none, it is of another version, or (by default) not finished."""
        path = Path(path)
        command, file = f"python -m preprocess INPUT --data_dir {path}", path / "manifest.json"
        if not file.exists():
            raise UserError(f"{path}: no data directory here (no manifest.json); make it with: {command}")
        manifest = read_json(file, f"a data directory's manifest; make it again with: {command} --overwrite")
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise UserError(f"{file}: not the manifest of a data directory (expected format {FORMAT!r})")
        if manifest.get("version") != VERSION:
            raise UserError(
                f"{path}: data directory of version {manifest.get('version')}, this program reads version {VERSION}; "
                f"make it again with: {command} --overwrite"
            )
        if not unfinished and "shots" in manifest:
            shots = ", ".join(f"shot_{k:03d}" for k in range(len(manifest["shots"])))
            raise UserError(f"{path}: a video of several shots, each with a data directory of its own in it: {shots}")
        finished = manifest.get("finished")
        check_manifest(manifest, flow_step_for, isinstance(finished, list) and "counts" in finished, file)
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
        self.manifest["checksum"] = checksum(self.manifest)
        lines = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in self.manifest.items())
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        write_file(self.path / "manifest.json", text.encode("utf-8", "surrogateescape"))  # names need not be text

    def changed(self):
        """Whether it was deleted, or made anew with other frames, settings or pairs, since it was opened."""
        try:
            now = read_json(self.path / "manifest.json", "a manifest")
            return any(now.get(key) != self.manifest[key] for key in ("video", "settings", "partners", "finished"))
        except (UserError, AttributeError):
            return True

    @property
    def recipe(self):
        """Text that differs where preprocessing was asked for anything else that training reads."""
        settings = self.manifest["settings"]
        wanted = {name: asked for name, asked in settings.items() if name != "masks" and asked is not None}
        return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()

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
        return self._image("color", i)

    def frames(self):
        """uint8 (N, H, W, 3) RGB. UserError when they are not those of the manifest."""
        frames = np.stack([self.frame(i) for i in range(self.num_frames)])
        if self._sealed and fingerprint_of(frames) != self.fingerprint:
            raise UserError(f"{self.path}: its frames are not those of its manifest (of another video?); "
                            "the same preprocess command as before makes them again")
        return frames

    def mask(self, i):
        """bool (H, W) object mask, or None when the directory has none."""
        if not self.manifest["video"].get("has_masks"):
            return None
        return self._image("masks", i, grey=True) > 127

    def depth(self, i):
        """uint8 (H, W) ranks of depth or of inverse depth, or None when the directory has none."""
        return self._image("depth", i, grey=True) if self.manifest["video"].get("has_depth") else None

    def layers(self, i):
        """uint8 (H, W) labels of layers, 255 where unknown, and how sure, float32 (H, W); None without layers."""
        if not self.has("layers", i):
            return None
        labels, confidence = np.array(self.array("layers", i))
        return labels, np.float32(confidence) / 255

    def check_same_video(self, video):
        """UserError unless it is made from the video that a run's checkpoint describes."""
        if self.fingerprint != video["fingerprint"]:
            raise UserError(f"{self.path}: made from another video than the run; --data_dir names the right one")

    # Correspondences

    def without(self, pairs):
        """The same directory for readers, as if the pairs of frames {(i, j)} were not stored."""
        data = DataDir(self.path, self.manifest, frozenset(pairs))
        data._sound = self._sound
        return data

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
        """Memory map of source frame i's array in one of the folders. UserError when it is missing or damaged.

        Its checksum is verified when it is first asked for.
        """
        path = self._file(folder, i)
        if not path.exists():
            hint = "direct flow is deleted after chaining; run preprocessing again with --keep_direct" if (
                folder in DIRECT) else "run preprocessing again"
            raise UserError(f"{path}: missing ({hint})")
        owner = None if (folder, i) in self._sound else self._owner(folder, i)
        array = open_array(path, *self._shape(folder, i), owner, self._sealed)
        self._sound.add((folder, i))
        return array

    def write(self, folder, i, array):
        """Write source frame i's array, atomically, with its checksum."""
        write_array(self._file(folder, i), array, self._owner(folder, i))

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

    def _image(self, folder, i, grey=False):
        size = self.height, self.width
        return read_sealed_image(self._file(folder, i, ".png"), size, owner_of_image(folder, i), self._sealed, grey)

    _sealed = property(lambda self: self.manifest.get("checksums", False))

    def _owner(self, folder, i):
        """Whose an array is: no two of any videos have the same."""
        return f"{self.fingerprint}/{folder}/{i:05d}"

    def _shape(self, folder, i):
        """The shape and dtype of an array; None, None of a folder that others decide on."""
        height, width = self.height, self.width
        if folder == "counts":
            return (height, width), np.uint16
        if folder == "layers":
            return (2, height, width), np.uint8
        if folder not in DIRECT + CHAINED:
            return None, None
        pairs = len(self.manifest["partners"][i])
        flow = folder in (DIRECT[0], CHAINED[0])
        return ((pairs, height, width, 2), np.int16) if flow else ((pairs, 2, -(-height * width // 8)), np.uint8)

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


def owner_of_image(folder, i):
    """Whose a frame or a mask is. It does not say of which video: that is known when all frames are."""
    return f"{folder}/{i:05d}"


def fingerprint_of(frames):
    """What identifies the frames (N, H, W, 3) of a video."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(np.ascontiguousarray(frame).data)
    digest.update(str(tuple(frames.shape[1:3])).encode())
    return digest.hexdigest()
