"""The whole of preprocessing: results on a clip with known flow, resuming, changed settings, disk, bad input."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flow.appearance import CensusAppearance, CensusSettings, DinoAppearance, make_appearance, sample_features
from flow.dis import DisFlow
from flow.estimator import Estimator
from loaders.data_dir import DataDir, encode_flow
from preprocess import build, driver
from preprocess.__main__ import main, make_parser
from preprocess.pairs import choose_pairs, describe_rule
from tests.helpers.paths import ROOT
from util import BoundedCache, UserError, pixel_grid

SIZE, NUM_FRAMES, STEP = (24, 40), 6, np.array([3.0, 1.0], np.float32)  # pixels a frame


def moving_clip(num_frames=NUM_FRAMES, seed=0):
    """A random texture seen through a window: everything moves by STEP a frame."""
    random = np.random.default_rng(seed)
    canvas = random.integers(0, 256, (SIZE[0] + num_frames, SIZE[1] + 3 * num_frames, 3), dtype=np.uint8)
    starts = [(num_frames - i, 3 * (num_frames - i)) for i in range(num_frames)]
    return np.stack([canvas[y : y + SIZE[0], x : x + SIZE[1]] for y, x in starts])


class MovingFlow(Estimator):
    """The true flow of moving_clip; fails where `wrong(i, j)`; records what it was asked."""

    reason = "true"

    def __init__(self, wrong=lambda i, j: False, version=1):
        self.wrong, self.asked, self.description = wrong, [], {"method": "true", "version": version}

    def load_frames(self, frames, adjacent=None):
        self.frames = frames
        assert frames[len(frames) - 1].shape == (*SIZE, 3)

    def flow_from(self, i, partners, ahead=None):
        self.asked.append(i)
        flow = np.stack([np.broadcast_to(STEP * (j - i), (*SIZE, 2)) for j in partners])
        flow[[self.wrong(i, j) for j in partners]] = 7.3
        return flow


def stays_inside(steps):
    """bool (H, W): pixels that `steps` frames of motion leave in the image."""
    grid = np.stack(np.meshgrid(np.arange(SIZE[1]), np.arange(SIZE[0])), axis=-1) + STEP * steps
    return ((grid >= 0) & (grid <= np.array(SIZE[::-1]) - 1)).all(-1)


def files_of(path):
    """Every file's content, the manifest without what may differ between equal results."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def make(path, estimator=None, **options):
    return build(moving_clip(), path, flow=estimator or MovingFlow(), **{"device": "cpu", "quiet": True, **options})


# Results


def test_true_flow_is_valid_wherever_it_stays_in_the_image(tmp_path):
    data = make(tmp_path / "data")
    assert np.array_equal(data.frames(), moving_clip())
    assert data.num_frames == NUM_FRAMES
    for i in range(NUM_FRAMES):
        assert data.partners(i) == [j for j in range(NUM_FRAMES) if j != i]
        for j in data.partners(i):
            cycle, occluded = data.valid(i, j)
            inside = stays_inside(j - i)
            np.testing.assert_array_equal(data.flow(i, j)[inside], np.broadcast_to(STEP * (j - i), (inside.sum(), 2)))
            assert cycle[inside].mean() > 0.95  # all but some at the border, whose neighbourhood is another
            assert not occluded[inside].any()
    counts = np.stack([data.count_map(i) for i in range(NUM_FRAMES)])
    assert counts.sum() == data.pair_counts.sum()
    assert counts[2, 12, 20] == NUM_FRAMES - 1
    left = {folder.name for folder in data.path.iterdir()}
    assert left == {"color", "flow_chained", "valid", "counts", "manifest.json"}


def test_chaining_restores_pairs_whose_direct_flow_failed(tmp_path):
    def make_with(path, chain):
        return make(tmp_path / path, MovingFlow(wrong=lambda i, j: abs(i - j) > 2), chain=chain)

    direct, chained = make_with("direct", False), make_with("chained", True)
    inside = stays_inside(5) & stays_inside(4)
    assert direct.valid(0, 5)[0].mean() < 0.1
    assert chained.valid(0, 5)[0][inside].mean() > 0.9
    assert np.abs(chained.flow(0, 5)[chained.valid(0, 5)[0] & inside] - STEP * 5).max() < 0.1
    assert {folder.name for folder in direct.path.iterdir()} == {
        "color", "flow", "valid_direct", "counts", "manifest.json"
    }


