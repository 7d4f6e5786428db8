"""State dicts of RAFT, by the reference's names or by torchvision's -> the model.

Conventions: as in networks/raft.py.
"""

import re

from networks.raft import RAFT

# torchvision's names -> the reference's, applied in order.
TORCHVISION_NAMES = (
    (r"^feature_encoder\.", "fnet."),
    (r"^context_encoder\.", "cnet."),
    (r"^(.net)\.convnormrelu\.0\.", r"\1.conv1."),
    (r"^(.net)\.convnormrelu\.1\.", r"\1.norm1."),
    (r"^(.net)\.conv\.", r"\1.conv2."),
    (r"\.convnormrelu(\d)\.0\.", r".conv\1."),
    (r"\.convnormrelu(\d)\.1\.", r".norm\1."),
    (r"\.motion_encoder\.conv(corr|flow)(\d)\.0\.", lambda m: f".encoder.conv{m[1][0]}{m[2]}."),
    (r"\.motion_encoder\.conv\.0\.", ".encoder.conv."),
    (r"\.recurrent_block\.convgru(\d)\.conv(.)\.", r".gru.conv\2\1."),
    (r"^mask_predictor\.convrelu\.0\.", "update_block.mask.0."),
    (r"^mask_predictor\.conv\.", "update_block.mask.2."),
)


def to_reference_names(state):
    """A RAFT state dict under the reference's names (with or without `module.`) or torchvision's -> the reference's.

    The reference's large model stores the norm of a projection twice (`norm3` and `downsample.1`): one is kept.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if any(key.startswith("feature_encoder.") for key in state):
        state = {rename(key): value for key, value in state.items()}
        if "update_block.mask.0.weight" not in state:  # the reference does not number the small model's one GRU
            state = {re.sub(r"\.gru\.conv(.)1\.", r".gru.conv\1.", key): value for key, value in state.items()}
    return {key: value for key, value in state.items() if ".norm3." not in key}


def rename(key):
    """A torchvision key under the reference's name."""
    for pattern, replacement in TORCHVISION_NAMES:
        key = re.sub(pattern, replacement, key)
    return key


def from_state_dict(state):
    """RAFT, small or large as its state dict tells, in evaluation mode. ValueError when it is no RAFT's."""
    state = to_reference_names(state)
    if "fnet.conv1.weight" not in state:
        raise ValueError("holds no RAFT weights (no feature encoder)")
    model = RAFT(small="update_block.mask.0.weight" not in state)
    kind = "small" if model.small else "large"
    expected = model.state_dict()
    missing, unknown = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing or unknown:
        example = sorted(missing or unknown)[0]
        counts = f"{len(missing)} keys missing, {len(unknown)} unknown"
        raise ValueError(f"does not match RAFT {kind}: {counts}, e.g. {example}")
    for key, value in expected.items():
        found, wanted = tuple(state[key].shape), tuple(value.shape)
        if found != wanted:
            raise ValueError(f"does not match RAFT {kind}: {key} is {found}, expected {wanted}")
    model.load_state_dict({key: value.to(expected[key].dtype) for key, value in state.items()})
    return model.eval().requires_grad_(False)
