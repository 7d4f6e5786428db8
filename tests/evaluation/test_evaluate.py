"""evaluate.py and what is behind it: readers, baselines, tables, and one clear line for every wrong input."""

import io
import json
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

import evaluate
from benchmarks import error_maps, experiments, quality
from benchmarks.scenes import SceneFlow, make_scene, write_mp4
from evaluation import pipeline, tapvid
from evaluation.badja import read_badja
from evaluation.baselines import baseline_tracks
from evaluation.ground_truth import Truth, read_masks, read_truths
from evaluation.metrics import keypoint_share
from evaluation.predictions import (
    RunTracks,
    TracksFile,
    from_cotracker_queries,
    mark_outside,
    rescale,
    rescale_queries,
    track_truth,
)
from evaluation.scoring import score
from loaders.data_dir import DataDir, write_image
from preprocess import build
from tests.helpers.paths import SHARED
from util import UserError

DATA = SHARED / "data"


@pytest.fixture(scope="module")
def scene():
    return make_scene("occlusion", 1, 7, 40, 56)


@pytest.fixture(scope="module")
def truth_file(scene, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    scene.save(folder, num_points=40)
    return folder / "ground_truth.npz"


@pytest.fixture(scope="module")
def data_dir(scene, tmp_path_factory):
    """A data directory of the scene's true flow, direct and chained."""
    folder = tmp_path_factory.mktemp("data") / "d"
    build(scene.video, folder, flow=SceneFlow(scene), keep_direct=True, quiet=True)
    return folder


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def as_tracks(truth_file, path, shift=0.0, order=None, **replaced):
    """A tracks file with the truth itself, moved by `shift` pixels."""
    truth = dict(np.load(truth_file))
    order = np.arange(len(truth["occluded"])) if order is None else order
    arrays = {
        "query_points": truth["query_points"][order],
        "tracks": truth["target_points"][order] + shift,
        "occluded": truth["occluded"][order],
        "video_size": truth["video_size"],
    }
    return write_npz(path, **(arrays | replaced))


def run_command(*arguments):
    evaluate.main([str(argument) for argument in arguments])


def fails(capsys, *arguments):
    """The one line that a wrong command prints."""
    with pytest.raises(SystemExit) as stopped:
        run_command(*arguments)
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


# ---------------------------------------------------------------- our own files


def test_true_tracks_score_full_marks_and_shifted_ones_as_they_should(truth_file, tmp_path, capsys):
    shuffled = np.random.default_rng(0).permutation(40)
    perfect = as_tracks(truth_file, tmp_path / "perfect.npz", order=shuffled)
    # 1.4 px to the right in a video of 56 pixels' width is 6.4 px of 256.
    shifted = as_tracks(truth_file, tmp_path / "shifted.npz", shift=np.array([1.4, 0]))
    out = tmp_path / "out.json"
    run_command("--ground_truth", truth_file, "--tracks", perfect, shifted, "--out", out, "--per_track",
                "--plot", tmp_path / "plots")  # fmt: skip
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


def test_query_modes_count_different_frames(truth_file):
    frames = np.load(truth_file)["query_points"][:, 0]
    wrong_before = np.load(truth_file)["target_points"].copy()
    wrong_before[np.arange(7)[None] < frames[:, None]] += 100
    for mode, expected in (("first", 100), ("strided", 0)):
        truth = next(read_truths(truth_file, mode))
        prediction = TracksFile.__new__(TracksFile)
        prediction.tracks, prediction.occluded, prediction.video_size = wrong_before, truth.occluded, (40, 56)
        found = score(truth, prediction, mode)["delta_avg"]
        assert found == 100 if expected else found < 100


def test_tracks_of_another_video_size_are_rescaled(truth_file, tmp_path):
    truth = next(read_truths(truth_file))
    large = dict(np.load(as_tracks(truth_file, tmp_path / "a.npz")))
    large["tracks"], large["video_size"] = large["tracks"] * 3, large["video_size"] * 3
    large["query_points"][:, 1:] *= 3
    found = score(truth, TracksFile(write_npz(tmp_path / "large.npz", **large)).predict(truth))
    assert found["AJ"] == pytest.approx(100)


def test_positions_between_sizes_that_are_no_multiples_of_one_another():
    """From 20 x 10 pixels to 60 x 50: x three times, y five times; the corners stay corners."""
    points = np.array([[2.5, 0.5], [20.0, 10.0], [0.0, 0.0]])
    assert rescale(points, (10, 20), (50, 60)).tolist() == [[7.5, 2.5], [60, 50], [0, 0]]
    assert rescale(points, None, (50, 60)) is points
    found = rescale_queries(np.array([[3, 0.5, 2.5], [0, 10, 20]]), (10, 20), (50, 60))
    assert found.tolist() == [[3, 2.5, 7.5], [0, 50, 60]]  # t, y, x
    assert from_cotracker_queries(np.array([[[2, 7.0, 3.0]]])).tolist() == [[2, 3.5, 7.5]]


def test_scores_outside_a_frame_that_is_wider_than_high():
    tracks = np.array([[[19.9, 9.9], [15.0, 11.0], [-0.1, 5.0], [0.2, 0.2], [20.1, 5.0], [5.0, 15.0]]])
    found = mark_outside(np.full((1, 6), 0.25), tracks, (10, 20))
    assert found.tolist() == [[0.25, np.inf, np.inf, 0.25, np.inf, np.inf]]


def test_a_source_is_asked_and_answers_in_its_own_videos_pixels():
    """The truth's video is 20 x 10, the source's 60 x 50 and processed at 30 x 20: 3/2 of x and twice y."""
    asked = []

    def track(frames, pixels):
        asked.extend(zip(frames.tolist(), pixels.tolist()))
        tracks = np.array([[[0.5, 0.5], [29.6, 3.0]]])
        return tracks, np.array([[0.1, 0.1]]), np.array([[1.0, 2.0]])

    source = SimpleNamespace(num_frames=2, size=(20, 30), video_size=(50, 60), fps=1, threshold=0.5, track=track)
    truth = SimpleNamespace(name="t", num_frames=2, video_size=(10, 20), query_points=np.array([[1, 5.0, 8.0]]))
    found = track_truth(source, truth, "here")
    assert asked == [(1, [pytest.approx(8 * 30 / 20 - 0.5), pytest.approx(5 * 20 / 10 - 0.5)])]
    assert found.tracks[0].tolist() == [[2.0, 2.5], [24.0, 25.0]]  # the query itself in its own frame
    assert found.occluded[0].tolist() == [False, False] and found.video_size == (50, 60)


def test_size_of_a_truth_that_does_not_say(truth_file, data_dir, tmp_path, capsys):
    """It is that of the tracks, or of the data directory; with neither there is no scale to measure errors on."""
    arrays = dict(np.load(truth_file))
    del arrays["video_size"]
    bare = write_npz(tmp_path / "bare.npz", **arrays)
    tracks = as_tracks(truth_file, tmp_path / "shifted.npz", shift=np.array([1.4, 0]))
    run_command("--ground_truth", bare, "--tracks", tracks, "--out", tmp_path / "o.json")
    assert json.loads((tmp_path / "o.json").read_text())["videos"]["bare"]["shifted"]["delta_avg"] == 40
    means = []
    for truth in (bare, truth_file):
        run_command("--ground_truth", truth, "--baselines", "static", "--data_dir", data_dir,
                    "--out", tmp_path / "o.json")  # fmt: skip
        means.append(json.loads((tmp_path / "o.json").read_text())["mean"])
    assert means[0] == means[1]
    assert "has no video_size" in fails(capsys, "--ground_truth", bare, "--baselines", "static")


def test_cotracker_layout(truth_file, tmp_path):
    truth = next(read_truths(truth_file))
    queries = truth.query_points[:, [0, 2, 1]] - [0, 0.5, 0.5]
    arrays = {
        "tracks": truth.target_points.transpose(1, 0, 2)[None] - 0.5,
        "visibility": ~truth.occluded.T[None],
    }
    for extra in ({}, {"queries": queries}):
        prediction = TracksFile(write_npz(tmp_path / "co.npz", **arrays, **extra)).predict(truth)
        found = score(truth, prediction)
        assert found["AJ"] == 100 and found["OA"] == 100
        np.testing.assert_allclose(prediction.tracks, truth.target_points, atol=1e-4)


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


# ---------------------------------------------------------------- official files


def tapvid_example(seed, num_frames=11, encoded=False, size=(24, 32)):
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 255, (num_frames, *size, 3), dtype=np.uint8)
    if encoded:
        video = np.array([cv2.imencode(".jpg", frame)[1].tobytes() for frame in video])
    occluded = rng.random((6, num_frames)) < 0.4
    occluded[0] = True
    return {"video": video, "points": rng.random((6, num_frames, 2)), "occluded": occluded}


