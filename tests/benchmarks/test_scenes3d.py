"""Scenes with depth: their truth agrees with closed forms, with its own depth maps and with the images."""

import functools
import sys

import numpy as np
import pytest
from scipy import ndimage

from benchmarks import scenes, scenes3d
from benchmarks.scenes import SceneFlow
from benchmarks.scenes3d import FOCAL, KINDS, Body, Camera, Look, Material, Scene3D, make_scene3d, posed, sheet
from util import UserError

HEIGHT, WIDTH = 36, 48
STEP = 0.1  # metres that the hand-made scene's camera moves a frame


@pytest.fixture(scope="module", autouse=True)
def coarse_textures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "TEXELS", 128)
        yield


@functools.cache
def small(kind, seed=1):
    return make_scene3d(kind, seed, 5, HEIGHT, WIDTH)


def upright(name, width, height, distance, colour):
    """A sheet that faces the camera of the hand-made scene."""
    points, faces = sheet(width, height, 9, 7)
    points = np.stack([points[:, 0], np.full(len(points), distance), points[:, 1]], -1)
    texture = np.broadcast_to(np.array(colour, np.float32), (scenes.TEXELS, scenes.TEXELS, 3))
    return Body(name, points, faces, posed(points), Material(texture, 1.0), foreground=name == "bar")


@pytest.fixture
def wall_and_bar():
    """A wall 5 m and a bar 2 m away, seen by a camera that slides to the right; 4 frames of 40 x 60."""
    wall, (dome, faces) = upright("wall", 20, 15, 5.0, (1, 0, 0)), scenes3d.ellipsoid([30.0] * 3)
    sky = Body("sky", dome, faces, posed(dome), wall.material, foreground=False, lit=False)
    bodies = [wall, upright("bar", 0.32, 1.0, 2.0, (0, 1, 0)), sky]
    slide = Camera(lambda s: np.array([3 * STEP * s, 0, 0]), lambda s: np.array([3 * STEP * s, 1.0, 0]))
    return Scene3D("hand-made", bodies, slide, 4, 40, 60, look=Look(np.array([0, -1.0, 0]), 1.0, noise=0, jpeg=100))


def test_flow_depth_and_occlusion_of_planes_have_a_closed_form(wall_and_bar):
    scene, focal = wall_and_bar, FOCAL * 40
    grid = scene.grid()
    across, down = (grid[..., 0] - 29.5) / focal, (grid[..., 1] - 19.5) / focal  # of depth 1
    on_bar = (np.abs(2 * across) < 0.16) & (np.abs(2 * down) < 0.5)
    np.testing.assert_array_equal(scene.mask(0), on_bar)
    depth = np.where(on_bar, 2.0, 5.0)
    np.testing.assert_allclose(scene.depth(0), depth, rtol=1e-9)
    flow, visible = scene.flow(0, 3)
    np.testing.assert_allclose(flow[..., 0], -focal * 3 * STEP / depth, rtol=1e-6)
    np.testing.assert_allclose(flow[..., 1], 0, atol=1e-6)
    # The ray from the moved camera to a point of the wall passes the bar's plane 2/5 of the way.
    passing = 3 * STEP + 2 / 5 * (5 * across - 3 * STEP)
    covered = (np.abs(passing) < 0.16) & (np.abs(2 * down) < 0.5) & ~on_bar
    inside = grid[..., 0] + flow[..., 0] >= -0.5
    assert covered.any() and not inside.all()
    np.testing.assert_array_equal(visible, inside & ~covered)
    assert scene.object_names == ["wall", "bar", "sky"]
    np.testing.assert_array_equal(scene.object_ids(0), on_bar)
    image = scene.frame(0).astype(int)
    assert (image[20, 30] > [-1, 200, -1]).all() and image[20, 30, 0] < 30 < 200 < image[20, 5, 0]


