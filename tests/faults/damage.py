"""Ways in which a file can be damaged. Each takes the path of a sound file, and leaves something else there."""

import io
import os

import numpy as np


def flip(path, where, bit=3):
    """Turn one bit over, `where` of the file's length from its start."""
    content = bytearray(path.read_bytes())
    content[min(int(where * len(content)), len(content) - 1)] ^= 1 << bit
    path.write_bytes(content)


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def replaced_by(make):
    def damage(path):
        path.unlink()
        make(path)
    return damage


def other_shape(path):
    """An array or an image of another shape; of another file: its first half twice."""
    if path.suffix == ".npy":
        path.write_bytes(npy(np.zeros((3, 5), np.int16)))
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            arrays = {name: array[..., :1] if array.ndim > 1 else array for name, array in arrays.items()}
        np.savez(path, **arrays)
    else:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] * 2)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


DAMAGE = {
    **{f"flip at {where:g}": lambda path, where=where: flip(path, where) for where in (0, 0.01, 0.1, 0.3, 0.6, 0.9, 1)},
    "flip 7 at 0.2": lambda path: flip(path, 0.2, 7), "flip 7 at 0.5": lambda path: flip(path, 0.5, 7),
    "half": lambda path: cut(path, 0.5), "a tenth": lambda path: cut(path, 0.1), "99 %": lambda path: cut(path, 0.99),
    "empty": lambda path: path.write_bytes(b""), "gone": lambda path: path.unlink(),
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "text": lambda path: path.write_text("This is no such file.\n" * 9),
    "a folder": replaced_by(lambda path: path.mkdir()), "a pipe": replaced_by(os.mkfifo),
    "a dangling link": replaced_by(lambda path: os.symlink("nowhere", path)),
    "a link to itself": replaced_by(lambda path: os.symlink(path.name, path)),
    "a device": replaced_by(lambda path: os.symlink("/dev/zero", path)),
    "another shape": other_shape,
}
