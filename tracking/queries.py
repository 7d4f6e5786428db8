"""Parse what a user wants tracked: a grid, a file, or points written on the command line.

Queries are (Q, 3) float32 rows (t, y, x): t a frame number, y and x in pixels of the ORIGINAL video with pixel
centres at +0.5 (TAP-Vid's raster), so that 0 and W are the left and right edges of the image.
"""

import math
import re

import cv2
import numpy as np

from files import UserError, check_image_size, load_npz, read_pixels, size_in

QUERIES_HELP = """what to track:
  grid[:STEP][@FRAME]  every STEP-th pixel of FRAME (default: about 1000 points of frame 0), e.g. grid:8@12
  FILE.npz             an array query_points (Q, 3) of (t, y, x): TAP-Vid's files and our own tracks.npz have it
  "t,y,x;t,y,x"        points, e.g. "0,120.5,64;12,40,300"
t is a frame number from 0; y and x are pixels of the original video, pixel centres at +0.5"""


def parse_queries(text, num_frames, video_size, mask=None):
    """The queries that `text` asks for, all of them inside the video.

    Args:
        text: see QUERIES_HELP.
        num_frames: N; video_size: (H, W) of the original video.
        mask: bool (H, W) of the original video; keeps the grid points on it. Only grids take a mask.
    Returns: (Q, 3) float32 (t, y, x).
    Raises: UserError for a text of another form, an unreadable file, a query outside the video or no query at all.
    """
    is_grid = text == "grid" or text.startswith(("grid:", "grid@"))
    if mask is not None and not is_grid:
        raise UserError("--mask selects points of a grid; it has no meaning for queries given one by one")
    if is_grid:
        step, frame = parse_grid(text)
        check_frame(frame, num_frames, f"--queries {text}")
        return grid_queries(frame, step or default_step(video_size, mask), video_size, mask)
    queries = read_queries(text, video_size) if text.lower().endswith(".npz") else parse_points(text)
    check_queries(queries, num_frames, video_size)
    return queries.astype(np.float32)


def parse_grid(text):
    """'grid[:STEP][@FRAME]' -> (step or None, frame)."""
    match = re.fullmatch(r"grid(?::([0-9]{1,9}))?(?:@(-?[0-9]{1,9}))?", text)
    if not match or (match[1] and int(match[1]) == 0):
        raise UserError(f"--queries {text}: expected grid[:STEP][@FRAME] with a positive STEP, for example grid:8@0")
    return (int(match[1]) if match[1] else None), int(match[2] or 0)


def default_step(video_size, mask=None, num_points=1000):
    """The step that gives about `num_points` grid points on the image, or on the mask."""
    area = video_size[0] * video_size[1] if mask is None else int(mask.sum())
    return max(1, round(math.sqrt(area / num_points)))


def grid_queries(frame, step, video_size, mask=None):
    """(Q, 3) queries `step` pixels apart, centred on the image (with step 1: every pixel centre)."""
    height, width = video_size
    y, x = np.meshgrid(grid_axis(height, step), grid_axis(width, step), indexing="ij")
    queries = np.stack([np.full(y.size, frame), y.ravel(), x.ravel()], axis=1).astype(np.float32)
    if mask is None:
        return queries
    queries = queries[points_on_mask(queries[:, [2, 1]], mask)]
    if not len(queries):
        raise UserError(f"--mask: no point of a grid with step {step} lies on the mask; use a smaller step (grid:1)")
    return queries


def grid_axis(size, step):
    """Positions `step` apart and centred in [0, size]."""
    count = max(1, size // step)
    return (size - (count - 1) * step) / 2 + step * np.arange(count)


def points_on_mask(points, mask):
    """(Q,) bool: raster points (Q, 2) of (x, y) whose pixel is set in mask (H, W)."""
    height, width = mask.shape
    column = np.clip(np.floor(points[:, 0]).astype(int), 0, width - 1)
    row = np.clip(np.floor(points[:, 1]).astype(int), 0, height - 1)
    return mask[row, column]


def parse_points(text):
    """'t,y,x;t,y,x' -> (Q, 3) float64."""
    rows = [row for row in text.split(";") if row.strip()]
    try:
        queries = [[float(value) for value in row.split(",")] for row in rows if text.isascii()]
    except ValueError:
        queries = []
    if not queries or any(len(row) != 3 for row in queries):
        raise UserError(f'--queries {text}: expected grid[:STEP][@FRAME], a file ending in .npz, or "t,y,x;t,y,x"')
    return np.array(queries)


def read_queries(path, video_size):
    """The array query_points (Q, 3) of an .npz file. UserError if there is none, or it is of another video size."""
    arrays = load_npz(path)
    queries = arrays.get("query_points")
    if queries is None or queries.ndim != 2 or queries.shape[1] != 3 or queries.dtype.kind not in "fiu":
        found = "no such array" if queries is None else f"shape {queries.shape}, {queries.dtype}"
        raise UserError(f"--queries {path}: expected an array query_points (Q, 3) of numbers t, y, x; found {found}")
    theirs = size_in(path, arrays)
    if theirs not in (None, tuple(video_size)):
        (theirs_y, theirs_x), (y, x) = theirs, video_size
        raise UserError(f"--queries {path}: made for a video of {theirs_x}x{theirs_y} pixels, this one has {x}x{y}")
    return queries.astype(np.float64)


def check_frame(frame, num_frames, what):
    """UserError unless 0 <= frame < num_frames; `what` names the option."""
    if not 0 <= frame < num_frames:
        raise UserError(f"{what}: frame {frame} is outside the video, which has frames 0 to {num_frames - 1}")


def check_queries(queries, num_frames, video_size):
    """UserError naming the first query that is not a whole frame number and a position inside the image."""
    if not len(queries):
        raise UserError("--queries: no query points were given")
    t, y, x = queries.T
    height, width = video_size
    whole = (t == np.round(t)) & (t >= 0) & (t < num_frames)
    inside = (y >= 0) & (y <= height) & (x >= 0) & (x <= width)
    wrong = np.flatnonzero(~(whole & inside))
    if len(wrong):
        first = wrong[0]
        named = ",".join(f"{value:g}" for value in queries[first])
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(
            f"query {first} (t,y,x = {named}) is outside the video{more}: "
            f"expected t a frame 0 to {num_frames - 1}, y in [0, {height}], x in [0, {width}]"
        )


def read_mask(path, sizes):
    """An image file as a bool mask: set where any colour channel is not 0.

    Args:
        path: image of any of the `sizes` [(H, W), ...], the first of which is the size returned.
    Raises: UserError for an unreadable file or another size.
    """
    size = check_image_size(path, "--mask, an image")
    if size not in [tuple(size) for size in sizes]:
        expected = " or ".join(dict.fromkeys(f"{width}x{height}" for height, width in sizes))
        raise UserError(f"--mask {path}: the image is {size[1]}x{size[0]}, expected {expected}")
    image = read_pixels(path, expected="--mask, an image")
    mask = image > 0 if image.ndim == 2 else (image[..., :3] > 0).any(axis=-1)
    height, width = sizes[0]
    if mask.shape != (height, width):
        mask = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    return mask
