"""DIS walked over a video: it follows an object that single pairs lose, and hidden motion spreads within a surface."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import util
from flow.dis import CODE, DisFlow, DisSettings, PlainDis, fuse_around
from flow.fill import fill
from flow.images import enlarge_flow, exposure, shrink_flow
from flow.motions import MotionSettings
from flow.pair import ErrorSettings, FramePair
from preprocess.report import changes

SIDE, TOP, LEFT = 20, 18, 16  # of the square, in frame 0


def texture(rng, height, width):
    """uint8 (H, W, 3), smooth at the scale of a pixel or two."""
    values = cv2.GaussianBlur(rng.uniform(0, 255, (height, width, 3)).astype(np.float32), (0, 0), 1.2)
    return ((values - values.min()) / np.ptp(values) * 255).astype(np.uint8)


def square_over_background(step, num_frames=8, height=56, width=80, seed=0):
    """uint8 (N, H, W, 3): a textured square moves right by `step` pixels a frame, over a still textured background."""
    rng = np.random.default_rng(seed)
    frames = np.stack([texture(rng, height, width)] * num_frames)
    square = texture(rng, SIDE, SIDE)
    for k, frame in enumerate(frames):
        frame[TOP : TOP + SIDE, LEFT + step * k : LEFT + step * k + SIDE] = square
    return frames


def on_square(flow, step, k):
    """Median length of what flow (H, W, 2) lacks of (x, 0) on the square, as it stands in frame k; x pixels."""
    found = flow[TOP : TOP + SIDE, LEFT + step * k : LEFT + step * k + SIDE]
    return lambda x: np.median(np.linalg.norm(found - [x, 0], axis=-1))


def test_a_moving_square_is_followed_to_the_last_frame():
    frames, walk, pairs = square_over_background(4), DisFlow(), PlainDis("medium")
    walk.load_frames(frames)
    pairs.load_frames(frames)
    for flow, j in zip(walk.flow_from(0, range(1, 8)), range(1, 8)):
        assert on_square(flow, 4, 0)(4 * j) < 1
        assert np.median(np.linalg.norm(flow[:12], axis=-1)) < 0.2  # the background stays
    alone = pairs.flow_from(0, [7])[0]
    assert on_square(alone, 4, 0)(28) > 10 and on_square(alone, 4, 0)(0) < 2  # it follows the background


@pytest.mark.parametrize("height, width", [(57, 81), (45, 79), (61, 331)])
def test_gaps_directions_order_and_odd_sizes(height, width):
    frames, estimator = square_over_background(4, 7, height, width, seed=1), DisFlow()
    estimator.load_frames(frames)
    assert estimator.factor == (1 if width > 320 else 2)
    for i, partners in ((0, [6, 1, 2]), (6, [5, 0, 4]), (3, [0, 4, 6])):
        flows = estimator.flow_from(i, partners)
        assert flows.shape == (3, height, width, 2) and flows.dtype == np.float32 and np.isfinite(flows).all()
        assert [on_square(flow, 4, i)(4 * (j - i)) < 1 for flow, j in zip(flows, partners)] == [True] * 3
    assert estimator.flow_from(3, []).shape == (0, height, width, 2)


def test_the_walk_is_the_same_whichever_frames_were_asked_before():
    frames = square_over_background(3, 4, seed=2)
    flows = []
    for asked_before in ([], [2, 3, 1]):
        estimator = DisFlow()
        estimator.load_frames(frames)
        for i in asked_before:
            estimator.flow_from(i, [0])
        flows.append(estimator.flow_from(0, [1, 3]))
    np.testing.assert_array_equal(*flows)


def two_surfaces():
    """flow, motion (40, 96, 2), trusted (40, 96): left of column 40 one surface, right of it another, 20 px faster."""
    flow, motion = np.zeros((2, 40, 96, 2), np.float32)
    flow[:, 40:, 0] = 20
    motion[:, :40], motion[:, 40:] = (1, 0), (5, 2)
    return flow, motion, np.ones((40, 96), bool)


def test_fill_spreads_motion_within_a_surface():
    flow, expected, trusted = two_surfaces()
    trusted[:, 30:50] = False
    motion = np.where(trusted[..., None], expected, 99).astype(np.float32)
    found, rim = fill(motion, flow, trusted), [39, 40]  # which lie between cells of either surface
    np.testing.assert_allclose(np.delete(found, rim, axis=1), np.delete(expected, rim, axis=1), atol=1e-3)
    np.testing.assert_array_equal(fill(motion, flow, np.ones_like(trusted)), motion)


def test_fill_reaches_across_a_large_gap():
    flow, motion = np.zeros((96, 96, 2), np.float32), np.full((96, 96, 2), 99, np.float32)
    motion[:, :2] = 3, 1
    trusted = np.arange(96)[None].repeat(96, 0) < 2
    np.testing.assert_allclose(fill(motion, flow, trusted), motion[:, :1].repeat(96, 1), atol=1e-2)


def test_fill_leaves_alone_what_no_trusted_pixel_reaches():
    flow, motion, trusted = two_surfaces()
    trusted[:, 20:] = False
    motion[:, 20:40] = 99
    filled = fill(motion, flow, trusted)
    np.testing.assert_allclose(filled[:, :39], motion[:, :1].repeat(39, 1), atol=1e-3)
    np.testing.assert_array_equal(filled[:, 42:], motion[:, 42:])  # the other surface: nothing of it is trusted


@pytest.mark.parametrize("side, factor", [(40, 2), (400, 1)])
def test_small_frames_are_searched_at_twice_their_size(side, factor):
    estimator = DisFlow()
    estimator.load_frames(np.zeros((2, 32, side, 3), np.uint8))
    assert estimator.factor == factor
    flow = np.full((32, side, 2), (3, -2), np.float32)
    enlarged = enlarge_flow(flow, factor)
    np.testing.assert_allclose(enlarged, np.full((32 * factor, side * factor, 2), (3 * factor, -2 * factor)))
    np.testing.assert_allclose(shrink_flow(enlarged, flow.shape[:2]), flow)


def test_rims_get_the_flow_of_their_own_surface():
    """A square that turns and moves over a still texture; its flow is blown up by 4 pixels, as windows do."""
    random = np.random.default_rng(0)
    texture = [cv2.resize(random.integers(0, 256, (48, 60, 3), np.uint8), (120, 96), interpolation=cv2.INTER_CUBIC)
               for _ in range(2)]
    y, x = np.mgrid[:96, :120].astype(np.float32)
    angle, centre = np.deg2rad(8), np.float32([50, 45])
    turn = np.float32([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = np.stack([x, y], -1) - centre
    square = (np.abs(offset) < 20).all(-1)
    true = np.where(square[..., None], offset @ turn.T + (12, 5) - offset, 0).astype(np.float32)
    back = (offset - (12, 5)) @ turn + centre  # where a pixel of the second frame comes from, on the square
    arrived = (np.abs(back - centre) < 20).all(-1)
    turned = cv2.remap(texture[1], *np.float32(np.moveaxis(back, -1, 0)), cv2.INTER_LINEAR)
    frames = np.stack([np.where(mask[..., None], front, texture[0])
                       for mask, front in ((square, texture[1]), (arrived, turned))])
    near = cv2.dilate(square.astype(np.uint8), np.ones((9, 9))) > 0
    blown = np.where(near[..., None], offset @ turn.T + (12, 5) - offset, 0).astype(np.float32)

    estimator = DisFlow()
    estimator.load_frames(frames)
    assigned = estimator.assign_and_refine(0, 1, blown)
    rim = near & ~square & ~arrived  # what is seen of it: still texture, to which the square's flow was given
    assert rim.sum() > 300
    assert (np.linalg.norm(assigned - true, axis=-1) < 0.5)[rim].mean() > 0.85
    assert (np.linalg.norm(assigned - true, axis=-1) < 0.1)[square].mean() > 0.95


def test_the_description_changes_with_any_setting_and_with_the_code(monkeypatch):
    settings = replace(DisSettings(), motions=replace(MotionSettings(), own_cost=3.5))
    described = [DisFlow().description, DisFlow(settings=settings).description]
    monkeypatch.setattr(util.inspect, "getsource", lambda module: module.__name__)
    described.append(DisFlow().description)
    assert changes(described[0], described[1]) == "settings: motions: own_cost was 3.0, now 3.5"
    assert changes(described[0], described[2]).startswith("code was ")


def test_the_code_is_all_of_flow_that_the_walk_is_made_of():
    for name in CODE:
        used = re.findall(r"^from (flow\.\w+) import", Path(sys.modules[name].__file__).read_text(), re.MULTILINE)
        assert set(used) <= set(CODE), name


class Coloured(FramePair):
    """A pair of frames of which a flow's error of colour is its length."""

    def __init__(self):
        self.settings = ErrorSettings()

    def colour_error(self, flow):
        return np.linalg.norm(flow, axis=-1).astype(np.float32)


