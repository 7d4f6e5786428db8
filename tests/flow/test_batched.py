"""The walk in torch, for many pairs at once, against OpenCV's and NumPy's, and against what is true."""

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from benchmarks.scenes import make_scene
from flow import fill as on_cpu_fill
from flow import images as on_cpu
from flow import motions as on_cpu_motions
from flow.batched import fill, images, motions
from flow.batched.pairs import Frames, Pairs
from flow.batched.search import InverseSearch, coarsest_scale
from flow.batched.walk import BatchedWalk, upsampled
from flow.candidates import FusedFlow
from flow.dis import DisFlow, make_dis
from flow.estimator import Estimator
from flow.estimators import make_walk
from flow.layers import UNKNOWN
from flow.pair import ErrorSettings, FramePair, exposure_along, make_frame
from flow.upsampling import upsampled as on_cpu_upsampled
from preprocess import build
from tests.flow.test_dis import LEFT, SIDE, TOP, square_over_background

CPU = torch.device("cpu")


def to_torch(values):
    """(H, W) or (H, W, C) -> (1, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(np.atleast_3d(values))).float().permute(2, 0, 1)[None]


def to_numpy(values):
    """(1, C, H, W) -> (H, W, C), or (H, W) of one channel."""
    values = values[0].permute(1, 2, 0).numpy()
    return values[..., 0] if values.shape[-1] == 1 else values


@pytest.fixture(scope="module")
def scene():
    return make_scene("camera", 7)


@pytest.fixture(scope="module")
def flow(scene):
    """What DIS finds from frame 0 to 2 (H, W, 2)."""
    first, second = (on_cpu.luminance(scene.video[k]) for k in (0, 2))
    return make_dis(0).calc(first, second, None)


@pytest.fixture(scope="module", params=(1, 2), ids=("its own size", "doubled"))
def pairs(request, scene, flow):
    """The pair of frames 0 and 2, by NumPy and in torch, at the exposure along the flow."""
    first, second = (make_frame(scene.video[k], request.param) for k in (0, 2))
    enlarged = on_cpu.enlarge_flow(flow, request.param)
    here = FramePair(first, second, *exposure_along(enlarged, first, second), ErrorSettings())
    there = (Frames.together([Frames.of(scene.video[k], request.param, None, CPU)]) for k in (0, 2))
    return here, Pairs.along(*there, to_torch(flow), ErrorSettings())


# The parts


def test_what_images_are_made_of_is_as_opencv_has_it(scene, flow):
    colours, rng = scene.video[0].astype(np.float32), np.random.default_rng(0)
    sampled = to_numpy(images.sample_along(to_torch(flow), to_torch(colours)))
    np.testing.assert_allclose(sampled, on_cpu.sample_along(flow, colours), atol=4.1)  # OpenCV's weights: 32nds
    assert np.abs(sampled - on_cpu.sample_along(flow, colours)).mean() < 0.2
    for side in (3, 9):
        blurred = to_numpy(images.blur(to_torch(colours), side))
        np.testing.assert_allclose(blurred, cv2.blur(colours, (side, side)), atol=1e-3)
    for size in ((48, 64), (120, 200)):
        np.testing.assert_allclose(to_numpy(images.resize(to_torch(flow), size)), on_cpu.resize(flow, size), atol=1e-3)
    holed = flow.copy()
    holed[20:23, 31:40] = np.nan
    for size in ((48, 64), (41, 50), (flow.shape[0] - 1, 1)):
        shrunk = to_numpy(images.shrink_flow(to_torch(holed), size))
        np.testing.assert_allclose(shrunk, on_cpu.shrink_flow(holed, size), atol=1e-3, err_msg=str(size))
    values = rng.normal(size=(2, 11)).astype(np.float32)
    np.testing.assert_allclose(images.middle(torch.from_numpy(values))[:, 0], np.median(values, axis=1), rtol=1e-6)


def test_a_window_larger_than_the_image():
    torch.testing.assert_close(images.blur(torch.full((1, 1, 3, 2), 7.0), 9), torch.full((1, 1, 3, 2), 7.0))


def test_errors_of_a_pair_are_those_of_flow_pair(pairs, flow):
    here, there = pairs
    assert float(there.gain) == pytest.approx(float(here.gain), abs=0.005)
    assert float(there.offset) == pytest.approx(float(here.offset), abs=0.5)
    for name in ("luminance_error", "colour_error", "colour_error_around"):
        off = to_numpy(getattr(there, name)(to_torch(flow))) - getattr(here, name)(flow)
        assert np.abs(off).mean() < 0.2 and np.abs(off).max() < 3, name  # levels: OpenCV's are whole ones


def test_flow_from_one_layer_to_another_costs_the_most(scene):
    height, width = scene.video.shape[1:3]
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :], labels[:4] = 1, UNKNOWN
    first, second = (Frames.together([Frames.of(scene.video[k], 1, labels, CPU)]) for k in (0, 0))
    pairs, still = Pairs(first, second, 1.0, 0.0, ErrorSettings()), torch.zeros(1, 2, height, width)
    moved = still + torch.tensor([3.0, 0.0])[:, None, None]
    assert not pairs.crossed(still).any()
    crossed = pairs.crossed(moved)[0, 0]
    assert (crossed[4:, width // 2 - 3 : width // 2] == ErrorSettings().largest_error).all()
    assert not crossed[:4].any() and not crossed[4:, width // 2 :].any() and not crossed[4:, : width // 2 - 3].any()


@pytest.mark.parametrize("shape", [(40, 56), (1, 9), (9, 1)])
def test_distances_to_the_nearest_pixel(shape):
    rng = np.random.default_rng(0)
    masks = np.stack([rng.random(shape) < share for share in (0.3, 0.02, 0.002)])
    masks[-1].flat[0] = True
    found = motions.distance_to(torch.from_numpy(masks)[None])[0]
    for mask, distance in zip(masks, found):
        np.testing.assert_allclose(distance, distance_transform_edt(~mask), atol=1.0)
    assert (motions.distance_to(torch.zeros(1, 1, 4, 6, dtype=torch.bool)) == 10).all()


def test_the_same_motions_are_found_and_assigned(pairs, flow):
    here, there = pairs
    expected = on_cpu_motions.assign_motions(flow, here)
    found = to_numpy(motions.assign_motions(to_torch(flow), there, on_cpu_motions.MotionSettings()))
    assert np.median(np.abs(expected - flow)) > 0.01  # it does something
    assert np.mean(np.linalg.norm(found - expected, axis=-1) < 0.1) > 0.97


def test_a_pair_with_fewer_motions_than_another_takes_none_that_is_not_there():
    """Of two flows one is all one motion, the other noise, in which no motion explains anything."""
    size, settings = (24, 32), on_cpu_motions.MotionSettings()
    still, noise = torch.full((2, *size), 1.5), 50 * torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    found, there = motions.Finder(size, settings, CPU).find(torch.stack([still, noise]))
    assert there[0].tolist() == [True] + [False] * (settings.most_motions - 1)
    torch.testing.assert_close(motions.Finder(size, settings, CPU).flow(found[:1, 0])[0], still, atol=0.01, rtol=0)
    assert not there[1].any()


def test_motion_of_what_is_hidden_is_filled_alike(flow):
    """Of two walks at once, of which one ends long before the other, each as alone."""
    sure = np.ones((2, *flow.shape[:2]), bool)
    sure[0, 20:60, 30:90], sure[1, 3:, 2:] = False, False
    motion = np.random.default_rng(0).normal(size=flow.shape).astype(np.float32)
    both = fill.fill(*(torch.cat([to_torch(part)] * 2) for part in (motion, flow)), torch.from_numpy(sure)[:, None])
    for known, found in zip(sure, both):
        found = to_numpy(found[None])
        np.testing.assert_allclose(found, on_cpu_fill.fill(motion, flow, known), atol=2e-2)
        assert np.array_equal(found[known], motion[known])


def test_candidates_between_shrunk_pixels_are_the_same(flow):
    size = (flow.shape[0] * 3 - 1, flow.shape[1] * 2 - 1)
    for found, expected in zip(upsampled(to_torch(flow), size).values(), on_cpu_upsampled(flow, size).values()):
        np.testing.assert_allclose(to_numpy(found), expected, atol=1e-3)


# The search


@pytest.mark.parametrize("finest", (0, 1))
@pytest.mark.parametrize("kind", ("slow", "fast", "camera"))
def test_the_search_is_as_near_to_the_truth_as_opencvs(kind, finest):
    scene = make_scene(kind, 5)
    truth, visible = scene.flow(0, 1)
    first, second = (on_cpu.luminance(scene.video[k]) for k in (0, 1))
    theirs = make_dis(finest).calc(first, second, np.zeros_like(truth))
    ours = to_numpy(InverseSearch(finest)(to_torch(first), to_torch(second), torch.zeros(1, 2, *first.shape)))
    theirs, ours = (np.linalg.norm(flow - truth, axis=-1)[visible] for flow in (theirs, ours))
    assert np.mean(ours < 1) > np.mean(theirs < 1) - 0.01 and ours.mean() < 1.1 * theirs.mean() + 0.05


def test_the_search_starts_where_it_is_told():
    """A motion further than patches see is followed from a start that is nearly right."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (64, 200)), (0, 0), 1.2).astype(np.float32) * 2
    first, second = to_torch(noise[:, 60:140]), to_torch(noise[:, 10:90])  # moves by 50 to the right
    start = torch.zeros(1, 2, 64, 80)
    start[:, 0] = 48.5
    found = InverseSearch()(first, second, start)[0, :, 4:-4, 4:24]
    torch.testing.assert_close(found, torch.tensor([50.0, 0.0])[:, None, None].expand_as(found), atol=0.1, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (8, 8), (17, 64)])
