"""Layers: read, carried, and no correspondence from one to another."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from flow.batched.walk import BatchedWalk
from flow.dis import DisFlow
from flow.estimator import Estimator
from flow.images import comes_back
from flow.layers import BINS, UNKNOWN, carried, colours_of, crossing, shares_of
from flow.pair import FramePair, make_frame
from loaders.data_dir import DataDir
from preprocess import build
from preprocess.labels import GivenLayers
from preprocess.verify import verify
from track import main as track
from util import UserError
from viz import main as viz

H, W, N = 32, 48, 5
SIDE, STEP = 12, 3  # of a square that moves to the right


def square(frame):
    """bool (H, W)."""
    mask = np.zeros((H, W), bool)
    mask[10 : 10 + SIDE, 4 + STEP * frame : 4 + STEP * frame + SIDE] = True
    return mask


@pytest.fixture(scope="module")
def video():
    """A reddish square over a bluish background that stands still; both textured."""
    random = np.random.default_rng(0)
    ground, body = (random.integers(0, 80, (*size, 3)) + colour for size, colour in
                    (((H, W), [0, 40, 160]), ((SIDE, SIDE), [160, 20, 0])))
    frames = np.repeat(ground[None], N, axis=0).astype(np.uint8)
    for k, frame in enumerate(frames):
        frame[square(k)] = body.reshape(-1, 3)
    return frames


class Still(Estimator):
    """Flow estimator that is wrong alike there and back: nothing moves."""

    description = {"method": "still"}

    def load_frames(self, frames, adjacent=None):
        pass

    def flow_from(self, i, partners):
        return np.zeros((len(partners), H, W, 2), np.float32)


def write(folder, **images):
    folder.mkdir()
    for name, image in images.items():
        cv2.imwrite(str(folder / f"{name.removeprefix('f')}.png"), np.uint8(image))
    return folder


def preprocessed(video, path, **options):
    return build(video, path, flow=Still(), quiet=True, workers=1, keep_direct=True, **options)


def test_crossing_by_hand():
    labels = np.uint8([[0, 0, 1, 1, UNKNOWN]])
    there = np.uint8([[0, 1, 1, UNKNOWN, 1]])
    still, right = np.zeros((1, 5, 2), np.float32), np.full((1, 5, 2), [1, 0], np.float32)
    assert crossing(labels, there, still).tolist() == [[False, True, False, False, False]]
    assert crossing(labels, there, right).tolist() == [[True, True, False, False, False]]  # the last leaves the frame


def test_given_labels_follow_flow_that_comes_back(video):
    there = np.zeros((H, W, 2), np.float32)
    there[square(1)] = -STEP, 0
    back = np.zeros_like(there)
    back[square(0)] = STEP, 0
    first = square(0).astype(np.uint8)
    colours = colours_of(video[:1], [first], 2)
    shares = carried(video[1], [(there, comes_back(there, back), shares_of(first, 2))], colours)
    assert shares.shape == (H, W, 2) and (shares.sum(-1) <= 1 + 1e-5).all()
    inside = cv2.erode(square(1).astype(np.uint8), np.ones((3, 3))) > 0
    assert (shares[inside].argmax(-1) == 1).all() and shares[inside].max(-1).min() > 0.7
    away = cv2.dilate(square(1).astype(np.uint8), np.ones((5, 5))) == 0
    assert (shares[away & ~square(0)].argmax(-1) == 0).all()


def test_where_flow_does_not_come_back_colours_decide_and_it_is_less_sure(video):
    still, nowhere = np.zeros((H, W, 2), np.float32), np.zeros((H, W), bool)
    first = square(0).astype(np.uint8)
    colours = colours_of(video[:1], [first], 2)
    shares = carried(video[0], [(still, nowhere, shares_of(first, 2))], colours)
    rim = square(0) & ~(cv2.erode(square(0).astype(np.uint8), np.ones((3, 3))) > 0)
    assert (shares[rim].argmax(-1) == 1).mean() > 0.9 and shares.sum(-1).max() < 0.7
    blind = carried(np.zeros_like(video[0]), [(still, nowhere, shares_of(first, 2))], colours)
    assert blind.sum(-1).max() < 0.4  # a colour that none has says nothing


def test_labels_are_no_surer_than_the_surest_that_is_asked(video):
    still, right = np.zeros((H, W, 2), np.float32), np.ones((H, W), bool)
    first = square(0).astype(np.uint8)
    none = np.zeros((BINS, BINS, BINS, 2), np.float32)  # no colour tells
    known, doubtful = shares_of(first, 2, 0.6), shares_of(first, 2, 0.3)
    shares = carried(video[0], [(still, right, known), (still, right, doubtful)], none)
    np.testing.assert_allclose(shares.sum(-1), 0.6, atol=1e-3)
    assert (shares.argmax(-1) == first).mean() > 0.97


def test_no_valid_pair_crosses_and_others_stay(tmp_path, video):
    none = preprocessed(video, tmp_path / "none")
    assert none.layers(0) is None
    masks = write(tmp_path / "masks", f00000=255 * square(0), f00004=255 * square(4))
    data = preprocessed(video, tmp_path / "data", layers=masks)
    for folder in (True, False):  # direct, and chained, which does not make it valid again
        cycle, before = data.valid(0, 4, folder)[0], none.valid(0, 4, folder)[0]
        crossed = square(0) ^ square(4)
        assert before[crossed & ~(square(0) | square(4))].all()
        assert not cycle[crossed].any() and (cycle == before)[~crossed].all()
    labels, confidence = data.layers(4)
    assert (labels == square(4)).all() and (confidence == 1).all()
    assert data.layers(2)[1].max() <= 1 and set(np.unique(data.layers(2)[0])) <= {0, 1}
    reopened = DataDir.open(data.path)
    assert (reopened.layers(1)[0] == data.layers(1)[0]).all()


def test_other_layers_are_done_again_and_none_removes_them(tmp_path, video, capsys):
    masks = write(tmp_path / "masks", f00000=square(0) * 1)
    data = preprocessed(video, tmp_path / "data", layers=masks)
    before = data.layers(3)[0]
    cv2.imwrite(str(masks / "00003.png"), np.uint8(square(3)))
    again = preprocessed(video, tmp_path / "data", layers=masks)
    assert (again.layers(3)[0] == square(3)).all() and not (before == square(3)).all()
    assert preprocessed(video, tmp_path / "data").layers(0) is None
    assert not (data.path / "layers").exists()


def test_a_damaged_layer_is_found_and_made_again(tmp_path, video, capsys):
    masks = write(tmp_path / "masks", f00000=square(0) * 1)
    data = preprocessed(video, tmp_path / "data", layers=masks)
    before, file = data.layers(2)[0], data.path / "layers" / "00002.npy"
    content = bytearray(file.read_bytes())
    content[200] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="1 missing or damaged"):
        verify(data.path)
    assert (preprocessed(video, tmp_path / "data", layers=masks).layers(2)[0] == before).all()
    verify(data.path)


def test_the_walk_charges_what_crosses_between_labelled_frames(video):
    labels = [square(k).astype(np.uint8) for k in (0, 2)]
    frames = [make_frame(video[k], 1, labels=one) for k, one in zip((0, 2), labels)]
    still = np.zeros((H, W, 2), np.float32)
    plain = FramePair(*(frame._replace(labels=None) for frame in frames))
    for error in ("luminance_error", "colour_error"):
        charged = getattr(FramePair(*frames), error)(still) - getattr(plain, error)(still)
        assert np.allclose(charged, 30 * (square(0) ^ square(2)), atol=1e-4)


def test_what_crosses_is_not_seen_in_the_walk(video):
    walk, workers = DisFlow(), DisFlow()
    walk.take_layers(GivenLayers({k: square(k).astype(np.uint8) for k in (0, 2)}))
    assert walk.description["layers"]["frames"] == [0, 2] and "layers" not in workers.description
    still, copies = np.zeros((H, W, 2), np.float32), np.repeat(video[:1], N, axis=0)  # all looks alike
    for estimator in (walk, walk.for_workers(), workers):
        estimator.load_frames(copies)
        assert estimator.looks_alike(0, 1, still).all()  # nothing is known of frame 1
        expected = square(0) ^ square(2) if estimator is not workers else np.zeros((H, W), bool)
        assert (estimator.looks_alike(0, 2, still) == ~expected).all()


def test_nor_in_the_walk_on_a_gpu(video):
    walk, still = BatchedWalk("cpu"), torch.zeros(2, 2, H, W)
    walk.take_layers(GivenLayers({k: square(k).astype(np.uint8) for k in (0, 2)}))
    walk.load_frames(np.repeat(video[:1], N, axis=0))
    alike = walk.looks_alike([0, 0], [1, 2], still)[:, 0].numpy()
    assert alike[0].all() and (alike[1] == ~(square(0) ^ square(2))).all()


def test_palette_unknown_and_several_objects(tmp_path, video):
    labels = np.uint8(square(0) * 2 + square(4) * 5)
    labels[0, :7] = UNKNOWN
    (tmp_path / "masks").mkdir()
    image = Image.fromarray(labels, mode="P")
    image.putpalette(list(range(256)) * 3)
    image.save(tmp_path / "masks" / "frame_0.png")
    data = preprocessed(video, tmp_path / "data", layers=tmp_path / "masks")
    stored, confidence = data.layers(0)
    assert (stored == labels).all() and (confidence == (labels != UNKNOWN)).all()
    assert set(np.unique(data.layers(1)[0])) <= {0, 2, 5}


def test_what_cannot_be_layers_is_one_line(tmp_path, video):
    cases = {
        "none": (None, "no such folder"),
        "size": ({"f00000": np.ones((9, 9))}, "the image is 9x9, expected 48x32"),
        "number": ({"f00007": square(0)}, "expected a name that ends in the number of a frame, 0 to 4"),
        "name": ({"fmask": square(0)}, "expected a name that ends in the number"),
        "empty": ({"f00000": 0 * square(0)}, "nothing is set in any of its 1 images"),
        "twice": ({"f1": square(0), "f00001": square(0)}, "a second image of frame 1"),
        "blurred": ({"f00000": np.arange(H * W).reshape(H, W) % 200}, "199 grey levels; expected one for each of"),
        "colours": ({"f00000": np.arange(H * W * 3).reshape(H, W, 3) % 251}, "got colours"),
    }
    for name, (images, words) in cases.items():
        if images is not None:
            write(tmp_path / name, **images)
        with pytest.raises(UserError, match=words):
            preprocessed(video, tmp_path / f"data {name}", layers=tmp_path / name)
    (tmp_path / "size" / "00000.png").rename(tmp_path / "size" / "00000.jpg")
    with pytest.raises(UserError, match="expected a format that keeps levels exactly"):
        preprocessed(video, tmp_path / "data jpg", layers=tmp_path / "size")


def test_objects_may_have_any_numbers(tmp_path, video):
    labels = 250 * square(0)
    labels[:4] = 120
    data = preprocessed(video, tmp_path / "data", layers=write(tmp_path / "masks", f00000=labels))
    plain = preprocessed(video, tmp_path / "plain", layers=write(tmp_path / "small", f00000=np.array([0, 1, 2])[
        np.searchsorted([0, 120, 250], labels)]))
    assert (np.array([0, 120, 250])[plain.layers(3)[0]] == data.layers(3)[0]).all()
    assert GivenLayers({0: np.uint8(labels)}).count == 3


def test_a_layer_is_tracked_and_drawn_on_its_own(tmp_path, video, capsys):
    masks = write(tmp_path / "masks", f00000=square(0) * 1)
    data = preprocessed(video, tmp_path / "data", layers=masks)
    asked = "--data_dir", str(data.path), "--layer"
    track(["--queries", "grid:2", "--out", str(tmp_path / "t.npz"), *asked, "1"])
    queries = np.load(tmp_path / "t.npz")["query_points"]
    on = square(0)[queries[:, 1].astype(int), queries[:, 2].astype(int)]
    assert on.all() and len(queries) == SIDE * SIDE / 4
    viz(["--out", str(tmp_path / "videos"), "--what", "tracks", *asked, "1"])
    assert (tmp_path / "videos" / "tracks.mp4").exists()
    bare = preprocessed(video, tmp_path / "bare")
    for options, words in (
        ([*asked, "2"], "not seen in frame 0, where there are: 1"),
        ([*asked, "1", "--mask", "x.png"], "give one of them"),
        (["--data_dir", str(bare.path), "--layer", "1"], "has no layers; preprocess with --layers"),
    ):
        with pytest.raises(SystemExit):
            track(["--queries", "grid:2", "--out", str(tmp_path / "x.npz"), *options])
        assert words in capsys.readouterr().err
