"""Polishing on images that are moved by known maps: what is found, what stays, and what is left alone."""

import cv2
import numpy as np
import pytest

from tracking.polish import SETTINGS, Plates, polish
from tracking.tracks_file import Tracks

SIZE, SCALE = (160, 200), 4  # of the original frames; they are so many times as large as the processed ones
CENTRE = np.array([100.0, 80.0])


def waves(pixels):
    """A smooth texture (...) at pixels (..., 2), grey levels 30 to 220, its waves 9 to 30 px long."""
    rng = np.random.default_rng(0)
    total = np.zeros(pixels.shape[:-1])
    for length in np.geomspace(9, 30, 12):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        total += np.sin(2 * np.pi / length * (pixels @ [np.cos(angle), np.sin(angle)]) + phase)
    return 125 + 8 * total


def turned(pixels, angle, shift):
    """Pixels (..., 2) turned about CENTRE by an angle, and shifted."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (pixels - CENTRE) @ turn.T + CENTRE + shift


def render(texture=waves, angle=0.0, shift=(0, 0), gain=1.0, offset=0.0):
    """uint8 (H, W, 3): the texture turned and shifted, computed at the pixels' centres."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    back = turned(np.stack([x, y], -1) - np.array(shift), -angle, 0)
    grey = np.clip(np.rint(gain * texture(back) + offset), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1)