def test_images_of_any_size_are_searched(size):
    image = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (2, 1, *size))).float()
    found = InverseSearch()(image, image, torch.full((2, 2, *size), 0.2))
    assert found.shape == (2, 2, *size) and found.isfinite().all()
    assert min(size) < 8 or found.abs().median() < 0.1  # where there is a patch to see


@pytest.mark.parametrize("size, scale", [((480, 854), 5), ((128, 96), 2), ((20, 200), 1), ((240, 427), 4)])
def test_the_coarsest_scale(size, scale):
    """OpenCV's rule: log2 of the longer side over four patches of 8 pixels, rounded; of the shorter over one, less."""
    assert coarsest_scale(*size) == scale


def test_pairs_do_not_depend_on_those_beside_them(scene):
    first, second, third = (to_torch(on_cpu.luminance(scene.video[k])) for k in (0, 1, 2))
    start = torch.zeros(1, 2, *first.shape[-2:])
    both = InverseSearch()(torch.cat([first, first]), torch.cat([second, third]), torch.cat([start, start]))
    torch.testing.assert_close(both[1:], InverseSearch()(first, third, start), atol=1e-3, rtol=0)


# The walk


def test_the_walk_is_as_near_to_the_truth_as_that_on_the_cpu():
    """Over a clip with occlusions: among pixels that are visible, and that are hidden."""
    scene, sources, found = make_scene("occlusion", 3), [(0, [1, 2, 4]), (3, [0, 4])], []
    for walk in (DisFlow(), BatchedWalk(CPU)):
        walk.load_frames(scene.video[:5])
        errors, visible = [], []
        for (i, partners), flows in zip(sources, walk.flow_from_many(sources)):
            for j, flow in zip(partners, flows):
                truth, seen = scene.flow(i, j)
                errors.append(np.linalg.norm(np.asarray(flow) - truth, axis=-1))
                visible.append(seen)
        errors, visible = np.stack(errors), np.stack(visible)
        found.append((np.mean(errors[visible] < 1), np.mean(errors[~visible] < 4)))
    (cpu_visible, cpu_hidden), (visible, hidden) = found
    assert visible > cpu_visible - 0.01 and hidden > cpu_hidden - 0.05


