"""evaluate.py: its tables, the whole benchmark, and one clear line for every wrong input."""

import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.scenes import SceneFlow
from evaluation.predictions import RunTracks
from loaders.data_dir import DataDir, write_image
from preprocess import build
from tests.helpers.evaluation import as_tracks, dump, fails, run_command, tapvid_example, write_npz


def test_true_tracks_score_full_marks_and_shifted_ones_as_they_should(truth_file, tmp_path, capsys):
    shuffled = np.random.default_rng(0).permutation(40)
    perfect = as_tracks(truth_file, tmp_path / "perfect.npz", order=shuffled)
    # 1.4 px to the right in a video of 56 pixels' width is 6.4 px of 256.
    shifted = as_tracks(truth_file, tmp_path / "shifted.npz", shift=np.array([1.4, 0]))
    out = tmp_path / "out.json"
    run_command("--ground_truth", truth_file, "--tracks", perfect, shifted, "--out", out, "--per_track",
                "--plot", tmp_path / "plots")
    assert "| perfect | 100.0" in capsys.readouterr().out
    content = json.loads(out.read_text())
    assert content["thresholds"] == [1, 2, 4, 8, 16]
    figures = next(iter(content["videos"].values()))
    assert [figures["perfect"][name] for name in ("AJ", "delta_avg", "OA", "TC")] == pytest.approx([100, 100, 100, 0])
    assert [figures["shifted"][f"delta_{t}"] for t in (1, 2, 4, 8, 16)] == [0, 0, 0, 100, 100]
    assert figures["shifted"]["delta_avg"] == 40 and figures["shifted"]["OA"] == 100
    assert len(figures["shifted"]["tracks"]["AJ"]) == 40
    assert content["mean"]["perfect"]["AJ"] == 100 and "tracks" not in content["mean"]["perfect"]
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"thresholds.png", "error_over_time.png"}


def test_figures_of_hidden_points_and_of_objects(truth_file, tmp_path, capsys):
    arrays = dict(np.load(truth_file))
    assert arrays.pop("hidden_positions_known")
    objects = np.arange(40) % 2
    shift = np.where(objects == 1, 1.4, 0)[:, None, None] * np.array([1, 0])  # 6.4 px of 256
    tracks = as_tracks(truth_file, tmp_path / "t.npz", shift=shift)
    names = {"object_ids": objects, "object_names": np.array(["right", "off"])}
    truth = write_npz(tmp_path / "truth.npz", **arrays, **names, hidden_positions_known=True)
    out = tmp_path / "o.json"
    run_command("--ground_truth", truth, "--tracks", tracks, "--by", "object", "--out", out)
    printed = capsys.readouterr().out
    assert "AJ_RD" in printed and "hidden >4 px" in printed and "| right " in printed
    figures = json.loads(out.read_text())["videos"]["truth"]["t"]
    assert 0 < figures["hidden_over_4"] < 100
    parts = figures["by"]["object"]
    assert (parts["right"]["delta_avg"], parts["off"]["delta_avg"]) == (100, 40)
    assert parts["right"]["hidden_median"] == pytest.approx(0, abs=1e-4)
    assert parts["off"]["hidden_median"] == pytest.approx(6.4, abs=1e-3) and parts["off"]["hidden_over_4"] == 100
    assert list(figures["by"]["time"]) == ["1-3", "4-7"]  # of 7 frames
    assert sum(part["points"] for part in figures["by"]["time"].values()) == 40 * 6

    plain = write_npz(tmp_path / "plain.npz", **arrays)  # hidden positions may be wrong, objects are not known
    run_command("--ground_truth", plain, "--tracks", tracks, "--by", "time")
    printed = capsys.readouterr().out
    assert "hidden" not in printed and "| 4-7 " in printed
    wrong = write_npz(tmp_path / "wrong.npz", **arrays, **names | {"object_ids": objects + 1})
    assert "expected object_ids (40,) from 0 to 1" in fails(capsys, "--ground_truth", wrong, "--tracks", tracks)
    with pytest.raises(SystemExit):
        run_command("--ground_truth", plain, "--tracks", tracks, "--by", "object")
    assert "has no object_ids" in capsys.readouterr().err


