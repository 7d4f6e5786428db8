"""What is true about a video, from any of the files that say so.

Conventions: raster pixels (centres at +0.5) of a video of size (H, W). Q queries, N frames.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation import badja, masks, tapvid
from files import UserError, check_arrays, load_npz, size_in
from loaders.data_dir import read_image

EXPECTED = (
    "expected an .npz with target_points and occluded, a TAP-Vid .pkl, a folder of .pkl shards, a folder that "
    "`evaluate.py prepare` wrote, a BADJA .json (with --masks), or a folder of mask images"
)
MASK_POINTS = 5000  # about how many points carry a mask by default


@dataclass
class Truth:
    """One video's truth: points; or, with `radius`, keypoints (PCK); or, with `mask_images`, masks (J and F)."""

    name: str
    query_points: np.ndarray  # (Q, 3) t, y, x
    num_frames: int
    video_size: tuple | None = None  # (H, W); None: of whatever is evaluated
    target_points: np.ndarray | None = None  # (Q, N, 2) x, y
    occluded: np.ndarray | None = None  # (Q, N)
    radius: np.ndarray | None = None  # (N,)
    mask_images: np.ndarray | None = None  # (N, H, W) bool
    hidden_positions_known: bool = False  # target_points are right where occluded, too
    object_ids: np.ndarray | None = None  # (Q,) index of the name of the object that each query is on
    object_names: tuple = ()


def read_truths(path, query_mode="strided", mask_folder=None, mask_stride=None):
    """Yield the Truth of every video of a ground-truth file or folder. UserError when it is none that is known."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such ground truth; {EXPECTED}")
    if path.suffix == ".npz":
        yield read_npz(path, query_mode)
    elif path.suffix == ".json":
        yield read_keypoints(path, mask_folder)
    elif path.suffix == ".pkl" or (path.is_dir() and any(path.glob("*.pkl"))):
        for example in tapvid.read_examples(path):
            yield from_example(example, query_mode)
    elif path.is_dir() and (prepared := sorted(path.glob("*/ground_truth.npz"))):
        for file in prepared:
            yield read_npz(file, query_mode, file.parent.name)
    elif (path / "ground_truth.npz").exists():
        yield read_npz(path / "ground_truth.npz", query_mode, path.name)
    elif path.is_dir() and any(path.glob("*.png")):
        yield read_mask_truth(path, mask_stride)
    else:
        raise UserError(f"{path}: not a ground truth; {EXPECTED}")


def read_npz(path, query_mode, name=None):
    """Our own file: target_points (Q, N, 2), occluded (Q, N), and query_points (Q, 3), video_size (H, W) if known.

    Without query_points they are sampled by the query mode. May further hold hidden_positions_known (), object_ids (Q,)
    and object_names: see Truth.
    """
    arrays = load_npz(path)
    missing = [key for key in ("target_points", "occluded") if key not in arrays]
    if missing:
        raise UserError(f"{path}: has no {' and no '.join(missing)}, which a ground truth needs")
    optional = {"hidden_positions_known": "", "object_ids": "Q"}
    sizes = check_arrays(path, arrays, {"occluded": "QN", "target_points": "QN2"})
    check_arrays(path, arrays, {name: shape for name, shape in optional.items() if name in arrays}, **sizes)
    points, occluded = np.asarray(arrays["target_points"], np.float64), arrays["occluded"].astype(bool)
    if not np.isfinite(points[~occluded]).all():
        raise UserError(f"{path}: target_points are not finite where they are not occluded")
    queries, (objects, names) = arrays.get("query_points"), read_objects(path, arrays, len(occluded))
    if queries is None:
        queries, chosen = tapvid.sample_queries(points, occluded, query_mode)
        points, occluded = points[chosen], occluded[chosen]
        objects = None if objects is None else objects[chosen]
    check_queries(path, queries, *occluded.shape)
    size = size_in(path, arrays)
    name = name or (path.parent.resolve().name if path.stem == "ground_truth" else path.stem)
    known = bool(arrays.get("hidden_positions_known", False))
    return Truth(name, queries, occluded.shape[1], video_size=size, target_points=points, occluded=occluded,
                 hidden_positions_known=known, object_ids=objects, object_names=names)


def read_objects(path, arrays, num_queries):
    """object_ids (Q,) and object_names of a file, or None and (). UserError where they do not fit."""
    if "object_ids" not in arrays or "object_names" not in arrays:
        return None, ()
    objects, names = arrays["object_ids"], tuple(str(name) for name in arrays["object_names"].ravel())
    if objects.shape != (num_queries,) or (num_queries and not 0 <= objects.min() <= objects.max() < len(names)):
        expected = f"expected object_ids ({num_queries},) from 0 to {len(names) - 1}, one of {len(names)} object_names"
        raise UserError(f"{path}: {expected}, got {objects.shape}")
    return objects.astype(int), names


def check_queries(path, queries, num_queries, num_frames):
    """UserError unless queries are (Q, 3) with frames of the video."""
    check_arrays(path, {"query_points": queries}, {"query_points": "Q3"}, Q=num_queries)
    if not np.isfinite(queries).all():
        raise UserError(f"{path}: query_points are not finite")
    wrong = (np.round(queries[:, 0]) < 0) | (np.round(queries[:, 0]) >= num_frames)
    if wrong.any():
        frame = queries[wrong.argmax(), 0]
        raise UserError(f"{path}: query frame {frame:g} is not in the video (0 to {num_frames - 1})")


def from_example(example, query_mode):
    """A video of the official files, on a raster of 256 x 256."""
    queries, chosen = tapvid.sample_queries(example.points * 256, example.occluded, query_mode)
    occluded = example.occluded[chosen]
    return Truth(example.name, queries, occluded.shape[1], video_size=(256, 256),
                 target_points=example.points[chosen] * 256, occluded=occluded)


def read_masks(folder):
    """(N, H, W) bool of a folder of mask images, in the order of their names."""
    files = sorted(Path(folder).glob("*.png"))
    if not files:
        raise UserError(f"{folder}: no mask images (*.png) here")
    images = [read_image(file, grey=True) > 0 for file in files]
    for file, image in zip(files, images):
        if image.shape != images[0].shape:
            raise UserError(f"{file}: size {image.shape}, but {files[0].name} has {images[0].shape}")
    return np.stack(images)


def read_keypoints(path, mask_folder):
    if mask_folder is None:
        raise UserError(f"{path}: PCK needs the object's size: give the folder of its masks with --masks DIR")
    images = read_masks(mask_folder)
    queries, points, occluded, radius = badja.read_badja(path, images)
    return Truth(path.stem, queries, len(images), video_size=images.shape[1:], target_points=points,
                 occluded=occluded, radius=radius)


def read_mask_truth(folder, stride):
    """Masks to be carried from the first frame by a grid of points."""
    images = read_masks(folder)
    size = images.shape[1:]
    stride = stride or max(1, int(np.ceil(np.sqrt(size[0] * size[1] / MASK_POINTS))))
    name = folder.parent.name if folder.name == "masks" else folder.name
    return Truth(name, masks.query_grid(size, stride), len(images), size, mask_images=images)
