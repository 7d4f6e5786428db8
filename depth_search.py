"""Depth of pixels by choice among candidates (prototype)."""
import os
import torch
from loaders.surface_sampler import HIDDEN_PX, nearest_index
from util import inside_image

OPT = dict(frames=24, pixels=256, targets=6, w_same=2.0, w_front=2.0, w_behind=2.0, w_tv=3.0, scale=1.0, jitter=0.05)
OPT.update(eval(os.environ.get("DS", "{}")))
EDGE = 12.0


def pixel_edges(frames, contrast=EDGE):
    """Likeness in colour of each pixel to its right and lower neighbour: (N, H, W - 1), (N, H - 1, W)."""
    x = frames.float()
    across = torch.exp(-(x[:, :, 1:] - x[:, :, :-1]).abs().mean(-1) / contrast)
    return across, torch.exp(-(x[:, 1:] - x[:, :-1]).abs().mean(-1) / contrast)


@torch.no_grad()
def search_step(model, sampler, edges, gen):
    """One random choice of frames and pixels: their depth becomes the best of the candidates."""
    o, pool, depth = OPT, sampler.pool, model.depth.data
    N, H, W = depth.shape
    F, n, J = o["frames"], o["pixels"], o["targets"]
    src = torch.randint(N, (F,), generator=gen)
    index = torch.randint(H * W, (F, n), generator=gen)
    x, y = index % W, index // W
    pix = torch.stack([x, y], -1).float()
    own = depth[src[:, None], y, x]
    # candidates
    cands = [own]
    for _ in range(2):
        r = 2 ** torch.randint(0, 4, (F, n), generator=gen)
        dx = (torch.randint(-1, 2, (F, n), generator=gen) * r + x).clamp(0, W - 1)
        dy = (torch.randint(-1, 2, (F, n), generator=gen) * r + y).clamp(0, H - 1)
        cands.append(depth[src[:, None], dy, dx])
    numbers = [sampler._choose_targets(src.numpy(), N) for _ in range(J)]
    tgt = [torch.from_numpy(pool.targets[k]) for k in numbers]
    nums = [torch.from_numpy(k) for k in numbers]
    q = [pix + pool.flow_at(k, index) for k in nums]
    cov = [pool.cycle_at(k, index) & inside_image(p, H, W) for k, p in zip(nums, q)]
    seen_there = [depth.flatten()[t[:, None] * (H * W) + nearest_index(p, H, W)] for t, p in zip(tgt, q)]
    for k in (0, 1):
        cands.append(torch.where(cov[k], seen_there[k], own))
    cands.append((own + o["jitter"] * torch.randn(F, n, generator=gen)).clamp(0.1, 1.9))
    cands.append(torch.rand(F, n, generator=gen) * 1.8 + 0.1)
    z = torch.stack(cands, -1)  # (F, n, C)
    C = z.shape[-1]
    with model.frames_at_once():
        points = torch.cat([model.normalise(pix)[:, :, None].expand(-1, -1, C, -1), z[..., None]], -1)
        canonical = model.to_canonical(points.flatten(1, 2), src)
        cost, count = torch.zeros_like(z), torch.zeros_like(own)
        for t, k, target, c, there in zip(tgt, nums, q, cov, seen_there):
            mapped = model.to_frame(canonical, t).view(F, n, C, 3)
            r = model.to_pixels(mapped)
            inside = inside_image(r, H, W)
            e = (r - target[:, :, None]).square().sum(-1)
            flow = o["scale"] ** 2 * torch.log1p(e / o["scale"] ** 2) / 2 * 2
            at = nearest_index(r.flatten(1, 2), H, W)
            front = depth.flatten()[t[:, None] * (H * W) + at].view(F, n, C)
            gap = z - front
            back = torch.from_numpy(pool.number(pool.targets[k.numpy()], pool.sources[k.numpy()])).clamp(min=0)
            rel = pool.cycle_at(back, at).view(F, n, C)
            miss = (r + pool.flow_at(back, at).view(F, n, C, 2) - pix[:, :, None]).norm(dim=-1)
            hidden = rel & (miss > HIDDEN_PX) & inside
            local = torch.where(c[:, :, None], flow + o["w_same"] * (z - there[:, :, None]).abs(), 0)
            local = local + o["w_front"] * (-gap).clamp(min=0) * inside
            local = local + o["w_behind"] * (model.margin - gap).clamp(min=0) * hidden * ~c[:, :, None]
            cost += local
    cost = cost / J
    across, down = edges
    f = src[:, None]
    for (dx, dy) in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        nx, ny = x + dx, y + dy
        ok = (nx >= 0) & (nx < W) & (ny >= 0) & (ny < H)
        nxc, nyc = nx.clamp(0, W - 1), ny.clamp(0, H - 1)
        w = across[f, y, torch.minimum(x, nxc).clamp(max=W - 2)] if dx else down[f, torch.minimum(y, nyc).clamp(max=H - 2), x]
        cost += o["w_tv"] / 4 * (w * ok)[..., None] * (z - depth[f, nyc, nxc][..., None]).abs()
    best = cost.argmin(-1, keepdim=True)
    new = z.gather(-1, best)[..., 0]
    depth[f, y, x] = new
    return (best != 0).float().mean()
