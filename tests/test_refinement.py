"""Tracks sharpened by flow: a scene of known truth, its exact flow, and a model that is a few pixels off."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import refinement
from benchmarks.scenes import SceneFlow, make_scene
from preprocess import build
from util import UserError

FRAMES, HEIGHT, WIDTH, START = 8, 48, 64, 3


@pytest.fixture(scope="module")
def scene():
    return make_scene("occlusion", 1, FRAMES, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def data(scene, tmp_path_factory):
    return build(scene.video, tmp_path_factory.mktemp("refinement") / "data", flow=SceneFlow(scene), quiet=True)


@pytest.fixture(scope="module")
def unchained(scene, tmp_path_factory):
    """The true flow of all pairs, true for hidden pixels too."""
    folder = tmp_path_factory.mktemp("refinement") / "unchained"
    return build(scene.video, folder, flow=SceneFlow(scene), chain=False, quiet=True)


def truth(scene, pixels):
    """True tracks (n, N, 2) and visibility (n, N) of whole pixels (n, 2) of frame START."""
    x, y = pixels.T
    flows = [scene.flow(START, j) if j != START else (np.zeros((HEIGHT, WIDTH, 2)), np.ones((HEIGHT, WIDTH), bool))
             for j in range(FRAMES)]
    tracks = np.stack([pixels + flow[y, x] for flow, _ in flows], axis=1)
    return tracks.astype(np.float32), np.stack([visible[y, x] for _, visible in flows], axis=1)


def test_true_flow_corrects_a_model_that_is_off(scene, data):
    pixels = np.stack(np.meshgrid(np.arange(6, WIDTH - 6, 2), np.arange(6, HEIGHT - 6, 2)), -1).reshape(-1, 2)
    expected, visible = truth(scene, pixels)
    model = expected + np.random.default_rng(0).normal(0, 2, expected.shape).astype(np.float32)
    undecided = np.full(visible.shape, 0.5, np.float32)
    frames = np.full(len(pixels), START)
    tracks, scores = refinement.refine(data, frames, pixels.astype(np.float32), model, undecided)

    later = np.arange(FRAMES) != START
    shown = visible & later
    error = np.linalg.norm(tracks - expected, axis=-1)
    assert np.median(error[shown]) < 0.05  # 1/32 px is the step of the stored flow
    assert (error[shown] < 1).mean() > 0.93  # the rest are pixels on the rim of an object
    assert (scores[shown] < 0.5).mean() > 0.93
    assert (scores[~visible] > 0.5).mean() > 0.8
    assert (tracks[:, START] == pixels).all()


def test_flow_alone_follows_points_seen_or_hidden(scene, unchained):
    pixels = np.stack(np.meshgrid(np.arange(6, WIDTH - 6, 2), np.arange(6, HEIGHT - 6, 2)), -1).reshape(-1, 2)
    expected, visible = truth(scene, pixels)
    done = []
    queries = np.full(len(pixels), START), pixels.astype(np.float32)
    tracks, scores = refinement.flow_tracks(unchained, *queries, progress=done.append)
    assert sum(done) == scores.size == visible.size

    later = np.arange(FRAMES) != START
    shown, hidden = visible & later, ~visible & scene.inside(expected)
    error = np.linalg.norm(tracks - expected, axis=-1)
    assert np.median(error[shown]) < 0.05 and (error[shown] < 1).mean() > 0.93
    assert hidden.sum() > 100 and np.median(error[hidden]) < 0.1 and (error[hidden] < 1).mean() > 0.9
    assert (scores[shown] < 0.5).mean() > 0.93
    assert (scores[~visible] > 0.5).mean() > 0.8
    assert (tracks[:, START] == pixels).all() and scores.min() >= 0 and scores.max() <= 1

    near, near_scores = refinement.flow_tracks(unchained, *queries, window=range(START, START + 2))
    assert near.shape == (len(pixels), 2, 2)
    np.testing.assert_allclose(near_scores[:, 1], scores[:, START + 1], atol=1e-6)
    clear = visible[:, START + 1]
    assert np.median(np.linalg.norm(near - expected[:, START : START + 2], axis=-1)[clear]) < 0.05


def even_hops(width, height, flow):
    """Hops of flow that is the same for all pixels: {(i, j): (dx, dy)} in whole steps of 1 px."""
    hops = object.__new__(refinement.Hops)
    hops.width, hops.height, hops.step = width, height, 1.0
    count = 1 + max(max(pair) for pair in flow)
    hops.rows = [{j: row for row, j in enumerate(sorted(j for k, j in flow if k == i))} for i in range(count)]
    hops.flow = [np.stack([np.broadcast_to(np.int16(flow[i, j]), (height, width, 2)) for j in rows] or
                          [np.zeros((height, width, 2), np.int16)]) for i, rows in enumerate(hops.rows)]  # fmt: skip
    return hops


def test_hidden_points_go_with_the_flow_of_the_frames_that_saw_them():
    tracks = np.zeros((1, 8, 2), np.float32)
    tracks[0, 4] = [8, 4]
    seen = np.array([[True, False, False, False, True, False, False, False]])
    flow = {(0, 1): (3, 0), (0, 3): (9, 0), (4, 1): (-4, 0), (4, 3): (-3, 4), (4, 5): (1, 2)}
    carried = refinement.carry_hidden(even_hops(12, 12, flow | {(7, 0): (0, 0)}), tracks, seen)[0]
    # frame 1: 3 by frame 0, 8 - 4 by frame 4, weighted 3 : 1; frame 3: 9 and 8 - 3, 1 : 3; frame 2: half-way
    np.testing.assert_allclose(carried[1], [3.25, 1])
    np.testing.assert_allclose(carried[3], [6, 6])
    np.testing.assert_allclose(carried[2], [(3.25 + 6) / 2, 3.5])
    np.testing.assert_allclose(carried[5:], [[9, 6]] * 3)  # after the last that is known: at rest
    np.testing.assert_allclose(carried[[0, 4]], tracks[0, [0, 4]])


def test_between_two_surfaces_a_point_moves_as_the_nearest_pixel_does():
    flow = np.zeros((4, 6, 2), np.int16)
    flow[:, :3, 0] = 64 + 16 * np.arange(4)[:, None]  # 2, 2.5, 3, 3.5 px to the right, in steps of 1/32; then still
    hops = object.__new__(refinement.Hops)
    hops.width, hops.height, hops.step, hops.rows, hops.flow = 6, 4, 1 / 32, [{1: 0}], [flow[None]]
    points = np.array([[1.25, 0.5], [2.4, 1], [2.6, 1], [2.4, 2.5], [5, 3]])
    moved = hops.move(0, 1, points) - points
    np.testing.assert_allclose(moved, [[2.25, 0], [2.5, 0], [0, 0], [3.25, 0], [0, 0]], atol=1e-6)


def test_model_and_flow_that_agree_are_averaged_by_their_precision():
    tracks, refined = np.zeros((1, 4, 2)), np.zeros((1, 4, 2))
    refined[0, :, 0] = [0.8, 0.8, 0.8, 3]  # the query's frame, flows that agree, flows that do not, flow far away
    spread = np.array([[0, 0, refinement.MODEL_PX, 0]])
    x = refinement.blend(tracks, refined, spread, 0)[0, :, 0]
    exact = 0.8 * refinement.MODEL_PX**2 / (refinement.MODEL_PX**2 + refinement.FLOW_PX**2)
    assert x[0] == 0.8 and x[3] == 3
    assert x[1] == pytest.approx(exact) and 0.35 < x[2] < 0.4
    assert refinement.blend(tracks, refined, np.full((1, 4), np.inf), 0)[0, 1, 0] == 0  # no flow arrived


def test_where_no_flow_arrives_the_model_stands_and_nothing_jumps():
    tracks = np.zeros((1, 5, 2), np.float32)
    tracks[0, :, 0] = [0, 1, 2, 3, 4]
    refined = tracks.copy()
    refined[0, 0] += [2, 0]
    refined[0, 3] += [5, 3]
    seen = np.array([[True, False, False, True, False]])
    filled = refinement.fill_hidden(tracks, refined, seen)
    np.testing.assert_allclose(filled[0, :, 0] - tracks[0, :, 0], [2, 3, 4, 5, 5])
    np.testing.assert_allclose(filled[0, :, 1], [0, 1, 2, 3, 3])


def test_smoothing_removes_jitter_and_what_stands_out_and_leaves_steady_motion():
    time = np.arange(20.0)
    steady = np.stack([3 + 2 * time, 40 - 1.5 * time], axis=-1)[None].repeat(3, 0).astype(np.float32)
    frames, seen = np.array([0, 7, 19]), np.ones((3, 20), bool)
    np.testing.assert_allclose(refinement.smooth(steady, frames, seen), steady, atol=1e-4)

    rough = steady + np.random.default_rng(0).normal(0, 0.3, steady.shape).astype(np.float32)
    rough[1, 12] += (9, -5)
    smooth = refinement.smooth(rough, frames, seen)
    assert (smooth[np.arange(3), frames] == rough[np.arange(3), frames]).all()
    accelerations = [np.abs(np.diff(tracks, 2, axis=1)).mean() for tracks in (rough, smooth)]
    assert accelerations[1] < 0.5 * accelerations[0]
    assert np.abs(smooth - steady).max() < 3 and np.linalg.norm((rough - steady)[1, 12]) > 9
    two = rough[:, :2]
    np.testing.assert_array_equal(refinement.smooth(two, np.zeros(3, int), seen[:, :2]), two)


def test_smoothing_follows_a_turn():
    """A bounce: the direction changes within one frame, seen as such."""
    x = np.abs(np.arange(21.0) - 10) * 3
    track = np.stack([x, np.zeros(21)], axis=-1)[None].astype(np.float32)
    assert np.abs(refinement.smooth(track, np.array([0]), np.ones((1, 21), bool)) - track).max() < 0.5


def test_colour_tells_what_is_seen(scene, data):
    pixels = np.float32([[10, 8], [40, 30]])
    still = pixels[:, None].repeat(FRAMES, 1)
    still[1, 5] = still[1, 6] + 0.5
    difference = refinement.colour_difference(data, np.array([START, 5]), pixels, still)
    frame = cv2.GaussianBlur(scene.video[0].astype(np.float32), (0, 0), 1)
    later = cv2.GaussianBlur(scene.video[START].astype(np.float32), (0, 0), 1)
    assert difference[0, START] == 0
    assert difference[0, 0] == pytest.approx(np.abs(frame[8, 10] - later[8, 10]).max(), abs=1e-3)
    assert difference[1, 5] > 0  # half a pixel off


def test_which_runs_are_refined(data, tmp_path, capsys):
    def run(rendering="surface", path=data.path, fingerprint=data.fingerprint):
        return SimpleNamespace(config={"rendering": rendering}, flow_dir=str(path), video={"fingerprint": fingerprint})

    assert refinement.flow_at_hand(run(), "auto").path == data.path
    assert refinement.flow_at_hand(run(), "off") is None
    assert refinement.flow_at_hand(run("volume"), "auto") is None
    assert refinement.flow_at_hand(run("volume"), "on").path == data.path
    assert capsys.readouterr().out == ""
    for missing in (run(path=tmp_path / "gone"), run(fingerprint="other")):
        assert refinement.flow_at_hand(missing, "auto") is None
        assert "model alone" in capsys.readouterr().out
        with pytest.raises(UserError):
            refinement.flow_at_hand(missing, "on")
