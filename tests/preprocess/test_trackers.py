"""Trackers of others: torch.hub repositories and TorchScript files made here, a stand-in for the package tapnet."""

import re
import sys
import textwrap

import numpy as np
import pytest
import torch

from flow.estimator import Estimator
from loaders.data_dir import write_image
from loaders.evidence import read_evidence
from loaders.tracks_layouts import tracks_of_video
from preprocess import build
from preprocess.tracker_models import open_tracker
from preprocess.tracker_windows import both_ways, track_in_windows, windows
from preprocess.trackers import main
from util import UserError

H, W, N = 48, 64, 11
STEP = np.array([2, -1])  # pixels a frame that the whole picture moves by
HUBCONF = """
from pathlib import Path
import torch

class Matching(torch.nn.Module):
    '''Looks for the query's patch everywhere within 30 pixels of where it was; CoTracker's contract.'''
    longest = 0
    def forward(self, video, queries, **options):
        assert video.dtype == torch.float32 and video.max() > 1 and options in ({}, {"backward_tracking": True})
        Matching.longest = max(Matching.longest, video.shape[1])
        Path(__file__).with_name("longest").write_text(str(Matching.longest))
        padded = torch.nn.functional.pad(video[0], (2, 2, 2, 2))
        patches = padded.unfold(2, 5, 1).unfold(3, 5, 1).permute(0, 2, 3, 1, 4, 5).flatten(3)
        tracks, seen = [], []
        for t, x, y in queries[0].tolist():
            wanted = patches[int(t), round(y), round(x)]
            cost = (patches - wanted).abs().mean(-1)
            best = cost.flatten(1).argmin(1)
            tracks.append(torch.stack([best % cost.shape[2], best // cost.shape[2]], -1) + torch.tensor([x, y])
                          - torch.tensor([float(round(x)), float(round(y))]))
            seen.append((cost.flatten(1).min(1).values < 2).float())
        return torch.stack(tracks, 1)[None], torch.stack(seen, 1)[None]

def matching(): return Matching()
def cotracker3_offline(): return Matching()
def broken(): raise ImportError("No module named 'timm'\\nsecond line")
def flat(): return lambda video, queries: (queries, queries)
"""


def panned(count=N, seed=0):
    """(N, H, W, 3): a window that moves over a random picture, so that what is seen moves by STEP."""
    random = np.random.default_rng(seed)
    picture = random.integers(0, 256, (H + 40, W + 40, 3), dtype=np.uint8)
    corners = [np.array([34, 4]) - k * STEP for k in range(count)]
    return np.stack([picture[y : y + H, x : x + W] for x, y in corners])


def truth(queries, count=N):
    """Positions (Q, N, 2) of raster queries t, y, x, and whether they are inside the frame."""
    frames = np.arange(count)
    positions = queries[:, None, [2, 1]] + (frames - queries[:, :1])[..., None] * STEP
    return positions, ((positions > 0) & (positions < [W, H])).all(-1)


class Shift(Estimator):
    """Flow estimator that knows the answer."""

    description = {"method": "shift"}

    def load_frames(self, frames, adjacent=None):
        pass

    def flow_from(self, i, partners):
        return np.stack([np.broadcast_to(np.float32((j - i) * STEP), (H, W, 2)) for j in partners])


@pytest.fixture
def video(tmp_path):
    for k, frame in enumerate(panned()):
        write_image(tmp_path / "frames" / f"{k:05d}.png", frame)
    return tmp_path / "frames"


@pytest.fixture
def hub(tmp_path):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "hubconf.py").write_text(HUBCONF)
    return tmp_path / "hub"


def run(video, out, *options):
    main([str(video), "--out", str(out), "--device", "cpu", *map(str, options)])
    return np.load(out)