def test_size_of_a_truth_that_does_not_say(truth_file, truth_data, tmp_path, capsys):
    """It is that of the tracks, or of the data directory; with neither there is no scale to measure errors on."""
    arrays = dict(np.load(truth_file))
    del arrays["video_size"]
    bare = write_npz(tmp_path / "bare.npz", **arrays)
    tracks = as_tracks(truth_file, tmp_path / "shifted.npz", shift=np.array([1.4, 0]))
    run_command("--ground_truth", bare, "--tracks", tracks, "--out", tmp_path / "o.json")
    assert json.loads((tmp_path / "o.json").read_text())["videos"]["bare"]["shifted"]["delta_avg"] == 40
    means = []
    for truth in (bare, truth_file):
        run_command("--ground_truth", truth, "--baselines", "static", "--data_dir", truth_data,
                    "--out", tmp_path / "o.json")
        means.append(json.loads((tmp_path / "o.json").read_text())["mean"])
    assert means[0] == means[1]
    assert "has no video_size" in fails(capsys, "--ground_truth", bare, "--baselines", "static")


def test_csv_and_markdown_and_means(truth_file, tmp_path, capsys):
    folder = tmp_path / "prepared"
    for name in ("first video", "zweites ü"):
        (folder / name).mkdir(parents=True)
        (folder / name / "ground_truth.npz").write_bytes(truth_file.read_bytes())
    tracks = tmp_path / "tracker"
    tracks.mkdir()
    as_tracks(truth_file, tracks / "first video.npz")
    as_tracks(truth_file, tracks / "zweites ü.npz", shift=1000.0)
    run_command("--ground_truth", folder, "--tracks", tracks, "--baselines", "static", "--out", tmp_path / "a.csv")
    run_command("--ground_truth", folder, "--tracks", tracks, "--out", tmp_path / "a.md")
    rows = [line.split(",") for line in (tmp_path / "a.csv").read_text().splitlines()]
    table = {(row[0], row[1]): dict(zip(rows[0], row)) for row in rows[1:]}
    assert float(table["first video", "tracker"]["AJ"]) == 100 and float(table["zweites ü", "tracker"]["AJ"]) == 0
    assert float(table["mean", "tracker"]["AJ"]) == 50
    assert 0 < float(table["mean", "static"]["OA"]) < 100
    assert "| mean " in (tmp_path / "a.md").read_text()


def test_occlusion_curve(truth_file, tmp_path, capsys):
    hidden = np.load(truth_file)["occluded"]
    score_above = np.where(hidden, 0.7, 0.2).astype(np.float32)
    file = as_tracks(truth_file, tmp_path / "a.npz", occlusion_score=score_above)
    run_command("--ground_truth", truth_file, "--tracks", file, "--occlusion_curve", "--plot", tmp_path / "p")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| 0.5 ", "| 0.98 "))]
    assert [cell.strip() for cell in lines[0].split("|")[2:5]] == ["100.0", "100.0", "100.0"]
    assert (tmp_path / "p" / "occlusion.png").exists()


def test_rows_of_a_run(truth_file, truth_data, tmp_path, monkeypatch):
    """A run whose model takes everything to be at rest: alone, refined by true flow, and that flow alone."""
    video = {"fingerprint": DataDir.open(truth_data).fingerprint, "original_height": 40, "original_width": 56, "fps": 1}
    model = SimpleNamespace(num_frames=7, height=40, width=56, refined_by_flow=False)
    run = SimpleNamespace(model=model, video=video, data_dir=str(truth_data), flow_dir=str(truth_data), pins=(),
                          layer=-1)

    def at_rest(model, frames, pixels, method, progress, chunk=None):
        scores = torch.full((len(frames), 7), 0.45)
        return {"pixels": pixels[:, None].repeat(1, 7, 1), "occlusion_score": scores, "depth": scores}

    monkeypatch.setattr("checkpoints.load_run", lambda *args, **kwargs: run)
    monkeypatch.setattr("networks.query.track_points", at_rest)
    assert RunTracks("still").video_size == (40, 56)
    out = tmp_path / "o.json"
    run_command("--ground_truth", truth_file, "--run", tmp_path / "still", "--rows", "model,both,flow", "--baselines",
                "flow,static", "--out", out)
    figures = next(iter(json.loads(out.read_text())["videos"].values()))
    assert list(figures) == ["still model", "still both", "still flow", "flow", "static"]
    assert figures["still model"]["delta_avg"] == pytest.approx(figures["static"]["delta_avg"], abs=0.5)
    assert figures["still flow"] == figures["flow"]
    assert figures["still both"]["AJ"] > figures["still model"]["AJ"] + 20
    run_command("--ground_truth", truth_file, "--run", tmp_path / "still", "--out", out)
    assert next(iter(json.loads(out.read_text())["videos"].values())) == {"still": figures["still model"]}
    run_command("--ground_truth", truth_file, "--run", tmp_path / "still", "--occlusion_th", "0.4", "--out", out)
    hidden = next(iter(json.loads(out.read_text())["videos"].values()))["still"]  # its scores are 0.45
    assert hidden["AJ"] == 0 and figures["still model"]["AJ"] > 0


