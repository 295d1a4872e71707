"""The arithmetic of gated low-rank experts (UniAlign, section 3.1, Eqs. 8-9), on tensors alone.

All experts that a token may see are stacked, with the router's rows below them, so that a token costs two thin matrix
products whatever the number of experts: `down` gives every expert's hidden values and the router's logits at once, a
`Gate` weighs them, and `up` takes them straight into the frozen output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from polysense.errors import ConfigError


def routing_weights(
    logits: Float[Tensor, "*tokens experts"], top_k: int | None = None
) -> Float[Tensor, "*tokens experts"]:
    """Softmax over the `top_k` largest logits of each token (all if `None`), at least in float32; the rest is zero."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if top_k is not None and top_k < logits.shape[-1]:
        kept = logits.topk(top_k, dim=-1)
        logits = torch.full_like(logits, -math.inf).scatter(-1, kept.indices, kept.values)
    return logits.softmax(dim=-1)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Weighs the stacked hidden values of each token's experts by its router.

    Attributes:
        experts: experts that the router rates.
        rank: hidden values per expert.
        top_k: experts kept per token; `None` keeps all.
    """

    experts: int
    rank: int
    top_k: int | None = None

    def __call__(self, hidden: Float[Tensor, "tokens rows"]) -> Float[Tensor, "tokens hidden"]:
        """From left to right: experts * rank values, one logit per expert and, optionally, as many values again."""
        width = self.experts * self.rank
        values, logits, further = hidden.tensor_split([width, width + self.experts], dim=-1)
        gates = routing_weights(logits, self.top_k).to(hidden.dtype).repeat_interleave(self.rank, dim=-1)
        return torch.cat([values * gates, further * gates], dim=-1) if further.shape[-1] else values * gates


def add_experts(
    output: Float[Tensor, "*tokens out"],
    inputs: Float[Tensor, "*tokens in"],
    down: Float[Tensor, "rows in"],
    up: Float[Tensor, "out hidden"],
    gate: Gate,
) -> Float[Tensor, "*tokens out"]:
    """`output + sum_e p_e B_e A_e inputs`; the factor alpha / r is already in `up`."""
    gated = gate(F.linear(inputs.flatten(0, -2), down))
    return torch.addmm(output.flatten(0, -2), gated, up.t()).view_as(output)


def linear_with_experts(
    linear: nn.Linear,
    inputs: Float[Tensor, "*tokens in"],
    down: Float[Tensor, "rows in"],
    up: Float[Tensor, "out hidden"],
    gate: Gate,
) -> Float[Tensor, "*tokens out"]:
    """`add_experts` beside a linear layer that does not train: the same values with fewer passes over wide tensors."""
    device = inputs.device.type
    mixed = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if mixed else inputs.dtype
    parts = (inputs.flatten(0, -2), linear.weight, linear.bias, down, up)
    output = _FrozenLinearWithExperts.apply(*(None if part is None else part.to(dtype) for part in parts), gate)
    return cast(Tensor, output.unflatten(0, inputs.shape[:-1]))


class _FrozenLinearWithExperts(torch.autograd.Function):
    """`W x + b + up gate(down x)` without gradients for W and b.

    Wide products are accumulated in place, forward and backward, and of the experts only the thin hidden values are
    kept; autograd would write one more tensor of the output's width, and one more of the input's width on the way
    back.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, gate: Gate
    ) -> Tensor:
        with _no_autocast(inputs):
            hidden = F.linear(inputs, down)
            ctx.save_for_backward(inputs, weight, down, up, hidden)
            ctx.gate = gate
            return F.linear(inputs, weight, bias).addmm_(gate(hidden), up.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, down, up, hidden = ctx.saved_tensors
        with _no_autocast(grad):
            with torch.enable_grad():
                gated = ctx.gate(hidden.requires_grad_())
            (grad_hidden,) = torch.autograd.grad(gated, hidden, grad @ up)
            # the thin factor stands first, in rows: the wide one is then read once and in its own order
            grad_up = (gated.detach().t().contiguous() @ grad).t()
            grad_down = grad_hidden.t().contiguous() @ inputs
            grad_inputs = (grad @ weight).addmm_(grad_hidden, down) if ctx.needs_input_grad[0] else None
        return grad_inputs, None, None, grad_down, grad_up, None


def _no_autocast(tensor: Tensor) -> torch.autocast:
    device = tensor.device.type
    return torch.autocast(device if torch.amp.is_autocast_available(device) else "cpu", enabled=False)


def svd_experts(
    weight: Float[Tensor, "out in"], experts: int, rank: int
) -> tuple[Float[Tensor, "hidden in"], Float[Tensor, "out hidden"]]:
    """Split the leading singular triplets of a frozen matrix over the experts (PiSSA; method-facts 1.3).

    Expert e takes triplets e * rank to (e + 1) * rank; A = sqrt(S) V^T and B = U sqrt(S), so that B A is the
    share of `weight` that the triplets span.

    Raises:
        ConfigError: the matrix has fewer singular values than the experts need.
    """
    left, values, right = torch.linalg.svd(weight.float(), full_matrices=False)
    hidden = experts * rank
    if hidden > len(values):
        raise ConfigError(
            f"{experts} experts of rank {rank} need {hidden} singular values, the matrix has {len(values)}",
            fix="Lower expert_rank or num_experts, or use expert_init: lora.",
        )
    root = values[:hidden].sqrt()
    return root[:, None] * right[:hidden], left[:, :hidden] * root