def test_a_local_repository_of_torch_hub_gives_tracks_that_preprocessing_takes(tmp_path, video, hub, capsys):
    found = run(video, tmp_path / "t.npz", "--tracker", "matching", "--repository", hub, "--points", "grid:12@every:5")
    queries = found["query_points"]
    assert len(queries) == 5 * 4 * 3 and set(queries[:, 0]) == {0, 5, 10}
    positions, inside = truth(queries)
    margin = ((positions > 4) & (positions < [W - 4, H - 4])).all(-1)  # where whole patches are seen
    assert np.abs(found["tracks"] - positions)[margin].max() < 1e-3
    assert not found["occluded"][margin].any() and found["occluded"][~inside].all()
    positions, visible = tracks_of_video(tmp_path / "t.npz", N, (H, W))
    assert visible.sum() == (~found["occluded"]).sum()
    data = build(str(video), tmp_path / "data", flow=Shift(), chain=False, quiet=True, workers=1, max_interval=1,
                 tracks=[tmp_path / "t.npz"])
    start, end, _ = read_evidence(data.path, N)[0].between(3, 4)
    assert len(start) > 20 and np.abs(np.median(end - start, axis=0) - STEP).max() < 1e-3


def test_scaled_frames_come_back_in_pixels_of_the_video(tmp_path, video, hub):
    points = "--points", "3,20,24;0,30.5,41", "--max_side", 32, "--end", 4
    found = run(video, tmp_path / "t.npz", "--tracker", "matching", "--repository", hub, *points)
    assert found["tracks"].shape == (2, 4, 2) and tuple(found["video_size"]) == (H, W)
    assert tuple(found["frame_size"]) == (24, 32)
    assert np.allclose(found["tracks"][[0, 1], [3, 0]], [[24, 20], [41, 30.5]], atol=1e-4)


def test_a_known_tracker_is_called_as_its_makers_do_and_its_licence_is_shown(tmp_path, video, hub, capsys):
    options = "--tracker", "cotracker3", "--repository", hub, "--points", "0,20,24"
    with pytest.raises(SystemExit):
        run(video, tmp_path / "t.npz", *options)
    line = capsys.readouterr().err
    assert "CC-BY-NC-4.0, not for commercial use: give --non_commercial" in line and line.count("\n") == 1
    found = run(video, tmp_path / "t.npz", *options, "--non_commercial")
    assert "cotracker3: CC-BY-NC-4.0: not for commercial use" in capsys.readouterr().out
    assert np.allclose(found["tracks"][0, :4], truth(found["query_points"])[0][0, :4], atol=1e-4)


