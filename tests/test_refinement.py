"""Tracks sharpened by flow: a scene of known truth, its exact flow, and a model that is a few pixels off."""

from types import SimpleNamespace

import numpy as np
import pytest

import refinement
from benchmarks.scenes import SceneFlow, make_scene
from preprocess import build
from util import UserError

FRAMES, HEIGHT, WIDTH, START = 8, 48, 64, 3


@pytest.fixture(scope="module")
def scene():
    return make_scene("occlusion", 1, FRAMES, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def data(scene, tmp_path_factory):
    return build(scene.video, tmp_path_factory.mktemp("refinement") / "data", flow=SceneFlow(scene), quiet=True)


def truth(scene, pixels):
    """True tracks (n, N, 2) and visibility (n, N) of whole pixels (n, 2) of frame START."""
    x, y = pixels.T
    flows = [scene.flow(START, j) if j != START else (np.zeros((HEIGHT, WIDTH, 2)), np.ones((HEIGHT, WIDTH), bool))
             for j in range(FRAMES)]
    tracks = np.stack([pixels + flow[y, x] for flow, _ in flows], axis=1)
    return tracks.astype(np.float32), np.stack([visible[y, x] for _, visible in flows], axis=1)


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


def test_where_no_flow_arrives_the_model_stands_and_nothing_jumps():
    tracks = np.zeros((1, 5, 2), np.float32)
    tracks[0, :, 0] = [0, 1, 2, 3, 4]
    refined = tracks.copy()
    refined[0, 0] += [2, 0]
    refined[0, 3] += [5, 3]
    seen = np.array([[True, False, False, True, False]])
    filled = refinement.fill_hidden(tracks, refined, seen)
    np.testing.assert_allclose(filled[0, :, 0] - tracks[0, :, 0], [2, 3, 4, 5, 5])
    np.testing.assert_allclose(filled[0, :, 1], [0, 1, 2, 3, 3])


def test_which_runs_are_refined(data, tmp_path, capsys):
    def run(rendering="surface", path=data.path, fingerprint=data.fingerprint):
        return SimpleNamespace(config={"rendering": rendering}, flow_dir=str(path), video={"fingerprint": fingerprint})

    assert refinement.flow_at_hand(run(), "auto").path == data.path
    assert refinement.flow_at_hand(run(), "off") is None
    assert refinement.flow_at_hand(run("volume"), "auto") is None
    assert refinement.flow_at_hand(run("volume"), "on").path == data.path
    assert capsys.readouterr().out == ""
    for missing in (run(path=tmp_path / "gone"), run(fingerprint="other")):
        assert refinement.flow_at_hand(missing, "auto") is None
        assert "model alone" in capsys.readouterr().out
        with pytest.raises(UserError):
            refinement.flow_at_hand(missing, "on")
