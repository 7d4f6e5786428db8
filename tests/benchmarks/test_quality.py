"""The benchmarks' own arithmetic: causes of errors, curves, seeds, costs."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import error_maps, experiments, quality
from benchmarks.scenes import make_scene
from evaluation.ground_truth import Truth
from util import UserError


def test_causes_of_errors_by_hand():
    """A point on the object, one on the ground beside it, one far from everything; errors are counted by cause."""
    hidden = np.zeros((2, 4), bool)
    counted, wrong = ~hidden, hidden.copy()
    wrong[0] = True
    causes = {"first track": np.repeat([[True], [False]], 4, 1), "late": np.repeat([[False, False, True, True]], 2, 0)}
    rows = {row[0]: row[1:] for row in error_maps.cause_rows([(counted, wrong, causes)])}
    assert rows["first track"] == (50, 100, 0, 100)
    assert rows["late"] == (50, 50, 50, 50)


def test_causes_know_the_scene():
    scene = make_scene("occlusion", 0, 9, 60, 80)
    truth = Truth("occlusion-0", **{k: v for k, v in scene.ground_truth(60).items() if k != "video_size"},
                  num_frames=9, video_size=(60, 80))
    causes = error_maps.causes_of(scene, truth)
    frames = truth.query_points[:, 0].astype(int)
    at_query = np.arange(60), frames
    assert not causes["hidden in between"][at_query].any() and causes["hidden in between"].any()
    assert 0.2 < causes["at a motion boundary"].mean() < 0.9
    on_object = causes["on a moving object"][:, 0]
    assert 0.3 < on_object.mean() < 0.8
    moved = np.linalg.norm(truth.target_points[:, -1] - truth.target_points[:, 0], axis=-1)
    assert np.median(moved[on_object]) > 2 * np.median(moved[~on_object])


def test_mean_learning_curve():
    minutes, values = quality.mean_curve([[[0, 0], [2, 20]], [[1, 30], [3, 50]]], points=2)
    np.testing.assert_allclose(minutes, [1, 2])
    np.testing.assert_allclose(values, [(10 + 30) / 2, (20 + 40) / 2])


def test_seeds_of_training_are_rows_of_their_own_and_their_deviation_is_a_samples():
    options = quality.parse_arguments(["--train_seeds", "0", "4"])
    assert [(method.name, method.seed) for method in quality.make_methods(options)] == [
        ("default 5 min", 0), ("default 5 min seed 4", 4)]
    rows = [("fast-0", "dis", "both default 5 min", {"AJ": 60.0}),
            ("fast-0", "dis", "both default 5 min seed 4", {"AJ": 62.0}),
            ("fast-0", "dis", "direct", {"AJ": 50.0})]
    *_, row = quality.deviation_table(rows).splitlines()
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "fast-0", "dis", "both default 5 min", "2", "61.00 ± 1.41"]


def test_benchmark_scores_flow_and_keeps_its_cost_and_tracks(tmp_path, monkeypatch):
    video = experiments.scene_video(tmp_path, "occlusion", 0, 5, 32, 40, num_points=20)
    data = experiments.prepare(tmp_path, video, "gt")
    cost = experiments.preprocessing_cost(data)
    assert cost["minutes"] > 0 and cost["threads"] == torch.get_num_threads()
    experiments.prepare(tmp_path, video, "gt")
    assert experiments.preprocessing_cost(data) == cost  # it was there already
    options = quality.parse_arguments(["--work", str(tmp_path), "--no_real"])
    rows = dict(quality.baseline_rows(options, video, "gt", data))
    assert list(rows) == ["flow", "direct", "chained", "mft", "static"]
    assert rows["flow"]["AJ"] > rows["static"]["AJ"] and rows["flow"]["minutes"] == cost["minutes"]
    assert "minutes" not in rows["static"] and "J" in rows["flow"]
    error_maps.main(["--work", str(tmp_path), "--method", "flow"])

    monkeypatch.setattr(experiments, "train", lambda *args, **kwargs: {"minutes": 2.0, "memory": 100.0})
    monkeypatch.setattr(experiments, "score_run", lambda *args, refine: {"AJ": {"on": 70.0, "off": 60.0}[refine]})
    found = experiments.fit(tmp_path, video, "gt", data, experiments.Method("cpu 2 min", "configs/default.txt", 2))
    assert (found["both"]["AJ"], found["model"]["AJ"]) == (70, 60)
    assert found["both"]["minutes"] == pytest.approx(2 + cost["minutes"])


def test_kinds_in_space_come_from_their_own_module(tmp_path, monkeypatch):
    calls = []
    module = SimpleNamespace(make_scene3d=lambda *args: calls.append(args) or make_scene("slow", 0, *args[2:]))
    monkeypatch.setitem(sys.modules, "benchmarks.scenes3d", module)
    experiments.scene_video(tmp_path, "3d-room", 2, 3, 24, 32, num_points=5)
    assert calls == [("3d-room", 2, 3, 24, 32)]
    with pytest.raises(SystemExit):
        quality.main(["--scenes", "space"])
    assert quality.parse_arguments(["--scenes", "fast", "3d-room"]).scenes == ["fast", "3d-room"]
    assert error_maps.run_name("both cpu 4 min") == "cpu 4 min"
    with pytest.raises(UserError, match="draws a model's"):
        error_maps.run_name("flow")


def test_curves_begin_where_flow_alone_has_its_tracks():
    of_flow = [{"AJ": 50.0, "minutes": 2.0}, {"AJ": 60.0, "minutes": 4.0}]
    minutes, values = quality.after_flow(np.array([1.0, 5.0]), np.array([40.0, 70.0]), of_flow)
    assert minutes.tolist() == [3, 4, 8] and values.tolist() == [55, 40, 70]
    assert [v.tolist() for v in quality.after_flow(np.ones(1), np.ones(1), [])] == [[1], [1]]
