"""The metrics against loops written from their definitions, hand-worked numbers and their limits."""

import math

import numpy as np
import pytest

from evaluation.masks import boundary_f, carry_mask, mask_metrics, query_grid, region_j
from evaluation.metrics import (
    group_metrics,
    hidden_metrics,
    keypoint_share,
    mean_metrics,
    object_masks,
    occlusion_curve,
    point_metrics,
    reappearance_metrics,
    seen_again,
    temporal_coherence,
    time_masks,
    to_metric_scale,
)

THRESHOLDS = (1, 2, 4, 8, 16)


def by_definition(query_frames, true_tracks, true_occluded, tracks, occluded, mode):
    """AJ, delta_avg, OA and TC by counting point by point."""
    num_queries, num_frames = true_occluded.shape
    points = [
        (q, t) for q in range(num_queries) for t in range(num_frames)
        if (t != query_frames[q] if mode == "strided" else t > query_frames[q])
    ]
    right = sum(bool(occluded[p]) == bool(true_occluded[p]) for p in points)
    results = {"OA": 100 * right / len(points)}
    for threshold in THRESHOLDS:
        near = visible = true_positive = false_positive = false_negative = 0
        for p in points:
            distance = math.hypot(*(tracks[p] - true_tracks[p]))
            seen, claimed, close = not true_occluded[p], not occluded[p], distance < threshold
            visible += seen
            near += seen and close
            true_positive += seen and claimed and close
            false_negative += seen and not (claimed and close)
            false_positive += claimed and not (seen and close)
        results[f"delta_{threshold}"] = 100 * near / visible
        results[f"jaccard_{threshold}"] = 100 * true_positive / (true_positive + false_positive + false_negative)
    results["delta_avg"] = sum(results[f"delta_{t}"] for t in THRESHOLDS) / 5
    results["AJ"] = sum(results[f"jaccard_{t}"] for t in THRESHOLDS) / 5
    differences = []
    for q in range(num_queries):
        for t in range(1, num_frames - 1):
            triple = (t - 1, t, t + 1)
            if any(true_occluded[q, k] or (mode == "first" and k < query_frames[q]) for k in triple):
                continue
            accelerations = [x[q, t - 1] - 2 * x[q, t] + x[q, t + 1] for x in (tracks, true_tracks)]
            differences.append(math.hypot(*(accelerations[0] - accelerations[1])))
    results["TC"] = sum(differences) / len(differences)
    return results


def random_case(seed, num_queries=23, num_frames=17):
    rng = np.random.default_rng(seed)
    true_tracks = rng.uniform(0, 256, (num_queries, 1, 2)) + rng.normal(0, 5, (num_queries, num_frames, 2))
    noise = rng.normal(0, 1, true_tracks.shape) * rng.choice([0.3, 2, 12], true_tracks.shape[:2])[..., None]
    true_occluded, occluded = rng.random((2, num_queries, num_frames)) < 0.3
    return rng.integers(0, num_frames - 1, num_queries), true_tracks, true_occluded, true_tracks + noise, occluded


@pytest.mark.parametrize("mode", ["strided", "first"])
@pytest.mark.parametrize("seed", range(5))
def test_against_the_definition(seed, mode):
    case = random_case(seed)
    expected = by_definition(*case, mode)
    found = point_metrics(*case, mode)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    assert 5 < found["AJ"] < 95  # the case is not trivial


@pytest.mark.parametrize("mode", ["strided", "first"])
def test_per_track_is_each_track_alone(mode):
    case = random_case(7)
    each = point_metrics(*case, mode, per_track=True)
    for q in range(0, 23, 5):
        alone = point_metrics(*(array[q : q + 1] for array in case), mode)
        for name, value in alone.items():
            assert each[name][q] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_thresholds_are_strict():
    true_tracks = np.zeros((1, 3, 2))
    tracks = np.array([[[0, 0], [4.0, 0], [0, 3.999]]])
    hidden = np.zeros((1, 3), bool)
    found = point_metrics(np.array([0]), true_tracks, hidden, tracks, hidden)
    assert (found["delta_4"], found["delta_8"], found["delta_2"]) == (50, 100, 0)


