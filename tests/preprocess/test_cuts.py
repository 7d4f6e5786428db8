"""Cuts between shots: found where they are, and only there; refused, split or ignored."""

import cv2
import numpy as np
import pytest
import torch

from benchmarks.scenes import make_scene
from flow.appearance import CensusAppearance
from flow.images import luminance
from loaders.data_dir import DataDir
from preprocess import build
from preprocess.cuts import find_cuts, likeness, share_in_common, shots_of
from util import UserError


@pytest.fixture(scope="module")
def clips():
    return [make_scene(kind, 0, 8, 72, 96).video for kind in ("fast", "camera", "occlusion")]


def test_cuts_are_where_one_scene_follows_another(clips):
    assert all(find_cuts(clip) == [] for clip in clips)
    told = []
    assert find_cuts([*clips[0], *clips[1][:3], *clips[2]], told.append) == [8, 11]
    assert len(told) == 18


def test_what_is_no_cut(clips):
    clip = [*clips[0]]
    brighter = [cv2.addWeighted(frame, 0.6, frame, 0, 90) for frame in clip[4:]]
    assert find_cuts(clip[:4] + brighter) == []  # exposure jumps
    assert find_cuts([np.zeros_like(clip[0])] * 3) == []  # nothing to see
    noise = np.random.default_rng(0).integers(0, 256, (4, 72, 96, 3), dtype=np.uint8)
    assert find_cuts(noise) == []  # no frame follows another: that is another trouble
    assert find_cuts([frame[:40] for frame in clips[0]] + [frame[:40] for frame in clips[1]]) == []  # too small to say


def test_large_frames_are_judged_shrunk(clips):
    large = [np.kron(frame, np.ones((6, 6, 1), np.uint8)) for frame in (*clips[0][:2], *clips[2][:2])]
    assert find_cuts(large) == [2]


def test_share_in_common_of_known_images():
    """Of an image whose left half moves by two pixels and whose right half is another's the left half is in common."""
    rng = np.random.default_rng(0)
    gray = cv2.GaussianBlur(rng.normal(128, 300, (96, 128)), (0, 0), 2.0), rng.normal(128, 60, (96, 128))
    first, other = (cv2.cvtColor(image.clip(0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB) for image in gray)
    second = np.hstack([np.roll(first, 2, axis=1)[:, :64], other[:, 64:]])
    plain = np.full_like(first, 20)

    def in_common(one, two):
        looks = CensusAppearance()
        return share_in_common(luminance(one), looks(one), luminance(two), looks(two))

    assert in_common(first, first) == in_common(plain, plain + 30) == 1
    assert 0.42 < in_common(first, second) < 0.55
    assert in_common(first, other) < 0.1
    assert in_common(plain, first) < 0.05


def test_likeness_by_hand():
    features = torch.tensor([[3.0, 0, 2, 0], [4.0, 0, 0, 0.1]])
    others = torch.tensor([[3.0, 0, -2, 0.1], [4.0, 0, 0, 0]])
    assert likeness(features, others).tolist() == pytest.approx([1, 1, (1 - 4) / (1 + 4), 1 / 1.01])


def test_shots():
    assert shots_of([], 5) == [(0, 5)] and shots_of([2, 3], 5) == [(0, 2), (2, 3), (3, 5)]


def test_a_cut_is_refused_by_its_frame_split_or_ignored(clips, tmp_path):
    video, options = np.concatenate([clips[0][:3], clips[2][:4]]), {"flow": "dis", "device": "cpu", "quiet": True}
    with pytest.raises(UserError, match=r"cuts to another shot at frame 3, .*\(0 to 2, 3 to 6\)"):
        build(video, tmp_path, **options)
    shots = build(video, tmp_path, cuts="split", **options)
    assert [data.path.name for data in shots] == ["shot_000", "shot_001"]
    assert [data.num_frames for data in shots] == [3, 4]
    assert np.array_equal(shots[1].frames(), video[3:])
    with pytest.raises(UserError, match="several shots, each with .* of its own in it: shot_000, shot_001"):
        DataDir.open(tmp_path)
    written = (tmp_path / "shot_001/flow_chained/00000.npy").stat().st_mtime_ns
    build(video, tmp_path, cuts="split", **options)  # nothing is done twice
    assert (tmp_path / "shot_001/flow_chained/00000.npy").stat().st_mtime_ns == written
    assert build(video, tmp_path, cuts="ignore", **options).num_frames == 7


def test_a_shot_of_one_frame_is_refused(clips, tmp_path):
    video = np.concatenate([clips[0][:3], clips[2][:1]])
    with pytest.raises(UserError, match="frame 3 is a shot of its own; expected at least 2 frames"):
        build(video, tmp_path, flow="dis", cuts="split", device="cpu", quiet=True)
    with pytest.raises(UserError, match="--cuts keep: expected refuse, ignore or split"):
        build(video, tmp_path, flow="dis", cuts="keep", device="cpu", quiet=True)
