"""Arrays (.npy) and images (.png) that end in a checksum, which also says whose they are.

A sealed file is the plain file and 8 bytes more: b"crc:" and, big-endian, zlib.crc32 of its owner's name (a text: which
video, folder and frame) and of all bytes before. Every reader of .npy or .png takes it: they do not look that far. So a
file that was damaged, or belongs elsewhere, is found; one without a seal is of before there were any, and is taken as
it is unless it has to have one.
"""

import io
import zlib

import cv2
import numpy as np

from files import DAMAGE, UserError, read_bytes, read_npy_header, regular_file, write_file

MARK, LENGTH = b"crc:", 8
PNG, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
LARGEST_HEADER = 2**20  # bytes of a .png file more than its pixels could take


def seal(owner, *parts):
    """The bytes that make a file of these parts (bytes-like) a sealed one; none without an owner."""
    if owner is None:
        return b""
    return MARK + checksum(owner, *parts).to_bytes(4, "big")


def checksum(owner, *parts):
    value = zlib.crc32(owner.encode("utf-8", "surrogateescape"))
    for part in parts:
        value = zlib.crc32(part, value)
    return value


def broken(path, reason):
    return UserError(f"{path}: damaged ({reason}); the same preprocess command as before makes it again")


def check_seal(path, content, length, owner, required):
    """UserError unless `content` (uint8) is `length` bytes and the owner's seal; if not required, or those alone."""
    if len(content) == length and not required:
        return
    if len(content) != length + LENGTH or bytes(content[length : length + 4]) != MARK:
        raise broken(path, f"{len(content)} bytes, expected {length + LENGTH}")
    if seal(owner, content[:length]) != bytes(content[length:]):
        raise broken(path, "its checksum is not that of its content and place")


# Arrays


def write_array(path, array, owner=None):
    """Write a .npy file atomically, sealed for its owner. (numpy's own writer loses the reason of a failed write.)"""
    head, data = npy_header(array), np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    write_file(path, head, data, seal(owner, head, data))


def npy_header(array):
    """The bytes before an array's data in a .npy file."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(np.ascontiguousarray(array)))
    return head.getvalue()


def open_array(path, shape=None, dtype=None, owner=None, required=False):
    """Read-only memory map of a .npy file, of that shape and dtype where given, and sealed for its owner where given.

    required: whether it has to have a seal. UserError: it is missing, damaged or another array.
    """
    size = regular_file(path, "an array of preprocessing")
    try:
        with open(path, "rb") as file:
            found, fortran, kind = read_npy_header(file)
            start = file.tell()
    except (ValueError, *DAMAGE) as error:
        raise broken(path, str(error).splitlines()[0][:80] if str(error) else "truncated") from None
    if fortran or (shape is not None and found != tuple(shape)) or (dtype is not None and kind != dtype):
        raise broken(path, f"an array {kind} {found}, expected {np.dtype(dtype or kind)} {shape or found}")
    length = start + int(np.prod(found, dtype=object)) * kind.itemsize
    if size not in (length, length + LENGTH):
        raise broken(path, f"{size} bytes, expected {length + LENGTH}")
    if owner is not None:
        check_seal(path, np.memmap(path, np.uint8, "r"), length, owner, required)
    if length == start:
        return np.empty(found, kind)  # nothing to map
    return np.memmap(path, kind, "r", start, found)


# Images


def write_image(path, image, owner=None):
    """Write uint8 (H, W, 3) RGB or (H, W) as PNG, atomically, sealed for its owner."""
    encoded = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)[1].data
    write_file(path, encoded, seal(owner, encoded))


def read_sealed_image(path, size, owner, required=False, grey=False):
    """A PNG of that size (H, W), sealed for its owner -> uint8 (H, W, 3) RGB, or (H, W). UserError: it is another."""
    content = np.frombuffer(read_bytes(path, 2 * 4 * size[0] * size[1] + LARGEST_HEADER, "a frame"), np.uint8)
    end = len(content) - (LENGTH if bytes(content[-LENGTH : -LENGTH + 4]) == MARK else 0)
    check_seal(path, content, end, owner, required)
    width, height = (int.from_bytes(content[k : k + 4].tobytes(), "big") for k in (16, 20))
    if content[:8].tobytes() != PNG or content[:end][-12:].tobytes() != PNG_END:
        raise broken(path, "no PNG, or truncated")
    if (height, width) != tuple(size):
        raise broken(path, f"an image of {width}x{height}, expected {size[1]}x{size[0]}")
    return decode(path, content[:end], grey)


def decode(path, content, grey=False):
    """An image file's content, uint8 -> uint8 (H, W, 3) RGB, or (H, W). UserError when OpenCV cannot read it."""
    try:
        image = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{path}: not a readable image")
    return image if grey else np.ascontiguousarray(image[..., ::-1])
