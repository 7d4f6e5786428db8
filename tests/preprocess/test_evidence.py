"""Evidence by the command: stored, a candidate of the walk, refused where it cannot be of this video."""

from types import SimpleNamespace

import numpy as np
import pytest

from loaders.data_dir import write_image
from loaders.evidence import of_tracks, read_evidence
from preprocess import build
from preprocess.__main__ import main
from preprocess.evidence import BY_CHANCE, Correspondences, gather, shown
from tests.flow.test_dis import LEFT, SIDE, TOP, square_over_background
from util import UserError

STEP, SIZE, N = 28, (56, 120), 3


def pairs(num_frames):
    return {(i, j) for i in range(num_frames) for j in range(i + 1, num_frames)}


def true_tracks(scene, count=200):
    truth = scene.ground_truth(count)
    return truth["target_points"] - 0.5, ~truth["occluded"]


def test_the_picture_shows_tracks_of_its_own_video(flow_scene, flow_pool):
    positions, visible = true_tracks(flow_scene)
    share, telling = shown(of_tracks("t", positions, visible, pairs(12)), flow_pool.data)
    assert share > 0.7 and telling > 200
    random = np.random.default_rng(0)
    noisy = of_tracks("t", positions + random.normal(0, 1.5, positions.shape), visible, pairs(12))
    assert shown(noisy, flow_pool.data)[0] > BY_CHANCE  # it is looked for around where it ends
    wrong = random.random(visible.shape) < 0.4
    positions = np.where(wrong[..., None], random.uniform(0, [64, 48], positions.shape), positions)
    assert shown(of_tracks("t", positions, visible, pairs(12)), flow_pool.data)[0] > 0.55


def test_and_not_those_of_another(flow_scene, flow_pool):
    positions, visible = true_tracks(flow_scene)
    mirrored = positions * [-1, 1] + [63, 0]
    share, telling = shown(of_tracks("t", mirrored, visible, pairs(12)), flow_pool.data)
    assert share < BY_CHANCE and telling > 200


@pytest.fixture(scope="module")
def leaping():
    """A featureless square leaps by STEP pixels a frame over a background: too far to be found by itself."""
    return square_over_background(STEP, N, *SIZE, seed=3)


def tracks_on(path, name="tracker.npz", **changes):
    """A file of 40 tracks of a still background and of the leaping square, in TAPIR's layout."""
    random = np.random.default_rng(0)
    on_square = random.random((20, 2)) * 14 + [13, 21]
    still = random.random((60, 2)) * [118, 12]
    square = on_square[:, None] + np.arange(N)[None, :, None] * [STEP, 0]
    tracks = np.concatenate([square, np.repeat(still[:, None], N, 1)])
    np.savez(path / name, **{"tracks": tracks, "visibles": np.ones(tracks.shape[:2], bool)} | changes)
    return path / name


def preprocessed(leaping, path, **options):
    return build(leaping, path, flow="dis", features=(), chain=False, quiet=True, workers=1, **options)


def test_tracks_are_stored_and_candidates_of_the_walk_until_they_are_given_no_more(tmp_path, leaping):
    data = preprocessed(leaping, tmp_path / "data", tracks=[tracks_on(tmp_path)])
    (stored,) = read_evidence(data.path, N)
    assert (stored.name, len(stored.frames)) == ("tracker", 80 * 3)
    start, end, _ = stored.between(0, 2)
    assert np.allclose(end - start, np.repeat([[2 * STEP, 0], [0, 0]], [20, 60], axis=0), atol=1e-4)
    assert [file.name for file in (data.path / "evidence").iterdir()] == ["tracker.npz"]
    candidates = data.manifest["settings"]["flow"]["candidates"]
    assert {name: part["name"] for name, part in candidates.items()} == {"points: tracker": "tracker"}
    flow = data.flow(0, 2)[TOP : TOP + SIDE, LEFT : LEFT + SIDE]
    assert np.median(np.linalg.norm(flow - [2 * STEP, 0], axis=-1)) < 0.5
    assert gather(data, [], data.manifest["partners"]) == {}
    assert not (data.path / "evidence").exists()


def test_known_correspondences_in_pixels_of_scaled_frames(tmp_path):
    video = {"num_frames": 3, "width": 60, "height": 28, "original_width": 120, "original_height": 56}
    known = tmp_path / "known.csv"
    known.write_text("frame_1,x_1,y_1,frame_2,x_2,y_2,weight\n2,100,50,0,1,3,0.5\n0,20,22,1,24.5,30,\n")
    evidence = Correspondences(known).read(SimpleNamespace(**video), set())
    assert evidence.frames.tolist() == [[0, 1], [0, 2]] and evidence.weight.tolist() == [1, 0.5]
    assert evidence.points.tolist() == [[[9.5, 10.5], [11.75, 14.5]], [[0, 1], [49.5, 24.5]]]


BAD_ROWS = {
    "0,1,1,3,1,1": "row 1: expected two different whole frames from 0 to 2",
    "1,1,1,1,1,1": "row 1: expected two different",
    "0,1,1,2,121,1": "expected x in [0, 120], y in [0, 56]",
    "0,1,1,2,nan,1": "expected rows of finite numbers",
    "0,1,1,2,here,1": "line 2: expected numbers",
}


@pytest.mark.parametrize("row", BAD_ROWS)
def test_bad_rows(tmp_path, row):
    known = tmp_path / "known.csv"
    known.write_text(f"frame_1,x_1,y_1,frame_2,x_2,y_2\n{row}\n")
    video = {"num_frames": N, "original_width": SIZE[1], "original_height": SIZE[0]}
    with pytest.raises(UserError, match="known.csv") as caught:
        Correspondences(known).read(SimpleNamespace(**video), set())
    assert BAD_ROWS[row] in str(caught.value)


def test_what_cannot_be_of_this_video_is_one_line(tmp_path, leaping):
    shift = np.load(tracks_on(tmp_path))["tracks"] * [-1, 1] + [SIZE[1], 0]
    for options, words in (
        ({"tracks": [tracks_on(tmp_path, "mirrored.npz", tracks=shift)]}, "tracks of another video"),
        ({"tracks": [tracks_on(tmp_path), tmp_path / "x" / "tracker.npz"]}, "two sources are called tracker"),
        ({"tracks_size": "9x9"}, "act on --tracks only"),
        ({"tracks": [tmp_path / "none.npz"]}, "no such file"),
    ):
        with pytest.raises(UserError, match=words):
            preprocessed(leaping, tmp_path / "data", **options)
        assert not (tmp_path / "data" / "evidence").exists()


def test_the_options_of_the_command(tmp_path, leaping, capsys):
    for k, frame in enumerate(leaping):
        write_image(tmp_path / "in" / f"{k}.png", frame)
    short = tracks_on(tmp_path, tracks=np.zeros((4, 9, 2)), visibles=np.ones((4, 9)))
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "in"), "--data_dir", str(tmp_path / "data"), "--flow", "dis", "--tracks", str(short)])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "tracks of 9 frames, but the video has 3" in said and said.count("\n") < 4
