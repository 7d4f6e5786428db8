"""The manifest of a data directory, checked: every number that a reader relies on is of its kind and in its range."""

import json
import math
import zlib

from files import UserError

SIDE = int, 1, 2**16  # kind, lowest, highest
VIDEO = {
    "name": (str,), "fingerprint": (str,), "num_frames": (int, 1, 10**7), "height": SIDE, "width": SIDE,
    "original_height": SIDE, "original_width": SIDE, "fps": (float, 1e-6, 1e6),
}
STAGES = {"frames", "flow", "filter", "chain", "counts"}


def check_value(mapping, key, expected, where):
    """UserError unless mapping[key] is of the kind, and in the range, that `expected` says."""
    kind, *bounds = expected
    value = mapping.get(key)
    numbers = (int, float) if kind is float else (kind,)
    fits = isinstance(value, numbers) and (kind is bool or not isinstance(value, bool))
    if not fits or bounds and not (math.isfinite(value) and bounds[0] <= value <= bounds[1]):
        words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", dict: "an object",
                 list: "a list"}[kind]
        span = f" from {bounds[0]:g} to {bounds[1]:g}" if bounds else ""
        raise UserError(f"{where}: {key} is {str(value)[:40]}; expected {words}{span}")


def check_video(video, where):
    """UserError unless `video` describes one: see VIDEO."""
    if not isinstance(video, dict):
        raise UserError(f"{where}: says nothing of the video")
    for key, expected in VIDEO.items():
        check_value(video, key, expected, where)


def check_manifest(manifest, flow_step_for, finished, where):
    """UserError unless a manifest says all that it has to; finished: of the pairs of frames, too.

    flow_step_for: what flow_step has to be of frames of that height and width.
    """
    if (manifest.get("checksums") or "checksum" in manifest) and manifest.get("checksum") != checksum(manifest):
        raise UserError(f"{where}: damaged: its checksum is not that of its content; preprocess with --overwrite")
    video = manifest.get("video")
    check_video(video, where)
    kinds = {"settings": dict, "finished": list, "partners": list, "pair_counts": list, "chained": bool}
    for key, kind in kinds.items():
        check_value(manifest, key, (kind,), where)
    step = flow_step_for(video["height"], video["width"])
    if manifest.get("flow_step") != step:
        raise UserError(f"{where}: flow_step is {str(manifest.get('flow_step'))[:40]}; expected {step} for frames of "
                        f"{video['width']}x{video['height']}")
    if not all(isinstance(stage, str) and stage in STAGES for stage in manifest["finished"]):
        raise UserError(f"{where}: finished is {str(manifest['finished'])[:60]}; expected some of {sorted(STAGES)}")
    if manifest["partners"] or finished:
        check_rows(manifest["partners"], video["num_frames"], video["num_frames"] - 1, "partners", where)
        for i, row in enumerate(manifest["partners"]):
            if sorted(set(row) - {i}) != row:
                raise UserError(f"{where}: partners of frame {i}: expected other frames, in rising order")
    if finished:
        check_rows(manifest["pair_counts"], video["num_frames"], video["height"] * video["width"], "pair_counts", where)
        if list(map(len, manifest["pair_counts"])) != list(map(len, manifest["partners"])):
            raise UserError(f"{where}: pair_counts and partners do not fit each other")


def checksum(manifest):
    """Of all entries but this one, however they are laid out."""
    content = {key: value for key, value in manifest.items() if key != "checksum"}
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def check_rows(rows, number, most, key, where):
    """UserError unless `rows` are so many lists of whole numbers from 0 to `most`."""
    if len(rows) != number or not all(
        isinstance(row, list) and all(type(value) is int and 0 <= value <= most for value in row) for row in rows
    ):
        raise UserError(f"{where}: {key}: expected {number} lists of whole numbers from 0 to {most}")
