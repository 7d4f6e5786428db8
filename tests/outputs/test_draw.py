"""What is drawn where: marks, trails, matches, legends and their colours."""

import numpy as np
import pytest

from outputs import draw

GREY = np.full((40, 60, 3), 128, np.uint8)


def changed(image, base=GREY):
    return (image.astype(int) != base).any(axis=-1)


@pytest.mark.parametrize("position", [(20.5, 15.5), (20.0, 15.0), (33.25, 21.8)])
def test_a_disc_is_centred_on_its_position(position):
    black = np.zeros((40, 60, 3), np.uint8)
    white = np.array([[255, 255, 255]], np.uint8)
    image = draw.draw_points(black, np.array([position]), white, np.array([False]), 5.0)
    y, x = np.mgrid[:40, :60] + 0.5
    weight = image[..., 0].astype(float)
    centroid = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
    assert np.allclose(centroid, position, atol=0.1)
    assert not black.any(), "drawn on a copy"


def test_a_hollow_cross_is_hollow_and_centred():
    image = draw.draw_points(GREY, np.array([[30.5, 20.5]]), np.array([[255, 0, 0]], np.uint8), np.array([True]), 6.0)
    marked = changed(image)
    assert not marked[20, 30], "its middle shows the image"
    assert marked.any(axis=0).nonzero()[0][[0, -1]].sum() == 60
    assert marked.any(axis=1).nonzero()[0][[0, -1]].sum() == 40
    assert marked[10:12].any() and not marked[10:12, 30].any(), "an x: nothing straight above the middle"
    disc = draw.draw_points(GREY, np.array([[30.5, 20.5]]), np.array([[255, 0, 0]], np.uint8), np.array([False]), 6.0)
    assert changed(disc)[20, 30]


@pytest.mark.parametrize("position", [(-0.1, 5), (60.1, 5), (5, 40.1), (1e30, 5), (np.nan, 5), (np.inf, -np.inf)])
@pytest.mark.parametrize("occluded", [True, False])
def test_points_outside_the_frame_are_not_drawn(position, occluded):
    image = draw.draw_points(GREY, np.array([position]), np.array([[9, 9, 9]], np.uint8), np.array([occluded]), 3.0)
    assert not changed(image).any()


def test_trails_fade_with_age_and_stop_where_a_point_is_hidden():
    history = np.array([[[x, 10.5]] for x in (2.5, 12.5, 22.5, 32.5, 42.5)])
    white = np.array([[255, 255, 255]], np.uint8)
    drawable = np.ones((5, 1), bool)
    row = draw.draw_trails(GREY, history, drawable, white, 1)[10, :, 0].astype(int)
    assert row[7] < row[17] < row[27] < row[37], "older is fainter"
    assert row[7] > 128 and (row[46:] == 128).all()
    drawable[2] = False
    row = draw.draw_trails(GREY, history, drawable, white, 1)[10, :, 0].astype(int)
    assert (row[14:31] == 128).all() and row[7] > 128 and row[37] > 128
    assert np.array_equal(draw.draw_trails(GREY, history[:1], drawable[:1], white, 1), GREY), "one frame: no trail yet"


def test_colours_tell_positions_apart():
    y, x = np.mgrid[:5, :9]
    colours = draw.position_colours(np.stack([x, y], axis=-1).reshape(-1, 2)).astype(int).reshape(5, 9, 3)
    flat = colours.reshape(-1, 3)
    distance = np.abs(flat[:, None] - flat[None]).sum(-1) + 999 * np.eye(45, dtype=int)
    assert distance.min() > 0
    far = np.abs(colours[:, 0] - colours[:, -1]).sum(-1)
    assert far.min() > 90, "the left and the right edge differ"
    assert flat.max(axis=1).min() > 120, "none is dark"
    assert draw.position_colours(np.zeros((1, 2))).shape == (1, 3)


def test_marks_do_not_touch():
    y, x = np.mgrid[:10, :10] * 9.0
    assert draw.mark_radius((1000, 1000), np.stack([x, y], axis=-1).reshape(-1, 2)) < 4.5
    assert draw.mark_radius((1000, 1000), np.zeros((1, 2))) == pytest.approx(0.006 * np.hypot(1000, 1000))


def test_near_is_warm_and_far_is_cold():
    (near, far), = draw.depth_colours(np.array([[0.3, 1.2]]), 0.3, 1.2).astype(int)
    assert near[0] > near[2] + 60 and far[2] > far[0] + 60
    image = draw.with_depth_legend(np.full((100, 160, 3), 255, np.uint8))
    legend = np.argwhere(changed(image, 255))
    assert legend[:, 0].min() > 60 and legend[:, 1].max() < 90, "the legend stays in its corner"


def test_the_flow_legend_is_in_the_lower_right_corner():
    image = draw.with_flow_legend(np.full((100, 160, 3), 255, np.uint8), 12.5)
    legend = np.argwhere(changed(image, 255))
    assert legend[:, 0].min() > 70 and legend[:, 1].min() > 70


def test_matches_end_where_the_point_is():
    start, end = np.array([[10.5, 20.5], [15.5, 5.5], [20.5, 30.5]]), np.array([[40.5, 20.5], [30.5, 8.5], [70.0, 9]])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    image = draw.draw_matches(GREY, GREY, start, end, colours, np.array([False, True, False]), 3.0, gap=8)
    assert image.shape == (40, 60 + 8 + 60, 3)
    assert image[20, 10].tolist() == image[20, 68 + 40].tolist() == [255, 0, 0]
    assert image[20, 50, 0] > 200, "a line joins the visible match"
    base = draw.side_by_side(GREY, GREY, 8)
    assert not changed(image[6:9, 25:60], base[6:9, 25:60]).any(), "and none an occluded one"
    blue = (image[..., 2].astype(int) - image[..., 0]) > 60
    assert blue[:, :60].any() and not blue[:, 60:].any(), "a point that left has no mark on the right"


def test_spread_out_takes_the_farthest_each_time():
    positions = np.random.default_rng(0).random((40, 2))
    chosen = draw.spread_out(positions, 12)
    for count in range(1, 12):
        taken = positions[chosen[:count]]
        nearest = [min(np.hypot(*(p - q)) for q in taken) for p in positions]
        assert nearest[chosen[count]] == pytest.approx(max(nearest))
    assert sorted(draw.spread_out(positions, 99)) == list(range(40))
