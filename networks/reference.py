"""Checkpoints of the reference implementation (github.com/qianqianwang68/omnimotion) as state dicts of ours."""

import torch

NETWORKS = ("deform_mlp", "feature_mlp", "color_mlp")


def is_reference_checkpoint(checkpoint):
    return isinstance(checkpoint, dict) and all(name in checkpoint for name in NETWORKS)


def reference_architecture(checkpoint):
    """Arguments of build_model that the reference's weights call for."""
    mapping, color = checkpoint["deform_mlp"], checkpoint["color_mlp"]
    num_layers = sum(key.endswith(".mask") for key in mapping)
    num_linear = sum(key.startswith("layers1.0.map_st.0.mlp.") and key.endswith("weight") for key in mapping)
    return {
        "mapping": "invertible",
        "coupling_layers": num_layers,
        "coupling_width": mapping["layers1.0.projection.proj.0.bias"].shape[0],
        "coupling_hidden": num_linear - 1,
        "affine": any(key.startswith("affine_mlp.") for key in mapping),
        "field_width": color["output_linear.weight"].shape[1],
        "field_layers": sum(key.startswith("linear.") and key.endswith("weight") for key in color),
    }


def _rename_mapping_key(key):
    if key.startswith("code_projectors."):
        _, layer, _, rest = key.split(".", 3)
        return f"mapping.layers.{layer}.code_projector.{rest}"
    if key.startswith("affine_mlp.hidden."):
        parts = key.split(".")
        return f"mapping.affine.layers.{parts[2]}.{parts[-1]}"
    return (key.replace("layers1.", "mapping.layers.").replace("map_st.0.mlp.", "mlp.")
            .replace("projection.proj.0.", "projection."))


def convert_reference(checkpoint):
    """The reference's three state dicts -> one state dict for a VideoModel of `reference_architecture`."""
    state = {}
    for key, value in checkpoint["deform_mlp"].items():
        if key.endswith(".mask"):  # 1 on the two kept coordinates
            layer = key.split(".")[1]
            state[f"mapping.layers.{layer}.axis"] = torch.as_tensor(value).flatten().argmin()
        else:
            state[_rename_mapping_key(key)] = torch.as_tensor(value)
    state |= {f"mapping.codes.net.{key}": torch.as_tensor(value) for key, value in checkpoint["feature_mlp"].items()}
    state |= {f"field.net.{key}": torch.as_tensor(value) for key, value in checkpoint["color_mlp"].items()}
    return state