def test_hand_worked():
    """One query at frame 0 of 4; frame 1 right, frame 2 visible but 3 px off, frame 3 hidden and claimed visible."""
    true_tracks, tracks = np.zeros((1, 4, 2)), np.zeros((1, 4, 2))
    tracks[0, 2] = [3, 0]
    true_occluded = np.array([[False, False, False, True]])
    found = point_metrics(np.array([0]), true_tracks, true_occluded, tracks, np.zeros((1, 4), bool))
    assert found["jaccard_1"] == pytest.approx(100 * 1 / (2 + 2))
    assert found["jaccard_4"] == pytest.approx(100 * 2 / (2 + 1))
    assert found["AJ"] == pytest.approx((25 + 25 + 3 * 200 / 3) / 5)
    assert found["OA"] == pytest.approx(200 / 3)
    assert found["TC"] == pytest.approx(3.0)  # frames 0, 1, 2 are visible; their second difference is off by 3


def test_perfect_and_query_frame_excluded():
    frames, true_tracks, true_occluded, _, _ = random_case(3)
    perfect = point_metrics(frames, true_tracks, true_occluded, true_tracks, true_occluded)
    assert all(perfect[name] == 100 for name in ("AJ", "delta_avg", "OA")) and perfect["TC"] == 0
    wrong_at_query = true_tracks.copy()
    wrong_at_query[np.arange(23), frames] += 50
    assert point_metrics(frames, true_tracks, true_occluded, wrong_at_query, true_occluded)["AJ"] == 100


def test_seen_again_goes_outwards_from_the_query():
    occluded = np.array([[0, 1, 0, 0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 0, 1, 1, 0, 0], [0] * 9], bool)
    expected = [[1, 0, 0, 0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 0, 0, 1, 1], [0] * 9]
    assert seen_again(np.array([3, 0, 4]), occluded).astype(int).tolist() == expected
    last = seen_again(np.array([8]), occluded[:1])
    assert last.astype(int).tolist() == [[1, 0, 1, 1, 1, 0, 0, 0, 0]]


def test_average_jaccard_after_reappearance_by_hand():
    """Query in frame 0, hidden in 1; seen again in 2 (exact), 3 (3 px off), 4 (exact, but said to be hidden)."""
    true_tracks, tracks = np.zeros((1, 5, 2)), np.zeros((1, 5, 2))
    tracks[0, 3] = [3, 0]
    tracks[0, 1] = [50, 50]  # hidden: does not count
    true_occluded, occluded = np.array([[0, 1, 0, 0, 0]], bool), np.array([[0, 0, 0, 0, 1]], bool)
    found = reappearance_metrics(np.array([0]), true_tracks, true_occluded, tracks, occluded)
    # 1 and 2 px: 1 true positive, 3 visible, 1 false positive; 4 px and more: 2 of 3
    assert found == {"AJ_RD": pytest.approx((2 * 100 / 4 + 3 * 200 / 3) / 5)}
    assert reappearance_metrics(np.array([4]), true_tracks, true_occluded, tracks, occluded, "first") == {}
    assert reappearance_metrics(np.array([0]), true_tracks, ~true_occluded, tracks, occluded) == {}


def test_hidden_positions_by_hand():
    true_tracks, tracks = np.full((1, 7, 2), 100.0), np.full((1, 7, 2), 100.0)
    tracks[0, :, 0] += [90, 1, 3, 4, 5, np.nan, 90]
    true_tracks[0, 6] = [-1, 100]  # outside the picture
    true_occluded, counted = np.array([[0, 1, 1, 1, 1, 1, 1]], bool), np.ones((1, 7), bool)
    found = hidden_metrics(counted, true_tracks, true_occluded, tracks)
    assert found == {"hidden_median": 4, "hidden_over_4": pytest.approx(100 * 2 / 5)}
    counted[0, 3:] = False
    assert hidden_metrics(counted, true_tracks, true_occluded, tracks) == {"hidden_median": 2, "hidden_over_4": 0}
    assert hidden_metrics(counted, true_tracks, ~counted, tracks) == {}


