"""Every tracker's layout, written here by hand from its description, reads as the same tracks; wrong files: a line."""

import numpy as np
import pytest

from loaders.tracks_layouts import parse_size, read_point_tracks, tracks_of_video
from util import UserError

Q, N, SIZE = 7, 5, (40, 60)  # H, W


def known():
    """Positions (Q, N, 2) in raster pixels, visible (Q, N), query frames (Q,)."""
    random = np.random.default_rng(3)
    return random.uniform(3, 37, (Q, N, 2)), random.random((Q, N)) < 0.7, random.integers(0, N, Q)


def layout(name):
    positions, visible, frames = known()
    x, y = positions[np.arange(Q), frames].T
    tyx = np.column_stack([frames, y, x])
    return {
        "ours": {"tracks": positions, "occluded": ~visible, "query_points": tyx, "video_size": np.array(SIZE)},
        "tapir": {"tracks": positions, "visibles": visible, "query_points": tyx},
        "tapvid": {"pred_tracks": positions[None], "pred_occluded": ~visible[None], "query_points": tyx[None]},
        "cotracker": {"pred_tracks": positions.transpose(1, 0, 2)[None] - 0.5, "pred_visibility": visible.T[None],
                      "queries": np.column_stack([frames, x - 0.5, y - 0.5])[None]},
        "without queries": {"tracks": positions, "visibles": visible},
    }[name]


def save(tmp_path, arrays):
    np.savez(tmp_path / "t.npz", **arrays)
    return tmp_path / "t.npz"


@pytest.mark.parametrize("name", ["ours", "tapir", "tapvid", "cotracker", "without queries"])
def test_all_layouts_are_the_same_tracks(tmp_path, name):
    positions, visible = tracks_of_video(save(tmp_path, layout(name)), N, SIZE)
    assert np.allclose(positions, known()[0]) and np.array_equal(visible, known()[1])


def dense_maps(height=30, width=45):
    """Everything moves by (2, -1) pixels a frame, and is tracked from frame 2; the left half is doubted in frame 0."""
    y, x = np.mgrid[:height, :width]
    maps = np.stack([np.stack([x + 2.0 * (k - 2), y - 1.0 * (k - 2)]) for k in range(N)])
    seen = np.full(maps.shape, 0.8)
    seen[0, 1, :, : width // 2] = 0.7
    return {"traj_maps_e": np.float32(maps[None]), "visconf_maps_e": np.float32(seen[None])}


def test_dense_maps_are_a_grid_of_tracks_of_the_frame_that_they_start_in(tmp_path, monkeypatch):
    monkeypatch.setattr("loaders.tracks_layouts.DENSE_POINTS", 54)  # every fifth pixel
    tracks = read_point_tracks(save(tmp_path, dense_maps()))
    assert tracks.positions.shape == (54, N, 2) and tracks.video_size == (30, 45)
    assert tracks.queries[:2].tolist() == [[2, 2.5, 2.5], [2, 7.5, 2.5]]
    assert np.allclose(tracks.positions[0, 0], [-1.5, 4.5]) and np.allclose(tracks.positions[0, 3], [4.5, 1.5])
    assert tracks.visible[:, 1:].all() and np.array_equal(tracks.visible[:, 0], tracks.queries[:, 1] > 22)
    positions, _ = tracks_of_video(save(tmp_path, dense_maps()), N, (60, 90))
    assert np.allclose(positions, 2 * tracks.positions)
    with pytest.raises(UserError, match="expected traj_maps_e and visconf_maps_e"):
        read_point_tracks(save(tmp_path, dense_maps() | {"visconf_maps_e": np.ones((1, N, 2, 30, 44))}))


def test_another_size_and_convention(tmp_path):
    path = save(tmp_path, layout("tapir"))
    assert np.allclose(tracks_of_video(path, N, (80, 180), size=SIZE)[0], known()[0] * [3, 2])
    assert np.allclose(tracks_of_video(path, N, SIZE, convention="integer")[0], known()[0] + 0.5)
    assert np.allclose(tracks_of_video(save(tmp_path, layout("ours")), N, (80, 120))[0], known()[0] * 2)
    assert parse_size("60x40") == SIZE


def exchanged(arrays):
    return arrays | {"query_points": arrays["query_points"][:, [0, 2, 1]]}


def transposed(arrays):
    return {"tracks": arrays["tracks"].swapaxes(0, 1), "visibles": arrays["visibles"].T}


def at(arrays, value):
    tracks, visibles = arrays["tracks"].copy(), arrays["visibles"].copy()
    tracks[2, 1], visibles[2, 1] = value, True
    return {"tracks": tracks, "visibles": visibles}


@pytest.mark.parametrize("arrays, words", [
    ({"tracks": np.zeros((Q, N + 1, 2)), "visibles": np.ones((Q, N + 1))}, "tracks of 6 frames, but the video has 5"),
    (transposed(layout("tapir")), "are points and frames exchanged?"),
    (exchanged(layout("tapir")), "with x and y exchanged"),
    (at(layout("tapir"), np.nan), "track 2 is visible in frame 1, but has no position there"),
    (layout("tapir") | {"visibles": np.ones((Q, N - 1))}, "got (7, 5, 2) and (7, 4)"),
    (layout("tapir") | {"query_points": np.zeros((Q, 2))}, "expected (7, 3)"),
    (layout("tapir") | {"query_points": np.full((Q, 3), 9.0)}, "a query in frame 9"),
    (layout("without queries") | {"tracks": known()[0] * 4}, "--tracks_size WxH"),
    (layout("ours") | {"video_size": np.array([60, 40])}, "tracks of a video of 40x60"),
    ({"flow": np.zeros(3)}, "it holds flow"),
])
def test_wrong_files(tmp_path, arrays, words):
    with pytest.raises(UserError, match="t.npz") as caught:
        tracks_of_video(save(tmp_path, arrays), N, SIZE)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["60", "x40", "60x0", "60*40"])
def test_wrong_size(text):
    with pytest.raises(UserError, match="expected WIDTHxHEIGHT"):
        parse_size(text)