def test_direct_flow_is_kept_when_asked(tmp_path):
    data = make(tmp_path, keep_direct=True, estimator=MovingFlow(wrong=lambda i, j: abs(i - j) == 4))
    assert (data.flow(0, 4, direct=True) == encode_flow(7.3, 1 / 32) / 32).all()
    assert np.abs(data.flow(0, 4)[12, 10] - STEP * 4).max() < 0.1
    assert data.valid(0, 4, direct=True)[0].sum() < data.valid(0, 4)[0].sum()


def test_direct_flow_of_far_pairs_is_replaced_by_the_chain_when_it_is_not_trusted(tmp_path):
    consistently_wrong = MovingFlow(wrong=lambda i, j: abs(i - j) >= 3)
    data = make(tmp_path, consistently_wrong, keep_direct=True, max_direct=2)
    assert data.valid(0, 2, direct=True)[0].any() and not data.valid(0, 3, direct=True)[0].any()
    found = data.flow(0, 4)[data.valid(0, 4)[0] & stays_inside(4)]
    assert len(found) > 50 and np.abs(found - STEP * 4).max() < 0.1


def test_frames_far_apart_are_reached_over_frames_without_a_pair(tmp_path):
    data = make(tmp_path, MovingFlow(wrong=lambda i, j: abs(i - j) == 4), max_interval=1)
    assert data.partners(0) == [1, 2, 4]  # keyframes are 0, 2 and 4
    inside = stays_inside(4)
    assert data.valid(0, 4)[0][inside].mean() > 0.9
    assert np.abs(data.flow(0, 4)[data.valid(0, 4)[0] & inside] - STEP * 4).max() < 0.1


def test_masks_come_along(tmp_path):
    (tmp_path / "masks").mkdir()
    for number in range(NUM_FRAMES):
        mask = np.zeros(SIZE, np.uint8)
        mask[:, : 2 * number] = 255
        Image.fromarray(mask).save(tmp_path / f"masks/{number}.png")
    data = make(tmp_path / "data", masks=tmp_path / "masks")
    assert [data.mask(i).sum() for i in range(NUM_FRAMES)] == [24 * 2 * i for i in range(NUM_FRAMES)]
    assert make(tmp_path / "data").mask(0) is None


def test_video_in_and_everything_out_by_the_command(tmp_path, capsys):
    import imageio

    path, data_dir = tmp_path / "vidéo 1.mp4", tmp_path / "data dir"
    smooth = np.kron(moving_clip()[:, :20:4, :32:4], np.ones((1, 10, 10, 1), np.uint8))[:, :49, :77]
    imageio.mimwrite(path, smooth, fps=5, macro_block_size=1, output_params=["-pix_fmt", "yuv444p"])
    main([str(path), "--data_dir", str(data_dir), "--flow", "dis", "--max_side", "64", "--end", "4", "--device", "cpu"])
    data = DataDir.open(data_dir)
    assert (data.name, data.num_frames, data.fps) == ("vidéo 1", 4, 5.0)
    assert (data.height, data.width, data.original_height, data.original_width) == (41, 64, 49, 77)
    said = capsys.readouterr().out
    assert "DIS" in said
    assert re.search(r"12 pairs, \d+\.\d% of their pixels valid, \d+\.\d MB on disk", said)
    assert f"python train.py --config configs/default.txt --data_dir '{data_dir}' --out_dir 'runs/vidéo 1'" in said


# Which pairs


def test_short_clips_take_all_pairs_and_longer_ones_a_number_that_grows_linearly():
    assert choose_pairs(32) == [[j for j in range(32) if j != i] for i in range(32)]
    assert choose_pairs(40, 39) == [[j for j in range(40) if j != i] for i in range(40)]
    totals = {count: sum(map(len, choose_pairs(count))) for count in (200, 400, 800)}
    assert totals[800] - totals[400] == pytest.approx(2 * (totals[400] - totals[200]), rel=0.01)
    assert totals[800] / 800 < 30


