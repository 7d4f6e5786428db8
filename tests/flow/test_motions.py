"""A few affine motions: found among wrong flow, chosen by colour and with neighbours."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from flow.motions import (
    Motions,
    MotionSettings,
    assign,
    assign_motions,
    costs_of_motions,
    covering,
    fit,
    in_cells,
    likeness,
    mean_field,
)

HEIGHT, WIDTH = 72, 96


def smooth_noise(seed, height=HEIGHT, width=WIDTH):
    """float32 (height, width), 0 to 255."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).uniform(0, 1, (height, width)).astype(np.float32), (0, 0), 1.5)
    return cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX)


def grid():
    return np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1).astype(np.float32)


def affine_flow(matrix, offset):
    """Flow (HEIGHT, WIDTH, 2) about the frame's centre: matrix (2, 2) without the identity, offset (2,)."""
    return ((grid() - (WIDTH / 2, HEIGHT / 2)) @ np.float32(matrix).T + np.float32(offset)).astype(np.float32)


TURN = affine_flow([[-0.01, -0.06], [0.06, 0.0]], (2.0, -1.5))


def distance(flow, other):
    return np.linalg.norm(flow - other, axis=-1)


def test_fit_is_least_squares():
    motion = np.float32([[1.5, -0.4], [0.3, 2.0], [-3.0, 1.0]])
    basis = np.random.default_rng(0).uniform(-1, 1, (2, 50, 3)).astype(np.float32)
    basis[..., 2] = 1
    np.testing.assert_allclose(fit(basis, basis @ motion), [motion] * 2, atol=1e-3)


def test_motions_are_found_among_wrong_flow():
    parts = [np.zeros_like(TURN), TURN + 5, np.full_like(TURN, -4)]
    flow = parts[0].copy()
    flow[20:50, 10:40], flow[10:30, 60:90] = parts[1][20:50, 10:40], parts[2][10:30, 60:90]
    random = np.random.default_rng(0)
    wrong = random.uniform(size=(HEIGHT, WIDTH)) < 0.25
    flow[wrong] = random.uniform(-12, 12, (wrong.sum(), 2))
    motions = Motions((HEIGHT, WIDTH))
    found = [(motions.basis @ motion).reshape(TURN.shape) for motion in motions.find(flow)]
    for part, place in zip(parts, (np.s_[55:, :], np.s_[20:50, 10:40], np.s_[10:30, 60:90])):
        assert min(distance(motion, part)[place].max() for motion in found) < 0.3


