"""Pairs held out of training: which, that nothing of them reaches training or the tracks, and the figures on them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import checkpoints
import train
from configs.options import read_preset
from evaluation import held_out
from loaders.correspondences import CorrespondencePool, Sampler
from loaders.data_dir import DataDir, encode_flow, pack_mask, write_image
from loaders.surface_sampler import SurfaceSampler
from tests.helpers.paths import ROOT
from tests.helpers.training_run import RENDERING, TINY, assert_equal, run
from training.evidence import evidence
from util import UserError

HEIGHT, WIDTH, SHIFT = 24, 32, np.array([1.0, 0.5])  # pixels a frame: in whole steps of the stored flow
SHARE = 0.2


def translation(path, num_frames=10, wrong=(), by=3.0):
    """A data directory of all pairs, in which everything moves by SHIFT a frame; flow of pairs `wrong` is off in x.

    Off by `by` forwards and by -`by` backwards, so that it comes back to its start. Valid where it stays in the frame.
    """
    video = {"name": "even", "source": "memory", "fingerprint": "0", "num_frames": num_frames, "height": HEIGHT,
             "width": WIDTH, "original_height": HEIGHT, "original_width": WIDTH, "fps": 25.0, "has_masks": False}
    data, random = DataDir.create(path, video), np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    partners = [[j for j in range(num_frames) if j != i] for i in range(num_frames)]
    pair_counts = []
    for i in range(num_frames):
        off = [np.array([np.sign(j - i) * by * ((i, j) in wrong), 0]) for j in partners[i]]
        flow = np.stack([np.broadcast_to((j - i) * SHIFT + error, (HEIGHT, WIDTH, 2))
                         for j, error in zip(partners[i], off)])
        ends = flow + np.stack([x, y], axis=-1)
        cycle = ((ends >= 0) & (ends <= [WIDTH - 1, HEIGHT - 1])).all(-1)
        data.write("flow", i, encode_flow(flow, data.flow_step))
        data.write("valid_direct", i, pack_mask(np.stack([cycle, np.zeros_like(cycle)], axis=1)))
        data.write("counts", i, cycle.sum(0).astype(np.uint16))
        write_image(path / f"color/{i:05d}.png", random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        pair_counts.append(cycle.sum((1, 2)).tolist())
    data.manifest.update(partners=partners, pair_counts=pair_counts, finished=["counts"])
    data.save_manifest()
    return data


@pytest.fixture(scope="module")
def even(tmp_path_factory):
    return translation(tmp_path_factory.mktemp("even") / "data")


def off_by(offset, num_frames=10):
    """track_points of a model that knows the motion, and is `offset` pixels off in y in every frame but the query's."""

    def track_points(model, frames, pixels):
        apart = torch.arange(num_frames) - frames[:, None]
        tracks = pixels[:, None] + apart[..., None] * torch.from_numpy(SHIFT).float()
        tracks[..., 1] += offset * (apart != 0)
        return {"pixels": tracks, "occlusion_score": torch.zeros(len(frames), num_frames)}

    return track_points


def rows_of(figures):
    return [part["rows"] for part in figures.values()]


def all_pairs(num_frames):
    return SimpleNamespace(num_frames=num_frames, partners=lambda i: [j for j in range(num_frames) if j != i])


def test_few_pairs_are_chosen_of_all_intervals_by_the_seed():
    for num_frames, share, count in ((24, 0.03, 8), (24, 0.06, 15), (60, 0.03, 24), (8, 0.01, 1)):
        chosen = held_out.choose(all_pairs(num_frames), share, 0)
        apart = sorted(j - i for i, j in chosen if i < j)
        assert len(apart) == count and len(chosen) == 2 * count and all((j, i) in chosen for i, j in chosen)
        assert apart[0] > 1 and all(0 <= i < num_frames for pair in chosen for i in pair)
        again, other = (held_out.choose(all_pairs(num_frames), share, seed) for seed in (0, 1))
        assert chosen == again != other
    # half of the 1711 pairs of 60 frames more than 1 apart are at most 17 apart: 42 + ... + 58 = 850
    apart = [j - i for i, j in held_out.choose(all_pairs(60), 0.03, 0) if i < j]
    assert abs(sum(distance <= 17 for distance in apart) - 12) <= 1


