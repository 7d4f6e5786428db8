"""BADJA's annotations and its score, by hand and against figures published beside the data."""

import json

import numpy as np
import pytest

from evaluation.badja import read_badja
from evaluation.ground_truth import read_masks, read_truths
from evaluation.metrics import keypoint_metrics, keypoint_share
from loaders.data_dir import write_image
from tests.helpers.paths import SHARED

DATA = SHARED / "data"


def badja_entry(frame, joints, visible):
    positions, seen = [[0, 0]] * 37, [False] * 37
    for k, (xy, v) in enumerate(zip(joints, visible)):
        positions[8 + k], seen[8 + k] = [xy[1], xy[0]], v
    return {"image_path": f"DAVIS/dog/{frame:05d}.jpg", "joints": positions, "visibility": seen}


def test_badja_by_hand(tmp_path):
    """Two joints tracked from frame 1, at a fifth of the annotated size; the object covers 10 x 10 pixels: radius 2."""
    entries = [
        badja_entry(4, [(100, 50), (600, 50)], [True, True]),
        badja_entry(1, [(100, 50), (500, 50), (9, 9)], [True, True, False]),
        badja_entry(3, [(105, 50), (0, 0), (9, 9)], [True, False, True]),
    ]
    (tmp_path / "dog.json").write_text(json.dumps(entries))
    for t in range(6):
        mask = np.zeros((216, 384), np.uint8)
        mask[5:15, 5:15] = 255
        write_image(tmp_path / "masks" / f"{t:05d}.png", mask)
    truth = next(read_truths(tmp_path / "dog.json", mask_folder=tmp_path / "masks"))
    np.testing.assert_allclose(truth.query_points, [[1, 10, 20], [1, 10, 100]])
    assert truth.radius.tolist() == [2] * 6 and truth.num_frames == 6
    assert (~truth.occluded).sum() == 3  # joint 0 in frames 3 and 4, joint 1 in frame 4
    still = np.repeat(truth.query_points[:, None, [2, 1]], 6, axis=1)
    assert keypoint_share(truth.target_points, ~truth.occluded, still, truth.radius) == pytest.approx(200 / 3)


def test_the_three_figures_by_hand():
    """Errors of 0, 3, 8 and 30 px in a video of 512 x 512: 0, 1.5, 4 and 15 px at 256 x 256; the last is hidden."""
    truth = np.full((1, 4, 2), 100.0)
    tracks = truth + [[0, 0], [3, 0], [0, 8], [30, 0]]
    visible = np.array([[True, True, True, False]])
    found = keypoint_metrics(truth, visible, tracks, np.array([2, 2, 9, 99]), (512, 512))
    assert found["PCK"] == pytest.approx(200 / 3) and found["delta_3px"] == pytest.approx(200 / 3)
    assert found["delta_avg"] == pytest.approx(np.mean([1, 2, 2, 3, 3]) * 100 / 3)


@pytest.mark.skipif(not (DATA / "badja").is_dir(), reason=f"no real data in {DATA}")
@pytest.mark.parametrize("name, expected", [("horsejump-high", 7.9), ("dog", 5.6)])
def test_static_points_on_badja(name, expected):
    """Published beside the data: PCK of points that never move."""
    images = read_masks(DATA / "davis" / name / "masks")
    queries, points, occluded, radius = read_badja(DATA / "badja" / f"{name}.json", images)
    still = np.repeat(queries[:, None, [2, 1]], len(images), axis=1)
    assert keypoint_share(points, ~occluded, still, radius) == pytest.approx(expected, abs=0.06)
