"""Candidates of the walk: a right one helps, a wrong or unknown one does no harm. Flow files."""


import numpy as np
import pytest

import preprocess
from benchmarks.scenes import make_scene
from flow.candidates import FlowFiles, FusedFlow
from flow.dis import DisFlow
from flow.estimator import Estimator
from flow.formats import UNKNOWN, write_flo
from flow.fusion import fuse
from tests.flow.test_dis import LEFT, SIDE, TOP, square_over_background
from util import UserError

STEP, PARTNERS = 28, (1, 2)


class Planted(Estimator):
    """An estimator whose flow is what a function says: flow(i, j) -> (H, W, 2)."""

    reason = "planted"

    def __init__(self, flow, name="planted"):
        self.flow, self.description, self.asked = flow, {"method": name}, []

    def load_frames(self, frames, adjacent=None):
        self.size = frames[0].shape[:2]

    def flow_from(self, i, partners):
        self.asked.append(i)
        return np.stack([self.flow(i, j) for j in partners])


def true_flow(i, j, step=STEP, size=(56, 120)):
    """Of a square that moves right by `step` pixels a frame over a still background: float32 (H, W, 2)."""
    flow = np.zeros((*size, 2), np.float32)
    flow[TOP : TOP + SIDE, LEFT + step * i : LEFT + step * i + SIDE, 0] = step * (j - i)
    return flow


def unknown(i, j):
    return np.full((56, 120, 2), np.nan, np.float32)


@pytest.fixture(scope="module")
def leaping():
    """uint8 (3, 56, 120, 3): a square without any structure that keypoints could find leaps over a background."""
    return square_over_background(STEP, 3, 56, 120, seed=3)


@pytest.fixture(scope="module")
def walked(leaping):
    """The walk's own flow from frame 0, without candidates."""
    walk = DisFlow()
    walk.load_frames(leaping)
    return walk.flow_from(0, PARTNERS)


def fused(frames, *sources, partners=PARTNERS):
    estimator = FusedFlow({f"source {k}": source for k, source in enumerate(sources)})
    estimator.load_frames(frames)
    return estimator.flow_from(0, partners)


def right(flow, truth, within=1.0):
    """Share of pixels whose flow is so near to the truth."""
    return (np.linalg.norm(flow - truth, axis=-1) < within).mean()


def seen(j):
    """bool (H, W): pixels of frame 0 that the square does not hide in frame j."""
    hidden = np.zeros((56, 120), bool)
    hidden[TOP : TOP + SIDE, LEFT + STEP * j : LEFT + STEP * j + SIDE] = True
    return ~hidden


@pytest.fixture(scope="module")
def panning():
    """A DisFlow on two frames of a texture that moves right by 5 px."""
    texture = np.random.default_rng(0).integers(0, 256, (40, 70, 3)).astype(np.uint8)
    walk = DisFlow()
    walk.load_frames([texture[:, 5:65].copy(), texture[:, :60].copy()])
    return walk


def moved(x, size=(40, 60)):
    return np.broadcast_to(np.float32([x, 0]), (*size, 2)).copy()


def test_what_explains_the_frames_is_taken_whoever_proposes_it(panning):
    inside = np.s_[:, 12:48]  # elsewhere the flow or a window leaves the frame
    for own, hints in ((0, {"wrong": moved(-9), "right": moved(5)}), (5, {"wrong": moved(0)})):
        assert (panning.fuse_hints(0, 1, moved(own), hints)[inside] == moved(5)[inside]).all()
    half = moved(5)
    half[:20] = np.nan
    chosen = panning.fuse_hints(0, 1, moved(0), {"right": half})
    assert (chosen[:20] == moved(0)[:20]).all() and (chosen[20:, 12:48] == 5 * np.float32([1, 0])).all()


def test_fusion_takes_the_least_error_of_each_pixel():
    flows = {name: np.full((1, 4, 2), k, np.float32) for k, name in enumerate(("a", "b", "c"))}
    errors = {"a": np.float32([[1, 5, 3, 2]]), "b": np.float32([[2, 2, 3, 2]]), "c": np.float32([[9, 1, 3, 0]])}
    assert fuse(flows, errors)[0, :, 0].tolist() == [0, 2, 0, 2]  # of equals the first


