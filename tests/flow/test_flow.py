"""Flow estimators, .flo files, flow colours, weights files and the command for one pair."""

import hashlib
import urllib.error

import cv2
import numpy as np
import pytest
import torch

import util
from benchmarks.flow_epe import end_point_error, read_pair
from flow import __main__ as flow_command
from flow import estimators, raft_weights
from flow import raft as raft_flow
from flow.dis import PlainDis
from flow.formats import flow_to_color, read_flo, read_kitti_flow, write_flo, write_kitti_flow
from flow.raft import RaftFlow, enlargement
from tests.helpers.commands import refused
from tests.helpers.paths import SHARED
from tests.helpers.random_raft import SINTEL, random_raft, save_random_raft

PAIRS = SHARED / "data" / "flow"


def moving_frames(num_frames=5, height=64, width=80, step=(1, 2)):
    """uint8 (N, H, W, 3): a smooth random texture that moves by `step` = (x, y) pixels a frame."""
    texture = np.random.default_rng(0).uniform(0, 255, (200, 200, 3)).astype(np.float32)
    texture = cv2.GaussianBlur(texture, (0, 0), 1.5)
    texture = (texture - texture.min()) / np.ptp(texture) * 255
    corners = [(50 - t * step[1], 50 - t * step[0]) for t in range(num_frames)]
    return np.stack([texture[y : y + height, x : x + width] for y, x in corners]).astype(np.uint8)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_flo_round_trip(tmp_path):
    flow = np.random.default_rng(0).normal(size=(5, 7, 2)).astype(np.float32)
    write_flo(tmp_path / "é a.flo", flow)
    np.testing.assert_array_equal(read_flo(tmp_path / "é a.flo"), flow)
    np.testing.assert_array_equal(cv2.readOpticalFlow(str(tmp_path / "é a.flo")), flow)


def test_bad_flo_files(tmp_path):
    write_flo(tmp_path / "a.flo", np.zeros((5, 7, 2)))
    whole = (tmp_path / "a.flo").read_bytes()
    (tmp_path / "a.flo").write_bytes(whole[:-4])
    with pytest.raises(util.UserError, match="expected 292 for 7x5"):
        read_flo(tmp_path / "a.flo")
    (tmp_path / "a.flo").write_bytes(b"x" * 40)
    with pytest.raises(util.UserError, match="not a .flo file"):
        read_flo(tmp_path / "a.flo")
    with pytest.raises(util.UserError, match="no such"):
        read_flo(tmp_path / "b.flo")
    with pytest.raises(ValueError, match="expected flow of shape"):
        write_flo(tmp_path / "a.flo", np.zeros((5, 7)))


def test_pairs_in_both_layouts(tmp_path):
    flow = np.random.default_rng(0).integers(-900, 900, (64, 80, 2)) / 64  # what KITTI's steps can hold
    known = np.random.default_rng(1).random((64, 80)) < 0.5
    stored = np.concatenate([flow * 64 + 2**15, known[..., None]], axis=-1).astype(np.uint16)
    for names, folder in ((("frame1.png", "frame2.png"), "kitti"), (("frame10.png", "frame11.png"), "middlebury")):
        (tmp_path / folder).mkdir()
        for name, frame in zip(names, moving_frames(2)):
            cv2.imwrite(str(tmp_path / folder / name), frame[..., ::-1])
    cv2.imwrite(str(tmp_path / "kitti" / "flow_gt.png"), stored[..., ::-1])
    write_flo(tmp_path / "middlebury" / "flow10.flo", np.where(known[..., None], flow, 2e9))
    for folder in ("kitti", "middlebury"):
        first, second, true_flow, found = read_pair(tmp_path / folder)
        np.testing.assert_array_equal([first, second], moving_frames(2))
        np.testing.assert_array_equal(found, known)
        np.testing.assert_array_equal(true_flow[known], flow[known])
    with pytest.raises(util.UserError, match="16-bit RGB PNG"):
        read_kitti_flow(tmp_path / "kitti" / "frame1.png")


