"""The mapping is a bijection that moves points, and equals the reference implementation's."""

import pytest
import torch

from networks.layers import encode_frequencies
from networks.mapping import InvertibleMapping, SeparateMappings


def random_mapping(affine, scale=0.3, **options):
    """A float64 mapping with perturbed weights, far from the identity."""
    torch.manual_seed(0)
    mapping = InvertibleMapping(5, width=16, num_hidden=2, code_width=8, affine=affine, **options).double()
    with torch.no_grad():
        for parameter in mapping.parameters():
            parameter += scale * torch.randn_like(parameter) / max(1, parameter.shape[-1]) ** 0.5
    return mapping


@pytest.mark.parametrize("affine", [False, True])
def test_round_trip_in_both_orders(affine):
    mapping = random_mapping(affine)
    points = torch.rand(5, 200, 3, dtype=torch.float64) * torch.tensor([2, 2, 2.0]) - torch.tensor([1, 1, 0.0])
    condition = mapping.condition(torch.arange(5))
    canonical, local = mapping.to_canonical(points, condition), mapping.to_frame(points, condition)
    assert (canonical - points).abs().mean() > 0.1  # a map that moves nothing would pass below
    assert (local - points).abs().mean() > 0.1
    assert torch.allclose(mapping.to_frame(canonical, condition), points, atol=1e-9)
    assert torch.allclose(mapping.to_canonical(local, condition), points, atol=1e-9)
    assert (canonical[0] - canonical[1]).abs().max() > 1e-3  # frames differ


def test_every_coordinate_moves():
    mapping = random_mapping(affine=False)
    points = torch.rand(1, 50, 3, dtype=torch.float64)
    canonical = mapping.to_canonical(points, mapping.condition(torch.tensor([2])))
    moved = (canonical - points).abs().mean((0, 1))
    assert (moved > 1e-3).all()


def test_scale_is_clamped():
    mapping = random_mapping(affine=False, scale=0.0)
    with torch.no_grad():
        for layer in mapping.layers:
            layer.mlp[-1].weight.zero_()
            layer.mlp[-1].bias.copy_(torch.tensor([1000.0, 0.0]))
    points = torch.rand(1, 10, 3, dtype=torch.float64)
    condition = mapping.condition(torch.tensor([0]))
    # two layers per coordinate, each scaling by at most e^8
    assert torch.allclose(mapping.to_frame(points, condition), points * torch.e**16)


def test_zero_initialised_mapping_is_the_identity():
    mapping = InvertibleMapping(4, width=16, num_hidden=2, affine=True, zero_init=True)
    points = torch.rand(4, 30, 3)
    assert torch.allclose(mapping.to_canonical(points, mapping.condition(torch.arange(4))), points, atol=1e-6)


def test_folded_frame_code_equals_concatenation():
    mapping = random_mapping(affine=False)
    layer, code = mapping.layers[0], mapping.codes(torch.tensor([3]))
    points = torch.rand(1, 7, 3, dtype=torch.float64)
    s, t = layer.scale_and_shift(list(points.unbind(-1)), layer.frame_bias(code))
    kept = points[..., layer.kept]
    encoded = torch.nn.functional.leaky_relu(layer.projection(torch.cat([kept, encode_frequencies(kept)], -1)))
    features = layer.code_projector(code)[:, None].expand(1, 7, -1)
    expected = layer.mlp(torch.cat([features, encoded], dim=-1))
    assert torch.allclose(torch.stack([s, t], -1).double(), expected, atol=1e-5)


def test_separate_mappings_are_not_inverse():
    torch.manual_seed(0)
    mapping = SeparateMappings(3, width=16, num_hidden=2)
    points = torch.rand(3, 20, 3)
    condition = mapping.condition(torch.arange(3))
    there_and_back = mapping.to_frame(mapping.to_canonical(points, condition), condition)
    assert (there_and_back - points).abs().max() > 1e-3


def test_encoding_order():
    encoded = encode_frequencies(torch.tensor([[0.5, 0.25]]), num_frequencies=2)
    # for x = 1/2: sin(pi/2), sin(pi), cos(pi/2), cos(pi); for x = 1/4: sin(pi/4), sin(pi/2), cos(pi/4), cos(pi/2)
    root = 0.5**0.5
    assert torch.allclose(encoded, torch.tensor([[1, 0, 0, -1, root, 1, root, 0.0]]), atol=1e-6)
    interleaved = encode_frequencies(torch.tensor([[0.5]]), num_frequencies=2, interleave=True)
    assert torch.allclose(interleaved, torch.tensor([[1, 0, 0, -1.0]]), atol=1e-6)
