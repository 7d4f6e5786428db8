"""Tracks sharpened by flow: a scene of known truth, its exact flow, and a model that is a few pixels off."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.scenes import SceneFlow, make_scene
from loaders.data_dir import pack_mask
from preprocess import build
from tests.helpers.analytic_run import make_run
from tests.helpers.walks import one_walk
from tracking import refinement
from util import UserError, length_unit

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


@pytest.mark.slow
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
    assert hidden.sum() > 100 and np.median(error[hidden]) < 0.1 and (error[hidden] < 1).mean() > 0.75
    assert (scores[shown] < 0.5).mean() > 0.93
    assert (scores[~visible] > 0.5).mean() > 0.8
    assert (tracks[:, START] == pixels).all() and scores.min() >= 0 and scores.max() <= 1

    near, near_scores = refinement.flow_tracks(unchained, *queries, window=range(START, START + 2))
    assert near.shape == (len(pixels), 2, 2)
    assert ((near_scores[:, 1] < 0.5) == (scores[:, START + 1] < 0.5)).mean() > 0.97
    assert (refinement.flow_tracks(unchained, *queries, window=range(2, FRAMES))[0][:, START - 2] == pixels).all()
    clear = visible[:, START + 1]
    assert np.median(np.linalg.norm(near - expected[:, START : START + 2], axis=-1)[clear]) < 0.05


def even_hops(width, height, flow):
    """Hops of flow that is the same for all pixels: {(i, j): (dx, dy)} in whole steps of 1 px."""
    count = 1 + max(max(pair) for pair in flow)
    rows = [{j: row for row, j in enumerate(sorted(j for k, j in flow if k == i))} for i in range(count)]
    fixed = [np.stack([np.broadcast_to(np.int16(flow[i, j]), (height, width, 2)) for j in of_frame] or
                      [np.zeros((height, width, 2), np.int16)]) for i, of_frame in enumerate(rows)]
    return refinement.Hops(1.0, rows, fixed, bits=[])


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


def test_hidden_points_are_carried_from_the_frames_of_a_window_that_starts_late():
    """The window is frames 2 to 4; the point is known in frame 3, whose flow to frame 4 is stored, and to no other."""
    tracks, seen = np.zeros((1, 3, 2), np.float32), np.array([[False, True, False]])
    tracks[0, 1] = [5, 4]
    carried = refinement.carry_hidden(even_hops(12, 12, {(3, 4): (2, 1)}), tracks, seen, first=2)[0]
    np.testing.assert_allclose(carried, [[5, 4], [5, 4], [7, 5]])


def test_between_two_surfaces_a_point_moves_as_the_nearest_pixel_does():
    flow = np.zeros((4, 6, 2), np.int16)
    flow[:, :3, 0] = 64 + 16 * np.arange(4)[:, None]  # 2, 2.5, 3, 3.5 px to the right, in steps of 1/32; then still
    points = np.array([[1.25, 0.5], [2.4, 1], [2.6, 1], [2.4, 2.5], [5, 3]])
    moved = refinement.moved([flow], 1 / 32, points[None])[0] - points
    np.testing.assert_allclose(moved, [[2.25, 0], [2.5, 0], [0, 0], [3.25, 0], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("width, height", [(6, 4), (6, 1), (1, 4), (2, 2)])
def test_points_beyond_the_frame_move_as_its_border_does(width, height):
    """Flow of half a pixel that rises by an eighth a pixel to the right, and by a quarter downwards."""
    y, x = np.mgrid[:height, :width]
    flow = np.stack([4 + x, -4 - 2 * y], -1).astype(np.int16)  # in steps of 1/8
    points = np.stack(np.meshgrid([-2.5, -0.25, 0, 0.75, width - 1.5, width - 1, width + 3],
                                  [-7, -0.5, 0, 0.25, height - 1.75, height - 1, height + 0.25]), -1).reshape(-1, 2)
    column, row = points[:, 0].clip(0, width - 1), points[:, 1].clip(0, height - 1)
    expected = points + np.stack([4 + column, -4 - 2 * row], -1) / 8
    np.testing.assert_allclose(refinement.moved([flow], 1 / 8, points[None])[0], expected, atol=1e-6)


def test_masks_are_looked_up_at_the_nearest_pixel():
    mask = np.random.default_rng(0).random((5, 7)) < 0.5
    points = np.random.default_rng(1).uniform(-3, 10, (300, 2)).astype(np.float32)
    expected = [mask[min(max(round(y), 0), 4), min(max(round(x), 0), 6)] for x, y in points.tolist()]
    assert refinement.set_at([pack_mask(mask)], mask.shape, points[None])[0].tolist() == expected


def test_the_edges_of_a_frame_are_half_a_pixel_outside_its_centres():
    hops = even_hops(8, 6, {(0, 1): (0, 0)})
    points = np.float32([[-0.4, 2], [-0.6, 2], [7.4, 2], [7.6, 2], [3, -0.4], [3, -0.6], [3, 5.4], [3, 5.6]])
    assert hops.inside(points).tolist() == [True, False] * 4


@pytest.mark.slow
def test_the_model_stands_where_no_flow_arrives_and_is_believed_where_it_agrees(scene, data):
    """A model of true tracks and visibility, but far off for some points; against flow with no model."""
    pixels = np.stack(np.meshgrid(np.arange(6, WIDTH - 6, 2), np.arange(6, HEIGHT - 6, 2)), -1).reshape(-1, 2)
    expected, visible = truth(scene, pixels)
    queries = np.full(len(pixels), START), pixels.astype(np.float32)
    model, scores = expected.copy(), np.where(visible, 0, 1).astype(np.float32)
    lost = np.arange(len(pixels)) % 4 == 0
    model[lost] += 20 * (np.arange(FRAMES) != START)[:, None]
    tracks, both = refinement.refine(data, *queries, model, scores)
    flow_scores = refinement.flow_tracks(data, *queries)[1]

    later = np.arange(FRAMES) != START
    error = np.linalg.norm(tracks - expected, axis=-1)
    hidden = ~visible & scene.inside(expected) & ~lost[:, None]
    assert hidden.sum() > 100 and np.median(error[hidden]) < 0.1
    assert (error[visible & later & lost[:, None]] < 1).mean() > 0.9  # flow stands where they disagree
    shown = visible & later
    near, far = both[shown & ~lost[:, None]], both[shown & lost[:, None]]
    assert np.median(near) < np.median(flow_scores[shown]) < np.median(far) < 0.5
    swapped = refinement.refine(data, *queries, model, 1 - scores)[1]
    assert np.median(swapped[shown & ~lost[:, None]]) > 1.5 * np.median(near)


def test_consensus_is_the_mean_of_what_agrees_with_the_best():
    """Points: two exact flows and a lost one; one flow among inf; none; two that contradict each other by weight."""
    ends = np.zeros((3, 4, 2), np.float32)
    ends[:, 0, 0], ends[:, 1, 0], ends[:, 3, 0] = [10, 10.2, 30], [5, 6, 7], [0, 50, 50]
    inf = np.inf
    errors = np.float32([[0.5, inf, inf, 1], [0.5, 2, inf, 1], [0.5, inf, inf, 1]])
    weights = np.float32([[1, 1, 1, 0.2], [1, 1, 1, 0.9], [1, 1, 1, 0.9]])
    places, error, agreement = refinement.consensus(ends, errors, weights)
    np.testing.assert_allclose(places[:2, 0], [10.1, 6], atol=0.01)
    np.testing.assert_allclose(places[3, 0], 50, atol=0.01)
    np.testing.assert_allclose(error, [0.5, 2, inf, 1], rtol=1e-5)
    np.testing.assert_allclose(agreement.T, [[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 1, 1]], atol=0.15)


def test_consensus_weighs_flows_by_their_errors():
    """A precise flow and one of three times the error: nine to one in the mean, and the precise one is the best."""
    ends = np.float32([[[0.1, 0]], [[0, 0]]])
    places, error, _ = refinement.consensus(ends, np.float32([[3], [1]]), np.ones((2, 1), np.float32))
    assert places[0, 0] == pytest.approx(0.01, rel=0.02) and error[0] == pytest.approx(np.sqrt(0.1 * 9 + 0.9), rel=0.01)


def test_frames_in_which_few_flows_agreed_say_less():
    """Frames 0 and 1 send a point to different places in frame 2; the one whose share is larger is believed."""
    hops = even_hops(32, 12, {(0, 2): (4, 0), (2, 0): (-4, 0), (1, 2): (20, 0), (2, 1): (-4, 0)})
    hops.flow[2][hops.rows[2][1]] = [-20, 0]
    hops.trusted = lambda sources, targets, points: np.ones(points.shape[:2], bool)
    for believed, share in ((4, [0.8, 0.2, 0]), (20, [0.2, 0.8, 0])):
        walk = one_walk(np.zeros((3, 2)) + [3, 5], [0.5, 0.5, np.inf], share)
        places, _, found_share = refinement.reach(hops, [0, 1], 2, walk, 0)
        assert places[0, 0] == pytest.approx(3 + believed, abs=0.1) and found_share[0] == pytest.approx(0.8, abs=0.01)


def test_the_share_that_agrees_is_each_points_own():
    """Two flows with shares of 0.2 agree about the first point; of the second's only the one of the larger share."""
    hops = even_hops(32, 12, {(0, 2): (4, 0), (2, 0): (-4, 0), (1, 2): (4, 0), (2, 1): (-4, 0)})
    hops.trusted = lambda sources, targets, points: np.ones(points.shape[:2], bool)
    start = np.float32([[[3, 5], [3, 5], [0, 0]], [[3, 5], [20, 5], [0, 0]]])
    walk = refinement.Walk(start, np.float32([[0.5, 0.5, np.inf]] * 2), np.float32([[0.2, 0.2, 0], [0.6, 0.2, 0]]))
    places, error, share = refinement.reach(hops, [0, 1], 2, walk, 0)
    np.testing.assert_allclose(places, [[7, 5], [7, 5]], atol=0.01)
    np.testing.assert_allclose(share, [1, 0.75], atol=0.01)
    assert np.isfinite(error).all()