def test_kittis_png_holds_what_is_within_512_pixels(tmp_path):
    flow = np.array([[[0, 0], [-512, 511.984375], [1.0079, -3.5], [512, 0], [0, -512.1]]], np.float32)
    write_kitti_flow(tmp_path / "f.png", flow)
    levels = cv2.imread(str(tmp_path / "f.png"), cv2.IMREAD_UNCHANGED)[..., ::-1].astype(int)  # OpenCV reads BGR
    assert levels[0].tolist() == [[32768, 32768, 1], [0, 65535, 1], [32833, 32544, 1], [0, 0, 0], [0, 0, 0]]


def test_flow_colors():
    flow = np.array([[[0, 0], [4, 0], [-4, 0], [np.nan, 0], [2e9, 0]]], np.float32)
    still, right, left, *unknown = flow_to_color(flow)[0]
    np.testing.assert_array_equal(still, [255, 255, 255])
    assert right[0] == 255 and right[1] < 30 and right[2] < 30  # the Middlebury wheel: right is red, left cyan-blue
    assert left[0] < 30 and left[2] > 200
    assert not np.any(unknown)
    assert flow_to_color(flow[:, 1:2], max_norm=400).min() > 250  # hardly any motion at that scale


# ---- estimators ------------------------------------------------------------------------------------------------------


def test_dis_follows_a_moving_texture():
    estimator = estimators.make_estimator("dis")
    estimator.load_frames(moving_frames())
    flows = estimator.flow_from(2, [4, 1])
    assert flows.shape == (2, 64, 80, 2) and flows.dtype == np.float32
    np.testing.assert_allclose(flows[0, 16:-16, 16:-16].mean((0, 1)), [2, 4], atol=0.2)
    np.testing.assert_allclose(flows[1, 16:-16, 16:-16].mean((0, 1)), [-1, -2], atol=0.2)
    assert estimator.flow_from(2, []).shape == (0, 64, 80, 2)


def direct_raft(model, frames, i, walk, iterations):
    """RAFT from frame i to the last of `walk`, warm-started along it, straight from the model: no cache, no batch."""
    images = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 * 2 - 1
    low_resolution = None
    for j in walk:
        features = model.features(images[i : i + 1]), model.features(images[j : j + 1])
        context = model.context(images[i : i + 1])
        *_, (low_resolution, hidden) = model.updates(*features, *context, iterations, low_resolution)
    return model.upsample(low_resolution, hidden)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("small", [True, False])
def test_raft_walks_outwards_warm_started(small):
    model, frames = random_raft(small), moving_frames()
    estimator = RaftFlow(model, "random", "", iterations=3, scale=1, half=False)
    estimator.load_frames(frames)
    flows = estimator.flow_from(2, [4, 0, 3, 1])
    for k, walk in enumerate([[3, 4], [1, 0], [3], [1]]):
        np.testing.assert_allclose(flows[k], direct_raft(model, frames, 2, walk, 3), atol=1e-4)


def test_several_sources_and_small_batches_change_nothing(monkeypatch):
    estimator = RaftFlow(random_raft(), "random", "", iterations=2, scale=1, half=False)
    estimator.load_frames(moving_frames())
    together = estimator.flow_from_many([(0, [1, 2]), (3, [4, 1, 2])])
    monkeypatch.setattr(estimator, "volume_bytes", 0)  # one pair at a time, by the local lookup
    np.testing.assert_allclose(together[0], estimator.flow_from(0, [1, 2]), atol=1e-4)
    np.testing.assert_allclose(together[1], estimator.flow_from(3, [4, 1, 2]), atol=1e-4)


def test_every_frame_is_encoded_once(monkeypatch):
    model, encoded = random_raft(), []
    estimator = RaftFlow(model, "random", "", iterations=1, scale=1)
    monkeypatch.setattr(model, "features", lambda image, original=model.features: encoded.append(1) or original(image))
    estimator.load_frames(moving_frames())
    for i in range(5):
        estimator.flow_from(i, [j for j in range(5) if j != i])
    assert len(encoded) == 5


