"""The script for Blender, run by Blender (as a module, in the environment that the Makefile makes for it)."""

import json
import subprocess

import cv2
import numpy as np
import pytest

from exports import blender
from tests.helpers.known_tracks import HIDDEN, NUM_FRAMES, SIZE, assert_keys, known_tracks, many_tracks, options, seen
from tests.helpers.paths import ROOT

BLENDER = ROOT / ".venv/blender/bin/python"
READ = """
import bpy, json, sys
bpy.ops.wm.open_mainfile(filepath=sys.argv[1])
(clip,) = bpy.data.movieclips
tracks = clip.tracking.objects.active.tracks
print("found", json.dumps([[t.name, [[m.frame, *m.co, m.mute] for m in t.markers]] for t in tracks]))
"""
pytestmark = pytest.mark.skipif(not BLENDER.exists(), reason="no Blender: `make test` installs it for Python 3.11")


def blender_run(*arguments):
    arguments = [str(argument) for argument in arguments]
    return subprocess.run([BLENDER, *arguments], capture_output=True, text=True, timeout=120)


@pytest.fixture
def clip(tmp_path):
    for i in range(NUM_FRAMES):
        cv2.imwrite(str(tmp_path / f"{i:05d}.png"), np.full((*SIZE, 3), 20 * i, np.uint8))
    return tmp_path / "00000.png"


def made_by_blender(tracks, clip, **changes):
    script, saved = clip.with_name("t.py"), clip.with_name("t.blend")
    script.write_text(blender.write(tracks, options(tracks, **changes)))
    ran = blender_run(script, "--", clip, saved)
    assert ran.returncode == 0, ran.stderr
    return json.loads(blender_run("-c", READ, saved).stdout.split("found ")[1].splitlines()[0])


def test_markers_are_where_the_points_are_and_muted_where_they_hide(clip):
    tracks, names = known_tracks(), ("a", "b ü", "c", "d", "e")
    made = made_by_blender(tracks, clip, names=names)
    assert tuple(name for name, _ in made) == names
    found = {(q, frame - 1): (x * SIZE[1], (1 - y) * SIZE[0]) for q, (_, markers) in enumerate(made)
             for frame, x, y, mute in markers if not mute}
    assert_keys(found, seen(tracks), atol=1e-5)
    check_mutes(made, HIDDEN)


def test_kept_positions_outside_the_picture_are_not_piled_up_at_its_border(clip):
    made = made_by_blender(known_tracks(), clip, keep_hidden=True)
    check_mutes(made, {2: (6,)})


def check_mutes(made, expected):
    """The frames in which each track that Blender made is muted."""
    for q, (_, markers) in enumerate(made):  # a marker holds until the next one
        states, shown = {frame: not mute for frame, *_, mute in markers}, False
        hidden = set()
        for frame in range(1, NUM_FRAMES + 1):
            shown = states.get(frame, shown)
            hidden |= set() if shown else {frame - 1}
        assert hidden == set(expected.get(q, ()))
        assert max(states) <= NUM_FRAMES


def test_thousands_of_tracks_and_a_clip_of_another_shape(clip):
    tracks = many_tracks(num_frames=NUM_FRAMES)
    made = made_by_blender(tracks, clip)
    assert len(made) == len(tracks.tracks)
    frame, x, y, _ = made[4999][1][0]
    assert (frame, x * SIZE[1], (1 - y) * SIZE[0]) == pytest.approx((1, *tracks.tracks[4999, 0]), abs=1e-4)
    cv2.imwrite(str(clip), np.zeros((30, 30, 3), np.uint8))
    refused = blender_run(clip.with_name("t.py"), "--", clip)
    assert refused.returncode != 0 and "the clip has 30 x 30 pixels" in refused.stderr