def dump(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_davis_pickle_in_both_query_modes(tmp_path, protocol):
    example = tapvid_example(0)
    path = dump(tmp_path / "tapvid_davis.pkl", {"goat": example, "dog": tapvid_example(1)}, protocol)
    strided, dog = read_truths(path, "strided")
    assert (strided.name, dog.name, strided.video_size) == ("goat", "dog", (256, 256))
    expected = [(t, q) for t in (0, 5, 10) for q in range(6) if not example["occluded"][q, t]]
    assert [(t, q) for t, q in expected] == [
        (int(query[0]), next(q for q in range(6) if np.allclose(example["points"][q] * 256, track)))
        for query, track in zip(strided.query_points, strided.target_points)
    ]
    first = next(read_truths(path, "first"))
    assert len(first.query_points) == 5  # the track that is never visible is left out
    for query, hidden in zip(first.query_points, first.occluded):
        assert query[0] == np.flatnonzero(~hidden)[0]
    for truth in (strided, first):
        at_query = truth.target_points[np.arange(len(truth.query_points)), truth.query_points[:, 0].astype(int)]
        np.testing.assert_allclose(at_query[:, ::-1], truth.query_points[:, 1:], atol=1e-4)


def test_rgb_stacking_list_and_kinetics_shards(tmp_path):
    stacking = dump(tmp_path / "tapvid_rgb_stacking.pkl", [tapvid_example(k) for k in range(3)])
    assert [truth.name for truth in read_truths(stacking)] == ["00", "01", "02"]
    shards = tmp_path / "kinetics"
    shards.mkdir()
    dump(shards / "0000_of_0010.pkl", [tapvid_example(0, encoded=True)])
    dump(shards / "0001_of_0010.pkl", {"a/b": tapvid_example(1, encoded=True)})
    assert [truth.name for truth in read_truths(shards)] == ["0000_of_0010-00", "a_b"]
    tapvid.prepare(shards, tmp_path / "out", resolution=16)
    image = cv2.imread(str(tmp_path / "out" / "a_b" / "frames" / "00010.png"))
    assert image.shape == (16, 16, 3)


def test_prepare_keeps_frames_and_points(tmp_path, capsys):
    example = tapvid_example(0)
    path = dump(tmp_path / "tapvid_davis.pkl", {"goat": example})
    run_command("prepare", path, "--out", tmp_path / "out", "--resolution", 0)
    assert "evaluate.py run" in capsys.readouterr().out
    frames = sorted((tmp_path / "out" / "goat" / "frames").iterdir())
    assert len(frames) == 11
    np.testing.assert_array_equal(cv2.imread(str(frames[3]))[..., ::-1], example["video"][3])
    for mode in ("strided", "first"):
        official, prepared = next(read_truths(path, mode)), next(read_truths(tmp_path / "out", mode))
        assert prepared.video_size == (24, 32) and prepared.name == "goat"
        scale = np.array([256 / 32, 256 / 24])
        np.testing.assert_allclose(prepared.target_points * scale, official.target_points, atol=1e-3)
        np.testing.assert_allclose(prepared.query_points[:, 0], official.query_points[:, 0])
    before = frames[0].stat().st_mtime_ns
    run_command("prepare", path, "--out", tmp_path / "out", "--resolution", 0)
    assert frames[0].stat().st_mtime_ns == before


def test_kinetics_csv_with_videos(tmp_path, capsys):
    video = np.repeat(np.random.default_rng(0).integers(0, 255, (25, 4, 6, 3), dtype=np.uint8), 8, 1).repeat(8, 2)
    (tmp_path / "videos" / "sub").mkdir(parents=True)
    write_mp4(tmp_path / "videos" / "sub" / "abc_000003_000004.mp4", video, 25)
    rows = [f"{name},3,4," + ",".join(["0.5,0.25,0", "0.1,0.2,1"] * 15) for name in ("abc", "gone")]
    (tmp_path / "tapvid_kinetics.csv").write_text("\n".join(rows) + "\n")
    run_command("prepare", tmp_path / "tapvid_kinetics.csv", "--out", tmp_path / "o", "--videos", tmp_path / "videos",
                "--resolution", "0")  # fmt: skip
    assert "gone_000003_000004: not in" in capsys.readouterr().out
    truth = next(read_truths(tmp_path / "o", "first"))
    assert truth.name == "abc_000003_000004" and truth.num_frames == 25
    np.testing.assert_allclose(truth.query_points[0], [0, 0.25 * 32 - 0.5, 0.5 * 48 - 0.5], atol=1e-4)
    assert truth.occluded[0].tolist() == [t % 2 == 1 for t in range(25)]


class Malicious:
    def __reduce__(self):
        return (eval, ("open('should_not_exist', 'w')",))


class MaliciousNumpy:
    def __reduce__(self):
        return (np.testing._private.utils.runstring, ("raise SystemError", {}))


@pytest.mark.parametrize("content", [Malicious(), {"a": MaliciousNumpy()}, {"a": torch.zeros(2)}, {"a": io.BytesIO()}])
def test_pickles_that_run_code_are_refused(tmp_path, capsys, monkeypatch, content):
    monkeypatch.chdir(tmp_path)  # where the first of them would write
    path = dump(tmp_path / "evil.pkl", content)
    assert "only numpy arrays and builtin containers" in fails(
        capsys, "--ground_truth", path, "--baselines", "static"
    )
    assert not Path("should_not_exist").exists()


# ---------------------------------------------------------------- baselines


@pytest.mark.parametrize("name", ["flow", "direct", "chained", "mft"])
def test_baselines_on_true_flow(truth_file, data_dir, tmp_path, name):
    """With true flow the direct baseline is right but near motion boundaries; the chain until it is hidden."""
    out = tmp_path / "o.json"
    run_command("--ground_truth", truth_file, "--baselines", f"{name},static", "--data_dir", data_dir, "--out", out)
    figures = next(iter(json.loads(out.read_text())["videos"].values()))
    assert figures[name]["delta_16"] > (50 if name == "chained" else 85)
    assert figures[name]["AJ"] > figures["static"]["AJ"] + 15


def test_baselines_by_hand():
    """Everything moves 1 px to the right a frame, but the flow between frames 2 and 3 is inconsistent."""

    def flow(i, j):
        field = np.zeros((10, 20, 2), np.float32)
        field[..., 0] = j - i
        if {i, j} == {2, 3}:
            field[..., 1] = 5 * (j > i)
        return field

    frames, pixels = np.array([1, 1]), np.array([[4.0, 2.0], [17.0, 3.0]])
    tracks, occluded = baseline_tracks("chained", flow, 6, frames, pixels)
    np.testing.assert_allclose(tracks[0, :, 0], [3, 4, 5, 6, 7, 8])
    assert occluded[0].tolist() == [False, False, False, True, True, True]
    assert occluded[1].tolist() == [False, False, False, True, True, True]
    tracks, occluded = baseline_tracks("direct", flow, 6, frames, pixels)
    np.testing.assert_allclose(tracks[0], [[3, 2], [4, 2], [5, 2], [6, 2], [7, 2], [8, 2]])
    assert not occluded[0].any()
    assert occluded[1].tolist() == [False, False, False, False, True, True]  # x = 20 and 21 of 20 pixels
    tracks, occluded = baseline_tracks("static", flow, 6, frames, pixels)
    assert (tracks == pixels[:, None]).all() and not occluded.any()


def test_mft_takes_the_chain_of_least_variance_that_is_not_lost():
    """Everything moves 1 px to the right a frame; some pairs are off by e px, which is their error, or not stored."""
    off = {(0, 4): 1.0, (3, 4): 0.5, (2, 4): 0.2, (4, 5): 9, (3, 5): 9, (1, 5): 9, (0, 5): 2}
    absent = {(0, 3), (5, 6), (4, 6), (2, 6), (0, 6), (4, 7)}

    def flow(i, j):
        assert (i, j) not in absent and (j, i) not in absent
        field = np.zeros((10, 20, 2), np.float32)
        field[..., 0] = j - i
        field[..., 1] = off.get((i, j), 0)
        return field

    def stored(i, j):
        return (i, j) not in absent and (j, i) not in absent

    tracks, hidden = baseline_tracks("mft", flow, 8, np.array([0]), np.array([[4.0, 2.0]]), stored=stored)
    np.testing.assert_allclose(tracks[0, :6, 0], [4, 5, 6, 7, 8, 9])
    # 3 by 2 or by 1; 4 by 2, off by 0.2; 5 straight from the query, off by 2, since the others fail the check (3 px);
    # 6 by nothing: at rest, hidden; 7 straight from the query.
    np.testing.assert_allclose(tracks[0, :6, 1], [2, 2, 2, 2, 2.2, 4], atol=1e-5)
    np.testing.assert_allclose(tracks[0, 6:], [tracks[0, 5], [11, 2]], atol=1e-5)
    assert hidden[0].tolist() == [False] * 6 + [True, False]


def test_mft_walks_backwards_too_and_marks_what_all_chains_lose():
    def flow(i, j):
        return np.full((10, 20, 2), [j - i, 4 * ((i, j) == (1, 0))], np.float32) * np.array([1, 1], np.float32)

    tracks, hidden = baseline_tracks("mft", flow, 3, np.array([2, 1]), np.array([[8.0, 2.0], [0.2, 2.0]]))
    np.testing.assert_allclose(tracks[0], [[6, 2], [7, 2], [8, 2]], atol=1e-5)  # frame 0 straight from the query
    assert not hidden[0].any()
    assert hidden[1].tolist() == [True, False, False]  # fails the check, and out of the picture at x = -0.8
    np.testing.assert_allclose(tracks[1, 0], [-0.8, 6], atol=1e-5)


def test_rows_of_a_run(truth_file, data_dir, tmp_path, monkeypatch):
    """A run whose model takes everything to be at rest: alone, refined by true flow, and that flow alone."""
    video = {"fingerprint": DataDir.open(data_dir).fingerprint, "original_height": 40, "original_width": 56, "fps": 1}
    model = SimpleNamespace(num_frames=7, height=40, width=56, refined_by_flow=False)
    run = SimpleNamespace(model=model, video=video, data_dir=str(data_dir), flow_dir=str(data_dir))

    def at_rest(model, frames, pixels, method, progress, chunk=None):
        scores = torch.full((len(frames), 7), 0.45)
        return {"pixels": pixels[:, None].repeat(1, 7, 1), "occlusion_score": scores, "depth": scores}

    monkeypatch.setattr("checkpoints.load_run", lambda *args, **kwargs: run)
    monkeypatch.setattr("networks.query.track_points", at_rest)
    assert RunTracks("still").video_size == (40, 56)
    out = tmp_path / "o.json"
    run_command("--ground_truth", truth_file, "--run", tmp_path / "still", "--rows", "model,both,flow", "--baselines",
                "flow,static", "--out", out)  # fmt: skip
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


def test_a_data_directory_alone_scores_its_flow(truth_file, data_dir, tmp_path):
    run_command("--ground_truth", truth_file, "--data_dir", data_dir, "--out", tmp_path / "o.json")
    assert list(next(iter(json.loads((tmp_path / "o.json").read_text())["videos"].values()))) == ["flow"]


def test_without_direct_flow_the_stored_one_is_taken(scene, truth_file, tmp_path):
    build(scene.video, tmp_path / "d", flow=SceneFlow(scene), quiet=True)
    out = tmp_path / "o.json"
    run_command("--ground_truth", truth_file, "--baselines", "direct,chained,mft", "--data_dir", tmp_path / "d",
                "--out", out)  # fmt: skip
    figures = next(iter(json.loads(out.read_text())["videos"].values()))
    assert list(figures) == ["direct", "chained", "mft"] and figures["direct"]["delta_16"] > 80


def test_a_baseline_that_cannot_be_had_loses_no_other(scene, truth_file, tmp_path, capsys):
    build(scene.video, tmp_path / "d", flow=SceneFlow(scene), max_interval=2, chain=False, quiet=True)
    arguments = "--ground_truth", truth_file, "--data_dir", tmp_path / "d"
    run_command(*arguments, "--baselines", "direct,mft,chained", "--out", tmp_path / "o.json")
    assert list(next(iter(json.loads((tmp_path / "o.json").read_text())["videos"].values()))) == ["mft", "chained"]
    lines = [line for line in capsys.readouterr().err.splitlines() if "no row" in line]
    assert len(lines) == 1 and "no row direct" in lines[0] and "--max_interval" in lines[0]
    assert "no flow from frame" in fails(capsys, *arguments, "--baselines", "direct")


def test_masks_as_ground_truth(scene, data_dir, truth_file, tmp_path, capsys):
    out = tmp_path / "o.json"
    run_command("--ground_truth", truth_file.parent / "masks", "--baselines", "direct,static", "--data_dir", data_dir,
                "--mask_stride", 2, "--out", out)  # fmt: skip
    figures = next(iter(json.loads(out.read_text())["videos"].values()))
    assert figures["direct"]["J"] > figures["static"]["J"] + 5
    assert 50 < figures["direct"]["J&F"] <= 100


# ---------------------------------------------------------------- BADJA


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


@pytest.mark.skipif(not (DATA / "badja").is_dir(), reason=f"no real data in {DATA}")
@pytest.mark.parametrize("name, expected", [("horsejump-high", 7.9), ("dog", 5.6)])
def test_static_points_on_badja(name, expected):
    """Published beside the data: PCK of points that never move."""
    images = read_masks(DATA / "davis" / name / "masks")
    queries, points, occluded, radius = read_badja(DATA / "badja" / f"{name}.json", images)
    still = np.repeat(queries[:, None, [2, 1]], len(images), axis=1)
    assert keypoint_share(points, ~occluded, still, radius) == pytest.approx(expected, abs=0.06)


# ---------------------------------------------------------------- wrong input


def test_wrong_options(truth_file, tmp_path, capsys):
    truth = ("--ground_truth", truth_file)
    assert "nothing to score" in fails(capsys, *truth)
    line = fails(capsys, *truth, "--baselines", "raft-d")
    assert "raft-d: expected any of flow, direct, chained, mft, static" in line
    assert "give --run OUT too" in fails(capsys, *truth, "--baselines", "static", "--rows", "both")
    assert "--rows all: expected any of model, both, flow" in fails(capsys, *truth, "--run", "x", "--rows", "all")
    line = fails(capsys, *truth, "--run", "x", "--rows", "both", "--refine", "on")
    assert "give one of them" in line
    assert "ending in .md, .csv, .json" in fails(capsys, *truth, "--baselines", "static", "--out", "a.txt")
    assert "--per_track" in fails(capsys, *truth, "--baselines", "static", "--per_track")
    assert "--data_dir" in fails(capsys, *truth, "--baselines", "direct")
    assert "no such ground truth" in fails(capsys, "--ground_truth", tmp_path / "no", "--baselines", "static")
    assert "not a ground truth" in fails(capsys, "--ground_truth", tmp_path, "--baselines", "static")
    assert "no scored tracks" in fails(capsys, *truth, "--baselines", "static", "--occlusion_curve")
    assert "no checkpoint" in fails(capsys, *truth, "--run", tmp_path)
    assert "no prepared videos" in fails(capsys, "run", tmp_path)


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
                     query_points=np.array([[3.0, 0, 0]]))  # fmt: skip
    assert "query frame 3 is not in the video (0 to 2)" in fails(capsys, "--ground_truth", late, *static)
    (tmp_path / "cut.pkl").write_bytes(pickle.dumps({"a": tapvid_example(0)})[:500])
    assert "not a readable pickle" in fails(capsys, "--ground_truth", tmp_path / "cut.pkl", *static)
    odd = dump(tmp_path / "odd.pkl", {"a": {"video": np.zeros((3, 4, 4, 3)), "points": np.zeros((2, 5, 2)),
                                            "occluded": np.zeros((2, 5), bool)}})  # fmt: skip
    assert "got (2, 5, 2), (2, 5) and 3 frames" in fails(capsys, "--ground_truth", odd, *static)
    (tmp_path / "dog.json").write_text("[{}]")
    write_image(tmp_path / "m" / "0.png", np.zeros((4, 4), np.uint8))
    badja = ("--ground_truth", tmp_path / "dog.json", *static)
    assert "--masks" in fails(capsys, *badja)
    assert "not a BADJA annotation" in fails(capsys, *badja, "--masks", tmp_path / "m")


