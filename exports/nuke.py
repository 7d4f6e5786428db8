"""Nuke: a Tracker4 node, or a CornerPin2D node, to be pasted into the node graph or opened as a script.

Pixels with y up from the lower left corner of the picture (no half pixel: Nuke's (0, 0) is a corner, too); frames are
the plate's numbers, often from 1 or 1001. Every key names its frame (x1001), as Nuke counts on from the key before
where a key names none. Hidden positions have no key, and `enable` is 0 there; error is 1 - confidence.
"""

import numpy as np

from exports.options import flip, number, starts_of_runs, written

# Nuke's own description of a row: (kind, flags, width, name); each becomes { kind flags width name name 1 }.
COLUMNS = (
    ["5 1 20 enable e", "3 1 75 name name", "2 1 58 track_x track_x", "2 1 58 track_y track_y",
     "2 1 63 offset_x offset_x", "2 1 63 offset_y offset_y", "4 1 27 T T", "4 1 27 R R", "4 1 27 S S",
     "2 0 45 error error"]
    + [f"1 1 0 {name} {name}" for name in (
        "error_min", "error_max", "pattern_x", "pattern_y", "pattern_r", "pattern_t",
        "search_x", "search_y", "search_r", "search_t")]
    + [f"2 1 0 {name} {name}" for name in (
        "key_track", "key_search_x", "key_search_y", "key_search_r", "key_search_t", "key_track_x", "key_track_y",
        "key_track_r", "key_track_t", "key_centre_offset_x", "key_centre_offset_y")]
)
HEAD = "set cut_paste_input [stack 0]\nversion 13.0 v1\npush $cut_paste_input\n"
FOOT = " selected true\n xpos 0\n ypos 0\n}\n"
AFTER_ERROR = "0 1 -15 -15 15 15 -25 -25 25 25" + " {}" * 11  # its range, the pattern's and search box, no keyframes


def tracker(tracks, options):
    """Tracks -> the text of a Tracker4 node."""
    keys, positions = written(tracks, options), flip(tracks)
    columns = " \n".join(f"{{ {column} 1 }}" for column in COLUMNS)
    rows = [row(name, keys[q], positions[q], tracks.occlusion_score[q], options.first_frame)
            for q, name in enumerate(options.names)]
    return (f"{HEAD}Tracker4 {{\n tracks {{ {{ 1 {len(COLUMNS)} {len(rows)} }} \n{{ {columns} \n}} \n{{ \n"
            + "".join(rows) + f"}} \n}}\n name tracks\n{FOOT}")


def row(name, keys, positions, score, first_frame):
    """One point's cells: keys (N,) bool, positions (N, 2), score (N,)."""
    frames = np.flatnonzero(keys)
    numbers = frames + first_frame
    changes = starts_of_runs(keys)
    enable = curve([frame + first_frame for frame in changes], keys[changes].astype(int), " K")
    x, y, error = (curve(numbers, values) for values in (*positions[frames].T, score[frames]))
    still = curve([numbers[0]], [0], " K")
    return f' {{ {enable} "{name}" {x} {y} {still} {still} 1 0 0 {error} {AFTER_ERROR} }} \n'


def curve(frames, values, kind=""):
    """Keys in Nuke's curve format. kind: ' K' holds each value to the next key."""
    return f"{{curve{kind}{''.join(f' x{frame} {number(value)}' for frame, value in zip(frames, values))}}}"


def corner_pin(tracks, options):
    """Tracks of exactly four points -> the text of a CornerPin2D node: the whole input, pinned on them."""
    keys, positions = written(tracks, options), flip(tracks)
    order = anticlockwise(tracks, keys)
    height, width = tracks.video_size
    corners = (0, 0), (width, 0), (width, height), (0, height)
    lines = [f" from{place} {{{x} {y}}}\n" for place, (x, y) in enumerate(corners, 1)]
    for place, q in enumerate(order, 1):
        frames = np.flatnonzero(keys[q])
        x, y = (curve(frames + options.first_frame, values) for values in positions[q, frames].T)
        lines.append(f" to{place} {{{x} {y}}}\n")
    return f"{HEAD}CornerPin2D {{\n{''.join(lines)} name corners\n{FOOT}"


def anticlockwise(tracks, keys):
    """Indices of four points as lower left, lower right, upper right, upper left, where first all four have keys.

    keys: (4, N) bool. Where they never have one together, each where it has its first.
    """
    together = keys.all(axis=0)
    frames = np.full(4, together.argmax()) if together.any() else keys.argmax(axis=1)
    corners = tracks.tracks[np.arange(4), frames]
    x, y = (corners - corners.mean(axis=0)).T
    turned = np.argsort(np.arctan2(-y, x))  # y is down: -y turns anticlockwise as it is seen
    first = np.argmin((x - y)[turned])
    return np.roll(turned, -first)
