"""train.py --pins: a run whose tracks pass through what was pinned by hand."""

import hashlib
from functools import partial

import numpy as np
import pytest
import torch

import checkpoints
import track
import train
from tests.helpers import commands
from tests.helpers.training_run import RENDERING, run
from tracking.tracks_file import read_tracks

HEADER = "track,frame,x,y,visible\n"
PINS = HEADER + "4,0,20.5,16.25,1\n4,5,30.125,20.5,1\n4,3,25,18.5,0\n1,2,40,10,1\n1,0,36,12,1\n"
call = partial(commands.call, train.main)
refused = commands.refused


@pytest.fixture(scope="module", params=["surface", "volume"])
def fitted(request, data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    run(data_dir, folder / "run", *RENDERING[request.param], "--num_iters", 3)
    (folder / "pins.csv").write_text(PINS)
    before = content(folder / "run")
    call("--pins", folder / "pins.csv", "--init_from", folder / "run", "--out_dir", folder / "new")
    assert content(folder / "run") == before  # it is not touched
    return folder


def content(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def tracks_of(folder, *options, queries="grid:16@1"):
    out = folder / "tracks.npz"
    track.main(["--run", str(folder), "--queries", queries, "--out", str(out), *options])
    return read_tracks(out)


@pytest.mark.parametrize("refine", ["auto", "off"])
def test_pinned_tracks_come_first_and_pass_through_their_pins(fitted, refine):
    tracks = tracks_of(fitted / "new", "--refine", refine)
    np.testing.assert_array_equal(tracks.query_points[:2], np.float32([(0, 16.25, 20.5), (2, 10, 40)]))
    for row, frame, place, visible in (
        (0, 0, (20.5, 16.25), 1), (0, 5, (30.125, 20.5), 1), (0, 3, (25, 18.5), 0),
        (1, 2, (40, 10), 1), (1, 0, (36, 12), 1),
    ):
        np.testing.assert_array_equal(tracks.tracks[row, frame], np.float32(place))
        assert tracks.occluded[row, frame] == (not visible)
    plain = tracks_of(fitted / "run", "--refine", refine)
    np.testing.assert_array_equal(tracks.query_points[2:], plain.query_points)


def test_what_is_asked_near_a_pin_goes_along_and_what_is_far_stays(fitted):
    queries = "0,16.25,21.5;0,28,44"  # a pixel beside the first pinned track's query; further from both than they reach
    before, after = (tracks_of(fitted / name, queries=queries).tracks[-2:] for name in ("run", "new"))
    own = tracks_of(fitted / "run", queries="0,16.25,20.5").tracks[-1]
    moved, wanted = (after - before)[0, 5], (30.125, 20.5) - own[5]
    assert np.linalg.norm(moved - wanted) < 0.5 * np.linalg.norm(wanted) and np.linalg.norm(wanted) > 2
    np.testing.assert_array_equal(after[1], before[1])


def test_dense_flow_leads_to_the_pins(fitted):
    source = track.open_source(track.parse_arguments(["--run", str(fitted / "new")]))
    flow, score = source.flow(2, 0)
    np.testing.assert_allclose(flow[9:11, 39:41].mean((0, 1)), (-4, 2), atol=1)  # the query is between these pixels
    assert flow.shape == (32, 48, 2) and score.shape == (32, 48) and ((score >= 0) & (score <= 1)).all()


def test_it_is_a_run_with_the_weights_of_the_first(fitted):
    first, new = (checkpoints.load_run(fitted / name) for name in ("run", "new"))
    for name, weight in first.model.state_dict().items():
        assert torch.equal(weight, new.model.state_dict()[name])
    assert first.pins == [] and len(new.pins) == 5 and new.step == first.step
    assert sorted(path.name for path in (fitted / "new").iterdir() if not path.name.startswith("tracks")) == [
        "checkpoints", "config.json", "pins.csv"]
    assert (fitted / "new/pins.csv").read_text().splitlines()[1] == "4,0,20.500,16.250,1"


def test_pins_outlast_further_training(data_dir, tmp_path):
    run(data_dir, tmp_path / "run", "--num_iters", 2)
    (tmp_path / "pins.csv").write_text(PINS)
    call("--pins", tmp_path / "pins.csv", "--init_from", tmp_path / "run", "--out_dir", tmp_path / "new")
    run(data_dir, tmp_path / "new", "--num_iters", 4, "--resume")
    found = checkpoints.load_run(tmp_path / "new")
    assert found.step == 4 and len(found.pins) == 5


def test_a_folder_may_be_named_to_start_from(fitted, data_dir, tmp_path):
    if "volume" not in checkpoints.read_newest(fitted / "run")["config"]["rendering"]:
        frozen = [x for name in ("mapping", "field", "depth") for x in (f"--lr_{name}", 0)]
        state = run(data_dir, tmp_path / "next", "--num_iters", 1, *frozen, "--init_from", fitted / "run")
        assert torch.equal(state["model"]["depth"], checkpoints.read_newest(fitted / "run")["model"]["depth"])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (None, "no pins there"),
        (HEADER, "no pins there"),
        ("frame,track,x,y,visible\n0,0,1,1,1\n", "expected the first line track,frame,x,y,visible"),
        (HEADER + "0,0,1,1,1\n0,6,1,1,1\n", "line 3: frame 6 is outside the video, which has frames 0 to 5"),
        (HEADER + "0,0,1,1,1\n0,3,48.5,1,1\n", "line 3: x, y = 48.5, 1 is outside the frame"),
        (HEADER + "0,0,1,1,1\n", "line 2: track 0 has one row"),
        (HEADER + "0,0,1,1,1\n0,1,1,1,1\n0,1,2,2,1\n", "line 4: a second row of track 0 in frame 1"),
        (HEADER + "0,0,1,1,1\n0,1,nan,1,1\n", "line 3: expected track,frame,x,y,visible"),
        (HEADER + "0,0,1,1,0\n0,1,1,1,1\n", "line 2: the query of track 0 is hidden"),
    ],
)
def test_wrong_pins_are_refused_by_line_and_nothing_is_written(fitted, tmp_path, capsys, rows, says):
    if rows is not None:
        (tmp_path / "pins.csv").write_text(rows)
    line = refused(capsys, train.main, "--pins", tmp_path / "pins.csv", "--init_from", fitted / "run", "--out_dir",
                   tmp_path / "new")
    assert says in line and "pins.csv" in line and not (tmp_path / "new").exists()


