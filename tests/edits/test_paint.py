"""A painting on a surface: where it is, what hides it, and its light, in closed form."""

import numpy as np

from edits.paint import as_rgba, carried_layer, over, premultiplied, relit

SIZE = (40, 60)
FRAME = np.full((*SIZE, 3), 120, np.uint8)


def square(alpha=255):
    rgba = np.zeros((*SIZE, 4), np.uint8)
    rgba[10:20, 20:30] = (200, 100, 0, alpha)
    return rgba


def test_it_moves_with_the_flow_and_keeps_its_colours():
    flow = np.broadcast_to(np.float32([-7, 3]), (*SIZE, 2))  # the frame's pixel was 7 px left and 3 px down
    carried = carried_layer(premultiplied(square(128)), flow, np.ones(SIZE, bool), FRAME)
    assert (as_rgba(carried)[..., 3] == np.roll(square(128), (-3, 7), (0, 1))[..., 3]).all()
    assert (as_rgba(carried)[7:17, 27:37] == (200, 100, 0, 128)).all()


def test_what_hides_the_surface_hides_it():
    frame, visible = FRAME.copy(), np.ones(SIZE, bool)
    frame[:, 25:], visible[:, 25:] = 20, False  # something dark in front
    opacity = carried_layer(premultiplied(square()), np.zeros((*SIZE, 2), np.float32), visible, frame)[..., 3]
    assert (opacity[10:20, 20:25] > 0.9).all() and (opacity[:, 25:] < 0.1).all()


def test_it_gets_as_bright_as_its_surface():
    layer, flow, seen = premultiplied(square(128)), np.zeros((*SIZE, 2), np.float32), np.ones(SIZE, bool)
    darker = np.full_like(FRAME, 60)
    gain = 61 / 121  # of levels and one
    found = relit(layer, darker, FRAME, flow, seen)
    np.testing.assert_allclose(found[..., :3], layer[..., :3] * gain, rtol=1e-4)
    assert (found[..., 3] == layer[..., 3]).all()
    lighter = relit(layer, np.full_like(FRAME, 250), FRAME, flow, seen)
    assert (lighter[..., :3] <= 255 * lighter[..., 3:]).all()  # not brighter than white
    np.testing.assert_allclose(lighter[15, 25, 1], layer[15, 25, 1] * 251 / 121, rtol=1e-4)


def test_over_a_frame():
    image = over(premultiplied(square(51)), FRAME)  # a fifth
    assert image[15, 25].tolist() == [136, 116, 96] and (image[0] == 120).all()


def test_rgba_comes_back():
    rgba = np.random.default_rng(0).integers(1, 256, (5, 7, 4), dtype=np.uint8)
    assert (as_rgba(premultiplied(rgba)) == rgba).all()
