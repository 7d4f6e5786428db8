"""Estimating the flow again: the guess helps where it is good and harms nowhere; a run goes on with the new flow."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import checkpoints
import preprocess
import refinement
import train
from guidance import Rounds
from loaders.data_dir import DataDir
from preprocess.driver import build_again
from preprocess.guided import GuidedFlow
from tests.test_train import RENDERING, TINY, assert_equal, run
from util import UserError

MOVED = np.float32([5, -3])  # pixels from each frame to the next


class Still:
    """An estimator that sees no motion at all."""

    reason, description = "", {"method": "still"}

    def load_frames(self, frames):
        self.size = frames[0].shape[:2]

    def flow_from(self, i, partners):
        return np.zeros((len(partners), *self.size, 2), np.float32)


@pytest.fixture(scope="module")
def moving():
    """Frames (3, 64, 80, 3) of a texture that moves by MOVED."""
    random = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, 40, 40, generator=random)
    texture = torch.nn.functional.interpolate(noise, size=(160, 160), mode="bicubic")
    texture = (texture[0].clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    corners = [(40 - int(MOVED[1]) * k, 40 - int(MOVED[0]) * k) for k in range(3)]
    return np.stack([texture[y : y + 64, x : x + 80] for y, x in corners])


@pytest.fixture(scope="module")
def still_data(moving, tmp_path_factory):
    return preprocess.build(moving, tmp_path_factory.mktemp("still") / "data", flow=Still(), quiet=True)


def true_flow(i, partners):
    return np.stack([np.full((64, 80, 2), (j - i) * MOVED, np.float32) for j in partners])


def inner(flow):
    """Where frame contents stay inside over two frames."""
    return flow[..., 12:-12, 16:-16, :]


def test_a_wrong_flow_is_corrected_from_a_rough_guess(still_data):
    flow = GuidedFlow(lambda i, partners: true_flow(i, partners) + 2, still_data, "rough")
    for i, j in ((0, 1), (0, 2), (2, 1)):
        error = np.linalg.norm(flow.flow_from(i, [j])[0] - (j - i) * MOVED, axis=-1)
        assert np.median(inner(error[..., None])) < 0.1  # the guess was 2.8 px off, what was stored 5.8 or 11.7


def test_a_useless_guess_leaves_the_stored_flow(moving):
    stored = SimpleNamespace(flow=lambda i, j: np.full((64, 80, 2), (j - i) * MOVED, np.float32),
                             frame=lambda i: moving[i],
                             manifest={"settings": {"flow": {}}})
    flow = GuidedFlow(lambda i, partners: np.full((1, 64, 80, 2), (30, 25), np.float32), stored, "useless")
    error = np.linalg.norm(inner(flow.flow_from(0, [1])[0] - MOVED), axis=-1)
    assert (error < 0.2).mean() > 0.95


def test_build_again_keeps_video_and_pairs_and_goes_on_where_it_stopped(still_data, tmp_path):
    asked = []

    class Interrupted(GuidedFlow):
        def flow_from(self, i, partners):
            asked.append(i)
            if asked == [0, 1]:
                raise KeyboardInterrupt
            return super().flow_from(i, partners)

    def build():
        estimator = Interrupted(true_flow, still_data, "true")
        return build_again(still_data, tmp_path / "again", estimator, torch.device("cpu"), quiet=True)

    with pytest.raises(KeyboardInterrupt):
        build()
    assert (tmp_path / "again" / "flow" / "00000.npy").exists()
    data = build()
    assert asked == [0, 1, 1, 2]
    assert data.fingerprint == still_data.fingerprint and data.manifest["partners"] == still_data.manifest["partners"]
    assert np.array_equal(data.frames(), still_data.frames())
    assert np.abs(inner(data.flow(0, 2) - 2 * MOVED)).max() < 0.1
    assert inner(data.valid(0, 1)[0][..., None]).all()


def test_rounds_are_spread_over_the_run(still_data, tmp_path):
    rounds = Rounds(still_data, tmp_path, SimpleNamespace(flow_rounds=2))
    assert not rounds.due(0.0) and not rounds.due(0.24)
    assert rounds.due(0.26) and rounds.due(1.0)
    rounds.tried = 1
    assert not rounds.due(0.49) and rounds.due(0.51)
    rounds.tried = 2
    assert not rounds.due(1.0)
    assert not Rounds(still_data, tmp_path, SimpleNamespace(flow_rounds=0)).due(1.0)


def fit(data_dir, out_dir, *options):
    return run(data_dir, out_dir, "--flow_rounds", 1, "--log_every", 4, *options)


def test_a_run_goes_on_with_its_own_flow_and_resumes_to_the_bit(data_dir, tmp_path):
    whole = fit(data_dir, tmp_path / "whole", "--num_iters", 16)
    assert whole["flow_round"] == 1 and whole["data_dir"] == str(data_dir)
    own = DataDir.open(tmp_path / "whole" / "flow_1")
    assert own.manifest["settings"]["flow"]["method"] == "guided"
    again = checkpoints.load_run(tmp_path / "whole")
    assert refinement.flow_at_hand(again, "on").path == own.path
    own.path.rename(tmp_path / "gone")
    assert checkpoints.load_run(tmp_path / "whole").flow_dir == str(data_dir)

    class StopError(Exception):
        pass

    def stop_at_the_first_pair(self, i, partners):
        raise StopError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(StopError):
        patch.setattr(GuidedFlow, "flow_from", stop_at_the_first_pair)
        fit(data_dir, tmp_path / "parts", "--num_iters", 16)
    assert checkpoints.read(checkpoints.newest(tmp_path / "parts"))["flow_round"] == 0
    resumed = fit(data_dir, tmp_path / "parts", "--num_iters", 16, "--resume")
    for key in ("model", "ema", "optimizer", "sampler", "rng", "step", "flow_round"):
        assert_equal(resumed[key], whole[key])


def test_a_run_whose_own_flow_is_gone_is_not_resumed(data_dir, tmp_path):
    volume = [*RENDERING["volume"], "--num_iters", 8]
    fit(data_dir, tmp_path / "run", *volume)
    (tmp_path / "run" / "flow_1").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="flow is not there any more"):
        fit(data_dir, tmp_path / "run", *RENDERING["volume"], "--num_iters", 16, "--resume")


def test_only_the_last_round_stays_on_disk(data_dir, tmp_path):
    state = fit(data_dir, tmp_path / "run", *RENDERING["volume"], "--num_iters", 12, "--flow_rounds", 3)
    assert state["flow_round"] == 3
    assert [path.name for path in (tmp_path / "run").glob("flow_*")] == ["flow_3"]


def prepared(data_dir, out_dir, flow_rounds):
    """The parts of a run, and its Rounds."""
    options = [*TINY, *RENDERING["volume"], "--flow_rounds", str(flow_rounds)]
    options += ["--data_dir", str(data_dir), "--out_dir", str(out_dir)]
    arguments, config = train.parse(options)
    return train.prepare(arguments, config, DataDir.open(data_dir), torch.device("cpu"))[:2]


GOES_ON = SimpleNamespace(received=None)


def test_no_round_where_time_is_short(data_dir, tmp_path, capsys):
    parts, rounds = prepared(data_dir, tmp_path, 1)
    assert not rounds.advance(parts, 0, seconds_left=1e-3, stop=GOES_ON, quiet=True)
    assert "not estimated again" in capsys.readouterr().out
    assert rounds.current == 0 and not (tmp_path / "flow_1").exists() and not rounds.due(1.0)


def test_the_first_round_may_take_more_of_the_time_left(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("guidance.seconds_of_round", lambda flow, data: 60)
    parts, rounds = prepared(data_dir, tmp_path, 3)
    assert not rounds.advance(parts, 0, seconds_left=75, stop=GOES_ON, quiet=True)
    assert rounds.advance(parts, 0, seconds_left=100, stop=GOES_ON, quiet=True)
    assert not rounds.advance(parts, 0, seconds_left=100, stop=GOES_ON, quiet=True)
    assert (rounds.current, rounds.tried) == (2, 3)  # the second was done