class Ahead(torch.nn.Module):
    """Knows the shift of a frame's mean brightness a frame; before its query a point stays where it is."""

    def forward(self, video: torch.Tensor, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        level = video.mean(dim=(0, 2, 3, 4))  # (n,): ten times the way that the picture has come
        way = (level[:, None] - level[queries[0, :, 0].long()]) / 10
        ahead = torch.arange(video.shape[1])[:, None] >= queries[0, :, 0]
        moved = torch.stack([torch.where(ahead, way, 0.0 * way), torch.zeros_like(way)], -1)
        return (queries[0, :, 1:] + moved)[None], torch.ones_like(way)[None]


def test_a_torchscript_file_that_only_goes_ahead(tmp_path):
    for k in range(6):
        write_image(tmp_path / "frames" / f"{k:05d}.png", np.full((H, W, 3), 20 * k, np.uint8))  # 2 pixels a frame
    torch.jit.script(Ahead()).save(str(tmp_path / "ahead.pt"))
    options = "--torchscript", tmp_path / "ahead.pt", "--points", "3,20,24"
    found = run(tmp_path / "frames", tmp_path / "one.npz", *options)
    assert np.allclose(found["tracks"][0, :, 0], [24, 24, 24, 24, 26, 28], atol=1e-4)
    found = run(tmp_path / "frames", tmp_path / "both.npz", *options, "--ahead_only")
    assert np.allclose(found["tracks"][0, :, 0], [18, 20, 22, 24, 26, 28], atol=1e-4)
    assert np.allclose(found["tracks"][0, :, 1], 20)


# Windows


def planted(num_frames, hidden=()):
    """Frames that hold their number, and a tracker that knows that all moves by (1, 0.5) a frame, never seen in
    `hidden`; it keeps the lengths of the windows that it was given."""
    frames = np.broadcast_to(np.arange(num_frames, dtype=np.uint8)[:, None, None, None], (num_frames, 2, 2, 3))
    lengths = []

    def track(window, queries):
        lengths.append(len(window))
        numbers = window[:, 0, 0, 0].astype(int)
        assert (queries[:, 0] >= 0).all() and (queries[:, 0] < len(window)).all()
        away = numbers - numbers[queries[:, 0].astype(int)][:, None]
        seen = ~np.isin(numbers, hidden)
        return queries[:, None, 1:] + away[..., None] * np.array([1, 0.5]), np.broadcast_to(seen, away.shape)

    return frames, track, lengths


def test_windows_share_frames_and_reach_the_end():
    assert windows(5, 8, 3) == [(0, 5)]
    assert windows(20, 8, 3) == [(0, 8), (5, 13), (10, 18), (12, 20)]
    with pytest.raises(UserError, match="--overlap 8: expected 1 to 7"):
        windows(20, 8, 8)


def test_points_are_carried_from_window_to_window_both_ways():
    frames, track, lengths = planted(50)
    queries = np.array([[0, 3.0, 4.0], [24, 3.0, 4.0], [49, 3.0, 4.0]])
    positions, visible = track_in_windows(track, frames, queries, 8, 3, at_once=2)
    expected = queries[:, None, 1:] + (np.arange(50) - queries[:, :1])[..., None] * [1, 0.5]
    assert np.allclose(positions, expected, atol=1e-4) and visible.all()
    assert set(lengths) == {8}


def test_what_is_hidden_is_carried_while_it_is_seen_in_what_windows_share_and_else_lost():
    for hidden, lost in (((8, 9), ()), ((5, 6, 7), range(8, 20))):  # windows of 8 share 3: 5 to 7, 10 to 12, 12 to 17
        frames, track, _ = planted(20, hidden)
        positions, visible = track_in_windows(track, frames, np.array([[1, 0.0, 0.0]]), 8, 3, at_once=9)
        assert np.flatnonzero(~visible[0]).tolist() == sorted({*hidden, *lost})
        assert np.flatnonzero(np.isnan(positions[0, :, 0])).tolist() == list(lost)


def test_windows_bound_the_frames_that_a_tracker_is_given(tmp_path, video, hub):
    options = "--tracker", "matching", "--repository", hub, "--points", "grid:16@every:7", "--window", 6, "--overlap", 2
    found = run(video, tmp_path / "t.npz", *options)
    assert (hub / "longest").read_text() == "6"
    positions, _ = truth(found["query_points"])
    margin = ((positions > 4) & (positions < [W - 4, H - 4])).all(-1)
    assert np.abs(found["tracks"] - positions)[margin].max() < 1e-3


def test_both_ways_looks_back_on_the_frames_reversed():
    frames, track, _ = planted(9)

    def ahead(window, queries):
        positions, seen = track(window, queries)
        before = np.arange(len(window)) < queries[:, :1]
        return np.where(before[..., None], -99, positions), seen & ~before

    positions, visible = both_ways(ahead)(frames, np.float32([[4, 0, 0], [0, 1, 1]]))
    assert np.allclose(positions[0, :, 0], np.arange(-4, 5)) and visible.all()


# The package tapnet: a stand-in with the makers' signatures


TAPIR = """
import torch

class TAPIR(torch.nn.Module):
    def __init__(self, pyramid_level=1):
        super().__init__()
        self.step = torch.nn.Parameter(torch.zeros(2))
    def forward(self, video, query_points):
        assert video.min() >= -1 and -1 <= video.max() <= 1 and video.shape[2] == video.shape[3] == 256
        away = torch.arange(video.shape[1])[None] - query_points[0, :, :1]
        tracks = query_points[0, :, None].flip(-1)[..., :2] + away[..., None] * self.step
        logits = torch.where(away < 5, -4.0, 4.0)[None]
        return {"tracks": tracks[None], "occlusion": logits, "expected_dist": -4 + 0 * logits}
"""
TAPNEXT = """
import torch

class TAPNext(torch.nn.Module):
    def __init__(self, image_size):
        super().__init__()
        assert image_size == (256, 256)
        self.step = torch.nn.Parameter(torch.zeros(2))
    def forward(self, video, query_points=None, state=None):
        assert video.shape == (1, 1, 256, 256, 3)
        frame, points = (0, query_points) if state is None else state
        tracks = points[:, None, :, 1:] + (frame - points[:, None, :, :1]) * self.step.flip(-1)  # y, x
        return tracks, None, torch.ones_like(tracks[..., :1]), (frame + 1, points)
"""


@pytest.fixture
def tapnet(tmp_path, monkeypatch):
    for module, text in (("torch/tapir_model", TAPIR), ("tapnext/tapnext_torch", TAPNEXT)):
        file = tmp_path / "packages" / "tapnet" / f"{module}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path / "packages")
    torch.save({"step": torch.tensor([8.0, -4.0])}, tmp_path / "bootstapir.pt")
    torch.save({"state_dict": {"tapnext.step": torch.tensor([8.0, -4.0])}}, tmp_path / "tapnext.pt")
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "tapnet"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["bootstapir", "tapnext"])
def test_square_trackers_of_tapnet(tapnet, video, name):
    found = run(video, tapnet / "t.npz", "--tracker", name, "--weights", tapnet / f"{name}.pt", "--points", "4,40,20.5")
    away = np.arange(N) - 4
    if name == "tapnext":
        away = np.abs(away)  # the stand-in goes on by its step in the video reversed, too
    expected = np.array([20.5, 40]) + away[:, None] * [8 * W / 256, -4 * H / 256]
    assert np.allclose(found["tracks"][0], expected, atol=1e-3)
    assert found["occluded"][0].tolist() == ((away >= 5) & (name == "bootstapir")).tolist()


