"""A tracker run over a long video: in windows that overlap, each point carried from one to the next.

A window holds all frames that are in memory. A point is first tracked in the window whose middle is nearest to its
query, then on through the windows after it and before it: asked again, in each, where it was last seen in the frames
that two windows share. Where it is not seen in any of those it is lost: hidden from there on.

Conventions: Q points, N frames; a tracker is track(frames uint8 (n, H, W, 3), queries (m, 3) t, x, y) -> positions
(m, n, 2), visible (m, n) bool, of all n frames; pixels have integer centres.
"""

import numpy as np

from files import UserError


def windows(num_frames, length, overlap):
    """[(first frame, frame after the last)] of windows of one length that share at least so many frames."""
    if num_frames <= length:
        return [(0, num_frames)]
    if not 0 < overlap < length:
        raise UserError(f"--overlap {overlap}: expected 1 to {length - 1} frames, less than a window's {length}")
    starts = [*range(0, num_frames - length, length - overlap), num_frames - length]
    return [(start, start + length) for start in starts]


def track_in_windows(track, frames, queries, length, overlap, at_once, progress=iter):
    """Positions (Q, N, 2), NaN where a point was lost, and visible (Q, N) of queries (Q, 3) t, x, y.

    frames: (N, H, W, 3), of which a window at a time is read; at_once: points that the tracker is given together.
    """
    parts = windows(len(frames), length, overlap)
    positions = np.full((len(queries), len(frames), 2), np.nan, np.float32)
    visible, known = (np.zeros(positions.shape[:2], bool) for _ in range(2))
    middles = np.array([(start + end - 1) / 2 for start, end in parts])
    first = np.abs(middles - queries[:, :1]).argmin(1)  # (Q,) the window that each is first tracked in
    onwards = [(k, False) for k in range(len(parts))] + [(k, True) for k in reversed(range(len(parts) - 1))]
    for k, back in progress(onwards):
        start, end = parts[k]
        asked, rows = queries.astype(np.float32), first == k
        if back:
            rows = np.zeros(len(queries), bool)
        seen = known[:, start:end] & visible[:, start:end]
        carried = ~rows & seen.any(1) & ~known[:, start:end].all(1)
        last = seen.argmax(1) if back else end - start - 1 - seen[:, ::-1].argmax(1)
        asked[carried, 0] = start + last[carried]
        asked[carried, 1:] = positions[carried, start + last[carried]]
        chosen = np.flatnonzero(rows | carried)
        window = np.asarray(frames[start:end]) if len(chosen) else None
        for some in np.array_split(chosen, -(-len(chosen) // at_once)) if len(chosen) else ():
            found, seen_there = track(window, asked[some] - np.float32([start, 0, 0]))
            new = ~known[some, start:end]
            positions[some, start:end] = np.where(new[..., None], found, positions[some, start:end])
            visible[some, start:end] = np.where(new, seen_there, visible[some, start:end])
            known[some, start:end] = True
    return positions, visible


def both_ways(track):
    """The tracker of all frames made of one that only looks ahead of a point's query: run on the frames reversed, too.
    """
    def tracked(frames, queries):
        last = len(frames) - 1
        ahead = track(frames, queries)
        mirrored = np.float32([last, 0, 0]) + queries * np.float32([-1, 1, 1])
        back = (array[:, ::-1] for array in track(frames[::-1], mirrored))
        before = np.arange(len(frames)) < queries[:, :1]
        positions, visible = zip(ahead, back)
        return np.where(before[..., None], *positions[::-1]), np.where(before, *visible[::-1])

    return tracked