def test_parts_of_the_positions():
    masks = time_masks(np.array([0, 10]), 20)
    assert {name: mask.sum(1).tolist() for name, mask in masks.items()} == {
        "1-3": [3, 6], "4-7": [4, 8], "8-15": [8, 5], "16+": [4, 0]}
    assert masks["8-15"][1, [0, 1, 2, 3, 18, 19]].tolist() == [True, True, True, False, True, True]
    parts = object_masks([1, 0, 1], ("ball", "floor", "nothing"), 4)
    assert {name: mask[:, 0].tolist() for name, mask in parts.items()} == {
        "ball": [False, True, False], "floor": [True, False, True], "nothing": [False] * 3}
    assert parts["floor"].shape == (3, 4)

    frames, *case = random_case(2, num_queries=3, num_frames=4)
    counted = np.arange(4)[None] != frames[:, None]
    found = group_metrics(parts, counted, *case, hidden_known=True)
    assert set(found) == {"ball", "floor"} and found["floor"]["points"] == 6
    alone = point_metrics(frames[1:2], *(array[1:2] for array in case))
    assert {name: found["ball"][name] for name in ("AJ", "delta_avg", "OA")} == {
        name: pytest.approx(alone[name], nan_ok=True) for name in ("AJ", "delta_avg", "OA")}
    assert "hidden_median" not in group_metrics(parts, counted, *case, hidden_known=False)["floor"]


@pytest.mark.filterwarnings("error")
def test_empty_sets_give_nan():
    nothing = np.zeros((0, 5, 2)), np.zeros((0, 5), bool)
    found = point_metrics(np.zeros(0, int), *nothing, *nothing)
    assert all(math.isnan(value) for value in found.values())
    # All hidden: no visible point to be near, no second difference, but occlusion is right.
    hidden, tracks = np.ones((2, 5), bool), np.zeros((2, 5, 2))
    found = point_metrics(np.array([0, 1]), tracks, hidden, tracks, hidden)
    assert math.isnan(found["delta_avg"]) and math.isnan(found["AJ"]) and math.isnan(found["TC"])
    assert found["OA"] == 100
    # A query in the last frame, mode first: nothing after it.
    assert math.isnan(point_metrics(np.array([4]), tracks[:1], hidden[:1], tracks[:1], hidden[:1], "first")["OA"])
    assert math.isnan(temporal_coherence(np.array([0]), tracks[:1, :2], ~hidden[:1, :2], tracks[:1, :2], "strided"))


@pytest.mark.filterwarnings("error")
def test_predictions_that_are_not_finite_count_as_wrong():
    frames, true_tracks, true_occluded, tracks, occluded = random_case(4)
    broken, far = tracks.copy(), tracks.copy()
    broken[3], far[3] = np.nan, 1e6
    a, b = (point_metrics(frames, true_tracks, true_occluded, x, occluded) for x in (broken, far))
    assert a["AJ"] == b["AJ"] and a["delta_avg"] == b["delta_avg"]


def test_unknown_query_mode():
    with pytest.raises(ValueError, match="expected one of strided, first"):
        point_metrics(*random_case(0), "last")


def test_metric_scale():
    scaled = to_metric_scale(np.array([[854.0, 240.0]]), (480, 854))
    np.testing.assert_allclose(scaled, [[256, 128]])


def test_keypoints_by_hand():
    true_tracks = np.zeros((2, 3, 2))
    tracks = np.zeros((2, 3, 2))
    tracks[:, :, 0] = [[0, 5, 5.1], [0, 0, 20]]
    visible = np.array([[False, True, True], [False, True, True]])
    assert keypoint_share(true_tracks, visible, tracks, np.array([1, 5, 10])) == 75
    assert math.isnan(keypoint_share(true_tracks, np.zeros((2, 3), bool), tracks, np.ones(3)))