# ---------------------------------------------------------------- the whole benchmark


def test_benchmark_run_goes_on_where_it_stopped(truth_file, tmp_path, capsys, monkeypatch):
    """The commands of each video, in order; a finished video is not done again, a failing step stops with one line."""
    for name in ("a", "b"):
        (tmp_path / name / "frames").mkdir(parents=True)
        (tmp_path / name / "ground_truth.npz").write_bytes(truth_file.read_bytes())
    as_tracks(truth_file, tmp_path / "a" / "tracks_strided.npz")
    commands = []

    def failing_train(arguments):
        commands.append([str(argument) for argument in arguments])
        if "train.py" in commands[-1]:
            raise UserError("`train.py ...` ended with exit code 2; the same command goes on from there")

    monkeypatch.setattr(pipeline, "step", failing_train)
    line = fails(capsys, "run", tmp_path, "--config", "configs/default.txt", "--train_args", "--seed 3")
    assert "train.py" in line
    assert [command[1:3] for command in commands] == [["-m", "preprocess"], ["train.py", "--config"]]
    assert commands[1][-2:] == ["--seed", "3"] and str(tmp_path / "b" / "run") in commands[1]
    as_tracks(truth_file, tmp_path / "b" / "tracks_strided.npz", shift=100.0)
    run_command("run", tmp_path, "--out", tmp_path / "table.md")
    assert "| mean " in capsys.readouterr().out
    assert "50.0" in (tmp_path / "table.md").read_text()


# ---------------------------------------------------------------- the benchmarks' own arithmetic


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
                  num_frames=9, video_size=(60, 80))  # fmt: skip
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
        ("default 5 min", 0), ("default 5 min seed 4", 4)]  # fmt: skip
    rows = [("fast-0", "dis", "both default 5 min", {"AJ": 60.0}),
            ("fast-0", "dis", "both default 5 min seed 4", {"AJ": 62.0}),
            ("fast-0", "dis", "direct", {"AJ": 50.0})]  # fmt: skip
    *_, row = quality.deviation_table(rows).splitlines()
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "fast-0", "dis", "both default 5 min", "2", "61.00 ± 1.41"]  # fmt: skip


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
