"""The surface model: its depth maps, the order found in occlusions, and the evidence its batches carry."""

from math import log
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import preprocess
from benchmarks.scenes import SceneFlow, make_scene
from loaders.correspondences import CorrespondencePool
from loaders.data_dir import pack_mask
from loaders.surface_sampler import SurfaceSampler
from losses import total_variation
from networks.build import build_model
from networks.grids import GridMapping
from networks.surface import SurfaceModel, grid_size, sample_grid
from training.depth_order import camera_residual, edge_weights, grid_flow, initial_depth
from training.evidence import evidence
from training.surface import surface_terms


@pytest.fixture
def known_evidence(monkeypatch):
    """Batches say themselves what the frames show."""
    for module in ("surface", "depth_order"):
        monkeypatch.setattr(f"training.{module}.evidence", lambda pool, batch, pixels: batch.evidence(pixels))


@pytest.fixture(scope="module")
def scene():
    return make_scene("occlusion", seed=0, num_frames=12, height=48, width=64)


@pytest.fixture(scope="module")
def sampler(scene, tmp_path_factory):
    data = preprocess.build(scene.video, tmp_path_factory.mktemp("clip") / "data", flow=SceneFlow(scene), quiet=True)
    return SurfaceSampler(CorrespondencePool(data, torch.device("cpu")), seed=0, online=True)


def test_sample_grid_equals_grid_sample():
    torch.manual_seed(0)
    grids, ids = torch.rand(4, 5, 7, dtype=torch.float64), torch.tensor([2, 0, 2])
    positions = torch.rand(3, 50, 2, dtype=torch.float64) * torch.tensor([10.0, 8.0]) - 1.5  # some outside: clamped
    normalised = positions / torch.tensor([6.0, 4.0]) * 2 - 1
    expected = F.grid_sample(grids[ids][:, None], normalised[:, None], align_corners=True, padding_mode="border")
    assert torch.allclose(sample_grid(grids, ids, positions), expected[:, 0, 0], atol=1e-9)


@pytest.mark.parametrize("height, width, cell", [(2, 2, 2), (5, 9, 2), (48, 64, 4), (3, 101, 7)])
def test_grid_covers_the_image(height, width, cell):
    rows, columns = grid_size(height, width, cell)
    assert (rows - 1) * cell >= height - 1 and (columns - 1) * cell >= width - 1
    assert (rows - 2) * cell < height - 1 and (columns - 2) * cell < width - 1


def test_batches_say_what_the_flow_says(scene, sampler):
    batch = sampler.sample(30, 40, 11)
    cycle, _ = sampler.pool.masks(torch.from_numpy(sampler.pool.number(batch.frames_1.numpy(), batch.frames_2.numpy())))
    cycle = cycle.gather(1, (batch.pixels_1[..., 1] * 64 + batch.pixels_1[..., 0]).long())
    assert not (batch.covisible & ~cycle).any() and batch.covisible[cycle].float().mean() > 0.95  # the flow is right
    assert torch.equal(batch.weight > 0, batch.covisible)
    for p in range(0, 30, 7):
        flow, _ = scene.flow(int(batch.frames_1[p]), int(batch.frames_2[p]))
        x, y = batch.pixels_1[p].long().unbind(-1)
        expected = batch.pixels_1[p] + torch.from_numpy(flow)[y, x]
        used = batch.covisible[p]
        error = (batch.pixels_2[p] - expected.float())[used].norm(dim=-1)
        assert (error < 0.1).float().mean() > 0.9  # not all: some of the flow is chained


class FourFrames:
    """Data of which SurfaceSampler._confirmed asks flow and masks: random ones, frames 0 and 3 not paired."""

    num_frames, height, width, flow_step, stored = 4, 5, 6, 1 / 32, [[1, 2], [0, 2, 3], [0, 1, 3], [1, 2]]
    pair_counts = None

    def __init__(self):
        random = np.random.default_rng(1)
        self.flow = random.normal(0, 48, (4, 4, 5, 6, 2)).astype(np.int16)  # 1.5 pixels
        self.cycle = random.random((4, 4, 5, 6)) < 0.7

    def rows(self, i):
        return {j: row for row, j in enumerate(self.stored[i])}

    def flow_fixed(self, i):
        return self.flow[i, self.stored[i]]

    def valid_bits(self, i):
        return np.stack([pack_mask(np.stack([self.cycle[i, j], ~self.cycle[i, j]])) for j in self.stored[i]])

    def frames(self):
        return np.zeros((4, 5, 6, 3), np.uint8)

    def count_map(self, i):
        return np.zeros((5, 6), np.uint16)


