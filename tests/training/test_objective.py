"""What both objectives share: learning rates, weights of the terms, acceleration and statistics, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from loaders.correspondences import CorrespondencePool, Sampler
from loaders.surface_sampler import SurfaceSampler
from networks.build import build_model
from tests.helpers.hand_made_data import H, HandMadeData, N, W
from training import surface, volume
from training.objective import network_rates, ray_statistics, smoothness

RATES = SimpleNamespace(lr_code=0.1, lr_mapping=0.2, lr_field=0.3, lr_depth=0.4)


@pytest.mark.parametrize("mapping", ["invertible", "grid", "separate"])
def test_every_parameter_has_one_learning_rate(mapping):
    model = build_model(3, 6, 8, rendering="surface", mapping=mapping, coupling_width=4, field_width=4)
    groups = surface.SurfaceObjective.rates(SimpleNamespace(model=model, config=RATES))
    rates = {name: rate for name, (_, rate) in groups.items()}
    assert rates == {"code": 0.1, "mapping": 0.2, "field": 0.3, "depth": 0.4}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {name: [names[id(parameter)] for parameter in parameters] for name, (parameters, _) in groups.items()}
    assert sorted(sum(found.values(), [])) == sorted(names.values())
    assert all(name.startswith("mapping.codes.") for name in found["code"])
    assert bool(found["code"]) == any(name.startswith("mapping.codes.") for name in names.values())
    assert found["mapping"] and all(name.startswith("mapping.") for name in found["mapping"])
    assert all(name.startswith("field.") for name in found["field"]) and found["depth"] == ["depth"]
    assert network_rates(model, RATES).keys() == {"code", "mapping", "field"}


def test_the_mappings_codes_have_a_rate_of_their_own():
    model = build_model(3, 6, 8, rendering="volume", mapping="invertible", coupling_width=4, field_width=4)
    codes, rate = volume.VolumeObjective.rates(SimpleNamespace(model=model, config=RATES))["code"]
    assert rate == 0.1 and codes and {id(code) for code in codes} == {id(p) for p in model.mapping.codes.parameters()}


def test_acceleration_of_the_first_quarter_over_neighbouring_frames():
    """Points of which every frame's map is known: x + t^2 in frame t, so the acceleration is (2, 0, 0) everywhere."""
    asked = []

    def to_frame(points, frames):
        asked.append((points.shape[1], frames.tolist()))
        moved = points.clone()
        moved[..., 0] += frames[:, None, None].float() ** 2
        return moved

    model = SimpleNamespace(num_frames=5, to_frame=to_frame)
    canonical = torch.rand(4, 9, 2, 3, generator=torch.Generator().manual_seed(0))
    batch = SimpleNamespace(frames_1=torch.tensor([0, 2, 3, 4]))
    points = to_frame(canonical, batch.frames_1)
    points[2, 0, 0] += 9  # the largest, which is dropped
    points[[0, 3]] += 77  # at the first and the last frame there is none
    points[:, 2:] += 55  # of other points than the first quarter of 9
    found = smoothness(model, batch, points, canonical)
    assert asked[1:] == [(2, [0, 1, 2, 3]), (2, [1, 3, 4, 4])]
    assert found.item() == pytest.approx(2 / 3, rel=1e-5)  # mean over x, y and depth
    few = [0, 2, 3]  # of less than four points the first
    assert smoothness(model, batch, points[:, few], canonical[:, few]).item() == pytest.approx(2 / 3, rel=1e-5)