def test_the_published_method_holds_nothing_out():
    _, config = train.parse(["--data_dir", "d", "--out_dir", "o", "--config", str(ROOT / "configs/paper.txt")])
    assert config.held_out == 0
    assert all(read_preset(ROOT / f"configs/{name}.txt")["held_out"] == 0.03 for name in ("default", "volume"))


def test_nothing_is_held_out_where_every_pair_is_needed():
    for num_frames, share in ((3, 0.5), (7, 0.5), (24, 0)):
        assert held_out.choose(all_pairs(num_frames), share, 0) == frozenset()
    near = SimpleNamespace(num_frames=20, partners=lambda i: [j for j in range(20) if 0 < abs(i - j) <= 2])
    assert held_out.choose(near, 0.5, 0) == frozenset()  # 18 pairs of 2 frames apart
    one_way = SimpleNamespace(num_frames=20, partners=lambda i: list(range(i + 1, 20)))
    assert held_out.choose(one_way, 0.5, 0) == frozenset()


@pytest.mark.parametrize("kind", [Sampler, SurfaceSampler])
@pytest.mark.parametrize("storage", ["host", "disk"])
def test_no_sampler_draws_or_asks_a_pair_that_is_held_out(even, kind, storage, monkeypatch):
    pairs = held_out.choose(even, SHARE, 0)
    pool, asked = CorrespondencePool(even.without(pairs), torch.device("cpu"), storage), []
    for name in ("flow_at", "cycle_at"):
        look_up = getattr(pool, name)
        monkeypatch.setattr(pool, name, lambda n, index, up=look_up: asked.extend(n.tolist()) or up(n, index))
    sampler, drawn = kind(pool, seed=0), set()
    for _ in range(20):
        batch = sampler.sample(64, 8, 9)
        drawn |= set(zip(batch.frames_1.tolist(), batch.frames_2.tolist()))
        apart = (batch.frames_2 - batch.frames_1)[:, None, None] * torch.from_numpy(SHIFT).float()
        assert torch.equal(batch.pixels_2 - batch.pixels_1, apart.expand(-1, 8, -1))  # rows are those of the pairs
        if kind is SurfaceSampler:
            evidence(pool, batch, batch.pixels_2)
    everything = {(i, j) for i in range(10) for j in range(10) if i != j}
    assert len(pairs) == 14 and drawn == everything - pairs
    assert {(pool.sources[n], pool.targets[n]) for n in asked} == everything - pairs


@pytest.mark.parametrize("rendering", ["surface", "volume"])
def test_training_is_the_same_to_the_bit_whatever_the_held_out_flow_says(even, tmp_path, rendering):
    pairs = held_out.choose(even, SHARE, 0)
    other = translation(tmp_path / "other", wrong=pairs)
    options = ["--depth_start", "occlusions"] if rendering == "surface" else []
    options += [*RENDERING[rendering], "--num_iters", 3, "--held_out", SHARE]
    weights = [run(data.path, tmp_path / data.path.name, *options)["model"] for data in (even, other)]
    assert_equal(*weights)
    used = run(other.path, tmp_path / "used", *options[:-1], 0)["model"]
    assert any(not torch.equal(used[name], weights[0][name]) for name in used)


def test_figures_of_a_known_motion_and_a_model_that_is_off(even, monkeypatch):
    monkeypatch.setattr("networks.query.track_points", off_by(2))
    pairs = held_out.choose(even, SHARE, 0)
    trained = SimpleNamespace(model=SimpleNamespace(refined_by_flow=True), layer=-1)
    figures = held_out.measure(trained, even, pairs, 0)
    apart = sorted(j - i for i, j in pairs if i < j)
    assert [figures["near"]["frames_apart"][0], figures["far"]["frames_apart"][1]] == [apart[0], apart[-1]]
    assert figures["near"]["frames_apart"][1] < figures["far"]["frames_apart"][0]
    for rows in rows_of(figures):
        assert rows["flow"]["median_px"] < 1e-3 and rows["flow"]["within_1px"] > 0.97  # a few are lost at the border
        assert rows["model"] == {"median_px": pytest.approx(2, abs=1e-3), "within_1px": 0}
        assert rows["both"]["median_px"] < 0.1
    lines = held_out.table(figures).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["flow", "model", "both"]
    assert lines[3].split()[1:] == ["2.00", "0.0%", "2.00", "0.0%"]

    trained.model.refined_by_flow = False
    assert [list(rows) for rows in rows_of(held_out.measure(trained, even, pairs, 0))] == [["flow", "model"]] * 2