def test_frames_without_flow_there_and_back_are_no_sources_and_are_not_reached():
    """Frame 1 has flow to frame 0 but not from it, frame 2 has none at all: the point is known in frames 0 and 3."""
    hops = even_hops(16, 12, {(0, 3): (4, 0), (3, 0): (-4, 0), (1, 0): (1, 0), (1, 3): (9, 0)})
    hops.trusted = lambda sources, targets, points: np.ones(points.shape[:2], bool)
    assert hops.linked(3, range(3)) == [0] and hops.linked(0, range(1, 4)) == [3]
    walk = refinement.walk_all(hops, np.array([0]), np.float32([[3, 5]]), range(4))
    assert np.isfinite(walk.error[0]).tolist() == [True, False, False, True]
    assert walk.places[0].tolist() == [[3, 5], [3, 5], [3, 5], [7, 5]] and walk.share[0].tolist() == [1, 0, 0, 1]
    assert walk.places.dtype == walk.error.dtype == walk.share.dtype == np.float32


def test_queries_of_different_frames_are_walked_each_from_its_own():
    flow = {(i, j): (2 * (j - i), 0) for i in range(3) for j in range(3) if i != j}
    hops = even_hops(32, 12, flow)
    hops.trusted = lambda sources, targets, points: np.ones(points.shape[:2], bool)
    walk = refinement.walk_all(hops, np.array([2, 0, 2]), np.float32([[9, 5], [3, 6], [20, 7]]), range(3))
    np.testing.assert_allclose(walk.places[..., 0], [[5, 7, 9], [3, 5, 7], [16, 18, 20]], atol=1e-5)
    np.testing.assert_allclose(walk.places[..., 1], np.repeat([[5], [6], [7]], 3, axis=1), atol=1e-5)
    assert (walk.error == 0).tolist() == [[False, False, True], [True, False, False], [False, False, True]]