def test_several_source_frames_are_walked_as_each_alone():
    """Of several frames with partners of their own, some adjacent, some behind, one without any."""
    frames, walk = square_over_background(4, 5), BatchedWalk(CPU)
    walk.load_frames(frames)
    sources = [(0, [1, 3]), (2, []), (3, [0, 2, 4])]
    for source, flows in zip(sources, walk.flow_from_many(sources)):
        alone = walk.flow_from(*source)
        assert alone.shape == flows.shape == (len(source[1]), *frames.shape[1:3], 2)
        assert not source[1] or np.mean(((flows - alone).norm(dim=-1) < 0.1).numpy()) > 0.97  # but for equal costs


def test_adjacent_flow_of_several_frames_each_with_hints_of_its_own():
    """A square leaps further than the walk can follow: it is found in the pairs whose hints say so, and in no other."""
    frames, walk, found = square_over_background(40, 3, 56, 160, seed=3), BatchedWalk(CPU), []
    walk.load_frames(frames)
    hint = np.zeros((1, *frames.shape[1:3], 2), np.float32)
    hint[..., 0] = 40
    flows = walk.adjacent_many([0, 1], [{"hint": said} for said in (hint, 0 * hint, 0 * hint, -hint)])
    for flow, source, motion in zip(flows.reshape(4, *flows.shape[2:]), (0, 1, 1, 2), (40, -40, 40, -40)):
        on_square = flow[TOP : TOP + SIDE, LEFT + 40 * source : LEFT + 40 * source + SIDE]
        found.append(np.mean(np.abs(on_square - (motion, 0)).max(-1) < 1))
    assert min(found[0], found[3]) > 0.8 and max(found[1], found[2]) < 0.1