def test_what_cannot_act_is_refused(fitted, data_dir, tmp_path, capsys):
    base = ["--pins", fitted / "pins.csv", "--out_dir", tmp_path / "new"]
    from_run, moved = [*base, "--init_from", fitted / "run"], tmp_path / "moved.pt"
    checkpoints.save(moved, checkpoints.read_newest(fitted / "run") | {"data_dir": str(tmp_path / "gone")})
    for options, says in (
        (base, "which run are they of? give --init_from RUN"),
        ([*from_run, "--num_iters", 5], "--num_iters acts on training"),
        ([*from_run, "--resume"], "--resume acts on training"),
        ([*from_run[:3], fitted / "run", *from_run[4:]], "holds a run already"),
        ([*base, "--init_from", tmp_path], "no checkpoint there"),
        ([*from_run, "--data_dir", tmp_path], "manifest.json"),
        ([*base, "--init_from", moved], "gone"),
        ([*from_run[:3], data_dir, *from_run[4:]], "is the data directory"),
    ):
        assert says in refused(capsys, train.main, *options), options
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_with_damaged_pins_is_refused(fitted, tmp_path):
    state = checkpoints.read_newest(fitted / "new")
    outside = [[0, 0, 1, 1, 1], [0, 9, 1, 1, 1]]
    for pins, says in (("x", "expected a list"), ([[0, 1]], "pin 0: expected track"), (outside, "pin 1: frame 9 is")):
        checkpoints.save(tmp_path / "bad.pt", state | {"pins": pins})
        with pytest.raises(checkpoints.UserError, match=says):
            checkpoints.load_run(checkpoint=tmp_path / "bad.pt")