def tracks_of(pixels, places, occluded=None):
    """Tracks of pixels (Q, 2) of frame 0 that lie at places (Q, N, 2), in the user's raster."""
    places = np.concatenate([pixels[:, None], places], 1) + 0.5
    count, num_frames = places.shape[:2]
    queries = np.column_stack([np.zeros(count), pixels[:, ::-1] + 0.5])
    occluded = np.zeros((count, num_frames), bool) if occluded is None else occluded
    empty, processed = np.zeros((count, num_frames)), (SIZE[0] // SCALE, SIZE[1] // SCALE)
    return Tracks(queries, places.astype(np.float32), occluded, empty, empty, processed, SIZE, 24.0)


def points(count=30, margin=35):
    rng = np.random.default_rng(1)
    return rng.uniform(margin, np.array(SIZE[::-1]) - margin, (count, 2))


def polished(frames, pixels, places, **options):
    """Places after polishing (Q, N - 1, 2), and which were (Q, N - 1)."""
    tracks = tracks_of(pixels, places, **options)
    moved = polish(tracks, Plates(frames))
    return tracks.tracks[:, 1:] - 0.5, moved[:, 1:]


@pytest.mark.parametrize(("angle", "shift"), [(0, (0.37, -0.81)), (0.1, (2.3, 1.6)), (0.35, (-3.2, 0.25))])
def test_motion_by_parts_of_a_pixel_is_found(angle, shift):
    pixels, steps = points(), (1 / 3, 2 / 3, 1)
    truth = np.stack([turned(pixels, angle * step, np.multiply(shift, step)) for step in steps], 1)
    frames = [render(), *(render(angle=angle * step, shift=np.multiply(shift, step)) for step in steps)]
    wrong = truth + np.random.default_rng(2).uniform(-2.5, 2.5, truth.shape)
    places, moved = polished(frames, pixels, wrong)
    error = np.linalg.norm(places - truth, axis=-1)
    assert moved.mean() > 0.95 and np.median(error) < 0.03 and np.quantile(error[moved], 0.8) < 0.05


def test_exposure_has_no_effect():
    pixels = points()
    truth = pixels + [0.4, -0.3]
    frames = [render(), render(shift=(0.4, -0.3), gain=0.6, offset=40)]
    places, moved = polished(frames, pixels, (truth + 0.9)[:, None])
    assert moved.all() and np.linalg.norm(places[:, 0] - truth, axis=-1).max() < 0.05


def test_an_edge_corrects_across_itself_only():
    def edge(pixels):
        return 120 + 60 * np.tanh((pixels[..., 0] - 100) / 3)

    pixels = np.array([[100.0, 60.0], [101.0, 90.0]])
    places, moved = polished([render(edge), render(edge, shift=(0.7, 0))], pixels, (pixels + [2, 1.5])[:, None])
    assert moved.all()
    assert np.allclose(places[:, 0, 0], pixels[:, 0] + 0.7, atol=0.1)
    assert np.allclose(places[:, 0, 1], pixels[:, 1] + 1.5, atol=0.02)
    rng, pixels = np.random.default_rng(0), np.stack([np.full(40, 100.0), np.linspace(30, 100, 40)], -1)
    frames = [np.clip(np.rint(frame + rng.normal(0, 2, (*SIZE, 1))), 0, 255).astype(np.uint8)
              for frame in (render(edge), render(edge, shift=(0.7, 0)))]
    places, _ = polished(frames, pixels, (pixels + [2, 1.5])[:, None])
    across, along = np.abs(places[:, 0] - pixels - [0.7, 1.5]).mean(0)
    assert across < 0.06 and along < 0.12  # noise does not lead along it


def test_what_is_plain_stays():
    rng = np.random.default_rng(3)
    frames = [np.clip(np.rint(100 + rng.normal(0, 2, (*SIZE, 1))), 0, 255).astype(np.uint8).repeat(3, -1)
              for _ in range(2)]
    pixels = points()
    for video in (frames, [render(lambda pixels: np.full(pixels.shape[:-1], 90.0))] * 2):
        places, _ = polished(video, pixels, (pixels + 0.5)[:, None])
        assert np.abs(places[:, 0] - pixels - 0.5).max() < 0.05


def test_what_would_move_far_or_fits_nowhere_stays():
    pixels = points()
    far = (pixels + [1.5 * SETTINGS.reach * SCALE, 0])[:, None]
    places, moved = polished([render(), render()], pixels, far)
    shift = np.linalg.norm(places - far, axis=-1)
    assert shift.max() <= SETTINGS.reach * SCALE + 1e-3 and (shift[~moved] < 1e-4).all()
    places, moved = polished([render(), render(lambda pixels: waves(pixels[..., ::-1] * 1.4))], pixels, pixels[:, None])
    assert moved.mean() < 0.1 and np.abs(places[:, 0] - pixels)[~moved[:, 0]].max() < 1e-4


def test_hidden_places_and_queries_are_untouched():
    pixels = points()
    frames = [render(), render(shift=(0.6, 0)), render(shift=(1.2, 0))]
    given = np.stack([pixels + [1, 0.7], pixels + [2, 0.7]], 1)
    occluded = np.zeros((len(pixels), 3), bool)
    occluded[::2, 1], occluded[1::2, 2] = True, True
    tracks, before = (tracks_of(pixels, given, occluded) for _ in range(2))
    moved = polish(tracks, Plates(frames))
    changed = (tracks.tracks != before.tracks).any(-1)
    assert not changed[:, 0].any() and not changed[occluded].any() and np.array_equal(changed, moved)
    assert changed[:, 1:].sum() > 0.4 * 2 * len(pixels)
    for name in ("query_points", "occluded", "occlusion_score", "depth"):
        assert np.array_equal(getattr(tracks, name), getattr(before, name))


def test_tracks_go_both_ways_from_queries_in_any_frame():
    """Queries in the first, middle and last frame; errors do not add up over the frames in between."""
    num_frames, step, pixels, of = 9, np.array([1.3, -0.7]), points(30), np.repeat([0, 4, 8], 10)
    frames = [render(shift=step * i) for i in range(num_frames)]
    truth = pixels[:, None] + step * (np.arange(num_frames) - of[:, None])[..., None]
    tracks = tracks_of(truth[:, 0], truth[:, 1:] + np.random.default_rng(4).uniform(-1, 1, truth[:, 1:].shape))
    each = np.arange(30)
    tracks.query_points[:] = np.column_stack([of, pixels[:, ::-1] + 0.5])
    tracks.tracks[each, of] = pixels + 0.5
    moved = polish(tracks, Plates(frames))
    error = np.linalg.norm(tracks.tracks - 0.5 - truth, axis=-1)
    assert not moved[each, of].any() and moved.sum() > 0.95 * 30 * (num_frames - 1)
    assert np.quantile(error[moved], 0.95) < 0.06


def test_a_newer_patch_is_followed_where_the_querys_no_longer_fits():
    """A texture turns into another one as it moves; at the end its correlation with what the query saw is 0.83."""
    def mixed(share):
        return lambda pixels: (1 - share) * waves(pixels) + share * waves(pixels[..., ::-1] + 50)

    pixels, shares, step = points(), np.linspace(0, 0.4, 9), np.array([0.6, -0.3])
    frames = [render(mixed(share), shift=step * k) for k, share in enumerate(shares)]
    truth = pixels[:, None] + step * np.arange(1, 9)[:, None]
    places, moved = polished(frames, pixels, truth + np.random.default_rng(5).uniform(-1, 1, truth.shape))
    error = np.linalg.norm(places - truth, axis=-1)[:, -1]
    assert moved[:, -1].mean() > 0.9 and np.median(error) < 0.8  # of two textures that look alike
    _, moved = polished([frames[0], frames[-1]], pixels, truth[:, -1:])
    assert moved.mean() < 0.4


def test_a_point_at_the_border_does_not_fit_what_is_beyond():
    pixels = np.array([[3.0, 80.0], [196.5, 40.0], [100.0, 2.0]])
    places, moved = polished([render(), render(shift=(0.6, 0.4))], pixels, (pixels + 1)[:, None])
    error = np.linalg.norm(places[:, 0] - pixels - [0.6, 0.4], axis=-1)
    assert (error[moved[:, 0]] < 0.15).all()


def test_plates_are_the_grey_frames():
    frames = [cv2.cvtColor(render(shift=(i, 0))[..., 0], cv2.COLOR_GRAY2RGB) for i in range(3)]
    plates = Plates(iter(frames))
    assert (plates.num_frames, plates.size) == (3, SIZE)
    assert all(np.array_equal(plates.grey[i], frames[i][..., 0]) for i in range(3))
