"""Training of flow: schedules, loss, both directions at once, resumption to the bit, export, refusals."""

import os
import signal

import cv2
import numpy as np
import pytest
import torch

from networks import raft
from preprocess import flow_scenes, raft_weights, train_flow


@pytest.fixture
def tiny(monkeypatch):
    """Few flat textures and a single held-out scene a class, so that a run takes seconds."""
    monkeypatch.setattr(flow_scenes, "make_texture", lambda generator: torch.rand(4, 256, 256, generator=generator))
    pairs = flow_scenes.make_pairs(torch.rand(2, 4, 256, 256), 1, 64, 64, 8, torch.Generator(), 2, with_visibility=True)
    monkeypatch.setattr(train_flow, "held_out_scenes", lambda *_: {"medium": pairs})


def run(folder, *options):
    train_flow.main(["--out", str(folder), "--size", "64", "64", "--batch", "1", "--layers", "3", "--textures", "12",
                     "--iters", "3", "--fresh_every", "2", "--device", "cpu", *options])  # fmt: skip
    return torch.load(folder / "state.pt", weights_only=True)


def test_schedules_at_their_ends():
    assert train_flow.one_cycle(0) == pytest.approx(0.04)
    assert train_flow.one_cycle(0.05) == pytest.approx(1) and train_flow.one_cycle(1) == 0
    assert train_flow.one_cycle(0.525) == pytest.approx(0.5)
    assert train_flow.motion_limit(0, 96, 0.3) == pytest.approx(6)
    assert train_flow.motion_limit(0.3, 96, 0.3) == train_flow.motion_limit(1, 96, 0) == pytest.approx(32)
    assert [train_flow.iterations_at(progress, 8) for progress in (0, 0.3, 0.75, 1)] == [3, 5, 8, 8]


def test_larger_scenes_are_fewer():
    sizes = [train_flow.size_and_batch((96, 128), 4, (1, 1.5, 3), step) for step in range(4)]
    assert sizes == [(96, 128, 4), (144, 192, 2), (288, 384, 1), (96, 128, 4)]
    assert train_flow.size_and_batch((64, 64), 1, (0.5, 1.3), 1) == (80, 80, 1)


def test_sequence_loss_by_hand():
    flow = torch.zeros(2, 1, 2, 8, 8)
    flow[0, 0, 0, 0, 0] = 100  # longer than the image: left out
    predictions = [flow + 3, flow + 1]
    left_out = 1 - 1 / 128
    assert float(train_flow.sequence_loss(predictions, flow, 0.8)) == pytest.approx((0.8 * 3 + 1) * left_out)
    still = torch.zeros(2, 1, 2, 8, 8)
    assert float(train_flow.sequence_loss([still + 3.99], still, 0.8, 0.5)) == pytest.approx(2)


def test_both_directions_are_the_two_pairs():
    torch.manual_seed(0)
    model = raft.RAFT(small=True)
    images = torch.rand(2, 2, 3, 64, 72)
    with torch.no_grad():
        together = train_flow.both_directions(model, images, 2)
        for k in (0, 1):
            alone = model(images[k] * 2 - 1, images[1 - k] * 2 - 1, 2)
            for iteration in (0, 1):
                torch.testing.assert_close(together[iteration][k], alone[iteration], atol=1e-4, rtol=1e-4)


def test_warm_starts_are_shares_of_the_flow_with_soft_errors():
    flow = torch.tensor([16.0, -8.0])[:, None, None].expand(2, 50, 2, 64, 72)
    start = train_flow.earlier_flow(flow, torch.Generator().manual_seed(0))
    assert start.shape == (100, 2, 8, 9)
    share = start.mean(dim=(2, 3)) / torch.tensor([2.0, -1.0])
    assert 0.3 < share.mean() < 0.8 and share.std() > 0.2
    assert start.std(dim=(2, 3)).max() > 0.5


