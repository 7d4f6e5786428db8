"""What a model adds over the stored flow, measured where it can be without any truth: on pairs that training left out.

A few pairs of frames, both directions, are held out: no batch, third frame, first order or edge weight knows of them.
After training their flow says where points of frame i are in frame j, and three tracks say it without that flow: of
the remaining flow alone (`flow`), of the model alone (`model`), and of both as track.py averages them (`both`).

It is precision and consistency that this measures. Held-out flow is wrong in places itself, though asked only where it
passed the filter and comes back to its start: at visible, and rather easy, points. Nothing is said of what happens
while a point is hidden. Its errors are as large as those of the tracks, and go with those of the remaining flow, as one
walk over the video estimated them all and chained some from others. So the table favours `flow`, and what training adds
is rather more than it shows. With --init_from the weights may have seen these pairs before.

Conventions: Q points; N frames; pixels (x, y) with integer centres at the processed size.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from evaluation.baselines import hop
from loaders.layer_pixels import layer_masks
from networks import query
from tracking import refinement
from util import atomic_path

FEWEST_FRAMES, FEWEST_PAIRS = 8, 20  # of a video, and more than 1 frame apart: with less every pair is needed
MOST_PAIRS = 24  # held out, each in both directions
RETURN_PX = 1.0  # flow there and back misses its start by no more, as 1 px is what the tracks are asked for
POINTS, FEWEST_POINTS = 256, 8  # of a pair in one direction, if there are as many
LOOK_UPS = 3_000_000  # all points times all stored pairs, about: what tracks of flow cost, a few seconds
VOLUME_POINTS = 200  # all points, about, where each is a ray of K samples


def candidates(data):
    """Pairs (i, j), i < j, that may be held out: stored both ways, more than 1 frame apart."""
    return [(i, j) for i in range(data.num_frames) for j in data.partners(i) if j > i + 1 and i in data.partners(j)]


def choose(data, share, seed):
    """Pairs of frames to hold out, {(i, j)} in both directions: `share` of all, alike over near and far ones."""
    random, pairs = np.random.default_rng(seed), candidates(data)
    if not share or data.num_frames < FEWEST_FRAMES or len(pairs) < FEWEST_PAIRS:
        return frozenset()
    pairs = sorted((pairs[k] for k in random.permutation(len(pairs))), key=lambda pair: pair[1] - pair[0])
    count = min(max(round(share * len(pairs)), 1), MOST_PAIRS)
    chosen = [pairs[int(place)] for place in (np.arange(count) + random.random()) * len(pairs) / count]
    return frozenset(chosen) | {(j, i) for i, j in chosen}


def correspondences(data, pairs, points, seed, layer=-1):
    """At most `points` random pixels of each pair whose flow is good, and where it puts them; of one layer, if given.

    -> frames (Q,), pixels (Q, 2), targets (Q,), ends (Q, 2), numpy.
    """
    random, parts = np.random.default_rng(seed), []
    masks = layer_masks(data, layer) if layer >= 0 else np.ones((data.num_frames, 1, 1), bool)
    for i, j in sorted(pairs):
        y, x = (data.valid(i, j)[0] & masks[i]).nonzero()
        pixels = torch.from_numpy(np.stack([x, y], axis=-1)).float()
        ends, missed, inside = hop(data.flow, i, j, pixels)
        good = np.flatnonzero((missed <= RETURN_PX) & inside)
        index = random.choice(good, min(points, len(good)), replace=False)
        parts.append((np.full(len(index), i), pixels[index].numpy(), np.full(len(index), j), ends[index].numpy()))
    return tuple(np.concatenate(arrays) for arrays in zip(*parts))


def all_tracks(model, data, frames, pixels, refined):
    """{row: tracks (Q, N, 2)} of pixels (Q, 2) of frames (Q,) by flow, by the model and, where `refined`, by both."""
    found = query.track_points(model, torch.from_numpy(frames), torch.from_numpy(pixels))
    tracks, scores = (found[name].cpu().numpy() for name in ("pixels", "occlusion_score"))
    rows = {"flow": refinement.flow_tracks(data, frames, pixels)[0], "model": tracks}
    return rows | ({"both": refinement.refine(data, frames, pixels, tracks, scores)[0]} if refined else {})


def summarise(errors, apart):
    """Errors {row: pixels (Q,)} of points between frames `apart` (Q,) -> figures of the nearer and the farther half.

    {near or far: {frames_apart: [least, most], positions, rows: {row: {median_px, within_1px}}}}
    """
    near, figures = apart <= np.median(apart), {}
    for name, part in (("near", near), ("far", ~near)):
        if part.any():
            rows = {row: {"median_px": float(np.median(error[part])), "within_1px": float((error[part] <= 1).mean())}
                    for row, error in errors.items()}
            span = [int(apart[part].min()), int(apart[part].max())]
            figures[name] = {"frames_apart": span, "positions": int(part.sum()), "rows": rows}
    return figures


def measure(run, data, pairs, seed):
    """Figures (see summarise) of a run's tracks on the pairs held out of it; none where no flow of theirs is good."""
    surface, stored = run.model.refined_by_flow, sum(map(len, map(data.partners, range(data.num_frames))))
    points = min(POINTS, max(LOOK_UPS // (len(pairs) * stored), FEWEST_POINTS))
    points = points if surface else min(points, math.ceil(VOLUME_POINTS / len(pairs)))
    frames, pixels, targets, ends = correspondences(data, pairs, points, seed, run.layer)
    if not len(ends):
        return {}
    rows = all_tracks(run.model, data.without(pairs), frames, pixels, refined=surface)
    at = np.arange(len(ends)), targets
    errors = {row: np.linalg.norm(tracks[at] - ends, axis=-1) for row, tracks in rows.items()}
    return summarise(errors, np.abs(targets - frames))


def table(figures):
    """Figures as lines of text."""
    parts = figures.values()
    lines = [" " * 8 + "".join("{:>22}".format("{}-{} frames apart".format(*part["frames_apart"])) for part in parts),
             " " * 8 + "".join(f"{'median px':>13}{'<= 1 px':>9}" for _ in parts)]
    for row in figures["near"]["rows"]:
        values = [part["rows"][row] for part in parts]
        lines.append(f"{row:8}" + "".join(f"{value['median_px']:13.2f}{value['within_1px']:9.1%}" for value in values))
    return "\n".join(lines)


def write(run_dir, step, pairs, figures):
    """Leave the figures in the run's folder: heldout.json, and TensorBoard scalars heldout_near/flow_median_px ..."""
    with atomic_path(Path(run_dir) / "heldout.json") as path:
        path.write_text(json.dumps({"step": step, "pairs": sorted(pairs)} | figures) + "\n")
    with SummaryWriter(str(run_dir)) as writer:
        for part, of_part in figures.items():
            for row, values in of_part["rows"].items():
                for name, value in values.items():
                    writer.add_scalar(f"heldout_{part}/{row}_{name}", value, step)


def report(run, run_dir, data, pairs, seed):
    """Measure a run on the pairs that were held out of it, print and write the figures; one line if there are none."""
    if not pairs:
        print(f"nothing was held out to measure by: that takes {FEWEST_FRAMES} frames and "
              f"{FEWEST_PAIRS} pairs of them more than 1 frame apart")
        return
    figures = measure(run, data, pairs, seed)
    if not figures:
        print("flow of the pairs that were held out is good nowhere: nothing to measure by")
        return
    positions = sum(part["positions"] for part in figures.values())
    print("distance from held-out flow, which neither training nor these tracks used "
          f"({positions} points, {len(pairs) // 2} pairs of frames):")
    print(table(figures))
    write(run_dir, run.step, pairs, figures)
