"""track.py on a run whose answers are known, on a real one, and on flow alone."""

import csv
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

import checkpoints
import track
from benchmarks.scenes import SceneFlow, make_scene
from configs.options import OPTIONS
from flow.formats import read_flo
from loaders.data_dir import DataDir
from networks.rendering import NEAR
from preprocess import build
from tests.helpers import analytic_run, commands
from tests.helpers.analytic_run import FPS, NUM_FRAMES, SCALE, SIZE, VIDEO_SIZE
from tracking.sources import RunSource, track_queries
from tracking.tracks_file import read_tracks
from util import UserError


def raster(pixels):
    return (pixels + 0.5) * SCALE


call = partial(commands.call, track.main, "--run", "somewhere")


def test_tracks_are_in_the_users_pixels(run, tmp_path):
    queries = np.array([[2, 20.25, 40.5], [0, 0.0, 0.0], [4, 51.0, 71.0], [2, 30.0, 60.0]])
    np.savez(tmp_path / "q.npz", query_points=queries)
    call("--queries", tmp_path / "q.npz", "--out", tmp_path / "ä b/tracks.npz")
    tracks = read_tracks(tmp_path / "ä b/tracks.npz")
    assert np.allclose(tracks.query_points, queries)
    assert (tracks.frame_size, tracks.video_size, tracks.fps) == (SIZE, VIDEO_SIZE, FPS)
    for q, (t, y, x) in enumerate(queries):
        for frame in range(NUM_FRAMES):
            pixel = analytic_run.move(np.array([x, y]) / SCALE - 0.5, t, frame)
            own, (px, py) = frame == t, raster(pixel)
            outside = not (0 <= px <= VIDEO_SIZE[1] and 0 <= py <= VIDEO_SIZE[0])
            assert np.allclose(tracks.tracks[q, frame], (px, py), atol=1e-3)
            assert tracks.occluded[q, frame] == (not own and (outside or analytic_run.score(pixel) > 0.99))
            assert tracks.occlusion_score[q, frame] == (0 if own else analytic_run.score(pixel))
            assert tracks.depth[q, frame] == pytest.approx(analytic_run.depth(pixel), abs=1e-4)
    assert 0 < tracks.occluded.mean() < 1
    own = tracks.tracks[np.arange(4), queries[:, 0].astype(int)]
    assert np.array_equal(own, queries[:, [2, 1]].astype(np.float32)), "exactly there, not nearly"


def test_the_file_is_what_the_help_promises(run, tmp_path):
    call("--queries", "grid:10@1", "--out", tmp_path / "tracks.npz")
    with np.load(tmp_path / "tracks.npz") as file:
        shapes = {name: (file[name].shape, str(file[name].dtype)) for name in file.files}
        convention = str(file["convention"])
    count = 5 * 7
    assert shapes.pop("convention")[0] == ()
    assert shapes == {
        "query_points": ((count, 3), "float32"), "tracks": ((count, NUM_FRAMES, 2), "float32"),
        "occluded": ((count, NUM_FRAMES), "bool"), "occlusion_score": ((count, NUM_FRAMES), "float32"),
        "visibility": ((count, NUM_FRAMES), "uint8"), "depth": ((count, NUM_FRAMES), "float32"),
        "frame_size": ((2,), "int32"), "video_size": ((2,), "int32"), "fps": ((), "float32"),
    }
    assert "+0.5" in convention and "ORIGINAL" in convention


def test_the_threshold_decides_what_is_occluded(run, tmp_path):
    query = "2,25,50"  # stays inside the video
    for threshold, expected in ((0.2, NUM_FRAMES - 1), (0.99, 0), (1, 0)):
        call("--queries", query, "--occlusion_th", threshold, "--out", tmp_path / "t.npz")
        assert read_tracks(tmp_path / "t.npz").occluded.sum() == expected


def test_a_mask_restricts_the_grid(run, tmp_path):
    mask = np.zeros(VIDEO_SIZE, np.uint8)
    mask[10:30, 20:50] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    call("--queries", "grid:5", "--mask", tmp_path / "mask.png", "--out", tmp_path / "t.npz")
    t, y, x = read_tracks(tmp_path / "t.npz").query_points.T
    assert len(t) == 4 * 6
    assert ((y > 10) & (y < 30) & (x > 20) & (x < 50)).all()


