"""Questions to a trained model: tracks, dense flow, rendered frames, the canonical volume.

Conventions: pixels (x, y) with integer centres at the model's processed size. Everything runs without gradients, in
pieces of at most `chunk` rays, so that memory does not grow with the number of questions. Results are on the model's
device.
"""

import torch

from networks import rendering
from util import pixel_grid

CHUNK = 8192  # rays at once; with K = 32 and width 256 about 1 GB


def _device(model):
    return next(model.parameters()).device


def _repeat(frame, like):
    return torch.full((1,), frame, dtype=torch.long, device=like.device)


@torch.no_grad()
def track_points(model, frames, pixels, target_frames=None, method="max_weight", chunk=CHUNK, progress=None):
    """Follow Q points, each from its own frame, into T frames.

    frames (Q,) long, pixels (Q, 2) float; target_frames: list of T ids, by default all frames.
    progress: called with the number of (point, frame) pairs done after each piece.
    Returns dict(pixels (Q, T, 2), occlusion_score (Q, T) in [0, 1], depth (Q, T)), float32.
    """
    device = _device(model)
    frames, pixels = frames.to(device), pixels.to(device, torch.float32)
    targets = torch.arange(model.num_frames) if target_frames is None else torch.as_tensor(target_frames)
    targets = targets.to(device)
    shape = (len(frames), len(targets))
    result = {"pixels": pixels.new_empty(*shape, 2), "occlusion_score": pixels.new_empty(shape),
              "depth": pixels.new_empty(shape)}
    for frame in frames.unique().tolist():
        for rows in torch.nonzero(frames == frame)[:, 0].split(chunk):
            columns_at_once = max(1, chunk // len(rows))
            rays = model.cast(_repeat(frame, pixels), pixels[None, rows])
            for columns in torch.arange(len(targets), device=device).split(columns_at_once):
                prediction = _follow(model, rays, targets[columns], method)
                result["pixels"][rows[:, None], columns] = prediction.pixels.transpose(0, 1)
                result["occlusion_score"][rows[:, None], columns] = prediction.occlusion_score.transpose(0, 1)
                result["depth"][rows[:, None], columns] = prediction.depth.transpose(0, 1)
                if progress is not None:
                    progress(len(rows) * len(columns))
    return result


def _follow(model, rays, targets, method):
    """The rays (1, n, K) of one frame followed into T target frames (T,) -> Prediction over (T, n)."""
    canonical = rays.canonical
    if method == "max_weight":
        canonical = rendering.take_max_weight(rays.weights, canonical)
    points = model.to_frame(canonical.expand(len(targets), *canonical.shape[1:]), targets)
    if method == "composite":
        points = rendering.composite(rays.weights, points)
    return model.describe(targets, points)


@torch.no_grad()
def dense_flow(model, frame_1, frame_2, method="max_weight", chunk=CHUNK, progress=None):
    """Flow from every pixel of frame_1 to frame_2 -> flow (H, W, 2) in pixels, occlusion_score (H, W)."""
    flow, score = dense_flows(model, frame_1, [frame_2], method=method, chunk=chunk, progress=progress)
    return flow[0], score[0]


@torch.no_grad()
def dense_flows(model, frame, targets, method="max_weight", chunk=CHUNK, progress=None):
    """Flow from every pixel of a frame to T others -> flow (T, H, W, 2) in pixels, occlusion_score (T, H, W)."""
    grid = pixel_grid(model.height, model.width, _device(model))
    frames = torch.full((model.height * model.width,), frame, dtype=torch.long, device=grid.device)
    options = {"method": method, "chunk": chunk, "progress": progress}
    result = track_points(model, frames, grid.reshape(-1, 2), targets, **options)
    flow = result["pixels"].transpose(0, 1).reshape(-1, *grid.shape) - grid
    return flow, result["occlusion_score"].T.reshape(-1, *grid.shape[:2])


@torch.no_grad()
def render_frame(model, frame, chunk=CHUNK, progress=None):
    """Rendered colour and pseudo-depth of one frame -> dict(rgb (H, W, 3) in [0, 1], depth (H, W) in [0, 2])."""
    grid = pixel_grid(model.height, model.width, _device(model))
    pieces = []
    for pixels in grid.reshape(-1, 2).split(chunk):
        rays = model.cast(_repeat(frame, pixels), pixels[None])
        rgb = rendering.composite(rays.weights, rays.rgb)[0]
        pieces.append(torch.cat([rgb, (rays.weights * rays.depths).sum(-1)[0, :, None]], dim=-1))
        if progress is not None:
            progress(len(pixels))
    image = torch.cat(pieces).reshape(model.height, model.width, 4)
    return {"rgb": image[..., :3], "depth": image[..., 3]}


@torch.no_grad()
def canonical_points(model, frame, stride=1, chunk=CHUNK, keep=None):
    """Where the surfaces seen in a frame lie in the canonical volume, for every `stride`-th pixel.

    keep: bool (H, W), numpy: of these pixels alone.
    Returns points (M, 3), rgb (M, 3) in [0, 1], weight (M,): the largest weight of the ray, a measure of confidence.
    """
    grid = pixel_grid(model.height, model.width, _device(model))[::stride, ::stride]
    if keep is not None:
        grid = grid[torch.from_numpy(keep[::stride, ::stride])]
    pieces = []
    for pixels in grid.reshape(-1, 2).split(chunk):
        rays = model.cast(_repeat(frame, pixels), pixels[None])
        values = torch.cat([rays.canonical, rays.rgb], dim=-1)
        surface = rendering.take_max_weight(rays.weights, values)
        pieces.append(torch.cat([surface, rays.weights.amax(-1)[..., None]], dim=-1))
    points = torch.cat(pieces, dim=1)[0]
    return points[:, :3], points[:, 3:6], points[:, 6]


