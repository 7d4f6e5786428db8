"""Features by the command: of DINO, of SIFT, found once, stored as evidence and candidates of the walk."""

import itertools
import pickle
import sys

import numpy as np
import pytest
import torch

from flow.candidates import walked_with_matches
from flow.dis import DisFlow, PlainDis
from flow.features import MatchSettings, SiftPlaces, places_of_map
from flow.formats import write_flo
from flow.point_tracks import PointSettings
from loaders.data_dir import write_image
from loaders.evidence import read_evidence
from preprocess import build
from preprocess.__main__ import main
from preprocess.driver import check_one_shot
from preprocess.evidence import Tracks
from preprocess.features import Features, describer
from tests.helpers.jumping_square import AFTER, BEFORE, frame_with, placed, true_motion
from util import UserError

N, SIZE, CELL, STEP = 4, (48, 64), 8, 16


class Moving:
    """Features of a picture that moves by STEP to the right a frame."""

    name, settings, motions, description, calls = "moving", MatchSettings(), PointSettings(), {"of": "a test"}, 0
    least_apart, quick = 2, False

    def __call__(self, i, frame):
        self.calls += 1
        cells = np.random.default_rng(0).normal(size=(SIZE[0] // CELL, SIZE[1] // CELL, 64))
        return places_of_map(np.roll(cells, i * STEP // CELL, 1), frame.shape[:2])


@pytest.fixture(scope="module")
def clip():
    """uint8 (N, *SIZE, 3): blobs that move by STEP a frame and come in again on the left."""
    frame = frame_with(None)[: SIZE[0], : SIZE[1]]
    return np.stack([np.roll(frame, i * STEP, 1) for i in range(N)])


def write_clip(folder, frames):
    for i, frame in enumerate(frames):
        write_image(folder / f"{i:05d}.png", frame)
    return folder


def preprocessed(clip, path, **options):
    return build(clip, path, flow="dis", chain=False, quiet=True, workers=1, cuts="ignore", **options)


def test_features_are_stored_as_evidence_and_found_once(tmp_path, clip):
    describe = Moving()
    data = preprocessed(clip, tmp_path / "data", features=[describe])
    (stored,) = read_evidence(data.path, N)
    assert {tuple(pair) for pair in stored.frames} == {(0, 2), (0, 3), (1, 3)} and describe.calls == N
    moved = (stored.points[:, 1] - stored.points[:, 0])[:, 0] % SIZE[1]
    expected = np.diff(stored.frames, axis=1)[:, 0] * STEP % SIZE[1]
    assert (np.abs(moved - expected) < 1).mean() > 0.95
    assert list(data.manifest["settings"]["flow"]["candidates"]) == ["points: moving"]
    again = Moving()
    preprocessed(clip, tmp_path / "data", features=[again])
    assert again.calls == 0
    again.description = {"of": "another"}
    Features(again).read(data, {(0, 2)})
    assert again.calls == 2
    (data.path / "evidence" / "moving.npz").write_bytes(b"damaged")
    assert len(Features(Moving()).read(data, {(0, 2)}).frames)  # found again


def test_an_object_is_found_again_after_it_was_hidden(tmp_path):
    frames = np.stack([frame_with(m) for m in (BEFORE, placed(36, 41), None, None, placed(88, 55, -23), AFTER)])
    y, x = np.mgrid[30:51, 20:41]
    wanted, missed = true_motion(np.stack([x.ravel(), y.ravel()], -1)), {}
    for features in ("sift", "none"):
        data = preprocessed(frames, tmp_path / features, features=[features])
        missed[features] = np.median(np.linalg.norm(data.flow(0, 5)[y, x].reshape(-1, 2) - wanted, axis=-1))
    assert missed["sift"] < 0.5 and missed["none"] > 10


def test_matches_are_found_unless_they_are_not_wanted_or_flow_is_not_fused(tmp_path, clip):
    def sources(name, **options):
        data = build(clip, tmp_path / name, chain=False, quiet=True, workers=1, cuts="ignore", **options)
        return [one.name for one in read_evidence(data.path, N)]

    assert sources("default", flow="dis") == ["sift"] and sources("default", flow="dis", features=["none"]) == []
    assert sources("planted", flow=PlainDis("fast")) == []
    files = tmp_path / "flow"
    for i, j in itertools.permutations(range(N), 2):
        write_flo(files / f"{i:05d}_{j:05d}.flo", np.zeros((*SIZE, 2), np.float32))
    assert sources("files", flow="auto", flow_files=files, fusion=False) == []
    with pytest.raises(UserError, match="--features none: expected nothing beside it"):
        sources("both", flow="dis", features=["none", "sift"])
    main([str(write_clip(tmp_path / "frames", clip)), "--data_dir", str(tmp_path / "command"), "--flow", "dis",
          "--workers", "1", "--cuts", "ignore"])
    assert [path.name for path in (tmp_path / "command" / "evidence").iterdir()] == ["sift.npz"]


def test_matches_do_not_depend_on_the_number_of_workers(tmp_path, clip):
    data = preprocessed(clip, tmp_path / "data", features=["none"])
    pairs = {(0, 1), (0, 3), (1, 2), (2, 3)}
    alone, shared = (Features(SiftPlaces()).read(data, pairs, workers) for workers in (1, 2))
    assert {tuple(pair) for pair in alone.frames} == pairs
    for name in ("frames", "points", "weight"):
        assert np.array_equal(getattr(alone, name), getattr(shared, name)), name


def test_matches_give_the_same_flow_in_another_process(clip):
    estimator = walked_with_matches(clip, DisFlow())
    fresh = pickle.loads(pickle.dumps(estimator.for_workers()))
    fresh.load_frames(clip)
    assert np.array_equal(fresh.flow_from(0, [1]), estimator.flow_from(0, [1]))


def test_each_shot_may_have_features_of_its_own_but_not_tracks():
    check_one_shot([Features(Moving())])
    with pytest.raises(UserError, match=r"--cuts split: evidence \(some\) is of one shot"):
        check_one_shot([Features(Moving()), Tracks("some.npz")])


@pytest.fixture
def network(tmp_path):
    """A folder with a small DINOv2 of random weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                                       intermediate_size=64, image_size=56, patch_size=14)
    transformers.Dinov2Model(config).save_pretrained(tmp_path / "dinov2")
    return tmp_path / "dinov2"


def test_a_network_from_a_folder(network, clip):
    describe = describer(network)
    places = describe(0, clip[0])
    rows, columns = round(480 / 14), round(640 / 14)
    assert places.features.shape == (rows * columns, 32) and describe.description["weights"] == "dinov2"
    np.testing.assert_allclose(places.points[0], [64 / columns / 2 - 0.5, 48 / rows / 2 - 0.5], rtol=1e-5)
    picture = places.features.reshape(rows, columns, 32)
    other = describe(1, clip[0][:, ::-1].copy()).features.reshape(rows, columns, 32)
    assert (picture * other).sum(-1).std() > 0.01  # it depends on what is seen


def test_what_cannot_be_had_is_one_line(tmp_path, clip, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    for value, words in ((tmp_path / "none", "no such folder; expected sift, which needs no weights, or a folder"),
                         (tmp_path / "empty", "--features .*empty: cannot be read"),
                         ("some/model", "no such folder, and it cannot be downloaded .*Apache-2.0")):
        with pytest.raises(UserError, match=words):
            preprocessed(clip, tmp_path / "data", features=[value])
    write_image(tmp_path / "in" / "0.png", clip[0])
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr("util.importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "in"), "--data_dir", str(tmp_path / "data"), "--features", "facebook/dinov2-small"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith(
        "error: --features needs the extra dino: pip install -r requirements-dino.txt")
