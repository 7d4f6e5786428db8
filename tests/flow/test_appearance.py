"""What decides that two pixels look alike: census, DINO, the features of RAFT."""

import numpy as np
import pytest
import torch

from flow import appearance
from flow.appearance import CensusAppearance, DinoAppearance, make_appearance, sample_features
from tests.helpers.moving_clip import moving_clip
from tests.helpers.random_raft import save_random_raft
from util import UserError, pixel_grid


def test_census_tells_the_same_surface_from_another_whatever_the_exposure():
    random = np.random.default_rng(0)
    frame = random.integers(30, 220, (24, 32, 3), dtype=np.uint8)
    darker = (frame * 0.6 + random.normal(0, 2, frame.shape) + 8).clip(0, 255).astype(np.uint8)
    census = CensusAppearance()
    pixels = pixel_grid(24, 32).flatten(0, 1)
    features = [census(image).map for image in (frame, darker)]
    assert features[0].shape == (24, 32, 24)
    assert features[0].abs().max() <= 1
    same = similarity(*features, pixels, pixels)
    other = similarity(*features, pixels, pixels.roll(5, 0))
    assert (same > 0.5).float().mean() > 0.99
    assert (other > 0.5).float().mean() < 0.15


def similarity(features_1, features_2, pixels_1, pixels_2):
    sampled = (sample_features(features_1, pixels_1, 24, 32), sample_features(features_2, pixels_2, 24, 32))
    return torch.nn.functional.cosine_similarity(*sampled, dim=0)


def test_census_signs_are_those_of_a_loop():
    frame = np.random.default_rng(1).integers(0, 256, (21, 22, 3), dtype=np.uint8)
    gray = frame @ np.array([0.299, 0.587, 0.114]) / 255
    expected = []
    for distance, radius in ((1, 0), (3, 1), (6, 3)):

        def blurred(y, x, radius=radius):
            return gray[y - radius : y + radius + 1, x - radius : x + radius + 1].mean()

        for y, x in ((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (x, y) != (0, 0)):
            difference = blurred(10 + y * distance, 11 + x * distance) - blurred(10, 11)
            expected.append(difference / np.hypot(difference, 16 / 255))
    np.testing.assert_allclose(CensusAppearance()(frame).map[10, 11], expected, atol=1e-3)  # half precision


def test_census_of_large_frames_is_sparse_and_spans_the_image(monkeypatch):
    frame = np.random.default_rng(2).integers(0, 256, (20, 70, 3), dtype=np.uint8)
    full = CensusAppearance()(frame).map
    monkeypatch.setattr(appearance, "LARGEST_SIDE", 40)
    sparse = CensusAppearance()(frame).map
    assert sparse.shape == (10, 35, 24)
    assert torch.equal(sparse[[0, -1]][:, [0, -1]], full[[0, -1]][:, [0, -1]])


@pytest.mark.parametrize("kind, patch", [("ViT", 16), ("Dinov2", 14), ("DINOv3ViT", 16)])
def test_dino_from_a_folder(tmp_path, kind, patch):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=4 * patch,
        patch_size=patch)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    model.save_pretrained(tmp_path / "dino")
    frame = moving_clip()[0]
    appearance = DinoAppearance(tmp_path / "dino")
    rows, columns = (round(side * 480 / min(frame.shape[:2]) / patch) for side in frame.shape[:2])
    assert appearance(frame).map.shape == (rows, columns, 32)
    images = torch.rand(1, 3, 4 * patch, 4 * patch)  # of the size that it was made for: nothing is interpolated
    with torch.no_grad():
        tokens = model(pixel_values=images).last_hidden_state[0, -16:]  # after the class token, and registers
        found = appearance.model(images)[0]
    for place, token in enumerate(tokens):
        torch.testing.assert_close(found[:, place // 4, place % 4], token, atol=1e-5, rtol=1e-5)


def test_dino_from_torchscript_and_what_is_neither(tmp_path):
    torch.jit.script(torch.nn.Conv2d(3, 5, 16, stride=16)).save(tmp_path / "dino.pt")
    (tmp_path / "other.pth").write_bytes(b"x")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "wrong.pth")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text('{"model_type": "dinov2"}')
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"x")
    assert DinoAppearance(tmp_path / "dino.pt")(moving_clip()[0]).map.shape == (30, 50, 5)
    for name in ("other.pth", "wrong.pth", "missing.pth", "empty", "damaged"):
        with pytest.raises(UserError, match=f"{name}: .*expected a folder"):
            make_appearance("dino", dino_weights=tmp_path / name)


def test_raft_features_as_appearance(tmp_path):
    save_random_raft(tmp_path / "raft.pth")
    appearance = make_appearance("raft", raft_weights=tmp_path / "raft.pth")
    assert appearance(np.zeros((64, 83, 3), np.uint8)).map.shape == (8, 11, 128)
    assert appearance.description["weights"] == "raft.pth"
    with pytest.raises(UserError, match="--appearance colour: expected census, raft or dino"):
        make_appearance("colour")
