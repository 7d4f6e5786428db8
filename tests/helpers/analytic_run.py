"""A run whose answers are known in closed form, in place of a trained model: independent truth for the tests.

The video turns by ANGLE a frame about its centre and moves by SHIFT; whatever is left of the image's middle column in a
frame is hidden there. Depth rises with y. Pixels are the model's: integer centres at SIZE; the user's video has
VIDEO_SIZE.
"""

from types import SimpleNamespace

import numpy as np
import torch

from loaders.data_dir import DataDir, owner_of_image, write_image

NUM_FRAMES, SIZE, VIDEO_SIZE, FPS = 5, (24, 32), (51, 71), 12.5
SCALE = np.array(VIDEO_SIZE[::-1]) / np.array(SIZE[::-1])  # the user's pixels over the model's, (x, y)
CENTRE, ANGLE, SHIFT = np.array([15.5, 11.5]), np.radians(4), np.array([1.5, -0.5])


def move(pixels, frame, target):
    """Pixels (..., 2) of `frame` -> pixels of `target`."""
    turn = ANGLE * (target - frame)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    back, forth = CENTRE + SHIFT * frame, CENTRE + SHIFT * target
    return (pixels - back) @ rotation.T + forth


def score(pixels):
    """(...) occlusion score: 1 left of the middle column, 0.25 elsewhere."""
    return np.where(pixels[..., 0] < CENTRE[0], 1.0, 0.25)


def depth(pixels):
    return 0.2 + 0.05 * pixels[..., 1]


def grid():
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([x, y], axis=-1).astype(float)


def as_float(*arrays):
    return tuple(torch.as_tensor(array, dtype=torch.float32) for array in arrays)


def track_points(model, frames, pixels, target_frames=None, method="max_weight", chunk=8192, progress=None):
    rows = []
    for frame, pixel in zip(frames.tolist(), pixels.double().numpy()):
        rows.append([move(pixel, frame, target) for target in range(model.num_frames)])
        if progress:
            progress(model.num_frames)
    positions = np.array(rows)
    found = as_float(positions, score(positions), depth(positions))
    return dict(zip(["pixels", "occlusion_score", "depth"], found))


def dense_flow(model, frame_1, frame_2, method="max_weight", chunk=8192, progress=None):
    end = move(grid(), frame_1, frame_2)
    return as_float(end - grid(), score(end))


def render_frame(model, frame, chunk=8192, progress=None):
    rgb, depths = as_float(np.full((*SIZE, 3), 0.5), depth(grid()) + 0.01 * frame)
    return {"rgb": rgb, "depth": depths}


def canonical_points(model, frame, stride=1, chunk=8192, keep=None):
    pixels = grid()[::stride, ::stride].reshape(-1, 2)
    points = np.concatenate([pixels, np.full((len(pixels), 1), frame)], axis=1)
    return as_float(points, np.linspace([0, 0.5, 1], [1, 0.5, 0], len(pixels)), np.full(len(pixels), 0.75))


def make_run(folder):
    """(Run look-alike, its DataDir): random frames with a square object mask."""
    video = {"name": "analytic", "source": "memory", "fingerprint": "0", "num_frames": NUM_FRAMES, "fps": FPS,
             "height": SIZE[0], "width": SIZE[1], "original_height": VIDEO_SIZE[0], "original_width": VIDEO_SIZE[1],
             "has_masks": True}
    data = DataDir.create(folder, video)
    data.manifest.update(finished=["frames", "counts"], partners=[[]] * NUM_FRAMES, pair_counts=[[]] * NUM_FRAMES)
    data.save_manifest()
    random = np.random.default_rng(0)
    for i in range(NUM_FRAMES):
        image = random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        write_image(folder / f"color/{i:05d}.png", image, owner_of_image("color", i))
        mask = np.zeros(SIZE, np.uint8)
        mask[8:16, 10:22] = 255
        write_image(folder / f"masks/{i:05d}.png", mask, owner_of_image("masks", i))
    model = SimpleNamespace(num_frames=NUM_FRAMES, height=SIZE[0], width=SIZE[1], refined_by_flow=False)
    return SimpleNamespace(
        model=model, video=video, data_dir=str(folder), step=1, pins=[], layer=-1
    ), data


def install(monkeypatch, folder):
    """Make every command open this run and ask this model; returns make_run's result."""
    run, data = make_run(folder)
    monkeypatch.setattr("checkpoints.load_run", lambda *args, **kwargs: run)
    for function in (track_points, dense_flow, render_frame, canonical_points):
        monkeypatch.setattr(f"networks.query.{function.__name__}", function)
    return run, data
