"""What preprocessing makes of a clip with known flow."""

import json

import numpy as np
import pytest
from PIL import Image

from loaders.data_dir import encode_flow
from tests.helpers.moving_clip import NUM_FRAMES, SIZE, STEP, MovingFlow, make, moving_clip, stays_inside


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


def test_frames_far_apart_are_reached_over_partners_between(tmp_path, monkeypatch):
    monkeypatch.setattr("preprocess.pairs.SPACED", (1, 2, 4))
    data = make(tmp_path, MovingFlow(wrong=lambda i, j: abs(i - j) == 4), max_interval=1)
    assert data.partners(0) == [1, 2, 4]
    inside = stays_inside(4)
    assert data.valid(0, 4)[0][inside].mean() > 0.9
    assert np.abs(data.flow(0, 4)[data.valid(0, 4)[0] & inside] - STEP * 4).max() < 0.1


def test_chains_of_long_clips_pass_where_direct_flow_is_trusted_over_one_frame_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("preprocess.pairs.SPACED", (1, 2, 4))
    data = make(tmp_path, MovingFlow(wrong=lambda i, j: abs(i - j) > 1), max_interval=1, max_direct=1)
    inside = stays_inside(4)
    assert data.valid(0, 4)[0][inside].mean() > 0.9
    assert np.abs(data.flow(0, 4)[data.valid(0, 4)[0] & inside] - STEP * 4).max() < 0.1
    assert data.manifest["settings"]["chain"]["along"] == "partners"


class TornFlow(MovingFlow):
    """Flow of which a third is wrong, elsewhere in every pair."""

    def flow_from(self, i, partners):
        flow = np.array(super().flow_from(i, partners))
        for of_pair, j in zip(flow, partners):
            of_pair[np.random.default_rng([i, j]).random(SIZE) < 0.3] += 9
        return flow


@pytest.mark.parametrize("method", ["true", "files"])  # what files say of hidden pixels is not carried along
def test_a_chain_does_not_depend_on_direct_flow_that_is_deleted(tmp_path, monkeypatch, method):
    monkeypatch.setattr("preprocess.pairs.SPACED", (1, 2, 4))
    flow = TornFlow()
    flow.description = {"method": method}
    kept, deleted = (make(tmp_path / str(keep), flow, max_interval=1, keep_direct=keep) for keep in (True, False))
    for i in range(NUM_FRAMES):
        assert np.array_equal(kept.flow_fixed(i), deleted.flow_fixed(i))
        assert np.array_equal(kept.valid_bits(i), deleted.valid_bits(i))
    trusted = np.mean([kept.valid(i, j)[0].mean() for i in range(NUM_FRAMES) for j in kept.partners(i)])
    assert 0.1 < trusted < 0.9


def test_masks_come_along(tmp_path):
    (tmp_path / "masks").mkdir()
    for number in range(NUM_FRAMES):
        mask = np.zeros(SIZE, np.uint8)
        mask[:, : 2 * number] = 255
        Image.fromarray(mask).save(tmp_path / f"masks/{number}.png")
    data = make(tmp_path / "data", masks=tmp_path / "masks")
    assert [data.mask(i).sum() for i in range(NUM_FRAMES)] == [24 * 2 * i for i in range(NUM_FRAMES)]
    assert make(tmp_path / "data").mask(0) is None


def test_the_manifest_records_what_was_done(tmp_path):
    make(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["finished"] == ["frames", "flow", "filter", "chain", "counts"]
    assert manifest["settings"]["flow"]["method"] == "true"
    assert manifest["settings"]["filter"] == {
        "cycle_threshold": 3.0, "max_direct": NUM_FRAMES,
        "appearance": {"method": "census", "distances": [1, 3, 6], "noise": 16 / 255, "aligned": True},
    }
