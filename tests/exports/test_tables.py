"""Tables of laboratories and arrays: read by pandas, by a plain csv reader, and back by our own readers, exactly."""

import csv
import io

import numpy as np
import pandas
import pytest

from exports import deeplabcut, dltdv, napari, sleap
from exports.formats import FORMATS, export, read
from exports.options import Video
from tests.helpers.known_tracks import FPS, NUM_FRAMES, SIZE, assert_keys, known_tracks, many_tracks, options, seen
from tracking import tracks_file
from util import UserError

VIDEO = Video(SIZE, NUM_FRAMES, FPS)


def check_pose_table(table, tracks):
    assert list(table.columns.names) == ["scorer", "bodyparts", "coords"]
    assert list(table.index) == list(range(NUM_FRAMES))
    points = list(dict.fromkeys(table.columns.get_level_values("bodyparts")))
    assert points == [f"track_00{q}" for q in range(1, 6)]
    found = {}
    for q, point in enumerate(points):
        part = table["omnimotion"][point]
        assert np.allclose(part["likelihood"], 1 - tracks.occlusion_score[q])
        found |= {(q, frame): (row.x + 0.5, row.y + 0.5) for frame, row in part.dropna().iterrows()}
    assert_keys(found, seen(tracks), atol=0)


def test_pandas_reads_deeplabcuts_csv():
    tracks = known_tracks()
    text = deeplabcut.write_csv(tracks, options(tracks))
    check_pose_table(pandas.read_csv(io.StringIO(text), header=[0, 1, 2], index_col=0), tracks)


def test_pandas_reads_deeplabcuts_h5(tmp_path):
    tracks = known_tracks()
    export(tmp_path / "p.h5", "dlc_h5", tracks)
    check_pose_table(pandas.read_hdf(tmp_path / "p.h5", "df_with_missing"), tracks)


def test_an_h5_that_cannot_hold_all_points_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot hold 5000 points"):
        export(tmp_path / "p.h5", "dlc_h5", many_tracks())
    assert not list(tmp_path.iterdir())


def test_sleaps_rows_are_what_is_seen():
    tracks = known_tracks()
    rows = list(csv.DictReader(io.StringIO(sleap.write(tracks, options(tracks, names=("a", "b", "c", "d", "e"))))))
    found = {("abcde".index(row["track"]), int(row["frame_idx"])): (float(row["point.x"]) + 0.5,
                                                                    float(row["point.y"]) + 0.5) for row in rows}
    assert_keys(found, seen(tracks), atol=0)
    assert rows[0]["instance.score"] == rows[0]["point.score"] == "1.0000"
    assert rows[1]["point.score"] == "0.8750"


def test_napari_has_row_and_column_of_pixel_centres():
    tracks = known_tracks()
    values = np.loadtxt(io.StringIO(napari.write(tracks, options(tracks))), delimiter=",", skiprows=1)
    assert_keys({(int(q), int(t)): (x + 0.5, y + 0.5) for q, t, y, x in values}, seen(tracks), atol=0)
    assert (np.lexsort((values[:, 1], values[:, 0])) == np.arange(len(values))).all(), "by track, then by time"


def test_dltdv_counts_pixels_from_one():
    tracks = known_tracks()
    table = pandas.read_csv(io.StringIO(dltdv.write(tracks, options(tracks))))
    assert list(table.columns[:3]) == ["pt1_cam1_X", "pt1_cam1_Y", "pt2_cam1_X"] and len(table) == NUM_FRAMES
    found = {(q, frame): (table.iat[frame, 2 * q] - 0.5, table.iat[frame, 2 * q + 1] - 0.5)
             for q in range(5) for frame in range(NUM_FRAMES) if not np.isnan(table.iat[frame, 2 * q])}
    assert_keys(found, seen(tracks), atol=0)
    assert table.iat[0, 0] == 1, "the centre of the first pixel"


@pytest.mark.parametrize("make", [known_tracks, many_tracks, lambda: known_tracks(1)])
@pytest.mark.parametrize(("name", "all_positions", "scores"), [
    ("npz", True, True), ("csv", True, True), ("cotracker", True, False), ("3de", False, False), ("dlc", False, True),
    ("dltdv", False, False)])
def test_round_trips_are_exact(tmp_path, make, name, all_positions, scores):
    tracks, path = make(), tmp_path / f"t{FORMATS[name].suffix}"
    export(path, name, tracks)
    back, names = read(path, name, Video(SIZE, tracks.tracks.shape[1], FPS))
    known = np.full(tracks.occluded.shape, True) if all_positions else ~tracks.occluded
    atol = 3e-8 if name == "cotracker" else 0  # half a pixel less, in 32 bits
    np.testing.assert_allclose(back.tracks[known], tracks.tracks[known], atol=atol, rtol=0)
    assert np.isnan(back.tracks[~known]).all()
    assert np.array_equal(back.occluded, tracks.occluded)
    assert (back.video_size, back.fps) == (SIZE, FPS)
    if scores:
        assert np.array_equal(back.occlusion_score, tracks.occlusion_score)
        assert np.array_equal(back.query_points, tracks.query_points)
    elif name != "cotracker":
        assert (back.query_points[:, 0] == (~tracks.occluded).argmax(axis=1)).all(), "where it is first seen"
    if name in ("npz", "csv"):
        assert np.array_equal(back.depth, tracks.depth, equal_nan=True)
        assert np.array_equal(back.visibility, tracks.visibility)
    assert names is None or len(names) == len(back.tracks)