def test_cotracker_and_csv_hold_the_same_tracks(run, tmp_path):
    call("--queries", "grid:20@1", "--out", tmp_path / "t.npz")
    call("--queries", "grid:20@1", "--out", tmp_path / "c.npz", "--format", "cotracker")
    call("--queries", "grid:20@1", "--out", tmp_path / "t.csv")
    tracks = read_tracks(tmp_path / "t.npz")
    count = len(tracks.tracks)
    with np.load(tmp_path / "c.npz") as file:
        assert file["tracks"].shape == (1, NUM_FRAMES, count, 2)
        assert file["visibility"].shape == (1, NUM_FRAMES, count)
        for q in range(count):
            assert np.allclose(file["tracks"][0, :, q] + 0.5, tracks.tracks[q], atol=1e-5)
            assert np.array_equal(file["visibility"][0, :, q], ~tracks.occluded[q])
            t, x, y = file["queries"][q]
            assert np.allclose(file["tracks"][0, int(t), q], (x, y))
    with open(tmp_path / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count * NUM_FRAMES
    for row in rows:
        q, frame = int(row["query"]), int(row["frame"])
        assert np.allclose((float(row["x"]), float(row["y"])), tracks.tracks[q, frame], atol=1e-3)
        assert bool(int(row["visible"])) == (not tracks.occluded[q, frame])


def test_flow_moves_the_users_pixels(run, tmp_path):
    call("--flow", 1, 3, "--out", tmp_path / "f.flo")
    flow = read_flo(tmp_path / "f.flo")
    visible = cv2.imread(str(tmp_path / "f_visible.png"), cv2.IMREAD_UNCHANGED)
    assert flow.shape == (*VIDEO_SIZE, 2) and visible.shape == VIDEO_SIZE and set(np.unique(visible)) == {0, 255}
    for y in range(3, 48, 4):  # away from the border, where the model has pixels on all sides
        for x in range(3, 68, 4):
            start = np.array([x + 0.5, y + 0.5])
            end = analytic_run.move(start / SCALE - 0.5, 1, 3)
            assert np.allclose(start + flow[y, x], raster(end), atol=1e-2)
            inside = (raster(end) >= 0).all() and (raster(end) <= VIDEO_SIZE[::-1]).all()
            if abs(end[0] - analytic_run.CENTRE[0]) > 1:  # not where the score jumps
                assert (visible[y, x] > 0) == (inside and end[0] > analytic_run.CENTRE[0])


def test_depth_images_and_array_agree(run, tmp_path):
    call("--depth", "--out", tmp_path / "depth")
    with np.load(tmp_path / "depth/depth.npz") as file:
        depth, scale = file["depth"], file["png_scale"]
    truth = np.stack([analytic_run.depth(analytic_run.grid()) + 0.01 * i for i in range(NUM_FRAMES)])
    assert np.allclose(depth, truth, atol=1e-6)
    for i in range(NUM_FRAMES):
        image = cv2.imread(str(tmp_path / f"depth/{i:05d}.png"), cv2.IMREAD_UNCHANGED)
        assert image.dtype == np.uint16 and image.shape == VIDEO_SIZE
        row = (20 + 0.5) / SCALE[1] - 0.5
        assert image[20, 30] * scale == pytest.approx(0.2 + 0.05 * row + 0.01 * i, abs=2e-5)


def test_the_point_cloud_reads_back(run, tmp_path):
    call("--canonical", 1, 3, "--stride", 4, "--out", tmp_path / "cloud.ply")
    header, _, body = (tmp_path / "cloud.ply").read_bytes().partition(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    types = {"float": "<f4", "uchar": "u1"}
    fields = [(name, types[kind]) for _, kind, name in (line.split() for line in lines if line.startswith("property"))]
    vertices = np.frombuffer(body, fields)
    assert lines[2] == f"element vertex {len(vertices)}"
    assert len(vertices) == 2 * 6 * 8
    assert set(vertices["z"]) == {1.0, 3.0}
    assert vertices["x"][:3].tolist() == [0, 4, 8]
    assert (vertices["red"][0], vertices["green"][0], vertices["blue"][0]) == (0, 128, 255)
    assert (vertices["weight"] == 0.75).all()


def test_everything_at_once_goes_into_one_folder(run, tmp_path):
    wanted = ["--queries", "grid:30", "--flow", 0, 4, "--depth", "--canonical"]
    call(*wanted, "--out", tmp_path / "all")
    names = {str(path.relative_to(tmp_path / "all")) for path in (tmp_path / "all").rglob("*.*")}
    flow = {"flow_00000_00004.flo", "flow_00000_00004_visible.png"}
    depth = {"depth/depth.npz", *(f"depth/{i:05d}.png" for i in range(NUM_FRAMES))}
    assert names == {"tracks.npz", "canonical.ply"} | flow | depth
    call(*wanted, "--out", tmp_path / "named/mine.npz")
    assert (tmp_path / "named/mine.npz").exists() and (tmp_path / "named/canonical.ply").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to write"),
        (["--queries", "5,1,1"], "query 0 (t,y,x = 5,1,1) is outside the video"),
        (["--queries", "0,52,1"], "query 0"),
        (["--queries", "grid@9"], "frame 9"),
        (["--flow", 0, 5], "--flow: frame 5"),
        (["--flow", -1, 3], "--flow: frame -1"),
        (["--canonical", 7], "--canonical: frame 7"),
        (["--queries", "grid", "--out", "x.flo"], "--flow was not given"),
        (["--queries", "grid", "--out", "x.doc"], "expected a folder or a file ending in"),
        (["--queries", "grid", "--out", "x.txt"], ".txt may be ae or ae_corner_pin or 3de: say which by --format"),
        (["--queries", "grid:30", "--out", "c.nk", "--format", "nuke_corner_pin"], "takes exactly 4 points, not 2"),
        (["--flow", 0, 1, "--out", "x.exr"], "may be stmap or vectors"),
        (["--flow", 0, 1, "--out", "x.png", "--flow_format", "stmap"], "contradict"),
        (["--queries", "grid", "--flow_format", "kitti"], "--flow_format acts on --flow"),
        (["--flow", 0, 1, "--depth_format", "exr"], "--depth_format acts on --depth"),
        (["--queries", "grid", "--out", "x.csv", "--format", "cotracker"], "contradict"),
        (["--queries", "grid", "--mask", "missing.png"], "missing.png: no such file"),
        (["--queries", "0,1,1", "--mask", "mask.png"], "one by one"),
        (["--queries", "grid", "--mask", "wrong.png"], "expected 71x51 or 32x24"),
        (["--depth", "--mask", "mask.png"], "--mask selects points"),
        (["--queries", "grid", "--occlusion_th", 1.5], "--occlusion_th 1.5: expected a number from 0 to 1"),
        (["--queries", "grid", "--device", "tpu9"], "expected auto, cpu, cuda"),
        (["--queries", "grid", "--out", "mask.png/deeper"], "cannot make this folder"),
    ],
)
def test_mistakes_end_in_one_line(run, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("mask.png", np.full(VIDEO_SIZE, 255, np.uint8))
    cv2.imwrite("wrong.png", np.full((10, 10), 255, np.uint8))
    before = set(tmp_path.rglob("*.*"))
    assert says in commands.refused(capsys, track.main, "--run", "somewhere", *arguments)
    assert set(tmp_path.rglob("*.*")) == before, "nothing half-written"


def test_no_model_is_named(capsys):
    for arguments in ([], ["--checkpoint", "some.pth"]):
        assert "which model?" in commands.refused(capsys, track.main, "--queries", "grid", *arguments)


@pytest.fixture(scope="module")
def scene_data(tmp_path_factory):
    """A scene and its data directory, with true flow and no model, of a video twice as large."""
    scene = make_scene("occlusion", 1, 5, 48, 64)
    data = build(scene.video, tmp_path_factory.mktemp("scene") / "data", flow=SceneFlow(scene), quiet=True)
    data.manifest["video"] |= {"original_height": 96, "original_width": 128}
    data.save_manifest()
    return scene, data


def test_a_data_directory_alone_gives_tracks_and_flow(scene_data, tmp_path, capsys):
    scene, data = scene_data
    track.main(["--data_dir", str(data.path), "--queries", "grid:12@2", "--flow", "1", "3", "--out", str(tmp_path)])
    assert "by flow alone" in capsys.readouterr().out
    tracks = read_tracks(tmp_path / "tracks.npz")
    assert np.isnan(tracks.depth).all() and tracks.video_size == (96, 128)
    pixels = tracks.query_points[:, [2, 1]] / 2 - 0.5
    expected, visible = scene.tracks(2, pixels)
    error = np.linalg.norm(tracks.tracks - (expected + 0.5) * 2, axis=-1)
    assert np.median(error[visible]) < 0.2 and (tracks.occluded == ~visible).mean() > 0.9
    flow = read_flo(tmp_path / "flow_00001_00003.flo")[1::2, 1::2]
    seen = cv2.imread(str(tmp_path / "flow_00001_00003_visible.png"), cv2.IMREAD_UNCHANGED)[1::2, 1::2] > 0
    truth, visible = scene.flow(1, 3)
    assert flow.shape == truth.shape and np.median(np.linalg.norm(flow - 2 * truth, axis=-1)[visible]) < 0.5
    assert (seen == visible).mean() > 0.9


def test_a_surface_models_tracks_are_joined_with_flow(scene_data, monkeypatch):
    """A model that takes everything to be at rest and seen: flow moves its tracks, unless it is told not to."""
    scene, data = scene_data
    video = {"fingerprint": data.fingerprint, "original_height": 96, "original_width": 128, "fps": 1}
    model, folder = SimpleNamespace(num_frames=5, height=48, width=64, refined_by_flow=True), str(data.path)
    run = SimpleNamespace(model=model, video=video, data_dir=folder, flow_dir=folder, pins=(), layer=-1)

    def at_rest(model, frames, pixels, method, progress):
        scores = torch.zeros(len(frames), 5)
        return {"pixels": pixels[:, None].repeat(1, 5, 1), "occlusion_score": scores, "depth": scores}

    monkeypatch.setattr("networks.query.track_points", at_rest)
    pixels = np.stack(np.meshgrid(np.arange(6, 58, 4), np.arange(6, 42, 4)), -1).reshape(-1, 2).astype(np.float32)
    queries = np.column_stack([np.full(len(pixels), 2), 2 * pixels[:, ::-1] + 1]).astype(np.float32)
    expected, visible = scene.tracks(2, pixels)
    errors = {}
    for refine in ("off", "auto", "on"):
        tracks = track_queries(RunSource(run, refine=refine), queries)
        errors[refine] = np.linalg.norm(tracks.tracks - 2 * (expected + 0.5), axis=-1)[visible].mean()
        assert refine == "off" or (tracks.occluded == ~visible).mean() > 0.85
    assert errors["auto"] == errors["on"] < 0.5 * errors["off"]


@pytest.mark.parametrize(("arguments", "says"), [
    (["--depth"], "--depth needs a fitted model"),
    (["--queries", "grid", "--canonical"], "--canonical needs a fitted model"),
    (["--queries", "grid", "--refine", "off"], "--refine acts on a model's tracks"),
    (["--queries", "grid", "--chunk", "5"], "--chunk acts on a model's tracks"),
])
def test_what_flow_alone_cannot_give_is_refused(scene_data, tmp_path, capsys, arguments, says):
    where = "--data_dir", scene_data[1].path, "--out", tmp_path / "o"
    assert says in commands.refused(capsys, track.main, *where, *arguments)
    assert not (tmp_path / "o").exists()


def test_a_foreign_or_damaged_tracks_file_is_named(run, tmp_path):
    call("--queries", "grid:20", "--out", tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "less.npz", **{name: arrays[name] for name in arrays if name != "occluded"})
    np.savez(tmp_path / "shape.npz", **arrays | {"depth": arrays["depth"][:, 1:]})
    (tmp_path / "cut.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:200])
    for name, says in {"less": "it has no occluded", "shape": "depth has shape", "cut": "not a readable",
                       "gone": "no such file"}.items():
        with pytest.raises(UserError, match=says):
            read_tracks(tmp_path / f"{name}.npz")


@pytest.fixture(scope="module")
def real_run(tmp_path_factory):
    """A run folder as train.py leaves it, with a small random model; returns (run folder, data folder)."""
    torch.set_num_threads(1)  # the model is too small for more to help
    folder = tmp_path_factory.mktemp("real")
    data = analytic_run.make_run(folder / "data")[1]
    small = {"coupling_layers": 3, "coupling_width": 16, "coupling_hidden": 1, "field_width": 16, "num_samples": 8}
    config = {option.name: option.default for option in OPTIONS} | small
    torch.manual_seed(0)
    model = checkpoints.model_from(config, checkpoints.describe_video(data))
    with torch.no_grad():
        for parameter in model.mapping.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    state = {"config": config, "video": checkpoints.describe_video(data), "data_dir": str(data.path), "step": 7,
             "model": model.state_dict(), "ema": None}
    checkpoints.save(checkpoints.checkpoint_path(folder / "run", 7), state)
    return folder / "run", data.path


def predict_one(run, query, frame, method):
    """One query's raster position, score and depth in one frame, straight from the model."""
    t, y, x = query
    pixel = torch.tensor([[[x / SCALE[0] - 0.5, y / SCALE[1] - 0.5]]], dtype=torch.float32)
    with torch.no_grad():
        found = run.model.predict(torch.tensor([int(t)]), pixel, torch.tensor([frame]), method)
    return raster(found.pixels[0, 0].numpy()), found.occlusion_score.item(), found.depth.item()


def test_every_query_gets_its_own_prediction_whatever_the_order_and_chunk(real_run):
    run = checkpoints.load_run(real_run[0])
    random = np.random.default_rng(0)
    frames = random.integers(0, NUM_FRAMES, 9)
    queries = np.column_stack([frames, random.uniform(0, 51, 9), random.uniform(0, 71, 9)]).astype(np.float32)
    tracks = track_queries(RunSource(run, threshold=0.5), queries)
    pieces = track_queries(RunSource(run, threshold=0.5, chunk=2), queries)
    assert np.allclose(pieces.tracks, tracks.tracks, atol=1e-3)
    assert np.ptp(tracks.tracks, axis=1).max() > 1, "the model must move points"
    for q, query in enumerate(queries):
        for frame in range(NUM_FRAMES):
            position, score, depth = predict_one(run, query, frame, "max_weight")
            if frame != query[0]:
                assert np.allclose(tracks.tracks[q, frame], position, atol=1e-2)
                assert tracks.occlusion_score[q, frame] == pytest.approx(score, abs=1e-4)
            assert tracks.depth[q, frame] == pytest.approx(depth, abs=1e-3)


def test_all_outputs_of_a_real_run(real_run, tmp_path):
    out = tmp_path / "out"
    track.main(["--run", str(real_run[0]), "--queries", "grid:16", "--flow", "0", "2", "--depth", "--canonical", "0",
                "--out", str(out), "--method", "composite", "--device", "cpu"])
    assert read_flo(out / "flow_00000_00002.flo").shape == (*VIDEO_SIZE, 2)
    tracks = read_tracks(out / "tracks.npz")
    assert np.isfinite(tracks.tracks).all()
    position = predict_one(checkpoints.load_run(real_run[0]), tracks.query_points[3], 4, "composite")[0]
    assert np.allclose(tracks.tracks[3, 4], position, atol=1e-2)
    with np.load(out / "depth/depth.npz") as file:
        assert file["depth"].shape == (NUM_FRAMES, *SIZE)
        assert (file["depth"] >= NEAR).all()


def test_a_checkpoint_with_a_data_directory_needs_no_run(real_run, tmp_path):
    checkpoint = checkpoints.newest(real_run[0])
    track.main(["--checkpoint", str(checkpoint), "--data_dir", str(DataDir.open(real_run[1]).path),
                "--queries", "0,5,5", "--out", str(tmp_path / "t.npz"), "--device", "cpu"])
    assert len(read_tracks(tmp_path / "t.npz").tracks) == 1


def test_a_run_without_a_checkpoint_is_named(tmp_path, capsys):
    assert "no checkpoint" in commands.refused(capsys, track.main, "--run", tmp_path, "--queries", "grid")
