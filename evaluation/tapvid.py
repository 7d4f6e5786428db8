"""The official TAP-Vid files: reading them, sampling their queries, and laying their videos out for preprocessing.

A pickle is a dict {name: example} (DAVIS) or a list of examples (RGB-Stacking, the shards of Kinetics). An example is
{video (N, H, W, 3) uint8 or N encoded images, points (Q, N, 2) x, y in [0, 1] of the image, occluded (Q, N) bool}.
The Kinetics csv has a row per track: YouTube id, start and end second, then x, y, occluded of each frame at 25 fps.
"""

import functools
import hashlib
import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

from files import DAMAGE, FFMPEG_INPUT, UserError, check_image_size, read_table, regular_file, write_npz
from loaders.data_dir import write_image
from loaders.sealed import decode

QUERY_STRIDE = 5  # frames between the queries of the strided mode
CSV_FPS = 25  # at which the Kinetics csv was annotated

PLAIN = {"bool", "complex", "dict", "float", "frozenset", "int", "list", "set", "tuple"}
NUMPY_MODULES = {"numpy", *(f"numpy.{core}.{part}" for core in ("core", "_core") for part in ("multiarray", "numeric"))}


def from_content(kind):
    """bytes or bytearray, made of a content only: a number would be a size, of any size."""
    def make(*arguments):
        if any(isinstance(argument, int) for argument in arguments):
            raise ValueError(f"{kind.__name__} of a size")
        return kind(*arguments)
    return make


class ArrayType:
    """What stands for numpy.ndarray in a pickle, which may only hand it to _reconstruct."""


def empty_array(*_):
    """numpy's _reconstruct: the empty array that a pickle then gives shape, type and content (which have to fit)."""
    return np.ndarray.__new__(np.ndarray, (0,), "b")


# The functions with which numpy pickles arrays; no more of numpy, which also holds functions that run code.
NUMPY = {"_reconstruct": empty_array, "ndarray": ArrayType, "dtype": np.dtype, "scalar": None, "_frombuffer": None}


class RestrictedUnpickler(pickle.Unpickler):
    """Loads plain containers, numbers and numpy arrays, and refuses everything that could run code."""

    def find_class(self, module, name):
        if module in ("builtins", "__builtin__") and name in PLAIN:
            return super().find_class(module, name)
        if module in ("builtins", "__builtin__") and name in ("bytes", "bytearray"):
            return from_content({"bytes": bytes, "bytearray": bytearray}[name])
        if module in NUMPY_MODULES and name in NUMPY:
            return NUMPY[name] or super().find_class(module, name)
        if module == "numpy.dtypes" and name.endswith("DType") or (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)  # and how protocols 0 to 2 spell bytes
        raise UserError(f"holds {module}.{name}; only numpy arrays and builtin containers are loaded from a pickle")


def load_pickle(path):
    """What a pickle of plain data holds. UserError (naming the file) for anything else."""
    regular_file(path, "a pickle of TAP-Vid")
    try:
        with open(path, "rb") as file:
            return RestrictedUnpickler(file, encoding="latin1").load()
    except UserError as error:
        raise UserError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except (pickle.UnpicklingError, ValueError, RecursionError, *DAMAGE) as error:
        raise UserError(f"{path}: not a readable pickle ({str(error)[:100]})") from None


@dataclass
class Example:
    """One video of the benchmark. points (Q, N, 2) in [0, 1] of the image, occluded (Q, N) bool."""

    name: str
    points: np.ndarray
    occluded: np.ndarray
    load_video: object  # () -> (N, H, W, 3) uint8


def read_examples(path, videos=None):
    """Yield the Examples of a pickle, of a folder of shards, or of a csv with its folder of videos.

    UserError for a file that is not one of these, or an example without the right arrays.
    """
    path = Path(path)
    if path.suffix == ".csv":
        yield from read_csv(path, videos)
        return
    shards = sorted(path.glob("*.pkl")) if path.is_dir() else [path]
    if not shards:
        raise UserError(f"{path}: no .pkl file in this folder")
    for shard in shards:
        content = load_pickle(shard)
        if isinstance(content, dict):
            named = content.items()
        elif isinstance(content, list):
            digits = max(2, len(str(len(content) - 1)))
            prefix = f"{shard.stem}-" if len(shards) > 1 else ""
            named = ((f"{prefix}{k:0{digits}d}", example) for k, example in enumerate(content))
        else:
            raise UserError(f"{shard}: expected a dict or a list of videos, got {type(content).__name__}")
        if not content:
            raise UserError(f"{shard}: holds no videos")
        for name, example in named:
            yield make_example(shard, name, example)


