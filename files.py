"""Files: read with suspicion, written whole or not at all, locked by one process at a time; and the user's errors.

Whatever is wrong with a file is a UserError that names it. Nothing is allocated that a file's own size does not account
for: headers are read first. A file is written under a temporary name, synced, and renamed.
"""

import contextlib
import csv
import errno
import io
import json
import math
import os
import shutil
import stat
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

IMAGE_FORMATS = ("PNG", "JPEG", "MPO", "BMP", "TIFF", "WEBP", "GIF", "PPM")  # others may run programs, as EPS does
MOST_PIXELS = 2**26  # of an image
FFMPEG_INPUT = (  # before -i: a video is one file of the usual kinds, and no list of others, address or pattern
    "-protocol_whitelist", "file",
    "-format_whitelist", "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,apng,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,"
    "hevc,m4v,nut,dv,mxf,yuv4mpegpipe,ivf,obu,av1")
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
NPZ_RATIO, NPZ_MOST = 100, 2**27  # an .npz file unpacks to no more than so many times its size, or so many bytes
DAMAGE = (EOFError, SyntaxError, tokenize.TokenError, TypeError, OverflowError, MemoryError, AttributeError, KeyError,
          IndexError, struct.error)  # what numpy's readers raise of damaged files, besides ValueError


class UserError(ValueError):
    """A mistake that the user can mend: one line that says what, where, and what was expected."""


def regular_file(path, expected="a file"):
    """Size in bytes of a file to be read. UserError: there is none, or a folder, a pipe or a device is there."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = "no such file" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", error)
        raise UserError(f"{path}: {reason}; expected {expected}") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise UserError(f"{path}: {kind}; expected {expected}")
    return status.st_size


@contextlib.contextmanager
def atomic_path(path, needed=None):
    """Yield a temporary path beside `path` that is synced and renamed to it on success, deleted on failure.

    What a dead process left under that name is taken over. needed: bytes, if known, to be told where the disk is full.
    UserError: another process is writing the same file, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = own(temporary, path)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        written = temporary.stat().st_size if temporary.exists() else 0
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
            raise UserError(full_disk(path, needed, written)) from error
        raise
    finally:
        if lock is not None:
            os.close(lock)


def write_file(path, *parts):
    """Write a file that consists of these parts (bytes-like), atomically."""
    with atomic_path(path, sum(memoryview(part).nbytes for part in parts)) as temporary, open(temporary, "wb") as file:
        for part in parts:
            file.write(part)


def write_npz(path, **arrays):
    """Write a compressed .npz file, atomically. (numpy's own writer loses the reason, such as a full disk.)"""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_file(path, content.getbuffer())


def full_disk(path, needed=None, written=0):
    """The line that says that the disk is full, what was to be written, and what is free."""
    folder = next((parent for parent in Path(path).absolute().parents if parent.exists()), Path("/"))
    size = megabytes(needed) if needed else f"more than {megabytes(written)}"
    return (f"the disk is full while writing {path}: {size} needed, {megabytes(shutil.disk_usage(folder).free)} free; "
            "make room and run the same command again")


def megabytes(count):
    """Bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


@contextlib.contextmanager
def locked_folder(path):
    """Hold a folder, made if need be, for this process alone, and delete what a dead one left half-written in it.

    At the end it is unmade if nothing came of it. A process that ends, however it does, holds nothing. UserError:
    another process holds the folder, or it cannot be made.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY) if fcntl else None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected a folder, or where one can be made ({error})") from None
    lock = descriptor if descriptor is None else flock(descriptor, path)
    try:
        sweep(path)
        yield path
    finally:
        with contextlib.suppress(OSError):  # not empty, so something came of it
            path.rmdir()
        if lock is not None:
            os.close(lock)


def sweep(path):
    """Delete what interrupted writers left under temporary names in the folder `path`."""
    for stale in Path(path).rglob(".*.tmp*"):
        if stale.is_dir() and not stale.is_symlink():
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)


