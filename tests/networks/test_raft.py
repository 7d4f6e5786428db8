"""RAFT: conformance with the reference, both correlation lookups, convex upsampling, sizes, weights' names."""


import numpy as np
import pytest
import torch
import torch.nn.functional as F

from networks import correlation, raft, raft_names
from tests.helpers.paths import CONFORMANCE
from tests.helpers.random_raft import SINTEL, random_raft

TENSORS = CONFORMANCE / "raft_small.npz"

# Shapes of torchvision's raft_large and raft_small (0.29), one line for each kind of layer.
TORCHVISION_SHAPES = {
    False: {
        "feature_encoder.convnormrelu.0.weight": (64, 3, 7, 7),
        "feature_encoder.layer2.0.convnormrelu1.0.weight": (96, 64, 3, 3),
        "feature_encoder.layer3.0.downsample.0.weight": (128, 96, 1, 1),
        "feature_encoder.conv.bias": (256,),
        "context_encoder.convnormrelu.1.running_var": (64,),
        "context_encoder.layer2.1.convnormrelu2.1.running_mean": (96,),
        "context_encoder.layer3.0.downsample.1.weight": (128,),
        "update_block.motion_encoder.convcorr1.0.weight": (256, 324, 1, 1),
        "update_block.motion_encoder.convcorr2.0.weight": (192, 256, 3, 3),
        "update_block.motion_encoder.convflow1.0.weight": (128, 2, 7, 7),
        "update_block.motion_encoder.convflow2.0.bias": (64,),
        "update_block.motion_encoder.conv.0.weight": (126, 256, 3, 3),
        "update_block.recurrent_block.convgru1.convz.weight": (128, 384, 1, 5),
        "update_block.recurrent_block.convgru2.convq.weight": (128, 384, 5, 1),
        "update_block.flow_head.conv2.weight": (2, 256, 3, 3),
        "mask_predictor.convrelu.0.weight": (256, 128, 3, 3),
        "mask_predictor.conv.weight": (576, 256, 1, 1),
    },
    True: {
        "feature_encoder.layer1.0.convnormrelu3.0.weight": (32, 8, 1, 1),
        "feature_encoder.layer3.0.downsample.0.weight": (96, 64, 1, 1),
        "context_encoder.conv.weight": (160, 96, 1, 1),
        "update_block.motion_encoder.convcorr1.0.weight": (96, 196, 1, 1),
        "update_block.motion_encoder.convflow2.0.weight": (32, 64, 3, 3),
        "update_block.motion_encoder.conv.0.weight": (80, 128, 3, 3),
        "update_block.recurrent_block.convgru1.convr.weight": (96, 242, 3, 3),
        "update_block.flow_head.conv1.weight": (128, 96, 3, 3),
    },
}


@pytest.mark.skipif(not (TENSORS.exists() and SINTEL.exists()), reason="reference tensors or weights not at hand")
@pytest.mark.parametrize("max_volume_bytes", [2**30, 0])
@torch.no_grad()
def test_raft_small_reproduces_the_reference(max_volume_bytes):
    expected = np.load(TENSORS)
    model = raft_names.from_state_dict(torch.load(SINTEL, map_location="cpu", weights_only=True))
    padding = expected["padding_left_right_top_bottom"].tolist()
    left, right, top, bottom = padding
    images = torch.from_numpy(np.stack([expected["image_1"], expected["image_2"]])).permute(0, 3, 1, 2)
    features = model.features(F.pad(images / 255 * 2 - 1, padding, mode="replicate"))
    context = model.context(F.pad(images[:1] / 255 * 2 - 1, padding, mode="replicate"))

    def run(iterations, flow=None):
        *_, update = model.updates(*features.split(1), *context, iterations, flow, max_volume_bytes)
        return update[0], model.upsample(*update)[0, :, top:-bottom, left:-right].permute(1, 2, 0).numpy()

    low_resolution, flow = run(12)
    np.testing.assert_allclose(flow, expected["flow_12_iterations"], atol=1e-3)
    np.testing.assert_allclose(low_resolution[0].permute(1, 2, 0), expected["low_res_flow_12"], atol=1e-3)
    np.testing.assert_allclose(run(5, low_resolution)[1], expected["flow_5_iterations_warm_started"], atol=1e-3)


def brute_force_correlation(features_1, features_2, positions, radius):
    """(B, LEVELS * (2r + 1)^2, h, w) by loops over levels and offsets, x slow: bilinear samples of second features."""
    height, width = features_1.shape[-2:]
    samples = []
    for level in range(raft.LEVELS):
        pooled = F.avg_pool2d(features_2, 2**level)
        for dx in range(-radius, radius + 1):
            for dy in range(-radius, radius + 1):
                x, y = positions[:, 0] / 2**level + dx, positions[:, 1] / 2**level + dy
                total = torch.zeros_like(x)
                for column in range(pooled.shape[-1]):
                    for row in range(pooled.shape[-2]):
                        weight = (1 - (x - column).abs()).clamp(min=0) * (1 - (y - row).abs()).clamp(min=0)
                        total += weight * (features_1 * pooled[:, :, row, column, None, None]).sum(dim=1)
                samples.append(total / features_1.shape[1] ** 0.5)
    return torch.stack(samples, dim=1).view(len(features_1), -1, height, width)