def test_interrupted_training_continues_to_the_bit(tmp_path, tiny, monkeypatch):
    whole = run(tmp_path / "whole", "--num_steps", "4")
    steps, train_step = [], train_flow.train_step

    def interrupting(*args):
        steps.append(1)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return train_step(*args)

    monkeypatch.setattr(train_flow, "train_step", interrupting)
    halfway = run(tmp_path / "parts", "--num_steps", "4")
    assert halfway["counters"]["step"] == 2
    parts = run(tmp_path / "parts", "--num_steps", "4")
    assert parts["counters"]["step"] == whole["counters"]["step"] == 4
    for key, value in whole["model"].items():
        assert torch.equal(parts["model"][key], value), key
    assert torch.equal(parts["generator"], whole["generator"])


def test_export_is_small_loads_and_is_kept(tmp_path, tiny, capsys):
    state = run(tmp_path / "run", "--num_steps", "2", "--log_every", "1")
    best = tmp_path / "run" / "best.pth"
    assert best.stat().st_size < 4 * 2**20
    model, _ = raft_weights.load_raft(best)
    assert model.small
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, state["model"][key], atol=1e-3, rtol=1e-3)
    assert "end-point error medium" in capsys.readouterr().out
    started = run(tmp_path / "next", "--num_steps", "1", "--init_from", str(best), "--lr", "0")
    torch.testing.assert_close(started["model"]["fnet.conv1.weight"], model.state_dict()["fnet.conv1.weight"])


def test_a_fixed_pair_can_be_learned(tiny):
    torch.manual_seed(0)
    args = train_flow.parse_arguments(["--out", "unused", "--num_steps", "1"])
    textures = torch.stack([flow_scenes.noise(torch.Generator().manual_seed(k), 4, 1.5) for k in range(4)])
    pairs = flow_scenes.make_pairs(textures, 1, 64, 64, 6, torch.Generator().manual_seed(2), 2)
    model = raft.RAFT(small=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    errors = [float(train_flow.train_step(model, optimizer, pairs, 3, None, args)[1]) for _ in range(40)]
    assert min(errors[-5:]) < 0.5 * float(pairs.flow.norm(dim=2).mean())


def test_textures_move_on_and_depend_on_the_step_alone(tmp_path, tiny):
    args = train_flow.parse_arguments(["--out", "unused", "--textures", "12", "--fresh_every", "5"])
    walked, jumped = (train_flow.Textures(args, torch.device("cpu")) for _ in range(2))
    banks = [walked.at(step).clone() for step in range(11)]
    assert torch.equal(banks[0], banks[4]) and not torch.equal(banks[4], banks[5])
    assert torch.equal(banks[5][:4], banks[4][8:])
    assert torch.equal(jumped.at(10), banks[10])


def test_textures_from_images(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (90, 200, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    bank = train_flow.texture_bank(0, 0, 4, train_flow.find_images([tmp_path]), torch.device("cpu"))
    assert bank.shape == (4, 4, 256, 256)
    mirrored = [torch.equal(texture[:3], texture[:3].flip(-1)) for texture in bank]
    assert mirrored == [False, True, False, True]


def test_held_out_scenes_fill_their_classes():
    held_out = train_flow.held_out_scenes(64, 64, 2, torch.device("cpu"))
    for name, (low, high) in train_flow.MOTION_CLASSES.items():
        motion = held_out[name].flow[0].norm(dim=1).mean(dim=(1, 2)) / 64
        assert len(motion) == 2 and (motion >= low).all() and (motion < high).all(), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--minutes or --num_steps"),
        (["--num_steps", "1", "--size", "60", "64"], "multiples of 8 from 64"),
        (["--num_steps", "1", "--pairs", "none"], "no such folder"),
        (["--num_steps", "1", "--images", "none"], "no png or jpg"),
        (["--num_steps", "1", "--seed", "-1"], "expected 0 to"),
    ],
)
def test_refusals(tmp_path, capsys, tiny, options, message):
    with pytest.raises(SystemExit) as stop:
        train_flow.main(["--out", str(tmp_path / "run"), "--device", "cpu", *options])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_a_cpu_that_only_imitates_bfloat16_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train_flow, "bfloat16_is_fast", lambda device: False)
    with pytest.raises(SystemExit) as stop:
        train_flow.main(["--out", str(tmp_path / "run"), "--device", "cpu", "--num_steps", "1", "--precision", "bf16"])
    assert stop.value.code == 2 and "use fp32" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
