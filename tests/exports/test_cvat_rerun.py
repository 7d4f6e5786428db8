"""The formats that say themselves what is hidden: CVAT's XML, checked against its schema, and Rerun's recordings."""

import numpy as np
import pytest
from rerun.chunk import RrdReader

from exports import cvat
from exports.formats import export, read
from exports.options import Video
from tests.helpers.known_tracks import FPS, NUM_FRAMES, SIZE, known_tracks, many_tracks, options
from util import UserError


def shapes(tree_text):
    """{(track, frame): attributes} of CVAT's XML, by a minimal reader of tags that is no XML parser."""
    found, track = {}, None
    for tag in tree_text.split("<")[1:]:
        name, *attributes = tag.split(">")[0].removesuffix("/").split(" ")
        values = dict(attribute.split("=", 1) for attribute in attributes if "=" in attribute)
        values = {key: value.strip('"') for key, value in values.items()}
        if name == "track":
            track = int(values["id"])
        elif name == "points":
            found[track, int(values["frame"])] = values
    return found


def test_cvat_has_a_shape_in_every_frame_that_says_why_it_is_not_seen():
    tracks = known_tracks()
    found = shapes(cvat.write(tracks, options(tracks)))
    assert len(found) == 5 * NUM_FRAMES
    for (q, frame), values in found.items():
        position = [float(value) for value in values["points"].split(",")]
        assert position == pytest.approx(tracks.tracks[q, frame].tolist(), abs=1e-6)
        assert values["keyframe"] == "1" and values["outside"] == str(int((q, frame) == (2, 6)))
        hidden = tracks.occluded[q, frame] and (q, frame) != (2, 6)
        assert values["occluded"] == str(int(hidden))


def test_cvats_labels_are_one_unless_they_are_named():
    tracks = known_tracks(2)
    text = cvat.write(tracks, options(tracks))
    assert text.count('label="point"') == 2 and text.count("<name>point</name>") == 1
    named = cvat.write(tracks, options(tracks, names=("nose", "tail"), named=True))
    for name in ("nose", "tail"):
        assert f'label="{name}"' in named and f"<name>{name}</name>" in named


@pytest.mark.parametrize("make", [known_tracks, many_tracks])
def test_cvat_and_back(tmp_path, make):
    tracks = make()
    export(tmp_path / "t.xml", "cvat", tracks)
    back, labels = read(tmp_path / "t.xml", "cvat", Video(fps=FPS))
    assert (back.video_size, back.fps) == (SIZE, FPS)
    outside = tracks.visibility == 2
    assert labels is None and np.array_equal(back.occluded, tracks.occluded)
    np.testing.assert_allclose(back.tracks[~outside], tracks.tracks[~outside], atol=1e-6)
    assert np.isnan(back.tracks[outside]).all()


def test_keyframes_of_cvat_are_joined_as_it_joins_them(tmp_path):
    (tmp_path / "t.xml").write_text("""<annotations><meta><task><original_size><width>60</width><height>40</height>
        </original_size></task></meta><track id="0" label="nose">
        <points frame="1" outside="0" occluded="0" keyframe="1" points="10,20"></points>
        <points frame="5" outside="1" occluded="0" keyframe="1" points="14,20"></points>
        <points frame="3" outside="0" occluded="1" keyframe="1" points="14,16"></points></track></annotations>""")
    tracks, labels = read(tmp_path / "t.xml", "cvat", Video(num_frames=7))
    assert labels == ["nose"] and tracks.video_size == SIZE
    assert np.array_equal(tracks.tracks[0, 1:5], [[10, 20], [12, 18], [14, 16], [14, 18]])
    assert (~tracks.occluded[0]).nonzero()[0].tolist() == [1, 2] and np.isnan(tracks.tracks[0, [0, 5, 6]]).all()
    with pytest.raises(UserError, match="has 60x40 pixels, not 9x8"):
        read(tmp_path / "t.xml", "cvat", Video((8, 9)))


@pytest.mark.parametrize(("text", "says"), [
    ("<annotations>", "not readable"), ("hello", "not readable"), ("<a/>", "expected annotations"),
    ('<a><track><points frame="0" outside="0" occluded="0" points="1,2;3,4"/></track></a>', "not readable"),
    ('<a><track><points frame="0" points="1,2"/></track></a>', "not readable"),
    ('<a><track><points frame="9" outside="0" occluded="0" points="1,2"/></track></a>', "frames after 6"),
])
def test_what_is_not_cvats_is_named(tmp_path, text, says):
    (tmp_path / "t.xml").write_text(text)
    with pytest.raises(UserError, match=says):
        read(tmp_path / "t.xml", "cvat", Video(SIZE, 7))


@pytest.mark.parametrize("make", [known_tracks, many_tracks])
def test_reruns_own_reader_finds_points_and_classes(tmp_path, make):
    tracks = make()
    export(tmp_path / "t.rrd", "rerun", tracks)
    chunks = RrdReader(str(tmp_path / "t.rrd")).stream().to_chunks()
    batches = {chunk.entity_path: [] for chunk in chunks}
    for chunk in chunks:
        batches[chunk.entity_path].append(chunk.to_record_batch())
    rows = {}
    for batch in batches["/video/points"]:
        columns = {name.split(":")[-1]: column.to_pylist() for name, column in zip(batch.schema.names, batch.columns)}
        for k, frame in enumerate(columns["frame"]):
            rows[frame] = {name: columns[name][k] for name in ("positions", "class_ids", "labels")}
    assert sorted(rows) == list(range(tracks.tracks.shape[1]))
    for frame, row in rows.items():
        assert np.array_equal(np.array(row["positions"], np.float32), tracks.tracks[:, frame])
        assert row["class_ids"] == tracks.visibility[:, frame].tolist() and row["labels"][0].endswith("001")
    assert "/video" in batches, "names and colours of the classes"
