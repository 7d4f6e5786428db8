"""A disc before a ground that moves by whole pixels: what is behind it is known exactly."""

import numpy as np
import pytest

from edits import clean
from flow.images import pixel_grid

SIZE, N = (48, 64), 5
GROUND = np.random.default_rng(1).integers(0, 256, (80, 120, 3), dtype=np.uint8)
STEP = 3  # px that the ground moves left in each frame


def disc(k, speed):
    grid = pixel_grid(SIZE)
    return np.hypot(grid[..., 0] - 20 - speed * k, grid[..., 1] - 24) < 8


def ground(k):
    return GROUND[10 : 10 + SIZE[0], 10 + STEP * k : 10 + STEP * k + SIZE[1]]


def clip(speed):
    """Frames, masks and the true flow of a disc that moves right by `speed` px a frame."""
    masks = np.stack([disc(k, speed) for k in range(N)])
    frames = [np.where(masks[k][..., None], np.uint8([0, 255, 0]), ground(k)) for k in range(N)]

    def flow(i, j):
        moved = np.where(masks[i][..., None], np.float32([speed * (j - i), 0]), np.float32([STEP * (i - j), 0]))
        ends = np.round(pixel_grid(SIZE) + moved).astype(int)
        inside = ((ends >= 0) & (ends < SIZE[::-1])).all(-1)
        covered = masks[j][ends[..., 1].clip(0, 47), ends[..., 0].clip(0, 63)]
        return moved, inside & (masks[i] | ~covered)

    return frames, masks, flow


def test_the_ground_behind_comes_from_frames_that_show_it():
    frames, masks, flow = clip(speed=5)
    for k in range(N):
        image, origin = clean.clean_frame(frames, masks, flow, k)
        seen = origin != clean.NEVER
        assert (origin[~masks[k]] == clean.KEPT).all() and (image[~masks[k]] == frames[k][~masks[k]]).all()
        assert seen[masks[k]].mean() > 0.9  # a whole width of the disc passes in two frames
        np.testing.assert_array_equal(image[seen], ground(k)[seen])
        for source in set(origin[masks[k]].tolist()) - {clean.NEVER}:
            y, x = np.nonzero((origin == source) & masks[k])
            assert not masks[source - 1][y, x + STEP * (k - (source - 1))].any()  # the ground is free there
        assert (image[~seen] == clean.MARK).all()


def test_what_stands_with_the_ground_hides_it_always():
    frames, masks, flow = clip(speed=-STEP)
    image, origin = clean.clean_frame(frames, masks, flow, 2)
    inner = masks[2] & ~clean.grown(~masks[2], 1)
    assert (origin[inner] == clean.NEVER).all() and (image[inner] == clean.MARK).all()
    guessed = clean.inpainted(image, origin)
    assert (guessed[origin != clean.NEVER] == image[origin != clean.NEVER]).all()
    assert not (guessed == clean.MARK).all(-1).any()


def test_the_nearest_to_the_median_is_taken_of_the_first_few():
    colours = np.array([[9], [1], [2], [3], [200], [255], [255], [255]])[..., None].repeat(3, -1)  # (S = 8, n = 1, 3)
    valid = np.ones((8, 1), bool)
    valid[0] = False
    assert clean.agreed(colours, valid).tolist() == [3]  # of 1, 2, 3, 200, 255
    assert clean.agreed(colours, np.zeros((8, 1), bool)).tolist() == [-1]


def test_frames_are_asked_outwards():
    assert clean.frames_around(3, 12) == [2, 4, 1, 5, 0, 6, 7, 9, 11]
    assert clean.frames_around(0, 1) == []


@pytest.mark.parametrize("pixels", [1, 4])
def test_growing(pixels):
    mask = np.zeros((15, 15), bool)
    mask[7, 7] = True
    found = clean.grown(mask, pixels)
    assert found[7, 7 - pixels] and not found[7, 7 - pixels - 1] and not found[7 - pixels, 7 - pixels]
