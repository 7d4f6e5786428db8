"""The scene generator's truth agrees with its images, with itself and with hand-made layers."""

import numpy as np
import pytest

from benchmarks import scenes
from benchmarks.scenes import KINDS, Layer, Scene, SceneFlow, Similarity, make_scene
from util import UserError


def textured(colour):
    return np.broadcast_to(np.array(colour, np.float32), (scenes.TEXELS, scenes.TEXELS, 3))


@pytest.fixture
def sliding_square():
    """A white 8-pixel square that moves 2 px a frame behind a 4-pixel wide black pole, on grey; 40 x 40 pixels."""
    unit = 1 / 40
    path = Similarity(lambda s: np.array([(-10 + 20 * s) * unit, 0.0]))
    square = Layer(textured((1, 1, 1)), 1.0, path, scenes.box(4 * unit, 4 * unit))
    pole = Layer(textured((0, 0, 0)), 1.0, Similarity(), scenes.box(2 * unit, np.inf), foreground=False)
    ground = Layer(textured((0.5, 0.5, 0.5)), 1.0, Similarity(), foreground=False)
    return Scene("square", [ground, square, pole], Similarity(), 11, 40, 40)


def test_hand_made_scene(sliding_square):
    scene = sliding_square
    positions, visible = scene.tracks(0, np.array([[9.5, 19.5], [30.0, 19.5], [9.5, 5.0]]))
    np.testing.assert_allclose(positions[0, :, 0], 9.5 + 2 * np.arange(11), atol=1e-9)
    np.testing.assert_allclose(positions[0, :, 1], 19.5, atol=1e-9)
    # The square's centre is under the pole while |x - 19.5| < 2, the ground at x = 30 under the square from x >= 26.
    assert visible[0].tolist() == [abs(2 * t - 10) >= 2 for t in range(11)]
    assert visible[1].tolist() == [abs(9.5 + 2 * t - 30) >= 4 for t in range(11)]
    assert visible[2].all()
    assert (positions[2] == [9.5, 5.0]).all()
    assert scene.mask(0).sum() == 64
    assert scene.frame(0)[20, 10].tolist() == [255, 255, 255]
    assert scene.frame(0)[20, 20].tolist() == [0, 0, 0]


def test_point_that_leaves_the_frame_is_not_visible(sliding_square):
    sliding_square.camera = Similarity(lambda s: np.array([s, 0.0]))
    positions, visible = sliding_square.tracks(0, np.array([[39.0, 2.0]]))
    np.testing.assert_allclose(positions[0, :, 0], 39 + 4 * np.arange(11))
    assert visible[0].tolist() == [True] + [False] * 10


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_inverse_and_move(kind):
    scene = make_scene(kind, 3, 5, 48, 64)
    pixels = np.random.default_rng(0).uniform(-5, 60, (200, 2))
    for layer in scene.layers:
        for frame in range(5):
            uv = scene.to_texture(layer, frame, pixels)
            np.testing.assert_allclose(scene.to_pixels(layer, frame, uv), pixels, atol=1e-6)
        moved = scene.to_pixels(layer, 4, scene.to_texture(layer, 0, pixels))
        assert np.abs(moved - pixels).max() > 0.5


@pytest.mark.parametrize("kind", ["fast", "nonrigid", "camera", "thin"])
def test_colour_follows_the_flow(kind):
    """Warping frame j back by the true flow gives frame i wherever the point is visible: much closer than unwarped."""
    scene = make_scene(kind, 1, 12, 72, 96)
    flow, visible = scene.flow(2, 8)
    target = np.round(scene.grid() + flow).astype(int).clip(0, [95, 71])
    source, moved = scene.frame(2).astype(float), scene.frame(8).astype(float)
    warped = moved[target[..., 1], target[..., 0]]
    error, baseline = (np.abs(source - other).mean(-1)[visible] for other in (warped, moved))
    assert np.median(error) < 0.5 * np.median(baseline)
    assert visible.mean() > 0.4


def test_flow_tracks_and_consistency():
    scene = make_scene("occlusion", 0, 8, 48, 64)
    flow, visible = scene.flow(1, 5)
    pixels = np.array([[10.0, 12.0], [40.0, 30.0], [63.0, 0.0]])
    positions, seen = scene.tracks(1, pixels)
    for k, (x, y) in enumerate(pixels.astype(int)):
        np.testing.assert_allclose(positions[k, 5], pixels[k] + flow[y, x], atol=1e-4)
        assert seen[k, 5] == visible[y, x]
    # A visible point, tracked back from where it went, returns; and it is itself visible where it came from.
    grid = scene.grid()[visible]
    there = grid + flow[visible]
    back, back_visible = scene.follow(5, 1, there, scene.top_layer(5, there))
    assert np.abs(back - grid).max() < 1e-3
    assert back_visible.mean() > 0.999


def test_same_motion_at_another_size_and_frame_rate():
    small, large = make_scene("demo", 2, 5, 48, 64), make_scene("demo", 2, 9, 96, 128)
    pixels = np.array([[20.0, 15.0], [33.3, 40.1]])
    a = small.tracks(1, pixels)[0]
    b = large.tracks(2, (pixels + 0.5) * 2 - 0.5)[0]
    np.testing.assert_allclose((a + 0.5) * 2, b[:, ::2] + 0.5, atol=1e-6)


def test_ground_truth_file(tmp_path):
    scene = make_scene("demo", 0, 6, 47, 63)
    scene.save(tmp_path / "ein Ordner ü", num_points=40)
    truth = np.load(tmp_path / "ein Ordner ü" / "ground_truth.npz")
    assert truth["video_size"].tolist() == [47, 63]
    queries, targets = truth["query_points"], truth["target_points"]
    assert queries.shape == (40, 3) and targets.shape == (40, 6, 2) and truth["occluded"].shape == (40, 6)
    at_query = targets[np.arange(40), queries[:, 0].astype(int)]
    np.testing.assert_allclose(at_query, queries[:, :0:-1], atol=1e-4)
    assert not truth["occluded"][np.arange(40), queries[:, 0].astype(int)].any()
    assert set(queries[:, 0]) <= {0, 5}
    assert len(list((tmp_path / "ein Ordner ü" / "frames").iterdir())) == 6
    assert (tmp_path / "ein Ordner ü" / "video.mp4").stat().st_size > 1000


def test_scene_flow_estimator():
    scene = make_scene("slow", 0, 4, 32, 40)
    estimator = SceneFlow(scene)
    estimator.load_frames(scene.video)
    flows = estimator.flow_from(1, [0, 2, 3])
    assert flows.shape == (3, 32, 40, 2) and flows.dtype == np.float32
    np.testing.assert_array_equal(flows[2], scene.flow(1, 3)[0])
    noisy = SceneFlow(scene, noise=0.5).flow_from(1, [0, 2, 3])
    assert 0.4 < (noisy - flows).std() < 0.6


def test_unknown_kind():
    with pytest.raises(UserError, match="nosuch.*expected one of slow"):
        make_scene("nosuch")
