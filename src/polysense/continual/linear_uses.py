"""Per-sample gradients of linear layers from one backward pass over a batch.

A linear layer's weight gradient for sample b is sum_t g_bt x_bt^T over its tokens t, with x the layer's inputs and g
the loss's gradient by its outputs. Where the samples of a batch do not see each other, g of every sample comes out of
one backward pass from the sum of their losses; a layer that is used several times has simply more tokens.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge


@dataclass(frozen=True)
class Use:
    """One call of a linear layer.

    Attributes:
        inputs: what it got, samples first.
        edge: where the gradient by its outputs arrives; unlike the outputs themselves, no later in-place operation
            changes it.
    """

    inputs: Float[Tensor, "samples *tokens in"]
    edge: GradientEdge


@contextmanager
def record_uses(model: nn.Module, wanted: Mapping[str, nn.Parameter]) -> Iterator[Mapping[str, Sequence[Use]]]:
    """Yield a mapping that fills with the uses of each wanted weight or bias while `model` runs.

    It holds parameters of plain `nn.Linear` modules alone: not those that another kind of module owns as well, such as
    an output layer tied to an embedding.
    """
    names = {id(parameter): name for name, parameter in wanted.items()}
    owners: dict[str, list[nn.Module]] = defaultdict(list)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) in names:
                owners[names[id(parameter)]].append(module)
    layers: dict[nn.Module, list[str]] = defaultdict(list)
    for name, modules in owners.items():
        if all(type(module) is nn.Linear for module in modules):
            for module in modules:
                layers[module].append(name)
    uses: dict[str, list[Use]] = defaultdict(list)
    hook = partial(_record, layers, uses)
    handles = [layer.register_forward_hook(hook, with_kwargs=True) for layer in layers]
    try:
        yield uses
    finally:
        for handle in handles:
            handle.remove()


def _record(
    layers: Mapping[nn.Module, Sequence[str]],
    uses: Mapping[str, list[Use]],
    layer: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    output: Tensor,
) -> None:
    if output.requires_grad:  # else it was called for its values alone
        inputs = args[0] if args else kwargs["input"]
        use = Use(inputs.detach(), get_gradient_edge(output))
        for name in layers[layer]:
            uses[name].append(use)


@torch.no_grad()
def sum_of_squares(
    shape: Sequence[int],
    inputs: Sequence[Float[Tensor, "samples ... in"]],
    gradients: Sequence[Float[Tensor, "samples ... out"]],
    cap_bytes: int,
) -> Float[Tensor, " *shape"]:
    """sum_b (sum_t g_bt x_bt^T)^2 for a weight, sum_b (sum_t g_bt)^2 for a bias, elementwise, in float32.

    Args:
        shape: of the parameter: (out, in) for a weight, (out,) for a bias.
        inputs, gradients: x and g of every use.
        cap_bytes: most memory for gradients of single samples; one sample at least is held.
    """
    g = _tokens(gradients)
    if len(shape) == 1:
        return g.sum(dim=1).square_().sum(dim=0)
    x = _tokens(inputs)
    if x.shape[1] == 1:  # the square of an outer product is the outer product of the squares
        return g[:, 0].square().t() @ x[:, 0].square()
    total = torch.zeros(math.prod(shape), device=g.device)
    chunk = max(1, min(len(g), cap_bytes // (total.numel() * total.element_size())))
    # the same memory every time: taking it anew costs as much as the products
    held, ones = torch.empty(chunk, *shape, device=g.device), torch.ones(chunk, device=g.device)
    for some_g, some_x in zip(g.split(chunk), x.split(chunk), strict=True):
        single = torch.bmm(some_g.transpose(1, 2), some_x, out=held[: len(some_g)])  # samples out in
        total.addmv_(single.square_().flatten(1).t(), ones[: len(single)])  # the sum over samples
    return total.view(*shape)


def _tokens(uses: Sequence[Tensor]) -> Float[Tensor, "samples tokens features"]:
    each = [tensor.float().reshape(len(tensor), -1, tensor.shape[-1]) for tensor in uses]
    return each[0] if len(each) == 1 else torch.cat(each, dim=1)
