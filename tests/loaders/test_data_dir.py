import json

import numpy as np
import pytest

from files import UserError, sweep
from loaders.data_dir import (
    DataDir,
    decode_flow,
    encode_flow,
    fingerprint_of,
    flow_step_for,
    owner_of_image,
    pack_mask,
    unpack_mask,
    write_array,
    write_image,
)

HEIGHT, WIDTH = 5, 7  # 35 pixels: the last byte of the packed masks is partly used
PARTNERS = [[1, 2], [0], [0, 1]]


def make_directory(path):
    """A finished three-frame directory with random content, and that content."""
    random = np.random.default_rng(0)
    video = {
        "name": "tiny", "source": "memory", "fingerprint": "abc", "num_frames": 3, "height": HEIGHT, "width": WIDTH,
        "original_height": 10, "original_width": 14, "fps": 25.0, "has_masks": True,
    }
    content = {"flow": {}, "valid": {}, "color": random.integers(0, 256, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)}
    data = DataDir.create(path, video | {"fingerprint": fingerprint_of(content["color"])})
    data.manifest.update(partners=PARTNERS, pair_counts=[[3, 4], [5], [6, 7]], finished=["frames", "counts"])
    for i, partners in enumerate(PARTNERS):
        flow = random.uniform(-9, 9, (len(partners), HEIGHT, WIDTH, 2)).astype(np.float32)
        masks = random.random((len(partners), 2, HEIGHT, WIDTH)) > 0.5
        data.write("flow", i, encode_flow(flow, data.flow_step))
        data.write("valid_direct", i, pack_mask(masks))
        data.write("counts", i, masks.any(1).sum(0).astype(np.uint16))
        write_image(path / f"color/{i:05d}.png", content["color"][i], owner_of_image("color", i))
        write_image(path / f"masks/{i:05d}.png", masks[0, 0].astype(np.uint8) * 255, owner_of_image("masks", i))
        content["flow"].update({(i, j): flow[k] for k, j in enumerate(partners)})
        content["valid"].update({(i, j): masks[k] for k, j in enumerate(partners)})
    data.save_manifest()
    return content


def test_reads_back_what_was_written(tmp_path):
    content = make_directory(tmp_path / "é data")
    data = DataDir.open(tmp_path / "é data")
    assert (data.num_frames, data.height, data.width, data.original_width, data.fps) == (3, 5, 7, 14, 25.0)
    assert np.array_equal(data.frames(), content["color"])
    for (i, j), flow in content["flow"].items():
        assert np.abs(data.flow(i, j) - flow).max() <= 1 / 64 + 1e-6
        assert np.array_equal(np.stack(data.valid(i, j)), content["valid"][i, j])
    assert np.array_equal(data.mask(2), content["valid"][2, 0][0])
    assert np.array_equal(data.count_map(0), sum(content["valid"][0, j].any(0) for j in (1, 2)))
    assert data.pair_counts.tolist() == [[0, 3, 4], [5, 0, 0], [6, 7, 0]]
    assert isinstance(data.flow_fixed(0), np.memmap)
    assert isinstance(data.valid_bits(0), np.memmap)


def test_flow_step_is_the_smallest_power_of_two_that_spans_the_image():
    assert flow_step_for(480, 854) == 1 / 32
    assert flow_step_for(1023, 100) == 1 / 32
    assert flow_step_for(100, 1024) == 1 / 16
    assert flow_step_for(2160, 3840) == 1 / 8


def test_flow_that_does_not_fit_saturates_outside_the_image():
    step = flow_step_for(480, 854)
    wild = np.array([5000.0, -5000.0, np.nan, np.inf, -np.inf, 0.25])
    decoded = decode_flow(encode_flow(wild, step), step)
    assert (np.abs(decoded[:5]) > 1023).all()
    assert np.array_equal(np.sign(decoded), [1, -1, 1, 1, -1, 1])
    assert decoded[5] == 0.25
    assert np.array_equal(encode_flow(decoded, step), encode_flow(wild, step))  # storing again changes nothing