def test_feature_cache_is_bounded(monkeypatch):
    estimator = RaftFlow(random_raft(), "random", "", iterations=1, scale=1)
    monkeypatch.setattr(raft_flow, "FEATURE_CACHE_BYTES", 1)
    estimator.load_frames(moving_frames())
    whole = estimator.flow_from(0, [1, 2, 3, 4])
    assert len(estimator.encoded) == 2
    np.testing.assert_array_equal(estimator.flow_from(0, [1, 2, 3, 4]), whole)


def test_small_and_odd_frames_keep_their_size():
    for height, width in ((17, 31), (64, 80)):
        estimator = RaftFlow(random_raft(), "random", "", iterations=1)
        estimator.load_frames(moving_frames(height=height, width=width))
        assert estimator.flow_from(0, [1]).shape == (1, height, width, 2)


def test_enlargement():
    assert [enlargement(90, side) for side in (24, 128, 192, 256, 319, 320, 854)] == [4.5, 3, 2, 1.5, 1, 1, 1]


@pytest.mark.parametrize("factor", [2, 1.5])
def test_flow_of_enlarged_frames_is_in_pixels_of_the_frame(factor):
    estimator = RaftFlow(random_raft(), "random", "", scale=factor)
    estimator.load_frames(moving_frames(height=60, width=50))
    height, width = estimator.network_size
    left, right, top, bottom = estimator.padding
    x = (torch.arange(width) + 0.5) / factor - 0.5  # of each enlarged pixel, in the frame
    flow = torch.stack([0.1 * x.expand(height, width), torch.full((height, width), 3.0)])[None] * factor
    flow = estimator.to_frame(torch.nn.functional.pad(flow, estimator.padding, value=1e3))
    np.testing.assert_allclose(flow[0, :, :, 0], 0.1 * np.arange(50.0)[None].repeat(60, 0), atol=0.1 / factor)
    np.testing.assert_allclose(flow[0, :, :, 1], 3, atol=1e-5)


@pytest.mark.skipif(not (SINTEL.exists() and PAIRS.is_dir()), reason="no Sintel weights or Middlebury pairs at hand")
def test_published_end_point_errors():
    model, digest = raft_weights.load_raft(SINTEL)
    venus = read_pair(PAIRS / "middlebury_Venus")
    expected = ((RaftFlow(model, SINTEL.name, digest, half=False), 0.3846),
                (PlainDis("fast", finest_scale=None), 0.5638))
    for estimator, error in expected:
        assert end_point_error(estimator, *venus) == pytest.approx(error, rel=0.01)