def test_the_tracks_do_not_use_what_they_are_compared_with(even, tmp_path, monkeypatch):
    """Held-out flow that is 3 px off, there and back: so are tracks without it, and the rows say that."""
    monkeypatch.setattr("networks.query.track_points", off_by(0))
    pairs = held_out.choose(even, SHARE, 0)
    wrong = translation(tmp_path / "wrong", wrong=pairs)
    figures = held_out.measure(SimpleNamespace(model=SimpleNamespace(refined_by_flow=True), layer=-1), wrong, pairs, 0)
    for rows in rows_of(figures):
        assert all(row["median_px"] == pytest.approx(3, abs=1e-3) and row["within_1px"] < 0.03 for row in rows.values())


def test_flow_that_does_not_come_back_is_no_measure(tmp_path):
    data = translation(tmp_path / "data", wrong={(2, 5)}, by=1.5)  # of one direction only
    frames, _, targets, _ = held_out.correspondences(data, {(2, 5), (5, 2), (3, 6), (6, 3)}, 10, 0)
    assert sorted(set(zip(frames, targets))) == [(3, 6), (6, 3)] and len(frames) == 20
    trained = SimpleNamespace(model=SimpleNamespace(refined_by_flow=True), layer=-1)
    assert held_out.measure(trained, data, {(2, 5)}, 0) == {}


def test_each_half_of_the_points_by_hand():
    apart = np.array([2, 3, 3, 9, 8])
    figures = held_out.summarise({"flow": np.array([0.5, 1, 4, 2, 0])}, apart)
    assert figures == {
        "near": {"frames_apart": [2, 3], "positions": 3, "rows": {"flow": {"median_px": 1, "within_1px": 2 / 3}}},
        "far": {"frames_apart": [8, 9], "positions": 2, "rows": {"flow": {"median_px": 1, "within_1px": 0.5}}}}
    assert list(held_out.summarise({"flow": np.ones(2)}, np.array([4, 4]))) == ["near"]


def command(data, out_dir, *options):
    train.main(["--data_dir", str(data.path), "--out_dir", str(out_dir), *TINY, "--depth_start", "flat",
                *map(str, options)])


def test_a_run_ends_with_the_figures_and_resumes_with_the_same_pairs(even, tmp_path, capsys):
    command(even, tmp_path, "--num_iters", 2, "--held_out", SHARE)
    printed = capsys.readouterr().out
    assert "held-out flow" in printed and "7 pairs" in printed and "\nboth " in printed
    first = json.loads((tmp_path / "heldout.json").read_text())
    assert {tuple(pair) for pair in first["pairs"]} == held_out.choose(even, SHARE, 0) and first["step"] == 2
    scalars = EventAccumulator(str(tmp_path)).Reload()
    for row, values in first["far"]["rows"].items():
        assert scalars.Scalars(f"heldout_far/{row}_median_px")[0].value == pytest.approx(values["median_px"])

    command(even, tmp_path, "--num_iters", 4, "--held_out", SHARE, "--resume")
    second = json.loads((tmp_path / "heldout.json").read_text())
    assert second["pairs"] == first["pairs"] and second["step"] == 4


def test_a_run_that_held_nothing_out_does_not_start_to(even, tmp_path):
    run(even.path, tmp_path, "--num_iters", 1, "--held_out", 0)
    path = checkpoints.newest(tmp_path)
    state = checkpoints.read(path)
    del state["config"]["held_out"]  # as of a run that is older than the option
    checkpoints.save(path, state)
    with pytest.raises(UserError, match="held_out is 0.2 here but 0.0 in the run"):
        run(even.path, tmp_path, "--num_iters", 2, "--held_out", SHARE, "--resume")
    run(even.path, tmp_path, "--num_iters", 2, "--held_out", 0, "--resume")


def test_one_line_for_three_frames_and_none_where_it_is_off(tmp_path, capsys):
    data = translation(tmp_path / "data", num_frames=3)
    command(data, tmp_path / "on", "--num_iters", 1)
    assert sum("held out" in line for line in capsys.readouterr().out.splitlines()) == 1
    assert not (tmp_path / "on" / "heldout.json").exists()
    command(data, tmp_path / "off", "--num_iters", 1, "--held_out", 0)
    assert "held" not in capsys.readouterr().out