def test_statistics_by_hand():
    batch = SimpleNamespace(weight=torch.tensor([[1.0, 0.0], [0.5, 2.0], [1.0, 0.0]]),
                            frames_1=torch.tensor([4, 1, 6]), frames_2=torch.tensor([5, 4, 4]))
    error = torch.tensor([[2.0, 99.0], [4.0, 6.0], [1.0, 99.0]])
    weights = torch.tensor([[[0.25, 0.5, 0], [0.0, 0.0, 0]], [[0.5, 0.5, 0], [0.125, 0.25, 0]],
                            [[1.0, 0.0, 0], [0.25, 0.25, 0]]])
    found = {name: value.item() for name, value in ray_statistics(batch, weights, error).items()}
    assert found == pytest.approx({
        "flow_error_px/all": (2 + 4 + 6 + 1) / 4, "flow_error_px/non_adjacent": (4 + 6 + 1) / 3,
        "weights/sum": (0.75 + 0 + 1 + 0.375 + 1 + 0.5) / 6, "weights/max": (0.5 + 0 + 0.5 + 0.25 + 1 + 0.25) / 6})
    batch.weight, batch.frames_2 = torch.tensor([[0.0, 0.0]]), torch.tensor([1])
    batch.frames_1 = torch.tensor([0])
    none = ray_statistics(batch, weights[:1], error[:1])
    assert none["flow_error_px/all"] == 0 and none["flow_error_px/non_adjacent"] == 0
    batch.weight = torch.tensor([[1.0, 0.0]])  # of a single point
    assert ray_statistics(batch, weights[:1], error[:1])["flow_error_px/all"] == 2
    batch.frames_2 = torch.tensor([2])
    assert ray_statistics(batch, weights[:1], error[:1])["flow_error_px/non_adjacent"] == 2


def test_weights_of_a_surfaces_terms():
    names = ("flow", "smoothness", "depth_range", "depth_same", "depth_front", "depth_behind", "depth_flatness",
             "depth_rank")
    config = SimpleNamespace(photometric=True, w_rgb=8.0, w_rgb_ramp=0.5,
                             **{f"w_{name}": 1.0 + k for k, name in enumerate(names)})
    expected = {name: 1.0 + k for k, name in enumerate(names)}
    objective = SimpleNamespace(config=config)
    for progress, rgb in ((0, 0), (0.25, 4), (1, 8)):
        assert surface.SurfaceObjective.weights(objective, progress) == expected | {"rgb": rgb}
    config.photometric = False
    assert surface.loss_weights(1, config) == expected | {"rgb": 0}


def test_weights_of_a_volumes_terms():
    config = SimpleNamespace(
        photometric=True, w_flow=1.0, w_rgb=8.0, w_rgb_ramp=0.5, w_flow_gradient=2.0, w_flow_gradient_ramp=0.25,
        w_depth_range=3.0, w_distortion=4.0, w_distortion_start=0.4, w_distortion_ramp=0.2, w_smoothness=5.0,
        w_unit_sphere=6.0)
    fixed = {"flow": 1, "depth_range": 3, "smoothness": 5, "unit_sphere": 6}
    objective = SimpleNamespace(config=config)
    for progress, rgb, contrast, distortion in ((0, 0, 0, 0), (0.125, 2, 1, 0), (0.5, 8, 2, 2), (1, 8, 2, 4)):
        assert volume.VolumeObjective.weights(objective, progress) == pytest.approx(
            fixed | {"rgb": rgb, "rgb_gradient": rgb, "flow_gradient": contrast, "distortion": distortion})
    config.photometric = False
    off = volume.loss_weights(1, config)
    assert off["rgb"] == off["rgb_gradient"] == 0 and off["flow"] == 1


def hand_made_pool():
    return CorrespondencePool(HandMadeData(), torch.device("cpu"))


def options(**changed):
    return SimpleNamespace(**{"sampling": "hard", "error_map": "online", "seed": 3, "count_map": True, "swap": True,
                              "pair_weight": "cos", "compile": False, "graph": True, "depth_margin": 0.25,
                              "mask_near": 0.5, "depth_start": "occlusions", "flow_robust_start": 8.0,
                              "flow_robust_px": 2.0, "evidence_share": 0, "layer": -1, "w_depth_rank": 0} | changed)