@pytest.mark.parametrize("kind", [correlation.AllPairsCorrelation, correlation.LocalCorrelation])
def test_correlation_equals_brute_force(kind):
    generator = torch.Generator().manual_seed(1)
    features_1, features_2 = torch.randn(2, 2, 5, 8, 9, generator=generator)
    positions = raft.cell_grid(features_1) + 4 * torch.randn(2, 2, 8, 9, generator=generator)
    expected = brute_force_correlation(features_1, features_2, positions, radius=2)
    torch.testing.assert_close(kind(features_1, features_2, 2)(positions), expected, atol=1e-5, rtol=1e-5)


def test_local_correlation_in_chunks(monkeypatch):
    monkeypatch.setattr(correlation, "LOCAL_LOOKUP_BYTES", 4 * 5 * 64 * 7)  # seven cells at a time
    features_1, features_2 = torch.randn(2, 1, 5, 8, 9, generator=torch.Generator().manual_seed(1))
    positions = raft.cell_grid(features_1) * 1.3 - 2
    expected = correlation.AllPairsCorrelation(features_1, features_2, 3)(positions)
    torch.testing.assert_close(correlation.LocalCorrelation(features_1, features_2, 3)(positions), expected)


def test_convex_upsampling_of_one_neighbour_copies_it():
    flow = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(2))
    weights = torch.zeros(1, 9, 64, 3, 4)
    weights[:, 5] = 100  # the right neighbour
    fine = raft.upsample_convex(flow, weights.view(1, 576, 3, 4))
    shifted = F.pad(flow, (0, 1))[..., 1:]
    torch.testing.assert_close(fine, 8 * shifted.repeat_interleave(8, -1).repeat_interleave(8, -2))


@pytest.mark.parametrize(("small", "parameters"), [(True, 990_162), (False, 5_257_536)])
def test_size_is_the_published_one(small, parameters):
    assert sum(parameter.numel() for parameter in raft.RAFT(small).parameters()) == parameters


@pytest.mark.parametrize("small", [True, False])
def test_torchvision_names_and_shapes(small):
    ours = raft.RAFT(small).state_dict()
    for name, shape in TORCHVISION_SHAPES[small].items():
        key = raft_names.rename(name) if not small else raft_names.rename(name).replace("convr1", "convr")
        assert tuple(ours[key].shape) == shape, name


def to_torchvision(key, small):
    """The inverse of the key map, written apart from it: a reference key -> torchvision's."""
    key = key.replace("fnet", "feature_encoder").replace("cnet", "context_encoder")
    parts = key.split(".")
    if parts[0].endswith("_encoder"):
        if parts[1] in ("conv1", "norm1"):
            parts[1:2] = ["convnormrelu", "0" if parts[1] == "conv1" else "1"]
        elif parts[1] == "conv2":
            parts[1] = "conv"
        elif parts[3] != "downsample":
            parts[3:4] = ["convnormrelu" + parts[3][-1], "0" if parts[3].startswith("conv") else "1"]
    elif parts[1] == "encoder":
        name = parts[2].replace("convc", "convcorr").replace("convf", "convflow")
        parts[1:3] = ["motion_encoder", name, "0"]
    elif parts[1] == "gru":
        unit = "1" if small else parts[2][-1]
        parts[1:3] = ["recurrent_block", "convgru" + unit, parts[2][:5]]
    elif parts[1] == "mask":
        parts[:3] = ["mask_predictor", "convrelu.0" if parts[2] == "0" else "conv"]
    return ".".join(parts)


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("convention", ["reference", "module", "torchvision"])
def test_loads_both_conventions(small, convention):
    state = random_raft(small).state_dict()
    renamed = {
        "reference": dict(state),
        "module": {f"module.{key}": value for key, value in state.items()},
        "torchvision": {to_torchvision(key, small): value for key, value in state.items()},
    }[convention]
    if convention != "torchvision" and not small:  # the reference's files hold the norm of a projection twice
        prefix = "module." if convention == "module" else ""
        renamed[prefix + "cnet.layer2.0.norm3.weight"] = state["cnet.layer2.0.downsample.1.weight"]
    loaded = raft_names.from_state_dict(renamed)
    assert loaded.small == small
    for key, value in loaded.state_dict().items():
        torch.testing.assert_close(value, state[key], msg=key)


def test_wrong_state_dicts_are_refused():
    state = random_raft().state_dict()
    with pytest.raises(ValueError, match="no RAFT weights"):
        raft_names.from_state_dict({"encoder.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="1 keys missing.*fnet.conv2.bias"):
        raft_names.from_state_dict({key: value for key, value in state.items() if key != "fnet.conv2.bias"})
    with pytest.raises(ValueError, match="expected \\(128,\\)"):
        raft_names.from_state_dict(state | {"fnet.conv2.bias": torch.zeros(7)})


@pytest.mark.parametrize("small", [True, False])
def test_every_parameter_learns(small):
    """Gradients reach every weight (biases before an instance norm aside, which it cancels) and are finite."""
    model = random_raft(small).requires_grad_()
    images = torch.rand(2, 1, 3, 64, 72, generator=torch.Generator().manual_seed(3)) * 2 - 1
    sum(flow.abs().mean() for flow in model(images[0], images[1], iterations=2)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert name.endswith("bias") or parameter.grad.abs().max() > 0, name
