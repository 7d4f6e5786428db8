"""One batch through an objective, forwards and backwards; on a GPU as a CUDA graph.

A step of the surface model launches more than a thousand small kernels, and launching them takes ten times as long as
the GPU takes to run them. So the first batch is recorded, and every later one replayed at once: with its values in the
tensors that were recorded, and its schedules' numbers in a tensor, too.
"""

import torch

import losses

WARM_UPS = 3  # runs before the recording, in which libraries choose their kernels


def differentiation(objective, record):
    """A function of (batch, progress): loss, terms, statistics and error of the objective; gradients are in p.grad.

    record: whether as a CUDA graph, which needs the model and the correspondences on the GPU.
    """
    if record:
        return Recorded(objective)

    def stepwise(batch, progress):
        with torch.autograd.graph.saved_tensors_hooks(as_it_is, as_it_is):
            return differentiate(objective, batch, objective.scales(progress), objective.weights(progress))

    return stepwise


def as_it_is(tensor):
    """Called for each tensor that backward needs: so a long backward returns to Python, where signals are heard."""
    return tensor


def differentiate(objective, batch, scales, weights):
    """loss, terms, statistics, error; gradients are left in p.grad."""
    terms, statistics, error = objective(batch, scales)
    loss = losses.total(terms, weights)
    loss.backward()
    return loss, terms, statistics, error


class Recorded:
    """A CUDA graph of it all, recorded at the first batch; every later batch has to be of the same shapes."""

    def __init__(self, objective):
        self.objective, self.graph = objective, None
        self.parameters = [p for parameters, _ in objective.rates().values() for p in parameters]

    def __call__(self, batch, progress):
        scales, weights = self.objective.scales(progress), self.objective.weights(progress)
        if self.graph is None:
            self.record(batch, scales, weights)
        torch._foreach_copy_(list(self.batch), list(batch))
        self.numbers.copy_(torch.tensor([*scales.values(), *weights.values()]), non_blocking=True)
        self.graph.replay()
        for parameter, gradient in zip(self.parameters, self.gradients):
            parameter.grad = gradient  # the trainer clears them
        return self.result

    def record(self, batch, scales, weights):
        """Record the graph; what is random goes on as if nothing had been drawn for it."""
        device, random = batch.weight.device, torch.cuda.get_rng_state(batch.weight.device)
        self.batch = type(batch)(*(tensor.clone() for tensor in batch))
        self.numbers = torch.tensor([*scales.values(), *weights.values()], device=device)
        numbers = iter(self.numbers.unbind())
        inputs = self.batch, dict(zip(scales, numbers)), dict(zip(weights, numbers))
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                differentiate(self.objective, *inputs)
                self.clear()
        torch.cuda.current_stream(device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=stream):
            self.result = tuple(detached(part) for part in differentiate(self.objective, *inputs))
        self.gradients = [parameter.grad for parameter in self.parameters]
        torch.cuda.set_rng_state(random, device)

    def clear(self):
        for parameter in self.parameters:
            parameter.grad = None


def detached(part):
    """A tensor, or a dict of them, without what backward kept."""
    return {name: tensor.detach() for name, tensor in part.items()} if isinstance(part, dict) else part.detach()