def own(temporary, path):
    """Make a temporary file, empty, locked until the descriptor returned is closed; None where there are no locks."""
    if fcntl is None:
        return None
    while True:
        lock = flock(os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666), path)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat(temporary)):  # else its writer has just renamed it
                os.ftruncate(lock, 0)
                return lock
        os.close(lock)


def flock(descriptor, path):
    """The descriptor, locked. UserError: another process has locked its file, which stands for `path`."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = lock_holder(os.fstat(descriptor))
        os.close(descriptor)
        raise UserError(f"{path}: in use by {who}; wait for it, or stop it") from None
    except OSError:  # some network file systems have no locks
        pass
    return descriptor


def lock_holder(status):
    """Who has locked the file of that os.stat_result, in words, as far as Linux tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[-3].endswith(f":{status.st_ino}"):
                command_line = Path(f"/proc/{fields[-4]}/cmdline").read_bytes().replace(b"\0", b" ")
                return f"process {fields[-4]} ({command_line.decode(errors='replace').strip()[:80]})"
    return "another process"


def load_npz(path):
    """{name: array} of an .npz file. UserError when it is damaged, or holds objects.

    Nothing is allocated that the file's own size does not account for.
    """
    size = regular_file(path, "an .npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > max(NPZ_MOST, NPZ_RATIO * size):
                raise ValueError(f"it unpacks to more than {NPZ_RATIO} times its size")
            return {entry.filename.removesuffix(".npy"): read_member(archive, entry) for entry in archive.infolist()}
    except (OSError, ValueError, *DAMAGE, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path}: not a readable .npz file ({str(error).splitlines()[0][:100]})") from None


def read_member(archive, entry):
    """An array of an .npz file that is open. ValueError, DAMAGE: it is damaged, or not as large as it says."""
    with archive.open(entry) as file:
        shape, fortran, dtype = read_npy_header(file)
        held = entry.file_size - file.tell()
        if math.prod(shape) * dtype.itemsize != held:
            raise ValueError(f"{entry.filename} is of shape {shape}, {dtype}, but holds {held} bytes")
        flat = np.frombuffer(bytearray(file.read()), dtype)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def read_npy(path, expected):
    """The array of a .npy file. UserError: there is none, or it is damaged."""
    regular_file(path, expected)
    try:
        with open(path, "rb") as file:
            shape, fortran, kind = read_npy_header(file)
            values = np.fromfile(file, kind)
        return values.reshape(shape, order="F" if fortran else "C")
    except (ValueError, *DAMAGE) as error:
        reason = str(error).splitlines()[0][:80]
        raise UserError(f"{path}: not a readable .npy file ({reason}); expected {expected}") from None


def read_npy_header(file):
    """shape, whether in Fortran's order, dtype of the .npy file that begins here. ValueError and DAMAGE: it is none."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"a .npy file of version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject or dtype.kind not in "biufSU" or dtype.itemsize == 0 or min(shape, default=0) < 0:
        raise ValueError(f"an array of {dtype} {shape}")
    return shape, fortran, dtype


def check_arrays(path, arrays, shapes, kinds="biuf", **sizes):
    """UserError unless each of the arrays has its shape and a dtype of those kinds -> {letter: size}.

    shapes: {name: "QN2"}: a letter is one size, the same in all arrays and as in `sizes`; "" is a single number.
    """
    for name, shape in shapes.items():
        found = arrays[name]
        wanted = tuple(int(letter) if letter.isdigit() else sizes.get(letter, letter) for letter in shape)
        fits = len(wanted) == found.ndim and all(want in (letter, size) for want, letter, size in
                                                 zip(wanted, shape, found.shape))
        if not fits or found.dtype.kind not in kinds:
            expected = ", ".join(map(str, wanted))
            raise UserError(f"{path}: {name} has shape {found.shape}, {found.dtype}; expected numbers ({expected})")
        sizes |= {letter: size for letter, size in zip(shape, found.shape) if not letter.isdigit()}
    return sizes


def size_in(path, arrays, name="video_size"):
    """(H, W) that an array of two numbers says, or None where there is no such array. UserError: it says no size."""
    if name not in arrays:
        return None
    check_arrays(path, arrays, {name: "2"})
    size = tuple(arrays[name].tolist())
    if not all(0 < side <= 2**16 and side == int(side) for side in size):  # so put, it refuses NaN too
        raise UserError(f"{path}: {name} is {size}; expected height and width in pixels")
    return int(size[0]), int(size[1])


def read_bytes(path, most, expected):
    """A file's content. UserError where it is larger than `most` bytes, or none that is `expected`."""
    if regular_file(path, expected) > most:
        raise UserError(f"{path}: larger than {megabytes(most)}; expected {expected}")
    return Path(path).read_bytes()


def read_text(path, expected, most=2**30):
    """A text file's content, in UTF-8, with or without a byte order mark. UserError: there is none; see read_bytes."""
    try:
        return read_bytes(path, most, expected).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"{error.reason} at byte {error.start}"
        raise UserError(f"{path}: not text in UTF-8 ({where}); expected {expected}") from None


def read_table(path, expected, most=2**30):
    """The rows of a csv file, each a list of str; empty lines are []. UserError: there is none, or it is no csv."""
    rows = csv.reader(io.StringIO(read_text(path, expected, most), newline=""))
    try:
        return list(rows)
    except csv.Error as error:
        raise UserError(f"{path}: line {rows.line_num}: {error}; expected {expected}") from None


def read_columns(path, required, optional=()):
    """{name: (n,) float64} of the columns of a csv file, NaN where a cell is empty; optional ones where it has them.

    UserError: there is no such file, it lacks a required column, or a cell holds no number.
    """
    head, *rows = read_table(path, f"a csv with the columns {', '.join(required)}") or [[]]
    missing = [name for name in required if name not in head]
    if missing:
        raise UserError(f"{path}: expected a table with the columns {', '.join(required)}; no {', '.join(missing)}")
    names = [name for name in (*required, *optional) if name in head]
    columns, values = [head.index(name) for name in names], []
    for line, row in enumerate(rows, 2):
        try:
            values += [[float(row[column] or "nan") for column in columns]] if row else []
        except (IndexError, ValueError):
            raise UserError(f"{path}: line {line}: expected numbers in {', '.join(names)}") from None
    return dict(zip(names, np.array(values).reshape(-1, len(names)).T))


def read_json(path, expected, most=2**28):
    """What a JSON file holds. UserError when there is none, or it is no JSON; `expected`: what it should have been."""
    try:
        return json.loads(read_bytes(path, most, expected).decode("utf-8", "surrogateescape"))  # names need no text
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); expected {expected}") from None