def test_walks_go_outwards_from_frame_to_frame():
    """Adjacent frames only: every frame is reached over all those between, each of which adds to the error."""
    flow = {(i, j): (2 * (j - i), i - j) for i in range(6) for j in (i - 1, i + 1) if 0 <= j < 6}
    hops = even_hops(32, 24, flow)
    hops.trusted = lambda sources, targets, points: np.ones(points.shape[:2], bool)
    walk = refinement.walk_outwards(hops, 3, np.float32([[12, 10]]), range(1, 6))
    away = np.arange(1, 6) - 3
    np.testing.assert_allclose(walk.places[0], np.stack([12 + 2 * away, 10 - away], -1), atol=1e-5)
    np.testing.assert_allclose(walk.error[0], 0.25 * np.sqrt(np.abs(away)), rtol=1e-5)
    assert walk.share[0].tolist() == pytest.approx([1] * 5)


def test_visibility_of_model_and_flow_by_hand(monkeypatch):
    """2.8 a share, -1.5 a log of the error, 1 if the model sees the point, -0.4 a log of how far they differ."""
    e, arguments, smoothed = np.e, [], []
    walk = one_walk([[4, 0]] * 5, [0, 1, 1, e, np.inf], [1, 0.5, 0.5, 0.5, 0])
    data, hops = SimpleNamespace(num_frames=5, path="nowhere"), SimpleNamespace(unit=1.0)
    monkeypatch.setattr(refinement.Hops, "of", lambda asked: hops if asked is data else None)
    monkeypatch.setattr(refinement, "walk_all", lambda *asked: arguments.append(asked) or walk)
    monkeypatch.setattr(refinement, "smooth", lambda *asked: smoothed.append(asked) or asked[0])
    tracks = np.float32([[[4, 0], [4.5, 0], [4, e - 0.5], [4, 0.5], [30, 0]]])
    scores = np.float32([[0, 0, 1, 0.5, 1]])
    frames, pixels, progress = np.zeros(1, int), np.float32([[4, 0]]), print
    found, hidden = refinement.refine(data, frames, pixels, tracks, scores, progress)
    assert arguments == [(hops, frames, pixels, range(5), progress)]
    odds = [2.8 + 1.5 * np.log(4) + 1 + 0.4 * np.log(2), 1.4 + 1, 1.4 - 0.4, 1.4 - 1.5 + 0.5,
            -1.5 * np.log(8) + 0.4 * np.log(2)]
    assert hidden[0].tolist() == pytest.approx([1 / (1 + e**odd) for odd in odds], rel=1e-4)
    (merged, of, seen, _), = smoothed
    assert of is frames and seen.tolist() == [[True, True, True, True, False]] and found is merged
    assert merged[0, 4].tolist() == [30, 0] and 4 < merged[0, 1, 0] < 4.5


