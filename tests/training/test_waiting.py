"""A step asks the device for nothing: whatever it did ask for would make the host wait for all work before."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

import losses
import train
from loaders.data_dir import DataDir
from tests.helpers.training_run import RENDERING, TINY

# .item(), if tensor; the size of a result that depends on values; a tensor made of Python's numbers
WAITS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_consecutive",
         "repeat_interleave", "lift_fresh", "lift"}


class Waits(TorchDispatchMode):
    """Collects the operators that would wait for a GPU, if the tensors were there."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masks = [t for t in tree_leaves(args[1:2]) if isinstance(t, torch.Tensor) and t.dtype == torch.bool]
        name = func.overloadpacket._qualified_op_name.removeprefix("aten::")
        if name in WAITS or name in ("index", "index_put", "index_put_", "_index_put_impl_") and masks:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("what", ["torch.zeros(3).sum().item()", "torch.ones(3)[torch.ones(3) > 0]",
                                  "torch.zeros(3).new_tensor([1, 2])", "float(torch.ones(3).max())"])
def test_what_waits_is_noticed(what):
    with Waits() as waits:
        eval(what)
    assert waits.found


@pytest.mark.parametrize("rendering", ["surface", "volume"])
def test_a_step_does_not_wait(data_dir, tmp_path, rendering, monkeypatch):
    arguments, config = train.parse(["--data_dir", str(data_dir), "--out_dir", str(tmp_path), *TINY,
                                     *RENDERING[rendering]])
    parts, objective, _ = train.prepare(arguments, config, DataDir.open(data_dir), torch.device("cpu"))
    sent = torch.from_numpy

    def send(array):  # the host's own choice of frames: sending it asks for nothing
        with _disable_current_modes():
            return sent(array)

    monkeypatch.setattr(torch, "from_numpy", send)
    for step in range(2):  # in the second one with error maps
        with Waits() as waits:
            batch = parts.sampler.sample(config.num_pairs, config.num_points, 3)
            terms, _, error = objective(batch, objective.scales(0.5))
            losses.total(terms, objective.weights(0.5)).backward()
            parts.update(step, 0.5, config.grad_clip)
            parts.sampler.learn(batch, error)
        assert not waits.found
        parts.sampler.publish()