def test_third_frames_confirm_or_contradict_as_in_a_loop():
    data, pairs = FourFrames(), [(0, 1), (3, 2), (1, 3), (2, 1), (0, 2)]
    sampler = SurfaceSampler(CorrespondencePool(data, torch.device("cpu")))
    pool, drawn, index = sampler.pool, [], torch.arange(30).expand(5, 30)
    choose = sampler._choose_targets
    sampler._choose_targets = lambda *asked: drawn.append(choose(*asked)) or drawn[-1]
    pixels_1 = torch.stack([index % 6, index // 6], -1).float()
    pixels_2 = pixels_1 + torch.from_numpy(np.stack([data.flow[pair].reshape(30, 2) / 32 for pair in pairs])).float()
    found = sampler._confirmed(pool.number(*np.array(pairs).T), index, pixels_1, pixels_2)
    votes = np.zeros((5, 30), int)
    for witness, (p, n) in ((w, at) for w in range(3) for at in np.ndindex(5, 30)):
        (i, j), k = pairs[p], pool.targets[drawn[witness][p]]
        x, y = (min(max(round(v), 0), most) for v, most in zip(pixels_2[p, n].tolist(), (5, 4)))
        at_1, at_2 = (n // 6, n % 6), (y, x)
        if k in data.stored[i] and k in data.stored[j] and data.cycle[i, k][at_1] and data.cycle[j, k][at_2]:
            end_1 = pixels_1[p, n].numpy() + data.flow[i, k][at_1] / 32
            end_2 = pixels_2[p, n].numpy() + data.flow[j, k][at_2] / 32
            votes[p, n] += 1 if np.linalg.norm(end_1 - end_2) < 2 else -1
    assert (votes > 0).any() and (votes < 0).any() and (votes == 0).any()
    assert np.array_equal(found.numpy(), votes >= 0)


def test_evidence_at_the_true_landing_place_is_the_true_visibility(scene, sampler):
    """With exact flow, a point is found hidden only where the scene hides it, and visible only where it is."""
    batch = sampler.sample(60, 100, 6)
    hidden, visible = evidence(sampler.pool, batch, batch.pixels_2)
    truth = []
    for i, j, pixels in zip(batch.frames_1.tolist(), batch.frames_2.tolist(), batch.pixels_1):
        truth.append(scene.tracks(i, pixels.numpy().astype(float))[1][:, j])
    truth = torch.from_numpy(np.stack(truth))
    assert hidden.any() and visible.any() and not (hidden & visible).any()
    assert (~truth[hidden]).float().mean() > 0.9  # landing between two pixels, a boundary may be either
    assert truth[visible].float().mean() > 0.98


def test_order_of_surfaces_is_found_before_training(scene, sampler):
    depth = initial_depth(sampler, 2, 0.2, edge_weights(sampler.pool, 2))
    assert depth.min() >= 0 and depth.max() <= 2
    right = wrong = 0
    for i, j in ((3, 5), (6, 4), (8, 9)):
        flow, visible = scene.flow(i, j)
        y, x = np.nonzero(~visible)
        start = torch.from_numpy(np.stack([x, y], -1)).float()[None]
        landing = start + torch.from_numpy(flow[y, x]).float()[None]
        inside = (landing >= 0).all(-1) & (landing <= torch.tensor([63.0, 47.0])).all(-1)
        gap = sample_grid(depth, torch.tensor([i]), start / 2) - sample_grid(depth, torch.tensor([j]), landing / 2)
        right += int((gap[inside] > 0.02).sum())
        wrong += int((gap[inside] < -0.02).sum())
    assert right > 30 and right > 4 * wrong, (right, wrong)


def test_total_variation_by_a_loop():
    torch.manual_seed(0)
    depth, across, down = torch.rand(2, 3, 4), torch.rand(2, 3, 3), torch.rand(2, 2, 4)
    a = [abs(depth[n, y, x + 1] - depth[n, y, x]) * across[n, y, x] for n, y, x in np.ndindex(2, 3, 3)]
    b = [abs(depth[n, y + 1, x] - depth[n, y, x]) * down[n, y, x] for n, y, x in np.ndindex(2, 2, 4)]
    assert total_variation(depth, (across, down)).item() == pytest.approx(float(sum(a) / len(a) + sum(b) / len(b)))


def test_a_point_behind_the_depth_map_is_hidden():
    model = build_model(3, 20, 30, rendering="surface", coupling_width=8, field_width=8, zero_init=True, affine=False)
    with torch.no_grad():
        model.depth[0] = 0.8
        model.depth[1] = 0.3  # frame 1 sees something nearer
        model.depth[2] = 0.8
    pixels = torch.tensor([[[10.0, 5.0]]])
    for frame, hidden in ((1, True), (2, False)):
        prediction = model.predict(torch.tensor([0]), pixels, torch.tensor([frame]))
        assert torch.allclose(prediction.pixels, pixels, atol=1e-4)  # the start is the identity map
        assert (prediction.occlusion_score.item() > 0.5) == hidden
        assert prediction.depth.item() == pytest.approx(0.8, abs=1e-5)


@pytest.mark.parametrize("mapping", ["grid", "invertible"])
def test_conditions_of_all_frames_at_once_are_those_of_each(mapping):
    torch.manual_seed(0)
    model = build_model(9, 20, 30, rendering="surface", mapping=mapping, coupling_width=8, field_width=8)
    with torch.no_grad():
        for parameter in model.mapping.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    points, frames = torch.rand(4, 10, 3), torch.tensor([7, 0, 7, 3])
    expected = model.to_frame(model.to_canonical(points, frames), frames.flip(0))
    with model.frames_at_once():
        found = model.to_frame(model.to_canonical(points, frames), frames.flip(0))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - points).abs().max() > 1e-2 and model.conditions is None


class PositionAsColour(torch.nn.Module):
    def forward(self, points):
        return points, torch.zeros_like(points[..., 0])


def known_model():
    """3 frames of 9 x 5 pixels, cell 2. Points move by 1 pixel in x from frame 0 to 1, and by a pixel that depends on y
    from frame 1 to 2. Depth is 0.5 + x / 4 in frame 0, 1.5 - y / 2 in frame 1, 1 in frame 2."""
    model = SurfaceModel(3, 5, 9, GridMapping(3), PositionAsColour(), cell=2, margin=0.8)
    with torch.no_grad():
        shift = model.mapping.levels[-1][0, 1]  # of x, over frame, y and depth, in units of half the width: 4 pixels
        shift[1] = 0.25
        shift[2] = 0.25 + torch.linspace(-1.5, 1.5, 16)[:, None]
        model.depth[0] = 0.5 + 0.5 * torch.arange(5.0)
        model.depth[1] = 1.5 - 1.0 * torch.arange(3.0)[:, None]
    return model


# x, y in frame 0 and 1; hidden, visible (as the flow there says) and covisible (as the batch's own flow says)
POINTS = {
    0: [(0, 1, 0, 0, 1), (7, 0, 1, 0, 0), (3, 3, 1, 1, 1), (8, 2, 1, 0, 1),  # 8 + 1 is outside
        (5, 2, 0, 1, 0), (6, 4, 0, 0, 0), (1, 3, 1, 0, 0), (2, 1, 0, 1, 1)],
    1: [(2, 3, 1, 0, 0), (8, 1, 0, 1, 0), (0, 2, 1, 0, 1), (4, 4, 0, 0, 1),  # 0 - 1 is outside
        (6, 1, 1, 0, 0), (5, 0, 0, 1, 0), (3, 2, 0, 0, 0), (1, 1, 1, 1, 0)],
}  # fmt: skip
FLOW_ERROR, WEIGHTS = (1.5, -2.0), (0.0, 0.5, 1.0, 0.25)  # 2.5 pixels; every point's weight is one of these


def known_batch():
    """POINTS as a batch of the pairs 0 -> 1 and 1 -> 0, and a sampler that knows what is hidden and visible."""
    table = torch.tensor([POINTS[0], POINTS[1]])
    pixels = table[..., :2].float()
    landing = pixels + torch.tensor([[[1.0, 0]], [[-1.0, 0]]])
    weight = torch.tensor([WEIGHTS * 2] * 2)
    rgb = torch.rand(2, 8, 3, generator=torch.Generator().manual_seed(0))
    batch = SimpleNamespace(
        frames_1=torch.tensor([0, 1]), frames_2=torch.tensor([1, 0]), pixels_1=pixels,
        pixels_2=landing - torch.tensor(FLOW_ERROR), rgb_1=rgb, weight=weight, covisible=table[..., 4].bool())

    def known(places):
        assert torch.allclose(places, landing, atol=1e-4)  # where the model puts them
        return table[..., 2].bool(), table[..., 3].bool()

    batch.evidence = known
    return batch


def seen_depth(frame, x, y):
    return 0.5 + x / 4 if frame == 0 else 1.5 - y / 2


def test_terms_of_a_surface_by_a_loop(known_evidence):
    model, batch = known_model(), known_batch()
    terms, statistics, error = surface_terms(model, batch, None, (torch.ones(3, 3, 4), torch.ones(3, 2, 5)), 5.0)
    same, front, behind, ranges, colour = [], [], [], [], []
    for frame, k in np.ndindex(2, 8):
        x, y, hidden, visible, covisible = POINTS[frame][k]
        depth, x_2 = seen_depth(frame, x, y), x + (1 if frame == 0 else -1)
        gap = depth - seen_depth(1 - frame, x_2, y)  # above 0: behind what the other frame sees
        ranges.append(max(-depth, 0, depth - 2) ** 2)
        if k % 4 == 0:
            canonical = ((x - frame) / 4 - 1, y / 2 - 1, depth)
            colour += [(a - b) ** 2 for a, b in zip(canonical, batch.rgb_1[frame, k].tolist())]
        if 0 <= x_2 <= 8:
            front.append(max(0, -gap))
            same += [abs(gap)] if (visible or covisible) and not hidden else []
            behind += [max(0, 0.8 - gap)] if hidden else []
    expected = {"depth_same": same, "depth_front": front, "depth_behind": behind, "depth_range": ranges, "rgb": colour}
    for name, values in expected.items():
        assert terms[name].item() == pytest.approx(np.mean(values), rel=1e-4), name
        assert np.mean(values) > 0.02 and max(values) != min(values), name
    # 2.5 px at scale 5; the mean is over the points that have a weight
    assert terms["flow"].item() == pytest.approx(12.5 * log(1.25) * sum(WEIGHTS) / 3, rel=1e-4)
    # frame 0 rises by 0.5 a cell across, frame 1 falls by 1 a cell, frame 2 is flat
    assert terms["depth_flatness"].item() == pytest.approx(0.5 / 3 + 1 / 3)
    # the first two points of frame 1, y = 3 and 1, moved by 1 px and move by 2 px and by -2 px (dropped: the largest)
    assert terms["smoothness"].item() == pytest.approx(0.25 / 3, rel=1e-4)
    assert torch.allclose(error, torch.full((2, 8), 2.5), atol=1e-4)
    assert statistics["flow_error_px/all"].item() == pytest.approx(2.5, rel=1e-4)


def test_depth_terms_move_depths_only(known_evidence):
    model, batch = known_model(), known_batch()
    terms, _, _ = surface_terms(model, batch, None, (torch.ones(3, 3, 4), torch.ones(3, 2, 5)), 5.0)
    (terms["depth_same"] + terms["depth_front"] + terms["depth_behind"]).backward()
    assert model.depth.grad[:2].abs().max() > 0
    assert all(level.grad is None or not level.grad.any() for level in model.mapping.levels)


def test_a_surface_is_looked_up_at_pixel_centres():
    model = known_model()
    pixels = torch.tensor([[[3.0, 1.0], [4.5, 2.25]]])
    points, canonical = model.lift(torch.tensor([0]), pixels)
    assert torch.allclose(points[0, :, 0], torch.tensor([[-0.25, -0.5, 1.25], [0.125, 0.125, 1.625]]), atol=1e-6)
    assert torch.allclose(canonical, points, atol=1e-6)
    assert torch.allclose(model.surface_depth(torch.tensor([1]), pixels), torch.tensor([[1.0, 0.375]]))
    # in frame 1 at (4, 1) and (5.5, 2.25), where 1 and 0.375 are seen: 0.25 and 1.25 behind it
    found = model.predict(torch.tensor([0]), pixels, torch.tensor([1]))
    assert torch.allclose(found.pixels, pixels + torch.tensor([1.0, 0]), atol=1e-5)
    expected = torch.sigmoid((torch.tensor([[0.25, 1.25]]) - 0.4) / 0.1)
    assert torch.allclose(found.occlusion_score, expected, atol=1e-4)


class KnownFlow:
    """Pool of 3 frames of 12 x 8 pixels with this flow to the next frame (of the last: to the one before)."""

    num_frames, height, width, device = 3, 8, 12, torch.device("cpu")

    def __init__(self, flow):
        self.flow = torch.as_tensor(flow, dtype=torch.float32)  # (N, H, W, 2)

    def number(self, sources, targets):
        assert np.array_equal(np.c_[sources, targets], [[0, 1], [1, 2], [2, 1]])
        return sources

    def flow_at(self, numbers, index):
        return self.flow.flatten(1, 2)[numbers[:, None], index]


def flow_of_a_block():
    """The camera pans by (1, -2) and zooms; in frame 1 columns 8 to 11 of rows 0 to 3 move by 6 px more."""
    y, x = np.mgrid[:8, :12].astype(float)
    flow = np.stack([np.stack([1 + 0.02 * x + 0.1 * frame, -2 + 0.03 * y], -1) for frame in range(3)])
    flow[1, :4, 8:] += [0, 6]
    return flow


def test_motion_at_cells_and_what_moves_against_the_camera():
    pool = KnownFlow(flow_of_a_block())
    found = grid_flow(pool, 2)
    assert torch.allclose(found[:, :4, :6], pool.flow[:, ::2, ::2])
    assert torch.equal(found[:, 4, 3], pool.flow[:, 7, 6]) and torch.equal(found[:, 2, 6], pool.flow[:, 4, 11])
    residual = camera_residual(found)
    block = torch.zeros(3, 5, 7, dtype=torch.bool)
    block[1, :2, 4:] = True
    assert residual.shape == block.shape and (residual[~block] < 0.7).all() and (residual[block] > 5).all()
    across, down = edge_weights(pool, 2)
    assert across[0, 1, 2].item() == pytest.approx(np.exp(-0.04), rel=1e-4)  # 2 pixels further right
    assert across[1, 1, 3].item() == pytest.approx(np.exp(-np.hypot(0.04, 6)), rel=1e-3)  # the block's left side
    assert down[1, 1, 5].item() == pytest.approx(np.exp(-5.94), rel=1e-3)  # its lower side
    assert across.shape == (3, 5, 6) and down.shape == (3, 4, 7)


class FixedEvidence:
    """A sampler that draws one batch again and again."""

    def __init__(self, pool, pixels_1, pixels_2, hidden, covisible):
        self.pool, self.hidden = pool, torch.tensor([hidden])
        self.batch = SimpleNamespace(frames_1=torch.tensor([1]), frames_2=torch.tensor([2]),
                                     pixels_1=torch.tensor([pixels_1]), pixels_2=torch.tensor([pixels_2]),
                                     covisible=torch.tensor([covisible]), evidence=self.evidence)

    def sample(self, *_):
        return self.batch

    def evidence(self, pixels):
        assert pixels is self.batch.pixels_2
        return self.hidden, ~self.hidden


def test_what_moves_against_the_camera_starts_in_front(known_evidence):
    sampler = FixedEvidence(KnownFlow(flow_of_a_block()), [[0.0, 0.0]], [[0.0, 0.0]], [False], [False])
    depth = initial_depth(sampler, 2, 0.2, (torch.zeros(3, 5, 6), torch.zeros(3, 4, 7)), steps=5)
    block = torch.zeros(3, 5, 7, dtype=torch.bool)
    block[1, :2, 4:] = True
    assert (depth[block] < 0.65).all() and (depth[~block] > 0.85).all()


def test_depth_order_follows_what_is_hidden_and_joins_what_is_seen_twice(known_evidence):
    """The first point is hidden; the second is seen twice, at the block and beside it; the third the flow follows."""
    sampler = FixedEvidence(KnownFlow(flow_of_a_block()), [[2.0, 4.0], [10.0, 2.0], [0.0, 2.0]],
                            [[8.0, 2.0], [4.0, 6.0], [10.0, 4.0]], [True, False, True], [False, True, True])
    depth = initial_depth(sampler, 2, 0.2, (torch.zeros(3, 5, 6), torch.zeros(3, 4, 7)), steps=150)
    assert depth[1, 2, 1] > 1.02 and depth[2, 1, 4] < 0.9 and depth[1, 2, 1] - depth[2, 1, 4] > 0.19
    assert depth[1, 1, 5].item() == pytest.approx(depth[2, 3, 2].item(), abs=0.02)
    assert depth[1, 1, 0].item() == pytest.approx(depth[2, 2, 5].item(), abs=0.02)
    assert depth[1, 0, 4:].max() < 0.65 and depth[1, 3:].min() > 0.85  # what no point touches
    touched = torch.zeros(5, 7, dtype=torch.bool)
    touched[[1, 3, 2], [4, 2, 5]] = True  # frame 2 moves like frame 0, which no point touches
    assert torch.allclose(depth[2][~touched], depth[0][~touched], atol=1e-3)
