"""Labels, layers and folders of edits, written by another library and read here."""

import numpy as np
import pytest
from PIL import Image

from edits.files import check_folder, edit_folder, read_labels, read_layer, read_masks, write_png
from util import UserError

LABELS = np.array([[0, 1, 2], [3, 0, 1]], np.uint8)


def save(path, array, mode=None):
    image = Image.fromarray(array)
    if mode == "P":
        image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 7, 7, 7])
    image.save(path)
    return path


def test_labels_are_grey_levels_or_indices_of_a_palette(tmp_path):
    assert (read_labels("--first", save(tmp_path / "grey.png", LABELS), (2, 3)) == LABELS).all()
    assert (read_labels("--first", save(tmp_path / "palette.png", LABELS, "P"), (2, 3)) == LABELS).all()
    single = read_labels("--first", save(tmp_path / "mask.png", (LABELS > 0) * np.uint8(255)), (2, 3))
    assert (single == (LABELS > 0)).all()
    with pytest.raises(UserError, match="got colours"):
        read_labels("--first", save(tmp_path / "rgb.png", np.arange(18, dtype=np.uint8).reshape(2, 3, 3)), (2, 3))
    with pytest.raises(UserError, match="8 bits, got 16"):
        read_labels("--first", save(tmp_path / "deep.png", LABELS.astype(np.uint16)), (2, 3))


def test_layers_keep_their_channels(tmp_path):
    rgba = np.random.default_rng(0).integers(1, 256, (2, 3, 4), dtype=np.uint8)
    assert (read_layer("--layer", save(tmp_path / "layer.png", rgba), (2, 3)) == rgba).all()
    write_png(tmp_path / "again.png", rgba)
    write_png(tmp_path / "sources.png", LABELS.astype(np.uint16) * 1000)
    assert (np.array(Image.open(tmp_path / "again.png")) == rgba).all()
    assert (np.array(Image.open(tmp_path / "sources.png")) == LABELS.astype(int) * 1000).all()


def test_masks_of_all_frames_in_natural_order(tmp_path):
    for number in (2, 10, 1):
        save(tmp_path / f"{number}.png", (number % 4 == LABELS).astype(np.uint8))
    masks = read_masks("--mask", tmp_path, 3, (2, 3))
    assert (masks == [LABELS == 1, LABELS == 2, LABELS == 10 % 4]).all()


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), edit_folder(tmp_path / "out", {}) as folder:
        (folder / "half").write_text("")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with edit_folder(tmp_path / "out", {"frame": 3}):
        assert not (tmp_path / "out").exists()
    assert [file.name for file in tmp_path.rglob("*.json")] == ["edit.json"]
    check_folder(tmp_path / "out", overwrite=True)
    (tmp_path / "file").write_text("")
    for name, overwrite in (("out", False), ("file", True)):
        with pytest.raises(UserError, match=f"--out .*{name}"):
            check_folder(tmp_path / name, overwrite)
    with pytest.raises(UserError, match="file/.out.tmp: expected a folder"), edit_folder(tmp_path / "file/out", {}):
        pass


def test_what_a_dead_process_left_goes_and_a_living_one_is_left_alone(tmp_path):
    left = tmp_path / ".out.tmp" / "frames"
    left.mkdir(parents=True)
    (left / "00000.png").write_text("half")
    with edit_folder(tmp_path / "out", {}) as folder:
        assert not list(folder.iterdir())
        (folder / "mine").write_text("")
        with pytest.raises(UserError, match="in use by"), edit_folder(tmp_path / "out", {}):
            pass
        assert (folder / "mine").exists()
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["edit.json", "mine"]
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
