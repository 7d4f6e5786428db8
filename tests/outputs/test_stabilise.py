"""The camera's motion, and trails without it."""

import numpy as np

from outputs.stabilise import camera_motion, stabilised_history


def test_the_camera_motion_is_the_backgrounds_median():
    random = np.random.default_rng(0)
    path = np.cumsum(random.normal(0, 3, (8, 2)), axis=0)
    path -= path[0]
    background = random.uniform(0, 100, (50, 1, 2)) + path
    background[:20] += np.cumsum(random.uniform(2, 9, (20, 8, 2)), axis=1)  # 40 % of the points move otherwise
    visible = random.random((50, 8)) > 0.2
    single = np.broadcast_to(path, (1, 8, 2))
    assert np.allclose(camera_motion(single, np.ones((1, 8), bool)), path)
    exact = camera_motion(background[20:], visible[20:])
    assert np.allclose(exact, path)
    assert np.abs(camera_motion(background, visible) - path).max() < 12 < np.abs(path).max() * 4
    visible[:, 4] = False
    rest = camera_motion(background, visible)
    assert np.array_equal(rest[3], rest[4]) and np.array_equal(rest[4], rest[5])


def test_a_point_of_the_background_leaves_no_trail():
    path = np.array([[0, 0], [3, 1], [5, -2], [9, 0.5]])
    positions = np.array([[10.0, 20.0], [30.0, 5.0]]) + path[:, None]
    history = stabilised_history(positions, path, -1)
    assert np.allclose(history, positions[-1])
