"""Simulated trackers are as wrong as they are said to be."""

import numpy as np
import pytest

from benchmarks.evidence import AT, simulated_tracks


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
