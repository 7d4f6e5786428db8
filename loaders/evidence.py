"""Evidence: what others than optical flow say about where points of a video are, as weighted correspondences.

    evidence/NAME.npz    of a data directory, one file a source:
        frames (M, 2) int32     frame_1 < frame_2; rows in the order of their pairs of frames
        points (M, 2, 2) float32  where one point is in either frame, (x, y) in pixels of the data directory's frames
        weight (M,) float32     in (0, 1]: how far the source itself trusts it
        source () str           where it comes from, in words
        followed () bool        whether its points were followed through the video, not matched; in older files: tracks
        tracks (Q, N, 2) float32  of what was followed: where, also where it was not seen
        visible (Q, N) bool     and whether it was seen, as far as the source knows; neither of what was not followed

Conventions: pixels have integer centres; M correspondences, Q tracks of N frames. A file that is there is complete.
"""

import contextlib
import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from util import UserError, atomic_path, load_npz

FOLDER = "evidence"
MOST = 2**21  # correspondences of a source, 58 MB, and places of tracks; of more a part, drawn at random, is kept


@dataclass(frozen=True)
class Evidence:
    """Correspondences of one source; the fields are those of the file."""

    name: str
    frames: np.ndarray
    points: np.ndarray
    weight: np.ndarray
    source: str = ""
    followed: bool = False
    tracks: np.ndarray | None = None
    visible: np.ndarray | None = None

    def between(self, i, j):
        """points_1 (n, 2), points_2 (n, 2), weight (n,) of what is known in both frames i and j; n may be 0."""
        low, high = sorted((i, j))
        start = np.searchsorted(self.frames[:, 0], low)
        end = np.searchsorted(self.frames[:, 0], low, side="right")
        first, last = (start + np.searchsorted(self.frames[start:end, 1], high, side) for side in ("left", "right"))
        points = self.points[first:last] if i < j else self.points[first:last, ::-1]
        return points[:, 0], points[:, 1], self.weight[first:last]


def evidence_of(name, frames, points, weight, source="", most=MOST, seed=0, followed=False):
    """Evidence of rows in any order and direction: frames (M, 2), points (M, 2, 2), weight (M,); at most `most`."""
    frames = np.asarray(frames, np.int32)
    points, weight = np.asarray(points, np.float32), np.asarray(weight, np.float32)
    if len(frames) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(len(frames), most, replace=False))
        frames, points, weight = frames[chosen], points[chosen], weight[chosen]
    back = frames[:, 0] > frames[:, 1]
    frames = np.where(back[:, None], frames[:, ::-1], frames)
    points = np.where(back[:, None, None], points[:, ::-1], points)
    order = np.lexsort((frames[:, 1], frames[:, 0]))
    return Evidence(name, frames[order], points[order], weight[order], source, followed)


def of_tracks(name, positions, visible, pairs, source="", most=MOST):
    """Evidence of tracks (Q, N, 2) in pixels, where they are visible (Q, N), in the pairs of frames {(i, j)}, i < j."""
    pairs = sorted(pairs)
    both = [np.flatnonzero(visible[:, i] & visible[:, j]) for i, j in pairs]
    total, random = sum(map(len, both)), np.random.default_rng(0)
    if total > most:  # thinned pair by pair, so that no more than `most` rows are ever made
        both = [np.sort(random.permutation(points)[: int(len(points) * most / total)]) for points in both]
    frames = np.repeat(np.array(pairs, np.int32).reshape(-1, 2), [len(points) for points in both], axis=0)
    ends = [np.stack([positions[points, i], positions[points, j]], axis=1) for points, (i, j) in zip(both, pairs)]
    points = np.concatenate(ends) if ends else np.empty((0, 2, 2))
    found = evidence_of(name, frames, points, np.ones(len(points)), source, followed=True)
    kept = np.sort(random.permutation(len(positions))[: max(1, most // max(positions.shape[1], 1))])
    return replace(found, tracks=np.float32(positions[kept]), visible=np.asarray(visible, bool)[kept])


def write_evidence(folder, evidence):
    """Write a source's file into the data directory `folder`."""
    arrays = {name: np.asarray(value) for name, value in vars(evidence).items() if name != "name" and value is not None}
    with atomic_path(Path(folder) / FOLDER / f"{evidence.name}.npz") as temporary:
        np.savez(temporary, **arrays)


def read_evidence(folder, num_frames):
    """[Evidence] of all sources that the data directory `folder` holds, by name. UserError for a damaged file."""
    return [read_source(path, num_frames) for path in sorted((Path(folder) / FOLDER).glob("[!.]*.npz"))]


def read_source(path, num_frames):
    """Evidence of one file, which is read again only where it changed. UserError: it is damaged."""
    state = Path(path).stat()
    return source_as_of(path, num_frames, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4)  # files: a page asks for them at every click
def source_as_of(path, num_frames, modified, size):
    """read_source, of a file that was last modified then, and is so large."""
    arrays = load_npz(path)
    missing = [name for name in ("frames", "points", "weight", "source") if name not in arrays]
    if missing:
        raise UserError(f"{path}: not a file of evidence: it has no {', '.join(missing)}")
    frames, points, weight = (arrays[name] for name in ("frames", "points", "weight"))
    if frames.shape != (len(weight), 2) or points.shape != (len(weight), 2, 2):
        raise UserError(f"{path}: expected frames (M, 2), points (M, 2, 2), weight (M,); got {frames.shape}, "
                        f"{points.shape}, {weight.shape}")
    if len(frames) and not 0 <= frames.min() <= frames.max() < num_frames:
        raise UserError(f"{path}: frames {frames.min()} to {frames.max()}; expected 0 to {num_frames - 1}")
    source = str(arrays["source"])
    followed = np.any(arrays.get("followed", source.startswith("tracks ")))
    tracks, visible = arrays.get("tracks"), arrays.get("visible")
    if tracks is not None or visible is not None:
        check_tracks(path, np.asarray(tracks), np.asarray(visible), num_frames)
    return Evidence(path.stem, frames, points, weight, source, bool(followed), tracks, visible)


def check_tracks(path, tracks, visible, num_frames):
    """UserError unless tracks are (Q, N, 2), visible (Q, N), with a place wherever they are visible."""
    if visible.shape[1:] != (num_frames,) or tracks.shape != (*visible.shape, 2) or visible.dtype != bool:
        raise UserError(f"{path}: expected tracks (Q, {num_frames}, 2), visible (Q, {num_frames}) of truth values; got "
                        f"{tracks.shape}, {visible.shape} of {visible.dtype}")
    if not np.isfinite(tracks[visible]).all():
        raise UserError(f"{path}: a visible point of its tracks has no place")


def stored_evidence(folder, name, source, num_frames):
    """Evidence of a source by that name and in these words, of the data directory `folder`; None: it holds none."""
    path = Path(folder) / FOLDER / f"{name}.npz"
    with contextlib.suppress(UserError):
        found = read_source(path, num_frames) if path.exists() else None
        return found if found is not None and found.source == source else None
    return None
