"""After Effects, Fusion, Natron and 3DEqualizer: read by their grammar, or run where the format is a script."""

import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from exports import after_effects, fusion, natron, three_de
from exports.options import Video
from tests.helpers.known_tracks import (
    FPS,
    HIDDEN,
    NUM_FRAMES,
    SIZE,
    assert_keys,
    known_tracks,
    options,
    quad,
    seen,
)
from tracking.tracks_file import select
from util import UserError

HEIGHT, WIDTH = SIZE


def keyframe_blocks(text):
    """{property: rows of numbers} of After Effects' keyframe text, and its header."""
    lines = text.split("\n")
    assert lines[0] == "Adobe After Effects 8.0 Keyframe Data" and lines[-2:] == ["End of Keyframe Data", ""]
    header = dict(line[1:].split("\t") for line in lines[2:7])
    blocks, name = {}, None
    for line in lines[8:-2]:
        if line and not line.startswith("\t"):
            name, blocks[line] = line, []
        elif line:
            assert line.endswith("\t")
            cells = line.strip("\t").split("\t")
            if cells[0] != "Frame":
                assert cells[0].isdecimal()
                blocks[name].append([float(cell) for cell in cells])
    return header, blocks


def test_one_point_becomes_a_position_with_gaps_made_transparent():
    tracks = select(known_tracks(), [1])
    header, blocks = keyframe_blocks(after_effects.keyframes(tracks, options(tracks)))
    assert header == {"Units Per Second": "25", "Source Width": "60", "Source Height": "40",
                      "Source Pixel Aspect Ratio": "1", "Comp Pixel Aspect Ratio": "1"}
    found = {(0, int(frame)): (x, y) for frame, x, y, z in blocks["Transform\tPosition"] if z == 0}
    assert_keys(found, seen(tracks))
    assert [value for _, value in blocks["Transform\tOpacity"]] == [100, 100, 0, 0, 100, 100, 100]


def test_many_points_become_tracker_points():
    tracks = known_tracks()
    blocks = keyframe_blocks(after_effects.keyframes(tracks, options(tracks, first_frame=10)))[1]
    found = {}
    for name, rows in blocks.items():
        number = re.fullmatch(r"Motion Trackers\tTracker #1\tTrack Point #(\d+)\tFeature Center", name)[1]
        found |= {(int(number) - 1, int(frame) - 10): (x, y) for frame, x, y in rows}
    assert_keys(found, seen(tracks))


def test_the_corner_pins_order_is_after_effects_own():
    tracks = quad((2, 0, 3, 1))
    blocks = keyframe_blocks(after_effects.corner_pin(tracks, options(tracks)))[1]
    upper_left, upper_right, lower_left, lower_right = (
        blocks[f"Effects\tADBE Corner Pin #1\tADBE Corner Pin-000{k}"] for k in (1, 2, 3, 4))
    assert upper_left == [[0, 11, 10], [1, 13, 10]] and upper_right[0] == [0, 21, 11]
    assert lower_left[0] == [0, 10, 30.5] and lower_right[0] == [0, 20, 31]


@pytest.mark.parametrize(("fps", "shown"), [(24000 / 1001, "23.976"), (29.97, "29.97"), (60000 / 1001, "59.94"),
                                            (25, "25"), (12.5, "12.5"), (np.float32(30), "30")])
def test_rates_are_those_that_after_effects_shows(fps, shown):
    assert after_effects.rate(float(fps)) == shown


AFTER_EFFECTS = """
const property = () => ({keys: [], setValueAtTime(t, v) { this.keys.push([t, v]); }, setInterpolationTypeAtKey(k) {
  if (!this.keys[k - 1]) throw new Error('no key ' + k); }});
const out = {comp: null, layers: []};
global.KeyframeInterpolationType = {HOLD: 1};
global.app = {beginUndoGroup() {}, endUndoGroup() {}, project: {items: {addComp(...values) {
  out.comp = values;
  return {layers: {addNull() {
    const found = {'ADBE Position': property(), 'ADBE Opacity': property()};
    const layer = {property: () => ({property: (name) => found[name]})};
    out.layers.push({layer, found}); return layer; }}}; }}}};
(0, eval)(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify({comp: out.comp, layers: out.layers.map(l => [l.layer.name, l.found['ADBE Position'].keys,
  l.found['ADBE Opacity'].keys])}));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to run the script with")
def test_the_script_makes_a_null_for_each_point():
    tracks = known_tracks()
    text = after_effects.script(tracks, options(tracks, names=("eins", "zwei ü", "c", "d", "e"), first_frame=2))
    run = subprocess.run(["node", "-e", AFTER_EFFECTS], input=text, capture_output=True, text=True, check=True)
    made = json.loads(run.stdout)
    assert made["comp"] == ["tracks", WIDTH, HEIGHT, 1, pytest.approx((NUM_FRAMES + 2) / FPS), FPS]
    assert [name for name, *_ in made["layers"]] == ["eins", "zwei ü", "c", "d", "e"]
    found = {(q, round(time * FPS) - 2): tuple(value[:2]) for q, (_, keys, _) in enumerate(made["layers"])
             for time, value in keys}
    assert_keys(found, seen(tracks))
    assert made["layers"][0][2] == [] and made["layers"][1][2] == [[2 / FPS, 100], [4 / FPS, 0], [6 / FPS, 100]]


def lua_table(text):
    """Fusion's text (a Lua table, calls as tables) as JSON-like Python: lists become dicts by their place."""
    tokens = iter(re.findall(r'"[^"]*"|[\[\]{}=,]|[^\s\[\]{}=,]+', text))

    def table():
        found, place, key = {}, 1, None
        for token in tokens:
            if token == "}":
                return found
            if token == "[":
                key = int(next(tokens))
                assert next(tokens) == "]" and next(tokens) == "="
                continue
            if token in (",", "="):
                continue
            value = table() if token == "{" else token
            if isinstance(value, str) and (value.isidentifier() or value == "ordered()"):
                following = next(tokens)
                if following == "=":
                    key = value
                    continue
                assert following in "{,}"
                value = table() if following == "{" else value  # a constructor, such as Input { ... }
                if following == "}":
                    found[key or place] = value
                    return found
            found[key or place] = value if isinstance(value, dict) else value.strip('"')
            place, key = place + (key is None), None
        return found

    assert next(tokens) == "{"
    return table()


