"""Official files of ground truth as they are published, and files that are none."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarks.scenes import write_mp4
from evaluation import tapvid
from evaluation.ground_truth import read_truths
from tests.helpers.evaluation import dump, fails, run_command, tapvid_example


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


A_B = "a_b-c14cddc0"  # the first 8 hexadecimal digits of sha256("a/b"): "a_b" is another video


def test_rgb_stacking_list_and_kinetics_shards(tmp_path):
    stacking = dump(tmp_path / "tapvid_rgb_stacking.pkl", [tapvid_example(k) for k in range(3)])
    assert [truth.name for truth in read_truths(stacking)] == ["00", "01", "02"]
    shards = tmp_path / "kinetics"
    shards.mkdir()
    dump(shards / "0000_of_0010.pkl", [tapvid_example(0, encoded=True)])
    dump(shards / "0001_of_0010.pkl", {"a/b": tapvid_example(1, encoded=True)})
    assert [truth.name for truth in read_truths(shards)] == ["0000_of_0010-00", A_B]
    tapvid.prepare(shards, tmp_path / "out", resolution=16)
    image = cv2.imread(str(tmp_path / "out" / A_B / "frames" / "00010.png"))
    assert image.shape == (16, 16, 3)


def test_prepare_keeps_frames_and_points(tmp_path, capsys):
    example = tapvid_example(0)
    path = dump(tmp_path / "tapvid_davis.pkl", {"goat": example})
    run_command("prepare", path, "--out", tmp_path / "out", "--resolution", 0)
    assert "python run.py" in capsys.readouterr().out
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
                "--resolution", "0")
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
