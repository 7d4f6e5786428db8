"""Whatever Hypothesis thinks of, options, queries, configs and readers take it or refuse it in one line."""

import io
import json
import math
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.options import OPTIONS, read_preset
from evaluation.badja import read_annotations
from evaluation.tapvid import csv_tracks, load_pickle, make_example, safe_name
from files import UserError, load_npz
from loaders.data_dir import flow_step_for
from loaders.manifest import check_manifest
from loaders.sealed import open_array, read_sealed_image, write_array, write_image
from tracking.queries import parse_queries

LIMITS = settings(max_examples=60, deadline=None, derandomize=True, database=None,
                  suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
NAMES = [option.name for option in OPTIONS]
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), max_leaves=12,
                    extend=lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner))


def taken(function, *arguments):
    """What a function returns, or None where it refuses in one line."""
    try:
        return function(*arguments)
    except UserError as error:
        assert str(error).strip()
        return None


@LIMITS
@given(st.text(max_size=40) | st.from_regex(r"grid(:[0-9]{1,12})?(@-?[0-9]{1,12})?", fullmatch=True)
       | st.lists(st.tuples(*[st.floats() | st.integers(-5, 70)] * 3), max_size=4).map(
           lambda rows: ";".join(",".join(map(str, row)) for row in rows)))
def test_queries_are_inside_the_video(text):
    queries = taken(parse_queries, text, 5, (40, 60)) if not text.lower().endswith(".npz") else None
    if queries is not None:
        t, y, x = queries.T
        assert ((t >= 0) & (t < 5) & (y >= 0) & (y <= 40) & (x >= 0) & (x <= 60) & (t == t.round())).all() and len(t)


@LIMITS
@given(st.sampled_from(OPTIONS), st.text(max_size=12) | st.floats().map(str) | st.integers().map(str))
def test_options_are_of_their_type_and_in_their_range(option, text):
    value = taken(option.convert, text, "here")
    if value is not None:
        assert isinstance(value, option.type)
        if option.allowed and option.type is not str:
            assert option.allowed[0] <= value <= option.allowed[1] and math.isfinite(value)


@LIMITS
@given(st.binary(max_size=80) | st.lists(st.tuples(st.sampled_from(NAMES), st.text(max_size=9)), max_size=4).map(
    lambda rows: "\n".join(f"{name} = {value}" for name, value in rows).encode()))
def test_presets(tmp_path, content):
    (tmp_path / "preset.txt").write_bytes(content)
    found = taken(read_preset, tmp_path / "preset.txt")
    assert found is None or set(found) <= set(NAMES)


@LIMITS
@given(st.dictionaries(st.sampled_from(["video", "settings", "finished", "partners", "pair_counts", "chained",
                                        "flow_step"]), JSON))
def test_manifests(content):
    video = {"name": "a", "fingerprint": "b", "num_frames": 2, "height": 16, "width": 16, "original_height": 16,
             "original_width": 16, "fps": 24.0}
    whole = {"video": video, "settings": {}, "finished": ["counts"], "partners": [[1], [0]], "pair_counts": [[3], [4]],
             "chained": True, "flow_step": 1 / 32}
    check_manifest(whole, flow_step_for, True, "here")
    changed = json.loads(json.dumps(whole | content))
    try:
        check_manifest(changed, flow_step_for, True, "here")
    except UserError:
        return
    for key in ("video", "partners", "pair_counts", "flow_step"):  # nothing else is right
        assert key in ("pair_counts", "video") or changed[key] == whole[key]
    assert all(0 <= count <= 256 for row in changed["pair_counts"] for count in row)


@LIMITS
@given(st.integers(0, 10**4), st.integers(0, 7), st.integers(0, 10**4))
def test_a_sealed_array_is_what_it_was_or_refused(tmp_path, where, bit, keep):
    array = np.arange(60, dtype=np.int16).reshape(5, 6, 2)
    write_array(tmp_path / "a.npy", array, "owner")
    content = bytearray((tmp_path / "a.npy").read_bytes())
    content[where % len(content)] ^= 1 << bit
    (tmp_path / "a.npy").write_bytes(content[: max(1, keep % (2 * len(content)))])
    assert taken(open_array, tmp_path / "a.npy", (5, 6, 2), np.int16, "owner", True) is None
    image = np.arange(16 * 16, dtype=np.uint8).reshape(16, 16)
    write_image(tmp_path / "a.png", image, "owner")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[where % len(content)] ^= 1 << bit
    (tmp_path / "a.png").write_bytes(content)
    assert taken(read_sealed_image, tmp_path / "a.png", (16, 16), "owner", True, True) is None


@LIMITS
@given(st.integers(0, 10**4), st.integers(0, 7), st.binary(max_size=30))
def test_npz_files(tmp_path, where, bit, tail):
    file = io.BytesIO()
    np.savez(file, a=np.arange(30.0), b=np.zeros((3, 2), bool))
    content = bytearray(file.getvalue())
    content[where % len(content)] ^= 1 << bit
    (tmp_path / "a.npz").write_bytes(content + tail)
    found = taken(load_npz, tmp_path / "a.npz") or {}
    if "a" in found:
        assert np.array_equal(found["a"], np.arange(30.0))  # zip's checksum finds all that matters
    (tmp_path / "a.npz").write_bytes(tail)
    assert taken(load_npz, tmp_path / "a.npz") is None
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("a.npy", tail)
    assert taken(load_npz, tmp_path / "b.npz") is None


@LIMITS
@given(st.binary(max_size=60) | JSON.map(pickle.dumps), st.text(max_size=30))
def test_pickles_csv_and_json(tmp_path, content, text):
    (tmp_path / "a.pkl").write_bytes(content)
    taken(load_pickle, tmp_path / "a.pkl")
    (tmp_path / "a.csv").write_bytes(content)
    taken(csv_tracks, tmp_path / "a.csv")
    (tmp_path / "a.json").write_bytes(text.encode(errors="replace"))
    taken(read_annotations, tmp_path / "a.json")


@LIMITS
@given(JSON, JSON, JSON, st.text(max_size=300))
def test_examples_and_names(video, points, occluded, name):
    taken(make_example, "here", name, {"video": video, "points": points, "occluded": occluded})
    folder = safe_name(name)
    assert folder and "/" not in folder and "\0" not in folder and folder not in (".", "..")
    assert len(folder.encode(errors="replace")) < 500


@pytest.mark.parametrize("names", [("a/b", "a_b"), ("a", "a "), ("x" * 300, "x" * 301), (".a", "a")])
def test_different_names_stay_different(names):
    assert safe_name(names[0]) != safe_name(names[1])