def test_fusions_paths_lead_to_the_points():
    tracks = known_tracks()
    text = fusion.write(tracks, options(tracks, first_frame=5))
    assert text.count("{") == text.count("}")
    tools = lua_table(text)["Tools"]
    inputs, found = tools["Tracker1"]["Inputs"], {}
    assert [inputs[f"Name{q}"]["Value"] for q in (1, 5)] == ["track_001", "track_005"]
    assert len(tools["Tracker1"]["Trackers"]) == 5
    for q in range(5):
        assert inputs[f"TrackedCenter{q + 1}"]["Source"] == "Value"
        path = tools[inputs[f"TrackedCenter{q + 1}"]["SourceOp"]]["Inputs"]
        x, y = (tools[path[axis]["SourceOp"]]["KeyFrames"] for axis in "XY")
        assert x.keys() == y.keys() and all(key["Flags"] == {"Linear": "true"} for key in x.values())
        found |= {(q, frame - 5): (float(x[frame][1]) * WIDTH, (1 - float(y[frame][1])) * HEIGHT) for frame in x}
    assert_keys(found, seen(tracks))


def test_natrons_script_sets_keys():
    tracks, made = known_tracks(), []

    class Parameter(dict):
        def setValueAtTime(self, value, frame, dimension=0):  # noqa: N802  Natron's name
            self[frame, dimension] = value

    def create_track():
        made.append({"centerPoint": Parameter(), "enabled": Parameter()})
        return SimpleNamespace(getParam=made[-1].get, setLabel=lambda name: made[-1].update(name=name))

    context = SimpleNamespace(createTrack=create_track)
    app = SimpleNamespace(createNode=lambda name: SimpleNamespace(getTrackerContext=lambda: context))
    exec(natron.write(tracks, options(tracks, first_frame=1)), {"app": app})
    assert [track["name"] for track in made] == [f"track_00{q}" for q in range(1, 6)]
    found = {(q, frame - 1): (track["centerPoint"][frame, 0], HEIGHT - track["centerPoint"][frame, 1])
             for q, track in enumerate(made) for frame, dimension in track["centerPoint"] if dimension == 0}
    assert_keys(found, seen(tracks))
    assert made[1]["enabled"] == {(1, 0): True, (3, 0): False, (5, 0): True}


def test_3de_counts_frames_from_one_and_goes_back_exactly(tmp_path):
    tracks, path = known_tracks(), tmp_path / "t.txt"
    path.write_text(three_de.write(tracks, options(tracks)))
    lines = iter(path.read_text().splitlines())
    assert next(lines) == "5"
    assert [next(lines) for _ in range(3)] == ["track_001", "0", "7"]
    assert next(lines).split() == ["1", "0.500000000000000", "39.500000000000000"]
    back, names = three_de.read(path, Video(SIZE, NUM_FRAMES, 25))
    assert names == [f"track_00{q}" for q in range(1, 6)]
    assert np.array_equal(back.occluded, tracks.occluded)
    assert np.array_equal(back.tracks[~tracks.occluded], tracks.tracks[~tracks.occluded])
    assert all(np.isnan(back.tracks[q, frames]).all() for q, (*frames,) in HIDDEN.items())


@pytest.mark.parametrize(("text", "says"), [
    ("", "line its end: expected a whole number"),
    ("hello\n", "line 1: expected a whole number, found 'hello'"),
    ("1\na\n0\n2\n1 2 3\n", "line its end: expected `frame x y`"),
    ("1\na\n0\n1\n1 2\n", "line 5: expected `frame x y`"),
    ("1\na\n0\n1\n0 2 3\n", "whole frame numbers from 1"),
    ("1\na\n0\n1\n1 nan 3\n", "line 5"),
    ("0\n", "whole frame numbers"),
])
def test_what_is_not_3des_is_named(tmp_path, text, says):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(UserError, match=says):
        three_de.read(tmp_path / "t.txt", Video(SIZE))