def blurred_error(first, second):
    """Absolute differences of the luminance, averaged over 3 x 3 pixels, as a function of flow."""

    def error_of(flow):
        seen = cv2.remap(second, grid() + flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return cv2.blur(np.minimum(np.abs(seen - first), 30), (3, 3))

    return error_of


def pair_of(first, second, error_of=None):
    """A stand-in for a FramePair of grey frames (H, W), of which error_of(flow) is the error of colour."""
    return SimpleNamespace(first=SimpleNamespace(pixels=first[..., None]),
                           colour_error=error_of or blurred_error(first, second))


def rods():
    """Rods 3 pixels wide that move by (5, 2) before a still ground: frames, true flow, mask of the rods."""
    ground, front = smooth_noise(1), smooth_noise(2)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for x in (20, 34, 48, 62):
        mask[15:55, x : x + 3] = True
    mask[33:36, 20:65] = True
    second = np.where(np.roll(mask, (2, 5), (0, 1)), np.roll(front, (2, 5), (0, 1)), ground)
    return np.where(mask, front, ground), second, np.where(mask[..., None], np.float32([5, 2]), np.float32(0)), mask


def test_thin_rods_get_their_motion():
    first, second, true, mask = rods()
    flow = true.copy()
    blind = mask & (np.arange(HEIGHT) < 30)[:, None]
    flow[blind] = 0  # the upper half follows the ground, as windows wider than a rod make it
    hidden = np.roll(mask, (2, 5), (0, 1)) & ~mask
    assigned = assign_motions(flow, pair_of(first, second))
    assert (distance(assigned, true) < 0.2)[blind].mean() > 0.9
    assert (distance(assigned, true) < 0.2)[~hidden].mean() > 0.95


def test_what_no_motion_explains_keeps_its_own_flow():
    x = grid()[..., 0]
    flow = np.stack([6 * np.sin(x / 9), np.zeros_like(x)], -1).astype(np.float32)  # folds: no affine motion fits
    source = grid()
    for _ in range(60):  # inverts the flow
        source = grid() - cv2.remap(flow, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    first = smooth_noise(3)
    second = cv2.remap(first, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    assigned = assign_motions(flow, pair_of(first, second))
    assert np.median(distance(assigned, flow)) < 0.5


def test_a_motion_stays_near_what_follows_it():
    flow = np.random.default_rng(0).uniform(-12, 12, TURN.shape).astype(np.float32)
    flow[:, :25] = 7, 0
    grey = np.full((HEIGHT, WIDTH), 120, np.float32)  # of one colour: every motion explains all of it

    def error_of(other):  # the own flow explains it a little less, as that of a limb does
        return np.full(grey.shape, 3 if np.array_equal(other, flow) else 0, np.float32)

    assigned = assign_motions(flow, pair_of(grey, grey, error_of))
    assert distance(assigned, np.float32([7, 0]))[:, :25].max() < 0.1
    assert (assigned == flow)[:, 45:].mean() > 0.8


def test_what_candidates_cost_by_hand():
    """With own_cost 3, inlier 0.75 px, certainty 0.4: errors, half of 3 by the distance, 3 a pixel from followers."""
    own = np.zeros((1, 4, 2), np.float32)
    motion = np.float32([[[0.5, 0], [2.25, 0], [2.25, 0], [2.25, 0]]])  # the first pixel follows it
    errors = {"own": np.full((1, 4), 5, np.float32), "motion 0": np.full((1, 4), 2, np.float32)}
    costs = costs_of_motions({"own": own, "motion 0": motion}, errors, MotionSettings())
    unit = 0.4 / 2  # the usual error is that of the best candidate
    np.testing.assert_allclose(costs["own"], np.full((1, 4), unit * (5 + 3)), rtol=1e-5)
    away, far = 1.5 * np.array([0.5 / 1.25, 0.75, 0.75, 0.75]), 3 * 0.75 * np.arange(4)  # of four one is explained
    np.testing.assert_allclose(costs["motion 0"][0], unit * (2 + away + far), rtol=0.05)  # OpenCV's distances are near
    alone = costs_of_motions({"own": own}, {"own": errors["own"]}, MotionSettings())
    np.testing.assert_allclose(alone["own"], np.full((1, 4), 0.4 / 5 * 8), rtol=1e-5)


def test_guesses_are_taken_that_explain_what_is_left():
    explains = np.float32([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [1, 0, 0, 0, 0]])
    assert covering(explains, 3) == [0, 2]  # nothing explains the last
    assert covering(explains, 1) == [0] and covering(explains[:0], 2) == []


def test_neighbours_of_one_colour_decide_together():
    costs = np.zeros((2, 12, 20), np.float32)
    costs[1, :, :10], costs[0, :, 10:] = 4, 4  # label 0 on the left, 1 on the right ...
    costs[:, 4:8, 4:6] = 0  # ... and nothing said in the midst of the left
    guide = np.zeros((12, 20, 3))
    guide[:, 10:] = 200
    shares = mean_field(costs, likeness(guide))
    np.testing.assert_allclose(shares.sum(0), 1, rtol=1e-5)
    np.testing.assert_array_equal(shares.argmax(0), np.arange(20)[None].repeat(12, 0) >= 10)


def test_large_frames_are_labelled_in_cells_and_sharp_all_the_same():
    random = np.random.default_rng(0)
    right = np.arange(61)[None].repeat(47, 0) >= 30  # 61 x 47: no multiple of the cells
    costs = np.where([right, ~right], 6, 0) + random.normal(0, 3, (2, 47, 61))
    guide = np.where(right[..., None], 200, 0) + np.zeros(3)
    labels = assign(np.float32(costs), likeness(in_cells(np.float32(guide), 3)), 3)
    assert labels.shape == (47, 61)
    assert (labels == right).mean() > 0.97 > 0.95 > (costs.argmin(0) == right).mean()


@pytest.mark.parametrize("size", [(3, 40), (8, 8), (5, 200)])
def test_frames_of_any_size(size):
    first = np.random.default_rng(0).uniform(0, 255, size).astype(np.float32)
    flow = np.random.default_rng(1).normal(0, 3, (*size, 2)).astype(np.float32)
    assigned = assign_motions(flow, pair_of(first, first, lambda _: np.zeros(size, np.float32)))
    assert assigned.shape == flow.shape and np.isfinite(assigned).all()


def test_the_same_every_time():
    first, second, true, _ = rods()
    flows = [assign_motions(true + 1, pair_of(first, second)) for _ in range(2)]
    np.testing.assert_array_equal(*flows)