@pytest.mark.parametrize("changed, expected", [
    ({}, (True, True, True, "cos", True)), ({"sampling": "uniform"}, (False, False, True, "cos", True)),
    ({"error_map": "render"}, (True, False, True, "cos", True)),
    ({"count_map": False, "swap": False, "pair_weight": "inverse_cos"}, (True, True, False, "inverse_cos", False)),
])
def test_samplers_are_made_as_the_options_say(changed, expected):
    config, pool = options(**changed), hand_made_pool()
    model = SimpleNamespace(depth=torch.zeros(N, 4, 5), cell=2)
    volumes = volume.VolumeObjective(model, pool, config).sampler
    surfaces = surface.SurfaceObjective(model, pool, config).sampler
    assert type(volumes) is Sampler and type(surfaces) is SurfaceSampler
    hard, online, count_map, pair_weight, swap = expected
    found = (volumes.hard, volumes.online, volumes.count_map, volumes.pair_weight, volumes.swap)
    assert found == expected and volumes.pool is surfaces.pool is pool
    assert (surfaces.hard, surfaces.online, surfaces.pair_weight) == (hard, online, pair_weight)
    for sampler in (volumes, surfaces):
        assert sampler.random.integers(10**9) == np.random.default_rng(3).integers(10**9)


def test_a_surface_starts_from_what_the_flow_shows(monkeypatch):
    config, pool, asked = options(), hand_made_pool(), []
    model = SimpleNamespace(depth=torch.nn.Parameter(torch.zeros(N, 4, 5)), cell=2)
    objective = surface.SurfaceObjective(model, pool, config)
    across, down = objective.edges
    assert across.shape == (N, H // 2 + 1, -(-W // 2) - 1) and down.shape == (N, H // 2, -(-W // 2))
    assert torch.equal(across, torch.ones_like(across)) and torch.equal(down, torch.ones_like(down))  # all moves alike

    def first_guess(sampler, cell, margin, weights, hint):
        assert hint is None
        asked.append((sampler, cell, margin, weights))
        return torch.full((N, 4, 5), 0.75)

    monkeypatch.setattr(surface, "initial_depth", first_guess)
    objective.start()
    (sampler, cell, margin, weights), = asked
    assert (model.depth == 0.75).all() and (cell, margin) == (2, 0.25)
    assert type(sampler) is SurfaceSampler and sampler is not objective.sampler and sampler.pool is pool
    assert sampler.random.integers(10**9) == np.random.default_rng(3).integers(10**9)
    assert all(torch.equal(*pair) for pair in zip(weights, objective.edges))
    model.depth.data.zero_()
    surface.SurfaceObjective(model, pool, options(depth_start="flat")).start()
    assert (model.depth == 0).all() and len(asked) == 1


def test_a_batch_goes_through_the_model_with_what_progress_makes_of_the_options(monkeypatch):
    config, pool, asked = options(), hand_made_pool(), []
    model = SimpleNamespace(depth=torch.zeros(N, 4, 5), cell=2, num_samples=6)
    batch = SimpleNamespace(weight=torch.zeros(7, 4))
    for module, name in ((surface, "surface"), (volume, "volume")):
        monkeypatch.setattr(module, f"{name}_terms", lambda *given, name=name, **scales: (
            asked.append((*given, *scales.values())) or name))
    of_surface, of_volume = surface.SurfaceObjective(model, pool, config), volume.VolumeObjective(model, pool, config)
    assert of_surface(batch, of_surface.scales(0.25)) == "surface"
    assert asked[0][0] is model and asked[0][1] is batch and asked[0][2] is pool and asked[0][3] is of_surface.edges
    assert asked[0][4] == pytest.approx(4)  # half way, geometrically, from 8 to 2
    assert [of_volume(batch, of_volume.scales(progress)) for progress in (0.49, 0.5)] == ["volume"] * 2
    for given, share in zip(asked[1:], (0.2, 0)):
        assert given[0] is model and given[1] is batch and given[3] == share
        assert given[2].shape == (7, 4, 6) and 0 <= given[2].min() < 0.1 and 0.9 < given[2].max() < 1