# ---- choice and weights ----------------------------------------------------------------------------------------------


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("OMNIMOTION_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_auto_without_weights_is_dis(no_weights, capsys):
    estimator = estimators.make_estimator(image_size=(64, 80), num_pairs=10)
    assert estimator.description["method"] == "dis"
    assert "no RAFT weights" in estimator.reason and estimator.reason in capsys.readouterr().out


def test_auto_prefers_given_then_downloaded(no_weights, capsys):
    save_random_raft(raft_weights.cached_large(), small=False)
    choose = lambda **options: estimators.make_estimator(image_size=(64, 80), device="cpu", **options)  # noqa: E731
    assert choose().description["model"] == "large"
    assert "for 1 pairs on this CPU" in capsys.readouterr().out
    save_random_raft(no_weights / "mine.pth")
    given = choose(raft_weights=no_weights / "mine.pth", iterations=7).description
    assert given["weights"] == "mine.pth" and given["iterations"] == 7
    assert given["sha256"] == hashlib.sha256((no_weights / "mine.pth").read_bytes()).hexdigest()
    assert choose(fast=True).description["method"] == "dis"


def test_auto_is_dis_when_raft_would_take_too_long(no_weights, monkeypatch):
    save_random_raft(raft_weights.cached_large(), small=False)
    monkeypatch.setattr(estimators, "seconds_per_pair", lambda *_: 10.0)
    estimator = estimators.make_estimator(image_size=(64, 80), num_pairs=1000, device="cpu")
    assert estimator.description["method"] == "dis" and "2.8 h for 1000 pairs" in estimator.reason


def test_bad_weights_files(tmp_path):
    for content, message in ((b"no weights", "not a readable"), (None, "no such file")):
        path = tmp_path / f"{message}.pth"
        if content:
            path.write_bytes(content)
        with pytest.raises(util.UserError, match=message):
            raft_weights.load_raft(path)
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(util.UserError, match="no RAFT weights.*expected RAFT weights"):
        raft_weights.load_raft(tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(util.UserError, match="no state dict"):
        raft_weights.load_raft(tmp_path / "list.pth")


def test_offline_download_names_file_and_place(no_weights, monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(raft_weights.urllib.request, "urlopen", offline)
    with pytest.raises(util.UserError, match="raft_large_C_T_SKHT_V2-ff5fadd5.pth.*no route.*put it at .*cache"):
        estimators.make_estimator("raft")
    assert not list((no_weights / "cache").iterdir())


def test_download_is_verified_and_kept(no_weights):
    random_state = no_weights / "source.pth"
    save_random_raft(random_state, small=False)
    digest = util.file_hash(random_state)
    good = random_state.rename(no_weights / f"raft-{digest[:8]}.pth")
    with pytest.raises(util.UserError, match="damaged download"):
        bad = no_weights / "raft-00000000.pth"
        bad.write_bytes(good.read_bytes())
        raft_weights.download_large(bad.as_uri())
    assert not raft_weights.cached_large(bad.as_uri()).exists()
    path = raft_weights.download_large(good.as_uri())
    assert path.read_bytes() == good.read_bytes()
    good.unlink()
    assert raft_weights.download_large(good.as_uri()) == path  # not fetched again


# ---- command ---------------------------------------------------------------------------------------------------------


def write_images(folder, frames):
    paths = [folder / f"ü {k}.png" for k in range(len(frames))]
    for path, frame in zip(paths, frames):
        cv2.imencode(".png", frame[..., ::-1])[1].tofile(path)
    return [str(path) for path in paths]


def test_command_writes_flow_and_picture(tmp_path):
    paths = write_images(tmp_path, moving_frames(2))
    flow_command.main([*paths, "--out", str(tmp_path / "out" / "f.flo"), "--flow", "dis", "--png"])
    flow = read_flo(tmp_path / "out" / "f.flo")
    np.testing.assert_allclose(flow[16:-16, 16:-16].mean((0, 1)), [1, 2], atol=0.2)
    assert cv2.imread(str(tmp_path / "out" / "f.png")).shape == (64, 80, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--flow", "lucas"], "expected auto, raft or dis"),
        (["--iters", "0"], "expected at least 1"),
        (["--out", "f.png"], "ends in .flo"),
        (["--raft_weights", "none.pth"], "none.pth: no such file"),
    ],
)
def test_command_refuses(tmp_path, capsys, change, message):
    paths = write_images(tmp_path, moving_frames(2))
    assert message in refused(capsys, flow_command.main, *paths, "--out", tmp_path / "f.flo", *change)
    assert not (tmp_path / "f.flo").exists()


def test_command_refuses_bad_images(tmp_path, capsys):
    first, second = write_images(tmp_path, [moving_frames(1)[0], moving_frames(1, width=72)[0]])
    (tmp_path / "text.png").write_text("no image")
    cases = ((second, "72x64"), (str(tmp_path / "text.png"), "not a readable image"), ("none.png", "no such file"))
    for other, message in cases:
        assert message in refused(capsys, flow_command.main, first, other, "--out", tmp_path / "f.flo")