def test_packed_masks_take_one_bit_a_pixel():
    masks = np.random.default_rng(1).random((4, 2, HEIGHT, WIDTH)) > 0.3
    bits = pack_mask(masks)
    assert bits.shape == (4, 2, 5)
    assert np.array_equal(unpack_mask(bits, HEIGHT, WIDTH), masks)


def edit_manifest(path, **changes):
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["checksum"]  # as in those of before there were any
    (path / "manifest.json").write_text(json.dumps(manifest | changes))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: (path / "manifest.json").unlink(), "no data directory here.*python -m preprocess"),
        (lambda path: (path / "manifest.json").write_text("{"), "not valid JSON"),
        (lambda path: (path / "manifest.json").write_text("[]"), "not the manifest of a data directory"),
        (lambda path: edit_manifest(path, version=99), "of version 99.*reads version 1"),
        (lambda path: edit_manifest(path, finished=["frames", "flow"]), "unfinished.*frames, flow"),
    ],
)
def test_open_refuses_with_one_line(tmp_path, damage, expected):
    make_directory(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=expected) as error:
        DataDir.open(tmp_path)
    assert "\n" not in str(error.value)


def test_missing_directory_pairs_and_files_are_users_errors(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        DataDir.open(tmp_path / "nowhere")
    make_directory(tmp_path)
    data = DataDir.open(tmp_path)
    with pytest.raises(UserError, match="no flow from frame 1 to 2"):
        data.flow(1, 2)
    data.manifest["chained"] = True
    with pytest.raises(UserError, match=r"flow_chained.00000.npy: missing"):
        data.flow(0, 1)
    data.remove("flow", 0)
    with pytest.raises(UserError, match="--keep_direct"):
        data.flow(0, 1, direct=True)
    (tmp_path / "flow/00001.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match="damaged"):
        data.flow(1, 0, direct=True)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_array(tmp_path / "a.npy", np.arange(3))

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"full while writing .*a\.npy: 0\.2 kB needed, \d.* free"):
        write_array(tmp_path / "a.npy", np.arange(4))
    assert [file.name for file in tmp_path.iterdir()] == ["a.npy"]
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.arange(3))


def test_stale_temporary_files_are_removed_and_others_kept(tmp_path):
    (tmp_path / "flow").mkdir()
    (tmp_path / ".color.tmp").mkdir()
    for name in ("flow/.00003.123.tmp.npy", "flow/00002.npy", ".color.tmp/00000.png"):
        (tmp_path / name).write_bytes(b"x")
    sweep(tmp_path)
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")) == ["flow", "flow/00002.npy"]


def test_pairs_that_are_left_out_are_as_if_not_stored(tmp_path):
    content = make_directory(tmp_path)
    whole = DataDir.open(tmp_path)
    data = whole.without({(0, 1), (2, 0)})
    assert [data.partners(i) for i in range(3)] == [[2], [0], [1]]
    assert data.pair_counts.tolist() == [[0, 0, 4], [5, 0, 0], [0, 7, 0]]
    assert np.array_equal(data.count_map(0), content["valid"][0, 2].any(0))
    assert np.array_equal(data.count_map(1), whole.count_map(1))
    for i, j in ((0, 2), (1, 0), (2, 1)):
        assert np.array_equal(data.flow(i, j), whole.flow(i, j))
        assert np.array_equal(np.stack(data.valid(i, j)), content["valid"][i, j])
    for read in (data.flow, data.valid):
        with pytest.raises(UserError, match="no flow from frame 2 to 0"):
            read(2, 0)
    assert whole.partners(0) == [1, 2]


def test_rows_are_looked_up_once_until_other_pairs_are_chosen(tmp_path):
    make_directory(tmp_path)
    whole = DataDir.open(tmp_path)
    part = whole.without({(0, 1)})
    assert whole.rows(0) == {1: 0, 2: 1} and part.rows(0) == {2: 1}
    assert whole.rows(0) is whole.rows(0) and part.rows(0) is part.rows(0)
    with pytest.raises(TypeError):
        whole.rows(0)[1] = 5
    whole.manifest.update(partners=[[2], [0], [1]])
    assert whole.rows(0) == {2: 0} and part.rows(0) == {2: 0} and whole.partners(1) == [0]
