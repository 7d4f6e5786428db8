"""Tracks as the trackers write them, read into one layout.

    layout    arrays                                                       pixel centres
    ours      tracks (Q, N, 2), occluded (Q, N), query_points (Q, 3)       +0.5
    tapir     tracks (Q, N, 2), visibles (Q, N), query_points (Q, 3)       +0.5      TAPIR, TAPNext
    tapvid    tracks (1, Q, N, 2), occluded (1, Q, N), query_points        +0.5      TAP-Vid predictions
    cotracker tracks (1, N, Q, 2), visibility (1, N, Q), queries (Q, 3)    integer
    dense     traj_maps_e, visconf_maps_e (1, N, 2, H, W), the tracker's size  integer   AllTracker

Of dense maps a grid of points is taken; their frame is that in which they are at their own pixels, and they are visible
where visibility times confidence is that of AllTracker's own tests. Names may begin with `pred_`. query_points are t,
y, x; CoTracker's queries t, x, y. video_size (H, W) says in whose pixels positions are. Only what is read here decides;
no program that wrote a file is needed.

Conventions: what is returned is in raster pixels (x, y), centres at +0.5; Q points, N frames.
"""

import math
from dataclasses import dataclass

import numpy as np

from files import UserError, check_arrays, load_npz, size_in

HIDDEN = {"occluded": True, "visibles": False, "visibility": False}  # names, and whether they say what is hidden
QUERIES = {"query_points": (0, 2, 1), "queries": (0, 1, 2)}  # names, and where t, x, y are
DENSE = "traj_maps_e", "visconf_maps_e"
DENSE_POINTS, DENSE_VISIBLE = 2**13, 0.6
CONVENTIONS = {"raster": 0.0, "integer": 0.5}  # what is added to positions
ECHO = 0.1  # of the longer side: most tracks are nearer to their query in its frame, or the file is not understood
OTHER_SHAPE = 0.1  # of the logarithm of width by height: no rounding of a resized video's sides differs by so much
BEYOND = 0.5  # of a side: visible points that are further outside the frame belong to another size


@dataclass(frozen=True)
class PointTracks:
    """Tracks in raster pixels of a video of video_size (H, W), None where the file does not say."""

    positions: np.ndarray  # (Q, N, 2)
    visible: np.ndarray  # (Q, N) bool
    queries: np.ndarray | None  # (Q, 3) t, x, y
    video_size: tuple | None
    scores: np.ndarray | None = None  # (Q, N) occlusion scores, of our own files
    fps: float | None = None


def read_point_tracks(path, convention=None):
    """Read tracks in any of the layouts. convention: 'raster', 'integer', or None for the layout's own.

    UserError, which names the file: it is none of them, or its arrays do not fit one another.
    """
    arrays = {name.removeprefix("pred_"): array for name, array in load_npz(path).items()}
    for name, array in arrays.items():
        if name != "convention" and array.dtype.kind not in "biuf":
            raise UserError(f"{path}: {name} is {array.dtype}; expected numbers")
    if set(DENSE) <= arrays.keys():
        return of_dense_maps(path, *(arrays[name] for name in DENSE), CONVENTIONS[convention or "integer"])
    hidden = next((name for name in HIDDEN if name in arrays), None)
    missing = "tracks" if "tracks" not in arrays else f"{', '.join(HIDDEN)}" if hidden is None else None
    if missing:
        raise UserError(f"{path}: not tracks: it has no array `{missing}`; it holds {', '.join(arrays) or 'nothing'}")
    tracks, flags = np.asarray(arrays["tracks"], np.float64), np.asarray(arrays[hidden], np.float64)
    if tracks.shape != (*flags.shape, 2) or tracks.ndim not in (3, 4) or tracks.ndim == 4 and len(tracks) != 1:
        raise UserError(f"{path}: expected tracks (Q, N, 2) with {hidden} (Q, N), or both with 1 in front; got "
                        f"{tracks.shape} and {flags.shape}")
    cotracker = hidden == "visibility"
    if tracks.ndim == 4:
        tracks, flags = tracks[0], flags[0]
        if cotracker:
            tracks, flags = tracks.swapaxes(0, 1), flags.T
    offset = CONVENTIONS[convention or ("integer" if cotracker else "raster")]
    visible = flags < 0.5 if HIDDEN[hidden] else flags > 0.5
    queries = read_queries(path, arrays, len(tracks), offset)
    scores = arrays.get("occlusion_score")
    if scores is not None:
        check_arrays(path, {"occlusion_score": scores}, {"occlusion_score": "QN"}, Q=len(tracks), N=tracks.shape[1])
    fps = float(arrays["fps"]) if "fps" in arrays and check_arrays(path, arrays, {"fps": ""}) is not None else None
    return PointTracks(tracks + offset, visible, queries, size_in(path, arrays), scores, fps)