def test_large_frames_are_finished_in_parts_and_by_their_own_hints(monkeypatch):
    """650 pixels wide, so that they are walked at half the size: all moves by 90 pixels, as the hint of one pair says
    and that of the other does not."""
    monkeypatch.setattr("flow.batched.walk.PIXELS_AT_ONCE", 1)
    noise = cv2.resize(np.random.default_rng(0).integers(0, 256, (24, 400, 3), dtype=np.uint8), None, fx=2, fy=2)
    frames = np.stack([noise[:, 90 : 90 + 650], noise[:, :650]])  # moves to the right
    walk, right = BatchedWalk(CPU), np.zeros((1, 48, 650, 2), np.float32)
    walk.load_frames(frames)
    assert walk.shrunk == 2
    right[..., 0] = 90
    hints = walk.together([{"hint": right[0]}, {"hint": -right[0]}])
    found = walk.finish([0, 0], [1, 1], torch.zeros(2, 2, *walk.size), hints)
    off = (found - torch.tensor([90.0, 0.0])[:, None, None]).norm(dim=1)[:, :, :550]
    assert off[0].median() < 0.1 and off[1].median() > 10


@pytest.mark.parametrize("size", [(1, 40), (16, 12), (20, 650)], ids="{0[0]}x{0[1]}".format)
def test_two_frames_of_any_size(size):
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    walk = BatchedWalk(CPU)
    walk.load_frames(frames)
    for flows in walk.flow_from_many([(0, [1]), (1, [0])]):
        assert flows.shape == (1, *size, 2) and flows.isfinite().all()


class Planted(Estimator):
    """The true flow of a square, NaN to frame 2; see square_over_background."""

    description = {"method": "planted"}

    def __init__(self, step):
        self.step = step

    def load_frames(self, frames, adjacent=None):
        self.size = frames[0].shape[:2]

    def flow_from(self, i, partners):
        flows = np.zeros((len(partners), *self.size, 2), np.float32)
        flows[..., 0] = self.step * (np.array(partners) - i)[:, None, None]
        flows[[j == 2 for j in partners]] = np.nan
        return flows


def test_candidates_are_taken_where_they_are_right():
    """A square leaps further than the walk can follow; what says so is believed there, and not on the background."""
    step, frames = 40, square_over_background(40, 3, 56, 120, seed=3)
    fused = FusedFlow({"planted": Planted(step)}, walk=BatchedWalk(CPU))
    fused.load_frames(frames)
    with_it = np.asarray(fused.flow_from(0, [1, 2]))
    changed = np.abs(frames[0].astype(int) - frames[1]).max(-1) > 20
    moved = np.abs(with_it[0] - (step, 0)).max(-1) < 1
    assert moved[changed].sum() > 100 and moved[~changed].mean() < 0.05
    assert np.isfinite(with_it).all() and fused.for_workers() is None


def test_on_a_gpu_preprocessing_walks_in_torch(tmp_path, monkeypatch):
    """With a device that is said to be a GPU but is not: what is stored names the walk, and is near to the CPU's."""
    monkeypatch.setattr("preprocess.driver.make_walk", lambda device, reason="": BatchedWalk(CPU, reason))
    monkeypatch.setattr("preprocess.stages.at_once", lambda frames, *_: [frames] if frames else [])
    frames = square_over_background(4, 3)
    data = build(frames, tmp_path / "batched", flow="dis", device="cpu", workers=2, quiet=True)
    assert data.manifest["settings"]["flow"]["walk"]["mode"] == "walking from frame to frame, in torch"
    expected = build(frames, tmp_path / "cpu", flow="dis", device="cpu", workers=1, quiet=True, features=())
    apart = np.linalg.norm(data.flow(0, 2) - expected.flow(0, 2), axis=-1)
    assert np.mean(apart < 0.5) > 0.95


def test_a_walk_is_made_for_its_device():
    assert type(make_walk(CPU)) is DisFlow
    on_gpu = make_walk(torch.device("cuda"), "why")
    assert (type(on_gpu), on_gpu.reason, on_gpu.for_workers()) == (BatchedWalk, "why", None)
    assert on_gpu.description["code"] != DisFlow().description["code"]