def make_example(path, name, example):
    """Check one video of a pickle -> Example."""
    if not isinstance(name, str | int) or not isinstance(example, dict) or not {"video", "points", "occluded"} <= set(
            example):
        raise UserError(f"{path}: video {str(name)[:40]!r}: expected a dict with video, points and occluded")
    try:
        points, occluded = np.asarray(example["points"], np.float64), np.asarray(example["occluded"]).astype(bool)
        frames = len(example["video"])
    except (ValueError, *DAMAGE):
        raise UserError(f"{path}: video {name!r}: expected points and occluded of numbers, and frames") from None
    if occluded.ndim != 2 or points.shape != (*occluded.shape, 2) or frames != occluded.shape[1] or not frames:
        raise UserError(
            f"{path}: video {name!r}: expected points (Q, N, 2), occluded (Q, N) and a video of N frames, got "
            f"{points.shape}, {occluded.shape} and {frames} frames"
        )
    if not np.isfinite(points[~occluded]).all():
        raise UserError(f"{path}: video {name!r}: points are not finite where they are not occluded")
    load_video = functools.partial(decode_video, path, name, example["video"])
    return Example(safe_name(str(name)), points, occluded, load_video)


def safe_name(name):
    """A video's name as the name of a folder; different names stay different."""
    plain = re.sub(r"[/\\\0-\x1f]", "_", name).strip(". ")[:100]
    return plain if plain and plain == name else f"{plain or 'video'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def decode_video(path, name, video):
    """(N, H, W, 3) uint8 from an array, or from encoded images (JPEG bytes). UserError: it is neither."""
    if isinstance(video, np.ndarray) and video.dtype.kind == "S":  # encoded images, as the shards have them
        video = video.ravel().tolist()
    if isinstance(video, np.ndarray):
        if video.dtype != np.uint8 or video.ndim != 4 or video.shape[3] != 3 or not video.size:
            raise UserError(f"{path}: video {name!r}: {video.dtype} {video.shape}; expected uint8 (N, H, W, 3)")
        return video
    if not isinstance(video, list | tuple) or not all(isinstance(data, bytes | bytearray) for data in video):
        raise UserError(f"{path}: video {name!r}: expected an array, or a list of encoded images")
    frames = [decode_frame(data, f"{path}: video {name!r}: frame {i}") for i, data in enumerate(video)]
    if len({frame.shape for frame in frames}) > 1:
        raise UserError(f"{path}: video {name!r}: its frames are of different sizes")
    return np.stack(frames)


def decode_frame(data, where):
    """An encoded image -> uint8 (H, W, 3) RGB. UserError, which begins with `where`: it is none, or too large."""
    check_image_size(where, content=data)
    return decode(where, np.frombuffer(data, np.uint8))


def read_csv(path, videos):
    """Yield the Examples of a csv whose videos VIDEOS/**/<id>_<start>_<end>.mp4 (or <id>.mp4) exist."""
    if videos is None:
        raise UserError(f"{path}: a csv holds no images: give the folder of its videos with --videos DIR")
    files = {file.stem: file for file in Path(videos).rglob("*.mp4")}
    found = 0
    for name, tracks in csv_tracks(path).items():
        if name not in files:
            print(f"{name}: not in {videos}, left out")
            continue
        found += 1
        video = read_video(files[name])
        tracks = tracks[:, : len(video)]
        # The official converter moves the csv's points by half a pixel, and only those.
        points = tracks[..., :2] - 0.5 / np.array([video.shape[2], video.shape[1]])
        yield Example(name, points, tracks[..., 2] > 0, lambda video=video, count=tracks.shape[1]: video[:count])
    if not found:
        raise UserError(f"{videos}: none of the videos of {path} (looked for NAME.mp4 in all subfolders)")


