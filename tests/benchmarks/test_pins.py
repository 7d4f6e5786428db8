"""What the benchmark of pins asks for."""

import numpy as np
import pytest

from benchmarks import pins
from benchmarks.experiments import named_scene


@pytest.fixture(scope="module")
def scene():
    return named_scene("3d-tumble", 0, 3, 48, 64)


def test_points_around_are_on_the_body_or_off_it_or_far(scene):
    truth = scene.ground_truth(20, seed=1)
    query, body = truth["query_points"][0], truth["object_ids"][0]
    near, other, far = pins.points_around(scene, query, body, np.random.default_rng(0))
    ids = scene.object_ids(int(query[0]))
    for points, on_it in ((near, True), (other, False)):
        assert np.hypot(*(points - query)[:, 1:].T).max(initial=0) <= 64 * 10 / 192
        nearest = ids[points[:, 1].astype(int), points[:, 2].astype(int)] == body
        assert (nearest == on_it).mean() > 0.7  # within a pixel of a rim it may differ
    assert len(near) > 5 and len(far) > 20 and np.hypot(*(far - query)[:, 1:].T).min() > 0.12 * 64
    assert (near[:, 0] == query[0]).all()


def test_pins_are_at_the_truth_where_the_track_is_worst():
    places = np.arange(12.0).reshape(6, 2)
    visible, error = np.array([1, 1, 0, 1, 1, 1], bool), np.array([0, 3, 9, 7, 5, 1])
    query = np.float32([0, 1, 0])
    assert [pin[1:] for pin in pins.pins_at(query, places, visible, error, 1)] == [(0, 0, 1, 1), (3, 6, 7, 1)]
    assert [pin.frame for pin in pins.pins_at(query, places, visible, error, 3)] == [0, 1, 3, 4]
