"""The formats in which a page hands tracks over: those of export.py."""

import tempfile
from pathlib import Path

from exports import formats
from util import UserError


def export(name, tracks):
    """Tracks in a format -> (name of the file, its bytes). UserError: unknown, or not for these."""
    if name not in formats.FORMATS:
        raise UserError(f"export {name}: expected one of {', '.join(formats.FORMATS)}")
    suffix = formats.FORMATS[name].suffix
    file = f"tracks{suffix}" if suffix.lstrip(".") == name else f"tracks_{name}{suffix}"
    with tempfile.TemporaryDirectory() as folder:
        formats.export(Path(folder) / file, name, tracks)
        return file, (Path(folder) / file).read_bytes()