def test_assigned_flow_is_refined_where_the_colours_around_are_explained_better():
    assigned, refined = np.full((12, 60, 2), (5, 0), np.float32), np.full((12, 60, 2), (4.5, 0), np.float32)
    refined[:, 30:] = 5.5, 0  # worse
    refined[6, 15] = 6, 0  # alone, among better ones
    fused = fuse_around({"assigned": assigned, "refined": refined}, Coloured())
    assert (fused[:, :26] == refined[:, :26]).all() and (fused[:, 34:] == assigned[:, 34:]).all()  # windows reach 4


def test_exposure_is_found_among_outliers():
    random = np.random.default_rng(0)
    image = random.uniform(0, 200, (60, 80)).astype(np.float32)
    target = 0.8 * image + 25
    target[:15] = random.uniform(0, 255, (15, 80))  # a quarter shows something else
    gain, offset = exposure(image, target)
    assert abs(gain - 0.8) < 0.05 and abs(offset - 25) < 6
    assert exposure(image, image) == (1, 0)


def test_a_frame_that_is_darker_and_flatter_is_followed_as_well():
    random = np.random.default_rng(1)
    texture = cv2.resize(random.integers(0, 256, (40, 40), np.uint8), (160, 160), interpolation=cv2.INTER_CUBIC)
    frames = [texture[20 : 20 + 96, 20 : 20 + 120], texture[23 : 23 + 96, 14 : 14 + 120]]
    frames[1] = (0.7 * frames[1] + 10).round().astype(np.uint8)
    estimator = DisFlow()
    estimator.load_frames(np.stack(frames)[..., None].repeat(3, -1))
    error = np.linalg.norm(estimator.flow_from(0, [1])[0] - (6, -3), axis=-1)
    assert (error[12:-12, 12:-12] < 1).mean() > 0.97
