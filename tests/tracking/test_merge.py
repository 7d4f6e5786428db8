"""A model's tracks and flow's averaged, by hand."""

import numpy as np
import pytest

from tests.helpers.walks import one_walk
from tracking import refinement


def test_model_and_flow_are_averaged_by_their_errors():
    """At the query, with flow of small and of large errors, that is far from the model, and with none."""
    walk = one_walk([[1, 0], [1, 0], [1, 0], [40, 0], [7, 7]], [0, 0.5, 3, 0.9, np.inf], [1, 1, 1, 1, 0])
    merged, away = refinement.merge(walk, np.zeros((1, 5, 2), np.float32))
    usual = np.median([1, 1, 40]) ** 2
    assert away[0].tolist() == [1, 1, 1, 40, 0]
    assert merged[0, 0, 0] == 1
    np.testing.assert_allclose(merged[0, 1:3, 0], [1 - v / (v + usual + 1) for v in (0.25, 9)], rtol=1e-5)
    assert merged[0, 3, 0] > 39.9 and (merged[0, 4] == 0).all()


def test_each_model_track_has_its_own_error():
    """One track is 2 px off flow, the other 3."""
    walk = refinement.Walk(np.float32([[[5, 5], [7, 5]], [[5, 5], [5, 9]]]), np.float32([[0, 1.5], [0, 4]]),
                           np.ones((2, 2), np.float32))
    merged, away = refinement.merge(walk, np.float32([[[5, 5], [5, 5]], [[5, 5], [5, 6]]]))
    assert away.tolist() == [[0, 2], [0, 3]] and merged.dtype == np.float32
    # squared errors: of flow 2.25, of the model 2^2, and its distance 2^2; then 16, 3^2, 3^2
    assert merged[0, 1].tolist() == pytest.approx([7 - 2 * 2.25 / (2.25 + 4 + 4), 5])
    assert merged[1, 1].tolist() == pytest.approx([5, 9 - 3 * 16 / (16 + 9 + 9)])


def test_a_model_stands_alone_where_flow_arrives_nowhere():
    walk = one_walk([[0, 0], [2, 0]], [0, np.inf], [1, 0])
    merged, away = refinement.merge(walk, np.float32([[[0, 0], [5, 1]]]))
    assert merged[0, 1].tolist() == [5, 1] and away[0, 1] == 0


def test_a_model_that_is_never_off_stands_with_flow():
    walk = one_walk([[3, 1], [4, 1]], [0, 0.5], [1, 1])
    merged, away = refinement.merge(walk, walk.places.copy())
    assert np.array_equal(merged, walk.places) and (away == 0).all()


def test_where_evidence_says_who_is_right_its_distances_count():
    """Flow at 7, the model at 5, of squared errors 2.25 and 2^2; evidence is at the flow, the model, neither."""
    walk = one_walk([[5, 5], *[[7, 5]] * 4], [0, 0.9, 1.5, 1.5, 1.5], [1] * 5)
    model = np.full((1, 5, 2), 5, np.float32)
    witnessed = np.float32([[[np.nan, np.nan, 0, 2, 3]], [[np.nan, np.nan, 2, 0, 1]]])
    merged, away = refinement.merge(walk, model, list(witnessed))
    unknown = 7 - 2 * 0.81 / (0.81 + 4 + 4)
    known = [7 - 2 * flow / (flow + own) for flow, own in ((2.25, 4 + 4), (2.25 + 4, 4), (2.25 + 9, 4 + 1))]
    assert merged[0, :, 0].tolist() == pytest.approx([5, unknown, *known]) and away[0].tolist() == [0, 2, 2, 2, 2]