def test_what_is_missing_is_one_line(tmp_path, video, hub, capsys, monkeypatch):
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "there.npz").write_text("")
    monkeypatch.setitem(sys.modules, "tapnet", None)
    monkeypatch.setattr(torch.hub, "load", unreachable(torch.hub.load))
    cases = {
        "--tracker bootstapir": "needs the package tapnet (Apache-2.0): pip install",
        "--tracker matching": "expected cotracker3, bootstapir, tapnext, or --repository",
        f"--tracker none --repository {hub}": "entry point none of",
        f"--tracker broken --repository {hub}": "ImportError: No module named 'timm'",
        f"--tracker flat --repository {hub}": "AttributeError",
        f"--tracker matching --repository {tmp_path}": "no hubconf.py in it",
        f"--tracker matching --repository {tmp_path / 'x'}": "no such folder; expected one, or OWNER/NAME",
        "--tracker cotracker3 --non_commercial":
            "CC-BY-NC-4.0 cannot be loaded (URLError: <urlopen error no network>); clone "
            "https://github.com/facebookresearch/co-tracker",
        f"--torchscript {tmp_path / 'text.pt'}": "not a TorchScript file",
        f"--torchscript {tmp_path / 'none.pt'}": "no such file",
        f"--tracker matching --torchscript {tmp_path / 'text.pt'}": "expected --tracker",
        f"--torchscript {tmp_path / 'text.pt'} --weights w.pt": "--weights: acts on bootstapir and tapnext only",
        "--tracker cotracker3 --ahead_only": "--ahead_only: acts on an entry point",
        "--tracker tapnext --max_side 512": "--max_side: acts on all but tapnext",
        "--tracker bootstapir --max_side 100": "expected a multiple of 8",
        "--tracker cotracker3 --overlap 60": "--overlap 60: expected 1 to 59",
        f"--tracker matching --repository {hub} --points grid:0@every:2": "--points grid:0@0: expected grid",
        f"--tracker matching --repository {hub} --points grid@every:0": "expected every 1 or more",
    }
    for options, words in cases.items():
        with pytest.raises(SystemExit) as ended:
            run(video, tmp_path / "t.npz", *options.split(" "))
        line = capsys.readouterr().err.splitlines()[-1]
        assert ended.value.code == 2 and line.startswith("error: ") and words in line, line
        assert not (tmp_path / "t.npz").exists()
    with pytest.raises(SystemExit):
        run(video, tmp_path / "there.npz", "--tracker", "matching", "--repository", hub)
    assert re.search("exists: name another file, or give --overwrite", capsys.readouterr().err)


def unreachable(load):
    """torch.hub.load of a machine without a network."""
    from urllib.error import URLError

    def loaded(repository, entry, source, **options):
        if source == "github":
            raise URLError("no network")
        return load(repository, entry, source=source, **options)

    return loaded


def test_weights_that_are_missing_or_others_say_where_they_are_to_be_had(tapnet, video):
    for weights, words in ((None, "give --weights FILE"), (tapnet / "tapnext.pt", "not weights of bootstapir")):
        with pytest.raises(UserError, match=words) as caught:
            open_tracker("bootstapir", weights=weights)
        assert "bootstapir_checkpoint_v2.pt (Apache-2.0)" in str(caught.value)