def test_a_data_directory_alone_scores_its_flow(truth_file, truth_data, tmp_path):
    run_command("--ground_truth", truth_file, "--data_dir", truth_data, "--out", tmp_path / "o.json")
    assert list(next(iter(json.loads((tmp_path / "o.json").read_text())["videos"].values()))) == ["flow"]


def test_without_direct_flow_the_stored_one_is_taken(truth_scene, truth_file, tmp_path):
    build(truth_scene.video, tmp_path / "d", flow=SceneFlow(truth_scene), quiet=True)
    out = tmp_path / "o.json"
    run_command("--ground_truth", truth_file, "--baselines", "direct,chained,mft", "--data_dir", tmp_path / "d",
                "--out", out)
    figures = next(iter(json.loads(out.read_text())["videos"].values()))
    assert list(figures) == ["direct", "chained", "mft"] and figures["direct"]["delta_16"] > 80


def test_a_baseline_that_cannot_be_had_loses_no_other(truth_scene, truth_file, tmp_path, capsys):
    build(truth_scene.video, tmp_path / "d", flow=SceneFlow(truth_scene), max_interval=2, chain=False, quiet=True)
    arguments = "--ground_truth", truth_file, "--data_dir", tmp_path / "d"
    run_command(*arguments, "--baselines", "direct,mft,chained", "--out", tmp_path / "o.json")
    assert list(next(iter(json.loads((tmp_path / "o.json").read_text())["videos"].values()))) == ["mft", "chained"]
    lines = [line for line in capsys.readouterr().err.splitlines() if "no row" in line]
    assert len(lines) == 1 and "no row direct" in lines[0] and "--max_interval" in lines[0]
    assert "no flow from frame" in fails(capsys, *arguments, "--baselines", "direct")


def test_masks_as_ground_truth(truth_scene, truth_data, truth_file, tmp_path, capsys):
    out = tmp_path / "o.json"
    run_command("--ground_truth", truth_file.parent / "masks", "--baselines", "direct,static", "--data_dir", truth_data,
                "--mask_stride", 2, "--out", out)
    figures = next(iter(json.loads(out.read_text())["videos"].values()))
    assert figures["direct"]["J"] > figures["static"]["J"] + 5
    assert 50 < figures["direct"]["J&F"] <= 100


def test_wrong_options(truth_file, tmp_path, capsys):
    truth = ("--ground_truth", truth_file)
    assert "nothing to score" in fails(capsys, *truth)
    line = fails(capsys, *truth, "--baselines", "raft-d")
    assert "raft-d: expected any of flow, direct, chained, mft, static" in line
    assert "give --run OUT too" in fails(capsys, *truth, "--baselines", "static", "--rows", "both")
    assert "--rows all: expected any of model, both, flow" in fails(capsys, *truth, "--run", "x", "--rows", "all")
    line = fails(capsys, *truth, "--run", "x", "--rows", "both", "--refine", "on")
    assert "give one of them" in line
    for threshold in ("-0.1", "1.5", "nan"):
        line = fails(capsys, *truth, "--baselines", "static", "--occlusion_th", threshold)
        assert f"--occlusion_th {threshold}: expected a number from 0 to 1" in line
    assert "ending in .md, .csv, .json" in fails(capsys, *truth, "--baselines", "static", "--out", "a.txt")
    assert "--per_track" in fails(capsys, *truth, "--baselines", "static", "--per_track")
    assert "--data_dir" in fails(capsys, *truth, "--baselines", "direct")
    assert "no such ground truth" in fails(capsys, "--ground_truth", tmp_path / "no", "--baselines", "static")
    assert "not a ground truth" in fails(capsys, "--ground_truth", tmp_path, "--baselines", "static")
    assert "no scored tracks" in fails(capsys, *truth, "--baselines", "static", "--occlusion_curve")
    assert "no checkpoint" in fails(capsys, *truth, "--run", tmp_path)