def test_a_sheet_seen_from_behind_is_hidden(wall_and_bar):
    """The bar turns by half a turn: the same place in the frame shows its other side."""
    body = wall_and_bar.layers[1]
    turn = scenes3d.hinge(np.array([0, 2.0, 0]), (0, 0, 1), lambda s: np.pi * s)
    wall_and_bar.layers[1] = Body(**{**vars(body), "vertices": posed(body.rest, turn)})
    pixels = np.array([[30.0, 20.0], [5.0, 5.0]])
    positions, visible = wall_and_bar.tracks(0, pixels)
    assert visible[0].tolist() == [True, True, False, False] and visible[1, 0]
    np.testing.assert_array_equal(positions[:, 0], pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_visible_tracks_back(kind):
    scene = small(kind)
    flow, visible = scene.flow(1, 3)
    assert visible.mean() > 0.4 and np.isfinite(flow).all()
    assert np.linalg.norm(flow, axis=-1)[scene.mask(1)].mean() > 1
    there, seen = scene.follow(1, 3, scene.grid(), scene.layer_map(1))
    back, again = scene.follow(3, 1, there[seen], scene.top_layer(3, there[seen]))
    assert np.abs(back - scene.grid()[seen]).max() < 1e-3
    assert again.mean() > 0.999


@pytest.mark.parametrize("kind", KINDS)
def test_visibility_agrees_with_the_depth_map(kind):
    """A point is visible where its depth is that of the target frame's pixels around it, and hidden where larger."""
    scene = small(kind)
    hits, geometry = scene.layer_map(0), scene.geometry(2)
    points = (hits.weights[..., None] * geometry.vertices[scene.faces[hits.triangle]]).sum(-2)
    axes, position = scene.camera.axes(0.5), scene.camera.position(0.5)
    local = (points - position) @ axes.T
    pixels = local[..., :2] / local[..., 2:] * FOCAL * HEIGHT + [(WIDTH - 1) / 2, (HEIGHT - 1) / 2]
    flow, visible = scene.flow(0, 2)
    shown = scene.inside(pixels) & (local[..., 2] > 0)
    np.testing.assert_allclose((scene.grid() + flow)[shown], pixels[shown], atol=1e-4)
    assert not visible[~shown].any()
    nearest, farthest = (around(scene.depth(2), mode="nearest", size=3) for around in
                         (ndimage.minimum_filter, ndimage.maximum_filter))
    x, y = np.round(pixels[shown]).astype(int).clip(0, [WIDTH - 1, HEIGHT - 1]).T
    depth, seen = local[..., 2][shown], visible[shown]
    low, high = depth < nearest[y, x] * 0.97, depth > farthest[y, x] * 1.03
    assert not low[~seen].any()  # nothing in front of everything there is hidden
    assert (seen & (low | high)).sum() <= 0.02 * seen.sum()  # small things lie between the pixel centres


def distances(origin, directions, corners):
    """Where rays (n, 3) meet triangles (F, 3, 3): distances (n, F), infinite where they miss. Cramer's rule."""
    a, e1, e2 = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    across = np.cross(directions[:, None], e2[None])
    determinant = (across * e1).sum(-1)
    determinant[np.abs(determinant) < 1e-14] = np.nan
    u = (across * (origin - a)).sum(-1) / determinant
    turned = np.cross(origin - a, e1)
    v, t = (directions @ turned.T) / determinant, (turned * e2).sum(-1) / determinant
    return np.where((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0), t, np.inf)


@pytest.mark.parametrize("kind", ["3d-crowd", "3d-thin", "3d-water"])
def test_visibility_agrees_with_a_search_through_all_triangles(kind):
    scene, pixels = small(kind), np.random.default_rng(0).uniform([-0.5, 5], [WIDTH - 0.5, HEIGHT - 0.5], (40, 2))
    there, visible = scene.tracks(0, pixels)
    hits, corners = scene.top_layer(0, pixels), [scene.geometry(f).vertices[scene.faces] for f in (0, 4)]
    direct = scene.camera.rays(scene.to_plane(pixels), 0.0)
    first = distances(scene.camera.position(0.0), direct, corners[0])
    np.testing.assert_allclose(first.min(1), hits.depth, rtol=1e-5)
    points = (hits.weights[..., None] * corners[1][hits.triangle]).sum(1)
    nearest = distances(scene.camera.position(1.0), points - scene.camera.position(1.0), corners[1]).min(1)
    inside = scene.inside(there[:, 4])
    np.testing.assert_array_equal(visible[:, 4], inside & (nearest > 1 - 1e-4))
    assert visible[:, 4].any() and not visible[inside, 4].all()


@pytest.mark.parametrize("kind", ["3d-tumble", "3d-flythrough", "3d-cloth"])
def test_colour_follows_the_flow(kind):
    scene = make_scene3d(kind, 2, 12, 72, 96)
    flow, visible = scene.flow(2, 8)
    x, y = np.moveaxis(scene.grid() + flow, -1, 0)
    source, target = scene.frame(2).astype(float), scene.frame(8).astype(float)
    warped = np.stack([ndimage.map_coordinates(target[..., c], [y, x], order=1, mode="nearest") for c in range(3)], -1)
    moved = visible & (np.linalg.norm(flow, axis=-1) > 3)
    error, baseline = (np.median(np.abs(source - other).mean(-1)[moved]) for other in (warped, target))
    assert error < 0.6 * baseline


def test_the_seed_decides_everything():
    again, other = make_scene3d("3d-weather", 1, 5, HEIGHT, WIDTH), make_scene3d("3d-weather", 2, 5, HEIGHT, WIDTH)
    frame = small("3d-weather").frame(1)
    assert frame.dtype == np.uint8 and frame.shape == (HEIGHT, WIDTH, 3) and 40 < frame.mean() < 215
    np.testing.assert_array_equal(frame, again.frame(1))
    assert np.abs(frame.astype(int) - other.frame(1)).mean() > 5


def test_same_motion_at_another_frame_rate():
    slow, fast = small("3d-balls"), make_scene3d("3d-balls", 1, 9, HEIGHT, WIDTH)
    pixels = np.random.default_rng(0).uniform(0, 35, (50, 2))
    (a, seen), (b, seen_too) = slow.tracks(1, pixels), fast.tracks(2, pixels)
    np.testing.assert_allclose(a, b[:, ::2], atol=1e-6)
    np.testing.assert_array_equal(seen, seen_too[:, ::2])


def test_ground_truth_file(tmp_path):
    scene = small("3d-crowd")
    scene.save(tmp_path, num_points=60)
    truth = np.load(tmp_path / "ground_truth.npz")
    queries, names = truth["query_points"], truth["object_names"].tolist()
    frames, rows = queries[:, 0].astype(int), np.arange(60)
    assert truth["target_points"].shape == (60, 5, 2) and truth["video_size"].tolist() == [HEIGHT, WIDTH]
    np.testing.assert_allclose(truth["target_points"][rows, frames], queries[:, :0:-1], atol=1e-4)
    assert not truth["occluded"][rows, frames].any() and truth["occluded"].any()
    cells = np.floor(queries[:, 1:]).astype(int)
    centre = np.abs(queries[:, 1:] - cells - 0.5).max(1) < 0.2
    at_centre = [scene.object_ids(f)[y, x] for f, (y, x) in zip(frames[centre], cells[centre])]
    assert (truth["object_ids"][centre] == at_centre).mean() > 0.7
    moving = [names[k].split()[0] in ("animal", "ball", "thing") for k in truth["object_ids"]]
    assert 0.35 < np.mean(moving) < 0.75
    assert len(list((tmp_path / "frames").iterdir())) == 5


def test_scene_flow_estimator():
    scene = small("3d-walker")
    flows = SceneFlow(scene).flow_from(1, [0, 2, 4])
    assert flows.shape == (3, HEIGHT, WIDTH, 2) and flows.dtype == np.float32
    np.testing.assert_array_equal(flows[2], scene.flow(1, 4)[0])


def test_caches_are_bounded(monkeypatch):
    monkeypatch.setattr(scenes3d, "GEOMETRIES_KEPT", 2)
    scene = make_scene3d("3d-cloth", 0, 5, 12, 16)
    first = scene.flow(0, 1)[0]
    scene.tracks(4, np.zeros((1, 2)))
    assert len([key for key in scene._recent if key[0] == "geometry"]) == 2
    np.testing.assert_array_equal(scene.flow(0, 1)[0], first)


def test_mistakes_are_explained(monkeypatch, capsys):
    with pytest.raises(UserError, match="nosuch.*expected one of 3d-walker"):
        make_scene3d("nosuch")
    assert not set(KINDS) & set(scenes.KINDS)
    with pytest.raises(SystemExit):
        scenes3d.main(["--help"])
    assert "3d-walker" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(UserError, match="pip install -r requirements-scenes3d.txt"):
        scenes3d.intersector(*sheet(1, 1, 2, 2))