def test_words_and_codes_keep_apart_why_a_point_is_not_seen(tmp_path):
    tracks = known_tracks()
    expected = np.zeros((5, NUM_FRAMES), np.uint8)
    expected[1, [2, 3]] = expected[2, [0, 1]] = expected[4, [0, 1, 2, 4, 5, 6]] = 1
    expected[2, 6], expected[3, 5] = 2, 3
    assert np.array_equal(tracks.visibility, expected)
    tracks_file.write_csv(tmp_path / "t.csv", tracks)
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    words = [row["visibility"] for row in rows if row["query"] == "2"]
    assert words == ["occluded", "occluded", "visible", "visible", "visible", "visible", "outside"]
    tracks_file.write_tracks(tmp_path / "t.npz", tracks)
    with np.load(tmp_path / "t.npz") as file:
        assert np.array_equal(file["visibility"], expected)
        before = {name: file[name] for name in file.files if name != "visibility"}
    np.savez(tmp_path / "old.npz", **before)
    assert np.array_equal(tracks_file.read_tracks(tmp_path / "old.npz").visibility, expected)


def test_a_corrected_table_with_missing_rows_makes_queries(tmp_path):
    (tmp_path / "t.csv").write_text("frame,query,y,x\n3,7,10.5,20.5\n1,7,9,\n2,7,10,20\n0,9,1,2\n")
    tracks = read(tmp_path / "t.csv", "csv", Video(SIZE, 5))[0]
    assert tracks.query_points.tolist() == [[2, 10, 20], [0, 1, 2]]
    assert (~tracks.occluded).tolist() == [[False, False, True, True, False], [True, False, False, False, False]]


POSE = "scorer,s,s,s\nbodyparts,a,a,a\ncoords,x,y,likelihood\n"


@pytest.mark.parametrize(("name", "text", "says"), [
    ("csv", "query,frame,x\n", "no y"),
    ("csv", "query,frame,x,y\n", "expected rows with whole numbers"),
    ("csv", "query,frame,x,y\n0,1.5,1,2\n", "expected rows with whole numbers"),
    ("csv", "query,frame,x,y\n,1,1,2\n", "expected rows with whole numbers"),
    ("csv", "query,frame,x,y\n0,0,1,two\n", "line 2: expected numbers"),
    ("csv", "query,frame,x,y\n0,7,1,2\n", "has frame 7, expected frames 0 to 6"),
    ("csv", "query,frame,x,y\n0,0,,\n", "no point in it is ever visible"),
    ("csv", "query,frame,x,y\n0,0,1,2\nx\n", "line 3: expected numbers"),
    ("csv", "query,frame,x,y\n0,0,\xff\n", "not text in UTF-8"),
    ("csv", f"query,frame,x,y\n0,0,{'1' * 200_000},1\n", "line 2: field larger than"),
    ("dlc", "", "not DeepLabCut's predictions"),
    ("dlc", "scorer,s\nindividuals,i\n", "several animals"),
    ("dlc", POSE, "not DeepLabCut's predictions"),
    ("dlc", POSE + "img0.png,1,2,0.9\n", "not image names"),
    ("dlc", POSE + "0,1,2\n", "expected a frame number and 3 numbers"),
    ("dlc", POSE + "7,1,2,0.9\n", "expected 0 to 6"),
    ("dltdv", "x,y\n1,2\n", "expected columns pt1_cam1_X"),
    ("dltdv", "pt1_cam1_X,pt1_cam1_Y\n1\n", "expected 2 numbers"),
    ("dltdv", "pt1_cam1_X,pt1_cam1_Y\n" + "1,2\n" * 8, "8 frames, expected up to 7"),
])
def test_what_is_no_such_table_is_named(tmp_path, name, text, says):
    (tmp_path / "t.csv").write_text(text, encoding="latin1")
    with pytest.raises(UserError, match=says) as refused:
        read(tmp_path / "t.csv", name, VIDEO)
    assert "t.csv" in str(refused.value)


@pytest.mark.parametrize(("name", "suffix", "text"), [
    ("csv", "csv", "query,frame,x,y\n0,0,1,2\n0,1000000000000,1,2\n"), ("dlc", "csv", POSE + "1000000000000,1,2,0.9\n"),
    ("3de", "txt", "1\na\n0\n1\n1000000000000 1 2\n"),
    ("cvat", "xml", "<annotations><track label='a'><points frame='1000000000000' points='1,2' outside='0' occluded='0' "
     "keyframe='1'/></track></annotations>")])
def test_a_file_of_a_row_is_not_a_video_of_a_trillion_frames(tmp_path, name, suffix, text):
    (tmp_path / f"t.{suffix}").write_text(text)
    with pytest.raises(UserError, match="expected a row for most points and frames"):
        read(tmp_path / f"t.{suffix}", name, Video(SIZE, None, FPS))


def test_other_trackers_layouts_are_read_as_cotrackers(tmp_path):
    tracks = known_tracks()
    np.savez(tmp_path / "t.npz", tracks=tracks.tracks, visibles=~tracks.occluded, query_points=tracks.query_points)
    back, _ = read(tmp_path / "t.npz", "cotracker", Video(SIZE, None, FPS))
    assert np.array_equal(back.tracks, tracks.tracks) and np.array_equal(back.occluded, tracks.occluded)
    assert np.array_equal(back.query_points, tracks.query_points) and back.fps == FPS
    with pytest.raises(UserError, match="give --video_size"):
        read(tmp_path / "t.npz", "cotracker", Video(None, None, FPS))