def test_the_default_rule_connects_near_frames_and_far_keyframes():
    partners = choose_pairs(200)
    assert partners[50] == [*range(38, 50), *range(51, 63)]
    assert set(range(48, 73)) - {60} < set(partners[60])
    assert {66, 72, 156, 0} < set(partners[60])
    assert max(partners[60]) == 156  # 8 * 12 away
    assert all(i in partners[j] for i in range(200) for j in partners[i])  # both directions, as the filter needs
    assert all(abs(i - j) <= 12 or i % 6 == j % 6 == 0 for i in range(200) for j in partners[i])
    assert "12 frames apart" in describe_rule(200)
    assert describe_rule(32) == describe_rule(9, 8) == "all pairs"


@pytest.mark.parametrize(("max_interval", "limit"), [(None, 3.0e9), (59, 6.3e9)])
def test_disk_of_60_frames_at_480p(max_interval, limit):
    pairs, pixels = sum(map(len, choose_pairs(60, max_interval))), 480 * 854
    flow, masks = pairs * pixels * 2 * 2, pairs * 2 * -(-pixels // 8)
    counts, color = 60 * pixels * 2, 60 * pixels * 3  # color: as if PNG did not compress
    assert flow + masks + counts + color < limit


# Appearance


def test_census_tells_the_same_surface_from_another_whatever_the_exposure():
    random = np.random.default_rng(0)
    frame = random.integers(30, 220, (24, 32, 3), dtype=np.uint8)
    darker = (frame * 0.6 + random.normal(0, 2, frame.shape) + 8).clip(0, 255).astype(np.uint8)
    census = CensusAppearance()
    pixels = pixel_grid(24, 32).flatten(0, 1)
    features = [census(image).map for image in (frame, darker)]
    assert features[0].shape == (24, 32, 24)
    assert features[0].abs().max() <= 1
    same = similarity(*features, pixels, pixels)
    other = similarity(*features, pixels, pixels.roll(5, 0))
    assert (same > 0.5).float().mean() > 0.99
    assert (other > 0.5).float().mean() < 0.15


def similarity(features_1, features_2, pixels_1, pixels_2):
    sampled = (sample_features(features_1, pixels_1, 24, 32), sample_features(features_2, pixels_2, 24, 32))
    return torch.nn.functional.cosine_similarity(*sampled, dim=0)


def test_census_signs_are_those_of_a_loop():
    frame = np.random.default_rng(1).integers(0, 256, (21, 22, 3), dtype=np.uint8)
    gray = frame @ np.array([0.299, 0.587, 0.114]) / 255
    expected = []
    for distance, radius in ((1, 0), (3, 1), (6, 3)):

        def blurred(y, x, radius=radius):
            return gray[y - radius : y + radius + 1, x - radius : x + radius + 1].mean()

        for y, x in ((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (x, y) != (0, 0)):
            difference = blurred(10 + y * distance, 11 + x * distance) - blurred(10, 11)
            expected.append(difference / np.hypot(difference, 16 / 255))
    np.testing.assert_allclose(CensusAppearance()(frame).map[10, 11], expected, atol=1e-3)  # half precision


def test_census_of_large_frames_is_sparse_and_spans_the_image():
    frame = np.random.default_rng(2).integers(0, 256, (20, 70, 3), dtype=np.uint8)
    full = CensusAppearance()(frame).map
    sparse = CensusAppearance(settings=CensusSettings(largest_side=40))(frame).map
    assert sparse.shape == (10, 35, 24)
    assert torch.equal(sparse[[0, -1]][:, [0, -1]], full[[0, -1]][:, [0, -1]])


@pytest.mark.parametrize("kind, patch", [("ViT", 16), ("Dinov2", 14), ("DINOv3ViT", 16)])
def test_dino_from_a_folder(tmp_path, kind, patch):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=4 * patch,
        patch_size=patch)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    model.save_pretrained(tmp_path / "dino")
    frame = moving_clip()[0]
    appearance = DinoAppearance(tmp_path / "dino")
    rows, columns = (round(side * 480 / min(frame.shape[:2]) / patch) for side in frame.shape[:2])
    assert appearance(frame).map.shape == (rows, columns, 32)
    images = torch.rand(1, 3, 4 * patch, 4 * patch)  # of the size that it was made for: nothing is interpolated
    with torch.no_grad():
        tokens = model(pixel_values=images).last_hidden_state[0, -16:]  # after the class token, and registers
        found = appearance.model(images)[0]
    for place, token in enumerate(tokens):
        torch.testing.assert_close(found[:, place // 4, place % 4], token, atol=1e-5, rtol=1e-5)


def test_dino_from_torchscript_and_what_is_neither(tmp_path):
    torch.jit.script(torch.nn.Conv2d(3, 5, 16, stride=16)).save(tmp_path / "dino.pt")
    (tmp_path / "other.pth").write_bytes(b"x")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "wrong.pth")
    (tmp_path / "empty").mkdir()
    assert DinoAppearance(tmp_path / "dino.pt")(moving_clip()[0]).map.shape == (30, 50, 5)
    for name in ("other.pth", "wrong.pth", "missing.pth", "empty"):
        with pytest.raises(UserError, match=f"{name}: .*expected a folder"):
            make_appearance("dino", dino_weights=tmp_path / name)


def test_raft_features_as_appearance(tmp_path):
    from networks.raft import RAFT

    torch.manual_seed(0)
    torch.save(RAFT(small=True).state_dict(), tmp_path / "raft.pth")
    appearance = make_appearance("raft", raft_weights=tmp_path / "raft.pth")
    assert appearance(np.zeros((64, 83, 3), np.uint8)).map.shape == (8, 11, 128)
    assert appearance.description["weights"] == "raft.pth"
    with pytest.raises(UserError, match="--appearance colour: expected census, raft or dino"):
        make_appearance("colour")


def test_the_cache_computes_again_only_what_does_not_fit():
    computed = []
    cache = BoundedCache(lambda i: computed.append(i) or np.zeros(100, np.uint8), most=300)
    for i in (0, 1, 2, 0, 3, 0, 1):
        assert cache[i].nbytes == 100
    assert computed == [0, 1, 2, 3, 1]  # 1 was the least recently used when 3 came
    assert len(cache) == 3
    cache.forget(0)
    assert 0 not in cache and 1 in cache and cache.total == 200
    counted = BoundedCache(str, most=3, size=lambda _: 1)
    assert [counted[i] for i in range(5)] == list("01234") and len(counted) == 3


# Interruptions and changes


class Interrupted(Exception):  # noqa: N818
    pass


def interrupt_after(monkeypatch, writes, error=Interrupted):
    """Let file number `writes` fail when it is about to be complete."""
    real, left = os.fsync, [writes]

    def fsync(descriptor):
        left[0] -= 1
        if left[0] < 0:
            raise error
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("keep_direct", [False, True])
def test_interrupted_anywhere_it_goes_on_to_the_same_result(tmp_path, monkeypatch, keep_direct):
    clip = moving_clip(3)

    def attempt(path):
        return build(clip, path, flow=MovingFlow(), quiet=True, device="cpu", keep_direct=keep_direct)

    expected = files_of(attempt(tmp_path / "whole").path)
    interruptions = 0
    for writes in range(0, 100, 2):
        path = tmp_path / str(writes)
        with monkeypatch.context() as patch:
            interrupt_after(patch, writes)
            try:
                attempt(path)
                break
            except Interrupted:
                interruptions += 1
        assert not path.exists() or (path / "manifest.json").exists()
        if path.exists():
            with pytest.raises(UserError, match="unfinished"):
                DataDir.open(path)
        attempt(path)
        assert files_of(path) == expected, writes
    assert interruptions > 8


def test_a_resumed_run_keeps_the_flow_that_was_finished(tmp_path, monkeypatch):
    first = MovingFlow()
    with monkeypatch.context() as patch:
        patch.setattr("preprocess.driver.filter_flow", lambda *_: (_ for _ in ()).throw(Interrupted))
        with pytest.raises(Interrupted):
            make(tmp_path, first)
    (tmp_path / "flow/00002.npy").unlink()
    (tmp_path / "flow/.00002.99.tmp.npy").write_bytes(b"half")
    second = MovingFlow()
    make(tmp_path, second)
    assert first.asked == list(range(NUM_FRAMES))
    assert second.asked == [2]
    assert not list(tmp_path.rglob("*.tmp*"))


KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
from tests.preprocess.test_preprocess import MovingFlow, moving_clip
from preprocess import build
for writes in (2, 9, 14, 18, 24):
    if os.fork() == 0:
        real, left = os.fsync, [writes]
        def fsync(descriptor):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real(descriptor)
        os.fsync = fsync
        build(moving_clip(4), {path!r}, flow=MovingFlow(), quiet=True, device="cpu")
        os._exit(0)
    print(os.WTERMSIG(os.wait()[1]), sorted(os.listdir({path!r})))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_with_signal_9_again_and_again(tmp_path):
    path = tmp_path / "data"
    script = KILLED.format(root=str(ROOT), path=str(path))
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["9", "9", "9"], result.stderr
    expected = build(moving_clip(4), tmp_path / "whole", flow=MovingFlow(), quiet=True, device="cpu")
    build(moving_clip(4), path, flow=MovingFlow(), quiet=True, device="cpu")
    assert files_of(path) == files_of(expected.path)


def test_a_full_disk_is_one_line_and_nothing_false_is_left(tmp_path, monkeypatch, capsys):
    Path(tmp_path / "in").mkdir()
    for number, frame in enumerate(moving_clip(3)):
        Image.fromarray(frame).save(tmp_path / f"in/{number}.png")
    arguments = [str(tmp_path / "in"), "--data_dir", str(tmp_path / "out"), "--flow", "dis", "--device", "cpu"]
    with monkeypatch.context() as patch:
        interrupt_after(patch, 12, OSError(28, "No space left on device"))
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
    assert stopped.value.code == 2
    assert re.search(r"the disk is full while writing .*\.npy", capsys.readouterr().err.splitlines()[-1])
    assert not list(tmp_path.rglob("*.tmp*"))
    main(arguments)
    DataDir.open(tmp_path / "out")


def test_too_little_free_disk_is_said_beforehand(tmp_path, monkeypatch):
    estimator = MovingFlow()
    monkeypatch.setattr(driver.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"30 pairs need 0\.\d MB more, 0\.0 MB are free"):
        make(tmp_path, estimator)
    assert not estimator.asked


CHANGES = {  # changed option: (stages that are done again, what is said)
    "nothing": ({}, set(), None),
    "cycle_threshold": ({"cycle_threshold": 2.0}, {"valid_direct", "valid"}, "filter: done again.*3.0, now 2.0"),
    "chain": ({"chain": False}, {"chain"}, "chain: done again"),
    "max_interval": ({"max_interval": 2}, {"flow", "valid_direct", "valid"}, "flow: done again.*now up to 2"),
    "estimator": ({"estimator": MovingFlow(version=2)}, {"flow", "valid_direct", "valid"}, "flow: done again.*version"),
    "frames": ({"end": 5}, {"color", "flow", "valid_direct", "valid"}, "frames: done again.*end was unset, now 5"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_setting_does_again_what_depends_on_it(tmp_path, capsys, change):
    options, redone, message = CHANGES[change]
    make(tmp_path, keep_direct=True)
    before = {folder: (tmp_path / folder / "00000.npy") for folder in ("flow", "valid_direct", "valid")}
    before["color"] = tmp_path / "color/00000.png"
    ages = {folder: file.stat().st_mtime_ns for folder, file in before.items()}
    capsys.readouterr()
    make(tmp_path, **{"keep_direct": True, "quiet": False, **options})
    changed = {name for name, file in before.items() if not file.exists() or file.stat().st_mtime_ns != ages[name]}
    assert changed - {"valid"} == redone - {"valid", "chain"}
    assert ("valid" in changed) == bool(redone)
    said = capsys.readouterr().out
    assert re.search(message, said) if message else "again" not in said
    assert files_of(tmp_path).keys() == files_of(make(tmp_path / "new", keep_direct=True, **options).path).keys()


def test_results_after_a_change_equal_those_of_a_new_directory(tmp_path):
    wrong = MovingFlow(wrong=lambda i, j: abs(i - j) == 3)
    make(tmp_path / "changed", wrong)
    changed = make(tmp_path / "changed", wrong, cycle_threshold=0.7, max_interval=2)
    new = make(tmp_path / "new", wrong, cycle_threshold=0.7, max_interval=2)
    assert files_of(changed.path) == files_of(new.path)


def test_deleted_direct_flow_is_estimated_again_when_a_later_stage_needs_it(tmp_path, capsys):
    make(tmp_path)
    estimator = MovingFlow()
    make(tmp_path, estimator, quiet=False, cycle_threshold=2.0)
    assert estimator.asked == list(range(NUM_FRAMES))
    assert "direct flow was deleted" in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["flow_chained", "valid", "counts"])
def test_a_deleted_file_is_made_again(tmp_path, folder):
    make(tmp_path)
    before = files_of(tmp_path)
    (tmp_path / folder / "00001.npy").unlink()
    make(tmp_path)
    assert files_of(tmp_path) == before


def test_a_continued_auto_does_not_choose_anew(tmp_path, monkeypatch):
    def attempt(chosen, **options):
        asked = []

        def make_estimator(name, weights, iterations, device, image_size, num_pairs):
            asked.append((name, image_size))
            return DisFlow() if chosen == "dis" else MovingFlow()

        monkeypatch.setattr(driver, "make_estimator", make_estimator)
        build(moving_clip(), tmp_path / chosen, flow="auto", quiet=True, device="cpu", **options)
        return asked

    assert attempt("dis") == attempt("true") == [("auto", SIZE)]
    assert attempt("dis", cycle_threshold=2.0) == []  # DIS again, without measuring RAFT
    assert attempt("true", cycle_threshold=2.0) == [("auto", None)]  # the same weights, without measuring
    assert attempt("dis", iterations=9) == [("auto", SIZE)]  # asked for something else: choose anew


def test_another_video_is_refused_unless_it_may_replace_the_first(tmp_path):
    make(tmp_path / "data")
    before = files_of(tmp_path / "data")
    other = moving_clip(seed=1)
    with pytest.raises(UserError, match="made from another video.*--overwrite"):
        build(other, tmp_path / "data", flow=MovingFlow(), quiet=True, device="cpu")
    assert files_of(tmp_path / "data") == before
    data = build(other, tmp_path / "data", flow=MovingFlow(), quiet=True, device="cpu", overwrite=True)
    assert np.array_equal(data.frames(), other)


def test_another_version_is_refused_unless_it_may_be_replaced(tmp_path):
    data = make(tmp_path)
    data.manifest["version"] = 99
    data.save_manifest()
    with pytest.raises(UserError, match="version 99"):
        make(tmp_path)
    assert make(tmp_path, overwrite=True).manifest["version"] == 1


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "color").mkdir()
    (tmp_path / "color/mine.png").write_bytes(b"x")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"holds other files \(color\)"):
            make(tmp_path, overwrite=overwrite)
    with pytest.raises(UserError, match="a file; expected a new folder"):
        make(tmp_path / "color/mine.png")
    assert list(files_of(tmp_path)) == ["color/mine.png"]


def test_two_at_once_do_not_share_a_directory(tmp_path):
    pytest.importorskip("fcntl")

    class Nested(MovingFlow):
        def flow_from(self, i, partners, ahead=None):
            with pytest.raises(UserError, match="in use by another preprocessing"):
                make(tmp_path / "data")
            return super().flow_from(i, partners, ahead)

    make(tmp_path / "data", Nested())


# The command


def frames_folder(path, count=3):
    path.mkdir()
    for number, frame in enumerate(moving_clip(count)):
        Image.fromarray(frame).save(path / f"{number}.png")
    return path


BAD_COMMANDS = {  # arguments after INPUT: what the message says
    "--flow dis --cycle_th 0": "--cycle_th 0",
    "--flow dis --max_interval 0": "--max_interval 0",
    "--flow dis --max_side 4": "--max_side 4",
    "--flow dis --start 3 --end 4": "--end 4",
    "--flow dis --start 2": r"1 frame\(s\) from frame 2 on",
    "--flow raft --raft_weights nowhere.pth": "nowhere.pth: no such file",
    "--flow raft --raft_weights {input}/0.png": "0.png: not a readable PyTorch weights file",
    "--flow dis --masks {input}/nowhere": "nowhere: no such folder",
    "--flow dis --masks {masks}": r"2 mask\(s\); expected 3",
    "--flow dis --masks {small}": "mask of 20x20 pixels; expected 40x24",
    "--flow dis --appearance dino": "--dino_weights",
    "--flow dis --iters 0": "--iters 0",
    "--flow dis --device tpu9": "--device tpu9",
    "--flow dis --passes 3": "--passes 3: expected 1 or 2",
    "--flow dis --no_fusion": "--no_fusion.*got --flow dis",
    "--no_fusion": "--no_fusion.*got neither",
    "--flow_files {input}": r"--flow_files .*in: no flow there; expected files such as 00000_00005.flo",
    "--flow_files {input}/nowhere": "--flow_files .*nowhere: no such folder",
    "--flow_files {input} --no_fusion --passes 2": "expected --passes 1, got 2",
}


@pytest.mark.parametrize("arguments", BAD_COMMANDS)
def test_bad_arguments_are_one_line_exit_code_2_and_leave_nothing(tmp_path, capsys, arguments):
    paths = {"input": frames_folder(tmp_path / "in"), "masks": frames_folder(tmp_path / "masks", 2)}
    paths["small"] = tmp_path / "small"
    paths["small"].mkdir()
    for number in range(3):
        Image.new("L", (20, 20)).save(paths["small"] / f"{number}.png")
    with pytest.raises(SystemExit) as stopped:
        main([str(paths["input"]), "--data_dir", str(tmp_path / "out"), *arguments.format(**paths).split()])
    assert stopped.value.code == 2
    messages = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(messages) == 1
    assert re.search(BAD_COMMANDS[arguments], messages[0])
    assert not (tmp_path / "out").exists()


def test_a_failed_input_leaves_an_earlier_result_alone(tmp_path):
    make(tmp_path / "data")
    before = files_of(tmp_path / "data")
    with pytest.raises(UserError, match="expected sides of 16"):
        make(tmp_path / "data", max_side=16)
    assert files_of(tmp_path / "data") == before


def test_every_option_says_what_it_does_and_its_default():
    for action in make_parser()._actions:
        assert action.help, action.dest
        takes_value = action.option_strings and action.nargs != 0 and not action.required
        assert not takes_value or "default" in action.help.lower(), action.dest


def test_the_flow_command_runs_without_a_warning():
    result = subprocess.run(
        [sys.executable, "-m", "flow", "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert result.stderr == "" and "--raft_weights" in result.stdout


def test_a_directory_of_earlier_code_is_read_and_its_flow_is_only_made_again_on_request(tmp_path, capsys):
    make(tmp_path, "dis")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    code = manifest["settings"]["flow"].pop("code")
    manifest["settings"]["flow"] = {"method": "dis", "revision": 5, "pairs": manifest["settings"]["flow"]["pairs"]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    before = files_of(tmp_path)
    assert DataDir.open(tmp_path).flow(0, 1).shape == (*SIZE, 2) and files_of(tmp_path) == before
    make(tmp_path, "dis", quiet=False)
    assert "flow: done again" in capsys.readouterr().out
    assert json.loads((tmp_path / "manifest.json").read_text())["settings"]["flow"]["code"] == code


def test_the_manifest_records_what_was_done(tmp_path):
    make(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["finished"] == ["frames", "flow", "filter", "chain", "counts"]
    assert manifest["settings"]["flow"]["method"] == "true"
    assert manifest["settings"]["filter"] == {
        "cycle_threshold": 3.0, "max_direct": NUM_FRAMES,
        "appearance": {"method": "census", "distances": [1, 3, 6], "noise": 16 / 255, "aligned": True},
    }