def csv_tracks(path):
    """{video name: (Q, N, 3) x, y, occluded}."""
    tracks, expected = {}, "rows of id, start, end, then x, y, occluded of each frame"
    rows = read_table(path, f"a csv with {expected}")
    try:
        for row in rows:
            keys = 3 if len(row) % 3 == 0 else 1  # id, start and end second; or a file name alone
            name = f"{row[0]}_{int(row[1]):06}_{int(row[2]):06}" if keys == 3 else row[0].removesuffix(".mp4")
            values = np.array(row[keys:], np.float64).reshape(-1, 3)
            if not len(values) or not np.isfinite(values).all():
                raise ValueError(f"a row of {name[:40]} has no numbers, or such that are not finite")
            tracks.setdefault(name, []).append(values)
        return {name: np.stack(rows) for name, rows in tracks.items()}
    except (ValueError, IndexError) as error:
        raise UserError(f"{path}: expected {expected} ({error})") from None


def read_video(path):
    """(N, H, W, 3) uint8 of a video file, at the csv's frame rate."""
    regular_file(path, "a video")
    try:
        reader = imageio_ffmpeg.read_frames(f"file:{path}", input_params=list(FFMPEG_INPUT),
                                            output_params=["-vf", f"fps={CSV_FPS}"])
        width, height = next(reader)["size"]
        return np.stack([np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader])
    except (OSError, RuntimeError, ValueError, StopIteration) as error:
        raise UserError(f"{path}: not a readable video ({str(error).strip().splitlines()[-1:]})") from None


# ---------------------------------------------------------------- queries


def sample_queries(points, occluded, query_mode):
    """Queries of tracks (Q0, N, 2), occluded (Q0, N), as the benchmark samples them.

    strided: a query in every 5th frame from each track that is visible there; first: one query per track, where it is
    first visible. Returns query_points (Q, 3) t, y, x in the points' units, and the index (Q,) of each query's track.
    """
    if query_mode == "first":
        chosen = np.flatnonzero((~occluded).any(axis=1))
        frames = (~occluded[chosen]).argmax(axis=1)
    else:
        frames, chosen = np.nonzero(~occluded[:, ::QUERY_STRIDE].T)
        frames = frames * QUERY_STRIDE
    positions = points[chosen, frames]
    return np.column_stack([frames, positions[:, ::-1]]).astype(np.float32), chosen


# ---------------------------------------------------------------- preparing


def prepare(path, out, resolution=256, videos=None):
    """Write OUT/<video>/frames/*.png and OUT/<video>/ground_truth.npz of every video; returns the videos' folders.

    Frames are resized to `resolution` squared, where the benchmark is defined; 0 keeps their size. The ground truth
    has no query points: which points are queries depends on the query mode of the evaluation. A video whose ground
    truth is there is not written again.
    """
    folders = []
    for example in read_examples(path, videos):
        folder = Path(out) / example.name
        if not (folder / "ground_truth.npz").exists():
            size = write_frames(folder / "frames", example.load_video(), resolution)
            write_truth(folder / "ground_truth.npz", example, size)
        folders.append(folder)
        print(f"{folder}: {example.occluded.shape[1]} frames, {len(example.points)} tracks")
    return folders


def write_frames(folder, video, resolution):
    """Write the frames as PNG; returns their size (H, W)."""
    for index, frame in enumerate(video):
        if resolution and frame.shape[:2] != (resolution, resolution):
            interpolation = cv2.INTER_AREA if min(frame.shape[:2]) > resolution else cv2.INTER_LINEAR
            frame = cv2.resize(frame, (resolution, resolution), interpolation=interpolation)
        write_image(folder / f"{index:05d}.png", frame)
    return frame.shape[:2]


def write_truth(path, example, size):
    """Write an example's tracks in raster pixels of `size`."""
    height, width = size
    write_npz(
        path,
        target_points=(example.points * [width, height]).astype(np.float32),
        occluded=example.occluded,
        video_size=np.array(size, np.int32),
    )
