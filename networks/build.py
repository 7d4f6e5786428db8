"""From named values to a model; what the values mean is documented in configs/options.py."""

from networks.field import CanonicalField
from networks.grids import GridMapping
from networks.mapping import InvertibleMapping, SeparateMappings
from networks.model import VideoModel
from networks.surface import SurfaceModel


def build_model(num_frames, height, width, *, rendering="volume", mapping="invertible", coupling_layers=6,
                coupling_width=256, coupling_hidden=3, affine=True, zero_init=False, code_scale=256.0,
                max_log_scale=8.0, field_width=512, field_layers=3, field_scale=256.0, num_samples=32, depth_cell=0,
                depth_margin=0.2, amp=False):
    """A VideoModel, or a SurfaceModel for rendering 'surface', with the named architecture."""
    if mapping == "invertible":
        network = InvertibleMapping(num_frames, coupling_layers, coupling_width, coupling_hidden, affine=affine,
                                    zero_init=zero_init, code_scale=code_scale, max_log_scale=max_log_scale, amp=amp)
    elif mapping == "grid":
        network = GridMapping(num_frames, coupling_layers, max_log_scale)
    else:
        network = SeparateMappings(num_frames, coupling_width, coupling_layers, code_scale=code_scale)
    field = CanonicalField(field_width, field_layers, field_scale, amp)
    if rendering == "surface":
        return SurfaceModel(num_frames, height, width, network, field, cell=depth_cell, margin=depth_margin)
    return VideoModel(num_frames, height, width, network, field, num_samples=num_samples)
