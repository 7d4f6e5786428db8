"""The formats in which a page hands tracks over. A format that is to have a button there is added here."""

import tempfile
from pathlib import Path

from tracking.tracks_file import WRITERS
from util import UserError

SUFFIXES = {"npz": ".npz", "csv": ".csv", "cotracker": ".npz"}


def export_formats():
    """{name: (suffix of its files, writer(path, tracks))}."""
    return {name: (SUFFIXES[name], writer) for name, writer in WRITERS.items()}


def export(name, tracks):
    """Tracks in a format -> (name of the file, its bytes). UserError for an unknown format."""
    formats = export_formats()
    if name not in formats:
        raise UserError(f"export {name}: expected one of {', '.join(formats)}")
    suffix, write = formats[name]
    file = f"tracks{suffix}" if suffix.lstrip(".") == name else f"tracks_{name}{suffix}"
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / file, tracks)
        return file, (Path(folder) / file).read_bytes()