def test_in_a_frame_four_times_as_large_all_lengths_are_four_times_as_long():
    assert [length_unit(*size) for size in ((60, 96), (256, 100), (480, 1024))] == [1, 1, 4]
    random = np.random.default_rng(0)
    places, model = (random.normal(0, 3, (2, 9, 2)).astype(np.float32) for _ in range(2))
    error, share, seen = random.uniform(0.3, 3, (2, 9)), random.uniform(0, 1, (2, 9)), random.random((2, 9)) < 0.7
    walk, large = (refinement.Walk(k * places, np.float32(k * error), np.float32(share)) for k in (1, 4))
    np.testing.assert_allclose(refinement.flow_odds(large, 4), refinement.flow_odds(walk), rtol=1e-5)
    for found, expected in zip(refinement.merge(large, 4 * model), refinement.merge(walk, model)):
        np.testing.assert_allclose(found, 4 * expected, rtol=1e-4)
    found = refinement.smooth(4 * places, np.array([0, 3]), seen, 4)
    np.testing.assert_allclose(found, 4 * refinement.smooth(places, np.array([0, 3]), seen), rtol=1e-4, atol=1e-4)
    small, wide = (refinement.Hops(
        0.25, [{1: 0}, {0: 0}],
        [np.broadcast_to(np.int16([right * k, 0]), (1, 4 * k, 256 * k, 2)) for right in (12, -10)],
        [pack_mask(np.ones((2, 4 * k, 256 * k), bool))[None]] * 2) for k in (1, 4))
    start = np.float32([[[9, 1]]])
    (end,), (errors,) = refinement.arrivals(small, [0], 1, start, np.zeros((1, 1)))
    (far,), (large_errors,) = refinement.arrivals(wide, [0], 1, 4 * start, np.zeros((1, 1)))
    assert end.tolist() == [[12, 1]] and far.tolist() == [[48, 4]]
    assert errors[0] == pytest.approx(np.hypot(0.25, 0.5)) and large_errors[0] == pytest.approx(4 * errors[0])