def test_occlusion_curve_by_hand():
    scores = np.array([[0.1, 0.9, 0.995, 0.5]])
    truth = np.array([[False, True, True, False]])
    counted = np.array([[True, True, True, False]])
    curve = occlusion_curve(scores, truth, counted, [0.0, 0.5, 0.99, 1.0])
    assert curve["recall"] == [100, 100, 50, 0]
    assert curve["precision"][:3] == pytest.approx([200 / 3, 100, 100]) and math.isnan(curve["precision"][3])
    assert curve["OA"] == pytest.approx([200 / 3, 100, 200 / 3, 100 / 3])


def test_means_ignore_nan_and_lists():
    means = mean_metrics([{"AJ": 10.0, "TC": math.nan, "each": [1]}, {"AJ": 30.0, "TC": math.nan}, {"AJ": math.nan}])
    assert means["AJ"] == 20 and math.isnan(means["TC"]) and "each" not in means


def square(height, width, top, left, side):
    mask = np.zeros((height, width), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_region_and_boundary():
    truth, shifted = square(60, 80, 20, 20, 20), square(60, 80, 20, 30, 20)
    assert region_j(truth, truth) == 100 and boundary_f(truth, truth) == 100
    assert region_j(truth, shifted) == pytest.approx(100 * 200 / 600)
    assert boundary_f(truth, square(60, 80, 20, 21, 20)) == 100  # one pixel off is within 0.008 of the diagonal
    # Ten pixels off: of a square's contour only the two horizontal sides overlap, by about half.
    assert 15 < boundary_f(truth, shifted) < 40
    empty = np.zeros_like(truth)
    assert region_j(empty, empty) == 100 and boundary_f(empty, empty) == 100
    assert region_j(truth, empty) == 0 and boundary_f(truth, empty) == 0


def test_mask_carried_by_perfect_tracks():
    """A square that moves 3 px a frame over a still ground, a point every 2 pixels."""
    masks = np.stack([square(48, 64, 14, 10 + 3 * t, 16) for t in range(6)])
    y, x = np.mgrid[1:48:2, 1:64:2]
    start = np.stack([x.ravel(), y.ravel()], -1) + 0.5
    on_object = masks[0][y.ravel(), x.ravel()]
    moving = start[:, None] + on_object[:, None, None] * np.stack([3.0 * np.arange(6), np.zeros(6)], -1)
    cells = np.floor(moving).astype(int)
    inside = (cells[..., 0] < 64) & (cells[..., 1] < 48)
    occluded = ~on_object[:, None] & masks[np.arange(6), cells[..., 1].clip(0, 47), cells[..., 0].clip(0, 63)] | ~inside
    carried = carry_mask(masks[0], moving, occluded)
    scores = [region_j(masks[t], carried[t]) for t in range(6)]
    assert min(scores) > 0.95 * scores[0] > 70  # the grid itself blurs the first mask as much
    still = carry_mask(masks[0], np.repeat(start[:, None], 6, axis=1), np.zeros((len(start), 6), bool))
    assert region_j(masks[5], still[5]) < 10


def test_the_first_and_the_last_frame_of_masks_are_not_scored():
    """Points at rest carry the first mask, which covers a half and a third of the next two, and none of the last."""
    masks = np.zeros((4, 24, 36), bool)
    masks[0, 4:16, 6:18] = masks[1, 4:16, 6:30] = masks[2, 4:16, :] = True
    queries = query_grid((24, 36), 1)
    tracks = np.repeat(queries[:, None, [2, 1]], 4, axis=1)
    found = mask_metrics(masks, tracks, np.zeros((len(tracks), 4), bool))
    assert found["J"] == pytest.approx(100 * (1 / 2 + 1 / 3) / 2)
    edges = [boundary_f(masks[frame], masks[0]) for frame in (1, 2)]
    assert found["F"] == pytest.approx(np.mean(edges)) and 0 < min(edges) < max(edges) < 100
    assert found["J&F"] == pytest.approx((found["J"] + found["F"]) / 2)
    assert math.isnan(mask_metrics(masks[:2], tracks[:, :2], np.zeros((len(tracks), 2), bool))["J"])