def of_dense_maps(path, maps, seen, offset):
    """PointTracks of a grid of AllTracker's dense maps, where each pixel of one frame is, and how surely it is seen."""
    maps, seen = (array[0] if array.ndim == 5 and len(array) == 1 else array for array in (maps, seen))
    if maps.ndim != 4 or maps.shape[1] != 2 or maps.shape != seen.shape or 0 in maps.shape:
        raise UserError(f"{path}: expected {' and '.join(DENSE)} (1, N, 2, H, W); got {maps.shape} and {seen.shape}")
    height, width = maps.shape[2:]
    step = math.ceil(math.sqrt(height * width / DENSE_POINTS))
    y, x = np.mgrid[step // 2 : height : step, step // 2 : width : step].reshape(2, -1)
    positions = maps[:, :, y, x].transpose(2, 0, 1).astype(np.float64)
    visible = seen[:, :, y, x].prod(1).T >= DENSE_VISIBLE
    start = np.linalg.norm(positions - np.stack([x, y], -1)[:, None], axis=-1).mean(0).argmin()
    queries = np.column_stack([np.full(len(x), start), x, y]) + [0, offset, offset]
    return PointTracks(positions + offset, visible, queries.astype(float), (height, width))


def read_queries(path, arrays, count, offset):
    """(Q, 3) t, x, y in raster pixels, or None where the file has none."""
    name = next((name for name in QUERIES if name in arrays), None)
    if name is None:
        return None
    queries = np.asarray(arrays[name], np.float64)
    if queries.shape not in ((count, 3), (1, count, 3)):
        raise UserError(f"{path}: {name} has shape {queries.shape}, expected ({count}, 3) for {count} tracks")
    return queries.reshape(count, 3)[:, QUERIES[name]] + [0, offset, offset]


def check_echo(path, positions, queries):
    """UserError where most tracks do not pass their query: axes, or points and frames, are exchanged."""
    if queries is None or not len(queries):
        return
    frames = np.rint(queries[:, 0]).astype(int)
    num_frames = positions.shape[1]
    if frames.min() < 0 or frames.max() >= num_frames:
        raise UserError(f"{path}: a query in frame {frames[(frames < 0) | (frames >= num_frames)][0]}, but tracks of "
                        f"{num_frames} frames; expected tracks (Q, N, 2): are points and frames exchanged?")
    echo = positions[np.arange(len(queries)), frames]
    near = ECHO * max(np.nanmax(np.abs(queries[:, 1:])), 1)
    asked = queries[:, 1:], queries[:, :0:-1]
    miss, miss_exchanged = (np.nanmedian(np.abs(echo - points).max(-1)) for points in asked)
    if miss > near and miss > 2 * miss_exchanged:
        raise UserError(f"{path}: tracks pass their queries {miss:.0f} pixels off, with x and y exchanged "
                        f"{miss_exchanged:.0f}; expected query_points t, y, x (queries t, x, y) and tracks x, y")
    if miss > near:
        raise UserError(f"{path}: tracks pass their queries {miss:.0f} pixels off; expected (almost) none: another "
                        "size, or another order of axes, than that of the queries")


def tracks_of_video(path, num_frames, video_size, convention=None, size=None):
    """Positions (Q, N, 2) in raster pixels of a video of video_size (H, W), visible (Q, N).

    size: (H, W) in whose pixels a file is that does not say so; None: video_size. UserError: also where tracks do not
    pass their queries, are of another length or size than the video, or a visible point has no position.
    """
    tracks = read_point_tracks(path, convention)
    check_echo(path, tracks.positions, tracks.queries)
    count, length = tracks.visible.shape
    if length != num_frames:
        hint = "; are points and frames exchanged?" if count == num_frames else ""
        raise UserError(f"{path}: tracks of {length} frames, but the video has {num_frames}{hint}")
    bad = tracks.visible & ~np.isfinite(tracks.positions).all(-1)
    if bad.any():
        track, frame = np.argwhere(bad)[0]
        raise UserError(f"{path}: track {track} is visible in frame {frame}, but has no position there (NaN); expected "
                        "numbers")
    own = tracks.video_size or size or video_size
    wide, expected = own[1] / own[0], video_size[1] / video_size[0]
    if tracks.video_size and wide != 1 and abs(np.log(wide / expected)) > OTHER_SHAPE:  # trackers resize to squares
        raise UserError(f"{path}: tracks of a video of {own[1]}x{own[0]}, but this one has {video_size[1]}x"
                        f"{video_size[0]}")
    away = np.maximum(-tracks.positions, tracks.positions - own[::-1]) / np.array(own[::-1])
    if np.mean(away.max(-1)[tracks.visible] > BEYOND) > 0.02:
        raise UserError(f"{path}: visible points far outside a frame of {own[1]}x{own[0]}; expected positions in "
                        "pixels of that size (--tracks_size WxH names another)")
    return tracks.positions * (np.array(video_size[::-1]) / own[::-1]), tracks.visible


def parse_size(text):
    """'WxH' -> (H, W). UserError otherwise."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UserError(f"--tracks_size {text}: expected WIDTHxHEIGHT, such as 256x256")
    return int(height), int(width)