def read_pixels(path, flags=cv2.IMREAD_UNCHANGED, expected="an image"):
    """An image as OpenCV decodes it, (H, W) or (H, W, C), BGR. UserError as of check_image_size, or it is damaged."""
    size = check_image_size(path, expected)
    image = cv2.imdecode(np.fromfile(path, np.uint8), flags)  # not imread, which wants ASCII paths on Windows
    if image is None or sorted(image.shape[:2]) != sorted(size):  # EXIF may turn it
        raise UserError(f"{path}: not a readable image; expected {expected}")
    return image


def check_image_size(path, expected="an image", content=None):
    """(H, W) of an image file by its header. UserError when it is none, or of more than MOST_PIXELS pixels.

    content: of the file, where it is in memory; `path` then only names it.
    """
    if not (regular_file(path, expected) if content is None else len(content)):
        raise UserError(f"{path}: empty; expected {expected}")
    try:
        with warnings.catch_warnings(), open(path, "rb") if content is None else io.BytesIO(content) as file:
            warnings.simplefilter("ignore")  # of sizes: they are refused here
            width, height = Image.open(file, formats=IMAGE_FORMATS).size
    except Image.DecompressionBombError:
        width = height = MOST_PIXELS
    except Exception:  # Pillow raises many kinds for damaged or foreign files
        raise UserError(f"{path}: not a readable image; expected {expected}") from None
    if width * height > MOST_PIXELS:
        raise UserError(f"{path}: larger than {MOST_PIXELS / 1e6:.0f} million pixels; expected {expected}")
    return height, width