def test_hidden_points_keep_the_models_track(monkeypatch):
    """Flow arrives in frame 2 with a large error and few that agree, far from the model, which stands there."""
    places = np.zeros((5, 2)) + [9, 5]
    walk = one_walk(places, [0, 0.3, 7, 0.3, 0.3], [1, 1, 0.05, 1, 1])
    monkeypatch.setattr(refinement.Hops, "of", lambda data: SimpleNamespace(unit=1.0))
    monkeypatch.setattr(refinement, "walk_all", lambda *args: walk)
    monkeypatch.setattr(refinement, "smooth", lambda tracks, frames, seen, unit: tracks)
    tracks = np.float32([places])
    tracks[0, 2] = [12, 5]
    data = SimpleNamespace(num_frames=5, path="nowhere")
    found, scores = refinement.refine(data, np.zeros(1, int), None, tracks, np.ones((1, 5)))
    assert scores[0, 2] > 0.5 and (found[0, 2] == tracks[0, 2]).all()
    assert (scores[0, [0, 1, 3, 4]] < 0.5).all()


@pytest.mark.slow
def test_joined_tracks_are_smoothed(scene, data, monkeypatch):
    monkeypatch.setattr(refinement, "smooth", lambda tracks, frames, seen, unit: np.full_like(tracks, 7))
    model = np.zeros((1, FRAMES, 2), np.float32)
    tracks = refinement.refine(data, np.array([START]), np.float32([[9, 9]]), model, np.zeros((1, FRAMES)))[0]
    assert (tracks == 7).all()


def test_hidden_points_are_carried_within_the_window(monkeypatch):
    """Frames 3 to 5 of six: frame 4 has flow from frame 3 only, which no filter trusts."""
    flow = {(3, 4): (2, 0), (4, 3): (-2, 0), (3, 5): (4, 0), (5, 3): (-4, 0), (0, 1): (0, 5)}
    hops = even_hops(16, 12, flow)
    hops.trusted = lambda sources, targets, points: np.stack([np.full(len(at), pair != (3, 4)) for pair, at in zip(
        zip(sources, targets), points)])
    monkeypatch.setattr(refinement.Hops, "of", lambda data: hops)
    tracks, scores = refinement.flow_tracks(None, np.array([3]), np.float32([[5, 5]]), window=range(3, 6))
    np.testing.assert_allclose(tracks[0], [[5, 5], [7, 5], [9, 5]], atol=1e-3)
    assert (scores[0] > 0.5).tolist() == [False, True, False]


