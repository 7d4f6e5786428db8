import cv2
import numpy as np
import pytest

from tracking.queries import default_step, grid_queries, parse_queries, read_mask
from util import UserError

VIDEO = (40, 60)


def test_a_grid_of_step_one_is_every_pixel_centre():
    queries = parse_queries("grid:1@3", 5, (3, 4))
    expected = [(3, y + 0.5, x + 0.5) for y in range(3) for x in range(4)]
    assert queries.dtype == np.float32
    assert queries.tolist() == [list(map(float, row)) for row in expected]


def test_a_grid_is_regular_and_centred():
    queries = grid_queries(0, 7, VIDEO)
    for axis, size in ((1, 40), (2, 60)):
        positions = np.unique(queries[:, axis])
        assert np.allclose(np.diff(positions), 7)
        assert positions[0] == pytest.approx(size - positions[-1])
        assert 3.5 <= positions[0] < 7
    assert len(queries) == (40 // 7) * (60 // 7)


def test_a_step_larger_than_the_image_leaves_its_centre():
    assert parse_queries("grid:1000", 1, VIDEO).tolist() == [[0, 20, 30]]


@pytest.mark.parametrize("size", [(480, 854), (96, 128), (2160, 3840)])
def test_the_default_grid_has_about_a_thousand_points(size):
    assert 600 < len(parse_queries("grid", 1, size)) < 1500
    mask = np.zeros(size, bool)
    mask[: size[0] // 2, : size[1] // 2] = True
    assert 600 < len(parse_queries("grid", 1, size, mask)) < 1500
    assert default_step((2, 2)) == 1


def test_a_mask_keeps_the_grid_points_whose_pixel_is_set():
    mask = np.random.default_rng(0).random(VIDEO) > 0.6
    kept = {tuple(row) for row in parse_queries("grid:3@2", 5, VIDEO, mask)[:, 1:].tolist()}
    everything = parse_queries("grid:3@2", 5, VIDEO)[:, 1:].tolist()
    expected = {(y, x) for y, x in everything if mask[int(y), int(x)]}
    assert kept == expected
    assert 0 < len(kept) < len(everything)


def test_points_on_the_command_line_may_lie_anywhere_in_the_image():
    queries = parse_queries("0, 0, 0; 4,40,60;2,12.25,1e1;", 5, VIDEO)
    assert queries.tolist() == [[0, 0, 0], [4, 40, 60], [2, 12.25, 10]]


def test_files_of_any_number_type(tmp_path):
    path = tmp_path / "ü queries.npz"
    np.savez(path, query_points=np.array([[1, 2, 3], [4, 5, 6]], np.int64))
    assert parse_queries(str(path), 5, VIDEO).tolist() == [[1, 2, 3], [4, 5, 6]]
    np.savez(path, query_points=np.array([[1, 2.5, 3]]), video_size=np.array(VIDEO))
    assert parse_queries(str(path), 5, VIDEO).tolist() == [[1, 2.5, 3]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("grid@5", "frame 5 is outside"),
        ("grid@-1", "frame -1 is outside"),
        ("grid:0", "positive STEP"),
        ("grid:2.5", "positive STEP"),
        ("grid:", "positive STEP"),
        ("gird", "expected grid"),
        ("", "expected grid"),
        ("1,2", "expected grid"),
        ("1,2,3,4", "expected grid"),
        ("1,two,3", "expected grid"),
        ("0,1,1;5,1,1", r"query 1 \(t,y,x = 5,1,1\) is outside"),
        ("-1,1,1", "query 0"),
        ("0.5,1,1", "query 0"),
        ("0,40.01,1", r"query 0 .* y in \[0, 40\]"),
        ("0,1,60.01;0,-0.1,1", r"and 1 more.* x in \[0, 60\]"),
        ("0,nan,1", "query 0"),
        ("0,1,inf", "query 0"),
        ("nowhere.npz", "nowhere.npz: no such file"),
    ],
)
def test_what_is_no_query_is_named(text, says):
    with pytest.raises(UserError, match=says):
        parse_queries(text, 5, VIDEO)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"points": np.zeros((2, 3))}, "no such array"),
        ({"query_points": np.zeros((2, 2))}, r"shape \(2, 2\)"),
        ({"query_points": np.array([["a", "b", "c"]])}, "numbers"),
        ({"query_points": np.array([[None, 1, 2]], object)}, "not a readable"),
        ({"query_points": np.zeros((0, 3))}, "no query points"),
        ({"query_points": np.zeros((1, 3)), "video_size": np.array([480, 854])}, "854x480"),
    ],
)
def test_a_file_without_queries_is_named(tmp_path, arrays, says):
    np.savez(tmp_path / "q.npz", **arrays)
    with pytest.raises(UserError, match=says):
        parse_queries(str(tmp_path / "q.npz"), 5, VIDEO)


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04truncated"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "q.npz").write_bytes(content)
    with pytest.raises(UserError, match="q.npz: not a readable"):
        parse_queries(str(tmp_path / "q.npz"), 5, VIDEO)


def test_masks_are_for_grids_and_must_hold_a_point():
    with pytest.raises(UserError, match="one by one"):
        parse_queries("0,1,1", 5, VIDEO, np.ones(VIDEO, bool))
    with pytest.raises(UserError, match="no point of a grid"):
        parse_queries("grid", 5, VIDEO, np.zeros(VIDEO, bool))


def test_masks_of_any_kind_of_image(tmp_path):
    expected = np.random.default_rng(0).random(VIDEO) > 0.5
    grey = expected.astype(np.uint8)  # a value of 1 counts as much as 255
    alpha = np.full(VIDEO, 255, np.uint8)
    images = {"grey": grey, "deep": grey.astype(np.uint16) * 1000, "rgb": np.stack([0 * grey, grey, 0 * grey], -1),
              "rgba": np.stack([0 * grey, 0 * grey, grey, alpha], -1)}
    for name, image in images.items():
        path = tmp_path / f"máscara {name}.png"
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        assert np.array_equal(read_mask(path, [VIDEO]), expected), name


def test_a_mask_of_the_smaller_size_is_enlarged_and_others_are_refused(tmp_path):
    small = np.zeros((20, 30), np.uint8)
    small[5:10, 10:20] = 255
    path = tmp_path / "mask.png"
    path.write_bytes(cv2.imencode(".png", small)[1].tobytes())
    assert np.array_equal(read_mask(path, [VIDEO, (20, 30)]), small.repeat(2, 0).repeat(2, 1) > 0)
    with pytest.raises(UserError, match="mask.png: the image is 30x20, expected 60x40"):
        read_mask(path, [VIDEO])
    path.write_bytes(b"")
    with pytest.raises(UserError, match="mask.png: empty; expected --mask"):
        read_mask(path, [VIDEO])
    with pytest.raises(UserError, match="no such file"):
        read_mask(tmp_path / "other.png", [VIDEO])
