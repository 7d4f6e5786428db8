"""Labels carried by the true flow of a scene, and the votes by hand."""

import numpy as np
import pytest

from benchmarks.scenes import make_scene
from edits.mask import NEIGHBOUR, UNSEEN, carry_labels, decide, seen_shares, shares_of, tinted
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


def test_votes():
    shares = shares_of(np.array([[0, 1, 1]], np.uint8), 2)
    flow = np.float32([[[1, 0], [0.5, 0], [5, 0]]])
    votes = seen_shares(shares, flow, np.array([[True, False, True]]))
    assert votes[0, 0].tolist() == [0, 1]  # looks one to the right
    assert votes[0, 1].tolist() == pytest.approx([0, UNSEEN])  # hidden there
    assert votes[0, 2].tolist() == [0, 0]  # outside
    assert UNSEEN < NEIGHBOUR < 1


def test_what_no_frame_has_seen_goes_with_what_looks_alike():
    frame = np.full((30, 30, 3), 40, np.uint8)
    frame[:, 15:] = 220
    votes = shares_of((np.arange(30) >= 15)[None].repeat(30, 0).astype(np.uint8), 2)
    votes[:, 14:16] = 0  # a gap on both sides of the edge
    assert (decide(votes, frame) == (np.arange(30) >= 15)).all()


def test_each_label_has_a_colour_and_the_background_none():
    labels = np.array([[0, 1, 2, 3]], np.uint8)
    image = tinted(np.full((1, 4, 3), 100, np.uint8), labels)[0].tolist()
    assert image[0] == [100] * 3 and len({tuple(colour) for colour in image}) == 4