def test_visibility_of_flow_alone_by_hand(monkeypatch):
    """Errors count as at least 0.25 px and at most 8; the scores also say what is seen when tracks are smoothed."""
    smoothed, walk = [], one_walk(np.zeros((4, 2)), [0, 2, 1, np.inf], [1, 0.5, 0.5, 0])
    monkeypatch.setattr(refinement.Hops, "of", lambda data: even_hops(8, 8, {(0, 1): (0, 0)}))
    monkeypatch.setattr(refinement, "walk_all", lambda *asked: walk)
    monkeypatch.setattr(refinement, "smooth", lambda *asked: smoothed.append(asked) or asked[0])
    monkeypatch.setattr(refinement, "carry_hidden", lambda hops, tracks, seen, first: tracks)
    frames = np.array([4])
    scores = refinement.flow_tracks(None, frames, np.zeros((1, 2)), window=range(4, 8))[1]
    odds = np.array([2.8 + 1.5 * np.log(4), 1.4 - 1.5 * np.log(2), 1.4, -1.5 * np.log(8)])
    np.testing.assert_allclose(scores[0], 1 / (1 + np.exp(odds)), rtol=1e-5)
    assert scores.dtype == np.float32
    assert smoothed[0][1].tolist() == [0] and smoothed[0][2].tolist() == [[True, True, True, False]]


def test_seen_where_many_flows_agree_with_a_small_error():
    walk = one_walk(np.zeros((5, 2)), [0, 0.5, 0.5, 6, np.inf], [1, 0.9, 0.2, 0.9, 0])
    scores = refinement.occlusion(refinement.flow_odds(walk))[0]
    assert scores[0] < scores[1] < scores[2] < 0.5 < scores[3] < scores[4]


def test_a_frame_is_reached_from_both_sides():
    """Frame 1 has no flow from the query's frame 0, only from frame 2: the way back finds it."""
    hops = even_hops(16, 12, {(0, 2): (4, 0), (2, 0): (-4, 0), (2, 1): (-1, 0), (1, 2): (1, 0)})
    hops.trusted = lambda sources, targets, points: np.ones(points.shape[:2], bool)
    pixels = np.float32([[3, 5], [6, 7]])
    outwards = refinement.walk_outwards(hops, 0, pixels, range(3))
    assert np.isinf(outwards.error[:, 1]).all() and np.isfinite(outwards.error[:, 2]).all()
    walk = refinement.walk_all(hops, np.array([0, 0]), pixels, range(3))
    np.testing.assert_allclose(walk.places, pixels[:, None] + np.float32([[0, 0], [3, 0], [4, 0]]), atol=1e-5)
    assert (walk.error[:, 0] == 0).all() and (walk.share[:, 0] == 1).all()
    far, there = np.sqrt(1.5), np.sqrt(1.5 + 1)  # two frames straight on, and one more back
    np.testing.assert_allclose(walk.error[:, 2], far * refinement.SETTINGS.flow_error, rtol=1e-5)
    np.testing.assert_allclose(walk.error[:, 1], there * refinement.SETTINGS.flow_error, rtol=1e-5)


def test_flow_that_misses_its_start_or_leaves_the_frame_counts_less_or_not():
    hops = even_hops(16, 12, {(0, 1): (8, 0), (1, 0): (-7, 0), (2, 1): (2, 0), (1, 2): (-2, 0)})
    hops.step = 0.5
    hops.flow[2][0, 2, 9] = 8, 0  # misses its start by 3 px
    hops.trusted = lambda sources, targets, points: points[..., 1] < 6
    places = np.float32([[[2, 5], [5, 5]], [[12, 5], [5, 5]], [[2, 7], [9, 2]]])
    error = np.float32([[0, 1], [0, np.inf], [0, 0]])
    ends, errors = refinement.arrivals(hops, [0, 2], 1, places, error)
    np.testing.assert_allclose(ends[:, 0], [[6, 5], [6, 5]])
    floor = refinement.SETTINGS.flow_error**2
    np.testing.assert_allclose(errors[:, 0], np.sqrt([0.5**2 + floor, 1 + floor]), rtol=1e-5)
    assert np.isinf(errors[:, 1:]).all()


