"""What is hidden during a walk: which surface pixels are of, what is spread over it, and who owns a landing place."""

import numpy as np

from preprocess.hidden import Walk, fill, joined_by

SIZE = 40, 96


def two_surfaces():
    """flow (40, 96, 2): left of column 40 one surface, right of it another, that moves by 5 px more."""
    flow = np.zeros((*SIZE, 2), np.float32)
    flow[:, :40], flow[:, 40:] = (1, 0), (6, 2)
    return flow


def joined_by_flow(*flows):
    return joined_by(np.zeros((*SIZE, 3), np.uint8), flows)


EVERYWHERE = np.ones(SIZE, bool)


def test_values_spread_within_a_surface():
    expected, known = two_surfaces(), EVERYWHERE.copy()
    known[:, 30:50] = False
    values, joined = np.where(known[..., None], expected, 99), joined_by_flow((expected, EVERYWHERE))
    np.testing.assert_allclose(fill(values, joined, known), expected, atol=1e-3)
    np.testing.assert_array_equal(fill(values, joined, EVERYWHERE), values)


def test_what_nothing_known_reaches_is_left():
    values, known = two_surfaces(), EVERYWHERE.copy()
    joined = joined_by_flow((values, EVERYWHERE))
    known[:, 20:] = False
    values[:, 20:40] = 99
    filled = fill(values, joined, known)
    np.testing.assert_allclose(filled[:, :39], values[:, :1].repeat(39, 1), atol=1e-3)
    np.testing.assert_array_equal(filled[:, 42:], values[:, 42:])  # of the other surface, nothing is known


def test_surfaces_are_told_apart_by_the_first_flow_that_is_known_and_by_colour_elsewhere():
    flow, nowhere = two_surfaces(), np.zeros(SIZE, bool)
    frame = np.zeros((*SIZE, 3), np.uint8)
    frame[:, 60:] = 120
    left, colour = np.s_[:, 39], np.s_[:, 57:62]
    across, down = joined_by(frame, [(flow, nowhere)])
    assert across.shape == (40, 95) and down.shape == (39, 96)
    assert (across[left] == 1).all() and (across[colour].min(1) < 0.1).all() and (down == 1).all()
    across, _ = joined_by(frame, [(flow, EVERYWHERE)])
    assert (across[left] < 1e-3).all() and (across[colour] == 1).all()  # however many colours a surface has
    across, _ = joined_by(frame, [(0 * flow, EVERYWHERE), (flow, EVERYWHERE)])
    assert (across[left] < 1e-3).all() and (across[colour] == 1).all()  # the second parts what the first has joined


def walked(size=(6, 40), shift=4, square=np.s_[:, 10:20]):
    """A Walk to the next frame, where the still background's rest is hidden by a square that moves by `shift`."""
    flow = np.zeros((*size, 2), np.float32)
    flow[square] = (shift, 0)
    seen, back, returns = np.ones(size, bool), np.zeros((*size, 2), np.float32), np.ones(size, bool)
    seen[:, 20:24] = False  # the square is there now
    back[:, 14:24] = (-shift, 0)
    returns[:, 10:14] = False  # background that has appeared
    joined = joined_by(np.zeros((*size, 3), np.uint8), [(-flow, np.ones(size, bool))])  # by the flow to the other side
    return Walk.begin(flow, seen, joined).followed_back(back, returns)


def test_a_pixel_is_not_found_again_where_another_one_is():
    walk = walked()
    corrected = walk.corrected(walk.flow, np.ones((6, 40), bool))  # all looks alike
    np.testing.assert_array_equal(corrected.seen, walk.seen)


def test_a_hidden_pixel_may_be_seen_again_where_something_new_has_appeared():
    walk = walked()
    flow = walk.flow.copy()
    flow[:, 20:24] = (-10, 0)  # to columns 10 to 13
    assert walk.corrected(flow, np.ones((6, 40), bool)).seen[:, 20:24].all()


def test_what_is_not_seen_goes_where_its_surface_goes():
    walk = walked()
    flow = walk.flow + np.float32([0, 1])
    flow[:, 20:24] = (0, 7)  # what is seen in their place, the square, cannot be theirs
    found = walk.corrected(flow, np.ones((6, 40), bool)).flow
    np.testing.assert_allclose(found[:, 20:24], np.broadcast_to([0, 1], (6, 4, 2)), atol=0.1)


def test_what_does_not_look_alike_goes_on_as_it_was_carried():
    walk = walked()
    alike = np.ones((6, 40), bool)
    alike[:, 30:33] = False
    found = walk.corrected(walk.flow + np.float32([0, 1]), alike)
    np.testing.assert_array_equal(found.flow[:, 30:33], walk.flow[:, 30:33])
    assert not found.seen[:, 30:33].any()
