"""Monocular depth: read from maps or a network, stored as ranks, refused or left where it cannot be of the video."""

import cv2
import numpy as np
import pytest
import torch

from flow.estimator import Estimator
from loaders.data_dir import DataDir
from preprocess import build
from preprocess.depth import DepthNetwork, depth_source, ranks
from preprocess.verify import verify
from tests.helpers.jumping_square import frame_with
from util import UserError

N, SIZE = 3, (32, 40)


@pytest.fixture(scope="module")
def clip():
    return np.stack([np.roll(frame_with(None)[: SIZE[0], : SIZE[1]], 2 * i, 1) for i in range(N)])


@pytest.fixture
def maps():
    """(N, *SIZE) metres: farther to the right, and farther still in later frames."""
    return np.arange(SIZE[1], dtype=np.float32)[None, None] + np.zeros((*SIZE, 1), np.float32).transpose(2, 0, 1) + (
        10 * np.arange(N, dtype=np.float32)[:, None, None])


def write_maps(folder, maps, suffix=".npy"):
    folder.mkdir()
    for i, values in enumerate(maps):
        if suffix == ".npy":
            np.save(folder / f"frame{9 + i}.npy", values)  # 10 after 9: by number
        elif suffix == ".exr":
            openexr = pytest.importorskip("OpenEXR")
            openexr.File({"type": openexr.scanlineimage}, {"Z": values}).write(str(folder / f"frame{9 + i}.exr"))
        else:
            cv2.imwrite(str(folder / f"frame{9 + i}.png"), (values * 256).astype(np.uint16))
    return folder


class Still(Estimator):
    """Nothing moves."""

    description = {"method": "still"}

    def load_frames(self, frames, adjacent=None):
        self.size = frames[0].shape[:2]

    def flow_from(self, i, partners):
        return np.zeros((len(partners), *self.size, 2), np.float32)


def preprocessed(clip, path, **options):
    return build(clip, path, flow=Still(), chain=False, quiet=True, workers=1, cuts="ignore", **options)


def test_ranks_by_hand():
    found = ranks(np.array([[3.0, 1.0], [1.0, np.inf]]), (2, 2))
    assert found.tolist() == [[159, 64], [64, 223]]  # 5, 2, 2 and 7 eighths of 255
    assert ranks(np.full((4, 4), 7), (2, 2)).tolist() == [[128, 128]] * 2


@pytest.mark.parametrize("suffix", [".npy", ".png", ".exr"])
def test_maps_are_stored_as_ranks_and_go_where_they_are_asked_for_no_more(tmp_path, clip, maps, suffix):
    data = preprocessed(clip, tmp_path / "data", depth=write_maps(tmp_path / "maps", maps, suffix))
    expected = (np.arange(SIZE[1]) + 0.5) / SIZE[1] * 255
    for i in range(N):
        assert np.abs(data.depth(i) - expected).max() <= 0.51
    verify(data.path)
    path = data.path / "depth" / "00001.png"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="1 missing or damaged"):
        verify(data.path)
    assert preprocessed(clip, data.path, depth=tmp_path / "maps").depth(1) is not None  # made again
    assert preprocessed(clip, data.path).depth(0) is None and not (data.path / "depth").exists()


def test_maps_of_the_whole_video_and_of_another_size(tmp_path, clip, maps):
    larger = [cv2.resize(values, (SIZE[1], SIZE[0])) for values in maps]
    folder = write_maps(tmp_path / "maps", larger)
    data = preprocessed(clip, tmp_path / "data", depth=folder, start=1, max_side=20)
    assert data.num_frames == N - 1 and data.depth(0).shape == (16, 20)
    assert (np.diff(data.depth(1)[0].astype(int)) > 0).all()


def test_what_is_no_depth_of_this_video_is_one_line(tmp_path, clip, maps):
    broken = maps.copy()
    broken[1, 3, 4] = np.nan
    cases = {"short": (maps[:2], r"2 map\(s\); expected 3, one a frame"),
             "wide": (np.repeat(maps, 2, 2), "depth of 80x32; expected 40x32 pixels"),
             "nan": (broken, "frame10.npy: a depth is not a number"),
             "colour": (np.stack([maps] * 3, -1), r"expected depth, numbers \(H, W\)")}
    for name, (values, words) in cases.items():
        with pytest.raises(UserError, match=words):
            preprocessed(clip, tmp_path / "data", depth=write_maps(tmp_path / name, values))
    (tmp_path / "short" / "frame9.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="frame9.npy: not a readable .npy file"):
        preprocessed(clip, tmp_path / "data", depth=tmp_path / "short", start=1)
    for name, words in (("empty", "no maps there; expected auto"), ("none at all", "no such folder; expected auto")):
        with pytest.raises(UserError, match=words):
            depth_source(tmp_path / name)
    assert depth_source("none") is None and depth_source(None) is None


def test_constant_depth_is_not_used(tmp_path, clip, capsys):
    folder = write_maps(tmp_path / "maps", np.ones((N, *SIZE)))
    build(clip, tmp_path / "data", flow=Still(), chain=False, workers=1, cuts="ignore", depth=folder)
    assert "every map is constant" in capsys.readouterr().out
    assert DataDir.open(tmp_path / "data").depth(0) is None


def test_a_network_from_a_folder(tmp_path, clip):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    backbone = transformers.Dinov2Config(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=56,
                                         patch_size=14, out_indices=[1, 2, 3, 4], reshape_hidden_states=False)
    config = transformers.DepthAnythingConfig(backbone_config=backbone, reassemble_hidden_size=16, patch_size=14,
                                              neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, head_hidden_size=4)
    transformers.DepthAnythingForDepthEstimation(config).save_pretrained(tmp_path / "network")
    source = depth_source(tmp_path / "network")
    assert isinstance(source, DepthNetwork)
    data = preprocessed(clip, tmp_path / "data", depth=tmp_path / "network")
    assert data.depth(0).shape == SIZE and data.depth(0).std() > 30
    (tmp_path / "network" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="--depth .*network: cannot be read"):
        depth_source(tmp_path / "network")