def test_each_source_moves_its_own_points_however_many_are_taken_at_once(monkeypatch):
    motions = np.array([(4, 0), (0, 2), (-1, 1)])  # of frames 0 to 2, to frame 3
    flow = {(i, 3): motion for i, motion in enumerate(motions)} | {(3, i): -motion for i, motion in enumerate(motions)}
    hops = even_hops(16, 12, flow)
    hops.trusted = lambda sources, targets, points: np.stack([at[:, 0] < 4 + i for i, at in zip(sources, points)])
    places = np.random.default_rng(0).integers(3, 7, (5, 3, 2)).astype(np.float32)
    error = np.arange(15, dtype=np.float32).reshape(5, 3) / 10
    ends, errors = refinement.arrivals(hops, [0, 1, 2], 3, places, error)
    for source, motion in enumerate(motions):
        np.testing.assert_allclose(ends[source], places[:, source] + motion)
        own = np.square(error[:, source]) + (1 + 3 - source) / 2 * refinement.SETTINGS.flow_error**2
        expected = np.where(places[:, source, 0] < 4 + source, np.sqrt(own), np.inf)
        np.testing.assert_allclose(errors[source], expected, rtol=1e-5)
    monkeypatch.setattr(refinement, "POINTS_AT_ONCE", 7)
    for found, expected in zip(refinement.arrivals(hops, [0, 1, 2], 3, places, error), (ends, errors)):
        np.testing.assert_array_equal(found, expected)


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


@pytest.mark.parametrize("num_frames", [3, 20])
def test_smoothed_tracks_balance_acceleration_and_distance(num_frames, monkeypatch):
    """Where the smoothed track lies no small change makes it better: the weighted pulls on every position cancel."""
    monkeypatch.setattr(refinement, "SETTINGS", replace(refinement.SETTINGS, flow_error=0.375))
    random = np.random.default_rng(num_frames)
    tracks = random.normal(0, 1, (2, num_frames, 2)).cumsum(1) + 40
    frames, seen = np.array([1, 2]), random.random((2, num_frames)) < 0.7
    smooth = refinement.smooth(tracks, frames, seen)
    assert np.abs(smooth - tracks).max() > 0.1 and smooth.dtype == np.float64
    for track, given, frame, known in zip(smooth, tracks, frames, seen):
        off = given - track
        pull = np.where(known, 1.0, 0.001)[:, None] / (1 + np.square(off).sum(-1, keepdims=True) / 9) * off
        pull -= 0.05 * bending(track)
        pull[frame] = 0  # which is known, and so held where it is
        assert np.abs(pull).max() < 2e-3


def bending(track):
    """Half the gradient of the summed squared accelerations (N, 2), by a loop."""
    force = np.zeros_like(track)
    for t in range(1, len(track) - 1):
        acceleration = track[t - 1] - 2 * track[t] + track[t + 1]
        for place, factor in ((t - 1, 1), (t, -2), (t + 1, 1)):
            force[place] += factor * acceleration
    return force


def test_smoothing_follows_a_turn():
    """A bounce: the direction changes within one frame, seen as such."""
    x = np.abs(np.arange(21.0) - 10) * 3
    track = np.stack([x, np.zeros(21)], axis=-1)[None].astype(np.float32)
    assert np.abs(refinement.smooth(track, np.array([0]), np.ones((1, 21), bool)) - track).max() < 0.5


def test_which_runs_are_refined(tmp_path, capsys):
    data = make_run(tmp_path / "data")[1]

    def run(refined=True, path=data.path, fingerprint=data.fingerprint):
        model = SimpleNamespace(refined_by_flow=refined)
        return SimpleNamespace(model=model, flow_dir=str(path), video={"fingerprint": fingerprint})

    assert refinement.flow_at_hand(run(), "auto").path == data.path
    assert refinement.flow_at_hand(run(), "off") is None
    assert refinement.flow_at_hand(run(False), "auto") is None
    assert refinement.flow_at_hand(run(False), "on").path == data.path
    assert capsys.readouterr().out == ""
    for missing in (run(path=tmp_path / "gone"), run(fingerprint="other")):
        assert refinement.flow_at_hand(missing, "auto") is None
        assert "model alone" in capsys.readouterr().out
        with pytest.raises(UserError):
            refinement.flow_at_hand(missing, "on")
