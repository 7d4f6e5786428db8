"""Simulated trackers and features are as wrong as they are said to be."""

import numpy as np
import pytest

from benchmarks.simulated import AT, PlantedFeatures, simulated_tracks


@pytest.mark.parametrize("outliers, wrong", [(0.0, 0.0), (0.4, 0.15)])
def test_errors_of_simulated_tracks(flow_scene, outliers, wrong):
    positions, visible, queries = simulated_tracks(flow_scene, 400, noise=1.5, outliers=outliers, wrong=wrong)
    truth = flow_scene.ground_truth(400, seed=777)
    error = np.linalg.norm(positions - truth["target_points"], axis=-1)
    rows, frames = np.arange(400), queries[:, 0].astype(int)
    assert np.abs(error[rows, frames]).max() < 1e-3 and visible[rows, frames].all()
    others = np.ones(visible.shape, bool)
    others[rows, frames] = False
    deviation = 1.5 * 64 / AT  # of x and of y: the frame is 64 pixels wide
    gross = (error > 5 * deviation)[others].mean()
    assert abs(np.median(error[others & (error < 5 * deviation)]) - deviation * np.sqrt(2 * np.log(2))) < 0.05
    assert gross < 1e-3 if outliers == 0 else 0.2 < gross < outliers  # some go where they should by chance
    assert (visible == truth["occluded"])[others].mean() == pytest.approx(wrong, abs=0.02)


def test_planted_features_are_of_the_surface_but_for_the_wrong_ones(flow_scene):
    right, wrong = (PlantedFeatures(flow_scene, stride=8, wrong=share) for share in (0.0, 0.3))
    frame = flow_scene.video[0]
    places = [right(i, frame) for i in (0, 6)]
    start = places[0].points
    positions, visible = flow_scene.tracks(0, start)
    nearest = (places[0].features @ places[1].features.T).argmax(1)
    away = np.linalg.norm(places[1].points[nearest] - positions[:, 6], axis=-1)
    assert np.mean(away[visible[:, 6]] < 8) > 0.9 and visible[:, 6].sum() > 20
    changed = [(np.abs(wrong(i, frame).features - right(i, frame).features) > 1e-3).any(1) for i in range(12)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.06)
