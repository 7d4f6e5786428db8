"""Which videos: files, folders of frames, folders of either, lists and patterns; their names and sizes.

A size is (N, H, W) as far as the file tells; None where it cannot be read, which preprocessing then says.
"""

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from files import UserError, read_text
from preprocess.frames import FRAME_FOLDERS, IMAGE_SUFFIXES, list_images, open_image, run_ffmpeg

VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi", ".gif", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"}
LONGEST_NAME = 80
OUR_FILES = {"index.html", "plan.json", "scores.md", "scores.json"}  # beside the videos' folders
EXPECTED = "expected a video file, a folder of frames or of videos, a list (.txt), or a pattern in quotes"


@dataclass(frozen=True)
class Video:
    """One video: its name among the results, where it is, its size, and what changes when its content does."""

    name: str
    source: str
    size: tuple | None
    mark: tuple


def find_sources(inputs):
    """Absolute paths of all videos that the inputs name, each once, in order. UserError where one names none."""
    found = {}
    for text in inputs:
        sources = list(sources_of(Path(text)) if Path(text).exists() else matches(str(text)))
        if not sources:
            raise UserError(f"{text}: no video there; {EXPECTED}")
        found |= dict.fromkeys(str(source.resolve()) for source in sources)
    return list(found)


def matches(pattern):
    paths = [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]
    if not paths:
        raise UserError(f"{pattern}: no such file or folder, and nothing that matches; {EXPECTED}")
    for path in paths:
        yield from sources_of(path)


def sources_of(path):
    """The videos of a path that exists: the file itself, those of a list, or of a folder and the folders in it."""
    if path.suffix.lower() == ".txt" and path.is_file():
        yield from sources_of_list(path)
    elif path.is_file() or is_frames(path):
        yield path
    else:
        for child in sorted(path.iterdir()):
            inside = [child / name for name in sorted(FRAME_FOLDERS) if is_frames(child / name)]
            if inside:
                yield inside[0]
            elif is_frames(child) or (child.is_file() and child.suffix.lower() in VIDEO_SUFFIXES):
                yield child


def sources_of_list(path):
    """The videos that a text file names, one a line, relative to the file's folder."""
    for number, line in enumerate(read_text(path, "a list of videos").splitlines(), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            source = path.parent / line
            if not source.exists():
                raise UserError(f"{path}, line {number}: {line}: no such file or folder")
            yield from sources_of(source)


def is_frames(path):
    return path.is_dir() and any(
        file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") for file in path.iterdir()
    )


def title(source):
    """A source's own name: of frames/ that of the folder above it."""
    path = Path(source)
    if path.is_dir():
        return path.parent.name if path.name.lower() in FRAME_FOLDERS else path.name
    return path.stem


def name_sources(sources, earlier):
    """{source: name}: names that are folders of their own, whatever letters' case counts there.

    earlier: {source: name} of before, which keep their names whether they are among the sources or not.
    """
    names, taken = {}, {*OUR_FILES, *(name.casefold() for name in earlier.values())}
    for source in sources:
        name = earlier.get(source)
        if name is None:
            stem = re.sub(r"[^\w.-]+", "_", title(source)).strip("._")[:LONGEST_NAME] or "video"
            number, name = 1, stem
            while name.casefold() in taken:
                number, name = number + 1, f"{stem}-{number + 1}"
            taken.add(name.casefold())
        names[source] = name
    return names


def mark_of(source):
    """Numbers that differ when a video's files do: how many, their bytes, the newest's time."""
    path = Path(source)
    stats = [file.stat() for file in ([path] if path.is_file() else path.iterdir())]
    return len(stats), sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)


def size_of(source):
    """(N, H, W), or None: told by the header of a video file, or by a folder's first image."""
    path = Path(source)
    try:
        if path.is_dir():
            files = list_images(path)
            image = open_image(files[0])
            return len(files), image.height, image.width
    except UserError:
        return None
    listing = run_ffmpeg("-i", f"file:{path}").stderr
    length = re.search(r"Duration: (\d+):(\d+):([\d.]+)", listing)
    sides, rate = re.search(r"Video:.*?\b(\d{2,5})x(\d{2,5})\b", listing), re.search(r"Video:.* ([\d.]+) fps", listing)
    if not (length and sides and rate):
        return None
    seconds = 3600 * int(length[1]) + 60 * int(length[2]) + float(length[3])
    return max(1, round(seconds * float(rate[1]))), int(sides[2]), int(sides[1])