def test_wrong_files(truth_file, tmp_path, capsys):
    truth, static = ("--ground_truth", truth_file), ("--baselines", "static")
    (tmp_path / "bad.npz").write_bytes(b"nonsense")
    assert "not a readable .npz" in fails(capsys, *truth, "--tracks", tmp_path / "bad.npz")
    assert "no such file" in fails(capsys, *truth, "--tracks", tmp_path / "none.npz")
    assert "no array `tracks`" in fails(capsys, *truth, "--tracks", write_npz(tmp_path / "a.npz", x=np.zeros(2)))
    other = as_tracks(truth_file, tmp_path / "b.npz", order=np.arange(39))
    assert "no track for the ground truth's query" in fails(capsys, *truth, "--tracks", other)
    short = dict(np.load(as_tracks(truth_file, tmp_path / "c.npz")))
    short["tracks"], short["occluded"] = short["tracks"][:, :5], short["occluded"][:, :5]
    assert "5 frames, but the ground truth" in fails(
        capsys, *truth, "--tracks", write_npz(tmp_path / "d.npz", **short)
    )
    no_truth = write_npz(tmp_path / "e.npz", target_points=np.zeros((2, 3, 2)))
    assert "has no occluded" in fails(capsys, "--ground_truth", no_truth, *static)
    late = write_npz(tmp_path / "f.npz", target_points=np.zeros((1, 3, 2)), occluded=np.zeros((1, 3), bool),
                     query_points=np.array([[3.0, 0, 0]]))
    assert "query frame 3 is not in the video (0 to 2)" in fails(capsys, "--ground_truth", late, *static)
    (tmp_path / "cut.pkl").write_bytes(pickle.dumps({"a": tapvid_example(0)})[:500])
    assert "not a readable pickle" in fails(capsys, "--ground_truth", tmp_path / "cut.pkl", *static)
    odd = dump(tmp_path / "odd.pkl", {"a": {"video": np.zeros((3, 4, 4, 3)), "points": np.zeros((2, 5, 2)),
                                            "occluded": np.zeros((2, 5), bool)}})
    assert "got (2, 5, 2), (2, 5) and 3 frames" in fails(capsys, "--ground_truth", odd, *static)
    (tmp_path / "dog.json").write_text("[{}]")
    write_image(tmp_path / "m" / "0.png", np.zeros((4, 4), np.uint8))
    badja = ("--ground_truth", tmp_path / "dog.json", *static)
    assert "--masks" in fails(capsys, *badja)
    assert "not a BADJA annotation" in fails(capsys, *badja, "--masks", tmp_path / "m")


def test_a_tracker_of_another_size_stands_beside_the_published_figures(truth_file, tmp_path, capsys):
    """TAPIR's layout at 256 x 256 pixels, which its file does not say: full marks where the command does."""
    truth = dict(np.load(truth_file))
    scale = 256 / truth["video_size"][::-1]
    queries = truth["query_points"] * [1, *scale[::-1]]
    tapir = write_npz(tmp_path / "tapir.npz", tracks=truth["target_points"] * scale, visibles=~truth["occluded"],
                      query_points=queries)
    own = as_tracks(truth_file, tmp_path / "ours.npz")
    run_command("--ground_truth", truth_file, "--tracks", tapir, "--tracks_size", "256x256", "--published", "davis")
    ours, _, published = capsys.readouterr().out.partition("published, not measured here")
    assert "tapir" in ours and ours.count("100.0") >= 3
    assert "| OmniMotion" in published and "51.7" in published and "| 768 x 1024 | its paper" in published
    line = fails(capsys, "--ground_truth", truth_file, "--baselines", "static", "--tracks_size", "256x256")
    assert "--tracks_size: acts on --tracks only" in line
    assert "expected WIDTHxHEIGHT" in fails(
        capsys, "--ground_truth", truth_file, "--tracks", own, "--tracks_size", "256")