def test_a_candidate_that_knows_nothing_changes_nothing(leaping, walked):
    np.testing.assert_array_equal(fused(leaping, Planted(unknown)), walked)
    np.testing.assert_array_equal(fused(leaping), walked)


def random_flow(i, j):
    return np.random.default_rng(10 * i + j).normal(0, 6, (48, 64, 2)).astype(np.float32)


@pytest.mark.parametrize("wrong", [lambda i, j: np.full((48, 64, 2), (9, -7), np.float32), random_flow],
                         ids=["constant", "noise"])
def test_a_wrong_candidate_hardly_harms(wrong):
    scene = make_scene("occlusion", seed=0, num_frames=4, height=48, width=64)
    walk = DisFlow()
    walk.load_frames(scene.video)
    with_wrong = fused(scene.video, Planted(wrong), partners=[1, 3])
    for j, alone, together in zip((1, 3), walk.flow_from(0, [1, 3]), with_wrong):
        truth, visible = scene.flow(0, j)
        assert right(together[visible], truth[visible]) > right(alone[visible], truth[visible]) - 0.03


def test_adjacent_candidates_are_asked_for_once_each(leaping):
    planted = Planted(true_flow)
    fused(leaping, planted)
    assert sorted(planted.asked) == [0, 0, 1, 1, 2]  # all partners of 0; then 0-1 and 1-2, there and back


# Flow files


@pytest.fixture
def flow_files(tmp_path):
    """A folder with the flow between all but the first and the last of three frames."""
    for i, j in ((0, 1), (1, 0), (1, 2), (2, 1)):
        write_flo(tmp_path / f"{i:05d}_{j:05d}.flo", true_flow(i, j))
    (tmp_path / "notes_on.flo").write_text("no pair")
    return tmp_path


def test_files_are_candidates_and_pairs_may_be_missing(leaping, flow_files):
    files = FlowFiles(flow_files)
    files.load_frames(leaping)
    assert np.isnan(files.flow_from(0, [1, 2])[1]).all() and files.flow_from(0, []).shape == (0, 56, 120, 2)
    square = np.s_[TOP : TOP + SIDE, LEFT : LEFT + SIDE]
    for flow, j in zip(fused(leaping, files), PARTNERS):  # to frame 2 the flow of the adjacent pairs carries on
        assert right(flow[square], true_flow(0, j)[square]) > 0.95


def test_unknown_flow_of_a_file_is_no_flow(leaping, flow_files):
    flow = true_flow(0, 1)
    flow[3, 4], flow[5, 6, 1] = 2 * UNKNOWN, np.nan
    write_flo(flow_files / "0_2.flo", flow)
    files = FlowFiles(flow_files)
    files.load_frames(leaping)
    missing = np.isnan(files.flow(0, 2))
    assert missing[[3, 5], [4, 6]].all() and missing.sum() == 4


def test_a_file_of_another_size_is_one_line(leaping, flow_files, tmp_path):
    write_flo(flow_files / "00000_00002.flo", true_flow(0, 2)[:, :100])
    with pytest.raises(UserError, match=r"00000_00002.flo: flow of 100x56 pixels; expected 120x56"):
        preprocess.build(leaping, tmp_path / "data", flow="dis", flow_files=flow_files, quiet=True)


def test_files_of_other_frames_are_refused(leaping, tmp_path):
    write_flo(tmp_path / "00007_00008.flo", true_flow(0, 1))
    files = FlowFiles(tmp_path)
    with pytest.raises(UserError, match="no file for any of the frames 0 to 2"):
        files.load_frames(leaping)


def test_files_are_described_by_what_is_in_them(flow_files):
    before = FlowFiles(flow_files).description
    assert before == FlowFiles(flow_files).description and before["count"] == 4
    write_flo(flow_files / "00000_00002.flo", true_flow(0, 2))
    assert FlowFiles(flow_files).description != before


def test_without_fusion_files_are_stored_as_they_are(leaping, flow_files, tmp_path):
    data = preprocess.build(leaping, tmp_path / "data", flow_files=flow_files, fusion=False, quiet=True, chain=False)
    np.testing.assert_array_equal(data.flow(1, 2), true_flow(1, 2))
    assert data.manifest["settings"]["flow"]["method"] == "files"
    assert not any(mask.any() for mask in data.valid(0, 2))  # there is no file
