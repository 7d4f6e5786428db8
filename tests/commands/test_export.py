"""export.py, and track.py's formats of other programs: options, what is refused, and nothing half-written."""

import json
from functools import partial

import cv2
import numpy as np
import OpenEXR
import pytest

import export
import track
from exports.formats import FORMATS
from flow.formats import read_flo, read_kitti_flow
from tests.helpers import analytic_run, commands
from tests.helpers.known_tracks import HIDDEN, NUM_FRAMES, SIZE, known_tracks, many_tracks
from tests.helpers.nuke_reader import keys_of, rows_of
from tracking.tracks_file import read_tracks, write_tracks


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The current folder: an empty one with tracks.npz."""
    monkeypatch.chdir(tmp_path)
    write_tracks("tracks.npz", known_tracks())
    return tmp_path


call = partial(commands.call, export.main)


def exported_rows(*arguments):
    call("tracks.npz", "--out", "t.nk", "--overwrite", *arguments)
    with open("t.nk") as file:
        return rows_of(file.read())


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_written_as_help_says(name, capsys):
    write_tracks("four.npz", known_tracks(4))
    call("four.npz", "--to", name, "--out", f"out{FORMATS[name].suffix}")
    assert "4 points over 7 frames" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call("--help")
    assert f"\n  {name} " in capsys.readouterr().out


def test_names_first_frame_and_points_by_number_and_mask(here):
    (here / "names.txt").write_text("eins\nzwei\ndrei\nvier\nfünf\n", encoding="utf-8")
    rows = exported_rows("--names", "names.txt", "--first_frame", 1001, "--limit", 2)
    assert [row[1] for row in rows] == ["eins", "drei"] and min(keys_of(rows[0][2])) == 1001
    mask = np.zeros(SIZE, np.uint8)
    mask[0, 0] = mask[39, 59] = 255  # the pixels of the first point and the fourth
    cv2.imwrite("mask.png", mask)
    assert [row[1] for row in exported_rows("--mask", "mask.png", "--names", "a,b,c,d,e")] == ["a", "d"]


def test_what_is_less_sure_than_asked_for_counts_as_hidden():
    """Confidence is 1 where a point was asked for, 0.875 elsewhere."""
    rows = exported_rows("--min_confidence", 0.9)
    assert [list(keys_of(row[2])) for row in rows] == [[1], [1], [5], [2], [4]]
    assert len(keys_of(exported_rows("--min_confidence", 0.8)[1][2])) == NUM_FRAMES - len(HIDDEN[1])
    kept = exported_rows("--hidden", "keep", "--min_confidence", 0.9)
    assert all(len(keys_of(row[2])) == NUM_FRAMES for row in kept)


def test_points_come_back_as_queries(here, capsys):
    call("tracks.npz", "--to", "dlc", "--out", "pose.csv")
    call("pose.csv", "--from", "dlc", "--video_size", "60x40", "--fps", 25, "--out", "back.npz")
    assert np.array_equal(read_tracks("back.npz").query_points, known_tracks().query_points)
    call("pose.csv", "--from", "dlc", "--video_size", "60x40", "--num_frames", 9, "--to", "3de", "--out", "t.txt")
    call("t.txt", "--video_size", "60x40", "--to", "dltdv", "--out", "t.csv", "--limit", 1)
    assert (here / "t.csv").read_text().startswith("pt1_cam1_X,pt1_cam1_Y\n1.0,1.0\n")


def test_too_many_points_are_said_before_they_are_written(capsys):
    write_tracks("many.npz", many_tracks(501, 2))
    call("many.npz", "--out", "many.nk")
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("warning: 501 points are more than Nuke handles") and "--limit 500" in said[0]
    assert said[1].startswith("many.nk: 501 points")


@pytest.mark.parametrize(("arguments", "says"), [
    (["tracks.npz", "--out", "t.doc"], "no format of --to has this suffix: expected one of .npz, .csv, .nk"),
    (["tracks.npz", "--out", "t.py"], ".py may be blender or natron: say which by --to"),
    (["tracks.npz", "--out", "t.csv", "--to", "nuke"], "contradict each other: expected a file ending in .nk"),
    (["tracks.npz", "--out", "there.nk"], "there.nk exists: name another file, or give --overwrite"),
    (["gone.npz", "--out", "t.nk"], "gone.npz: no such file"),
    (["mask.png", "--out", "t.nk"], "no format of --from has this suffix"),
    (["there.nk", "--out", "t.txt", "--to", "3de"], "expected one of .npz, .csv, .txt, .xml"),
    (["other.npz", "--out", "t.nk"], "not a tracks file"),
    (["other.npz", "--from", "cotracker", "--out", "t.nk"], "not tracks: it has no array `tracks`"),
    (["folder.csv", "--out", "t.nk", "--video_size", "6x4"], "folder.csv: a folder; expected a csv"),
    (["photo.csv", "--out", "t.nk", "--video_size", "6x4"], "photo.csv"),
    (["pose.csv", "--from", "dlc", "--out", "t.nk"], "give --video_size"),
    (["pose.csv", "--from", "dlc", "--video_size", "6x4", "--out", "t.npz"], "give --fps"),
    (["tracks.npz", "--out", "t.nk", "--video_size", "6x4"], "says that itself"),
    (["tracks.npz", "--out", "t.nk", "--names", "a,b"], "2 names, expected 5"),
    (["tracks.npz", "--out", "t.nk", "--names", "a,b,c,d,a"], "'a' names more than one"),
    (["tracks.npz", "--out", "t.nk", "--names", "a,b,c,d,{e}"], "'{e}' cannot be a name"),
    (["tracks.npz", "--out", "t.nk", "--names", "names.txt"], "names.txt: no such file"),
    (["tracks.npz", "--out", "t.nk", "--mask", "wrong.png"], "expected 60x40 or 30x20"),
    (["tracks.npz", "--out", "t.nk", "--mask", "mask.png"], "no point's query lies on it"),
    (["tracks.npz", "--out", "t.nk", "--to", "nuke_corner_pin"], "takes exactly 4 points, not 5"),
    (["tracks.npz", "--out", "t.csv", "--first_frame", 5], "--first_frame acts on nuke"),
    (["tracks.npz", "--out", "t.xml", "--hidden", "gap"], "--hidden acts on nuke"),
    (["tracks.npz", "--out", "t.csv", "--names", "a"], "--names acts on nuke"),
    (["tracks.npz", "--out", "t.nk", "--fps", 5], "--fps acts on npz"),
])
def test_mistakes_end_in_one_line(here, capsys, arguments, says):
    (here / "there.nk").write_text("mine")
    (here / "folder.csv").mkdir()
    (here / "pose.csv").write_text("scorer,s,s,s\nbodyparts,a,a,a\ncoords,x,y,likelihood\n0,1,2,1\n")
    np.savez("other.npz", query_points=np.zeros((1, 3)))
    cv2.imwrite("mask.png", np.zeros(SIZE, np.uint8))
    cv2.imwrite("wrong.png", np.zeros((5, 5), np.uint8))
    (here / "photo.csv").write_bytes(bytes(range(256)))
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    assert says in commands.refused(capsys, export.main, *arguments)
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--min_confidence", "1.5"], ["--video_size", "60"],
                                       ["--fps", "nan"], ["--to", "maya"]])
def test_values_out_of_range_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        call("tracks.npz", "--out", "t.nk", *arguments)
    assert ended.value.code == 2 and (arguments[0] in capsys.readouterr().err)


def test_a_missing_extra_is_named_before_any_work(monkeypatch, capsys, run):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    says = commands.refused(capsys, export.main, "tracks.npz", "--out", "t.rrd")
    assert says.endswith("needs the extra rerun: pip install -r requirements-rerun.txt")
    for arguments in (["--queries", "grid", "--out", "t.h5"], ["--depth", "--depth_format", "exr"],
                      ["--flow", 0, 1, "--out", "f.exr", "--flow_format", "stmap"]):
        assert "needs the extra" in commands.refused(capsys, track.main, "--run", "somewhere", *arguments)


def test_track_writes_them_by_suffix(run, here, capsys):
    tracking = partial(commands.call, track.main, "--run", "somewhere")
    tracking("--queries", "2,20.25,40.5;0,30,60", "--out", "t.nk")
    rows = rows_of((here / "t.nk").read_text())
    assert len(rows) == 2 and keys_of(rows[0][2])[3] == 40.5
    assert keys_of(rows[0][3])[3] == analytic_run.VIDEO_SIZE[0] - 20.25
    tracking("--queries", "2,20.25,40.5", "--format", "ae_script", "--out", "folder")
    text = (here / "folder/tracks.jsx").read_text()
    assert json.loads(text.split("var tracks = ")[1].split(";")[0])[0]["name"] == "track_001"


def test_dense_flow_and_depth_in_other_formats(run, here):
    tracking = partial(commands.call, track.main, "--run", "somewhere", "--flow", 1, 3)
    tracking("--out", "f.flo")
    tracking("--out", "f.png")
    tracking("--flow_format", "stmap", "--depth", "--depth_format", "exr", "--out", "all")
    flow = read_flo("f.flo")
    kitti, known = read_kitti_flow("f.png")
    assert known.all() and np.abs(kitti - flow).max() <= 0.5 / 64 + 1e-5
    height, width = analytic_run.VIDEO_SIZE
    stmap = OpenEXR.File("all/flow_00001_00003.exr", separate_channels=True).channels()
    assert stmap["R"].pixels[20, 30] * width == pytest.approx(30.5 + flow[20, 30, 0], abs=1e-4)
    assert (1 - stmap["G"].pixels[20, 30]) * height == pytest.approx(20.5 + flow[20, 30, 1], abs=1e-4)
    seen = cv2.imread("f_visible.png", cv2.IMREAD_UNCHANGED) > 0
    assert np.array_equal(stmap["A"].pixels > 0, seen) and (here / "all/flow_00001_00003_visible.png").exists()
    row = (20 + 0.5) / analytic_run.SCALE[1] - 0.5
    depth = OpenEXR.File("all/depth/00002.exr").channels()["Z"].pixels
    assert depth.shape == (height, width) and depth[20, 30] == pytest.approx(0.2 + 0.05 * row + 0.02, abs=1e-5)
