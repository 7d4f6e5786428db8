"""Numbers as a page reads them: JSON, with arrays as base64 of little-endian numbers.

An array is {"type": "float32" or "int16" or "uint8", "step": s, "data": base64}: values are numbers times s; of int16
the smallest number stands for NaN. Tracks are {"count": Q, and arrays "query" (Q, 3) t, y, x; "place" (Q, N, 2) x, y;
"occluded", "score", "depth" (Q, N)}.
"""

import base64

import numpy as np

PLACE_STEP, SCORE_STEP, DEPTH_STEP = 1 / 32, 1 / 1024, 1 / 8192  # of saved pages: pixels, and no unit
NAN, MOST = -32768, 32767


def pack(values, step=None):
    """Numbers -> an array of the form above: bool as uint8, otherwise float32, or int16 where a step is given."""
    values = np.asarray(values)
    if values.dtype == bool:
        kind, numbers = "uint8", values.astype(np.uint8)
    elif step is None:
        kind, numbers = "float32", values.astype("<f4")
    else:
        known = np.nan_to_num(np.rint(values / step).clip(-MOST, MOST))
        kind, numbers = "int16", np.where(np.isnan(values), NAN, known).astype("<i2")
    return {"type": kind, "step": step or 1, "data": base64.b64encode(numbers.tobytes()).decode()}


def pack_tracks(tracks, rounded=False):
    """Tracks -> JSON; rounded: to int16, places to 1/32 pixel (more for large videos), for small files."""
    place, score, depth = (place_step(tracks.video_size), SCORE_STEP, DEPTH_STEP) if rounded else (None, None, None)
    return {
        "count": len(tracks.tracks), "query": pack(tracks.query_points), "place": pack(tracks.tracks, place),
        "occluded": pack(tracks.occluded), "score": pack(tracks.occlusion_score, score),
        "depth": pack(tracks.depth, depth),
    }


def place_step(video_size):
    """Pixels per integer: PLACE_STEP, doubled until a place two images away still fits."""
    step = PLACE_STEP
    while MOST * step < 2 * max(video_size):
        step *= 2
    return step
