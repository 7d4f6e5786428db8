"""Labels carried by the true flow of a scene, and the votes by hand."""

import numpy as np
import pytest

from benchmarks.scenes import make_scene
from edits.mask import carry_labels, tinted
from evaluation.masks import region_j


@pytest.fixture(scope="module")
def scene():
    return make_scene("demo", 0, 6, 72, 96)


def test_labels_follow_each_object_through_occlusion(scene):
    truth = np.stack([scene.layer_map(k) for k in range(6)]).astype(np.uint8)  # 0 the ground, then objects, the pole
    found = carry_labels(scene.video, scene.flow, truth[2], 2)
    assert (found[2] == truth[2]).all()
    for k in (0, 1, 3, 4, 5):
        seen = scene.flow(k, 2)[1]  # what the labelled frame shows, too
        for label in range(truth.max() + 1):
            score = region_j((truth[k] == label) & seen, (found[k] == label) & seen)
            assert score > 95 and score > region_j((truth[k] == label) & seen, (truth[2] == label) & seen), (k, label)


def test_labels_of_what_is_seen_for_the_first_time_go_by_colour_and_hidden_flow_hardly_counts():
    first, second = (np.full((30, 40, 3), 40, np.uint8) for _ in range(2))
    first[:, 20:], second[:, 18:] = 220, 220  # the right side grows over the left
    right = (np.arange(40) >= 20)[None].repeat(30, 0)

    def flow(i, j):  # still; frame 1 sees what frame 0 does but for the strip that has changed
        return np.zeros((30, 40, 2), np.float32), (np.arange(40) < 18)[None].repeat(30, 0) | right

    labels = carry_labels([first, second], flow, 7 * right.astype(np.uint8), 0)
    assert (labels[1] == 7 * (np.arange(40) >= 18)).all() and (labels[0] == 7 * right).all()


def test_each_label_has_a_colour_and_the_background_none():
    labels = np.array([[0, 1, 2, 3]], np.uint8)
    image = tinted(np.full((1, 4, 3), 100, np.uint8), labels)[0].tolist()
    assert image[0] == [100] * 3 and len({tuple(colour) for colour in image}) == 4
