"""COMET's CMoE-Adapter (section 3.2, Eq. 4): experts with a part common to all senses and one of each sense's own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polysense.errors import ConfigError, UnknownModalityError

Combine = Literal["sum", "chain"]


class ExpertLinears(nn.Module):
    """One linear layer per expert: `weight` (experts, dim, dim), `bias` (experts, dim), started as torch's layers."""

    def __init__(self, experts: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, dim, dim))
        self.bias = nn.Parameter(torch.empty(experts, dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.weight.shape[-1])
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)


class CommonSpecificExperts(nn.Module):
    """MoE(x) = sum_i G_i(x) E_i(x) with a dense softmax gate per step; a sense uses the common layers and its own.

    Args:
        dim: width of features, in and out.
        experts: O; the paper found six to be best (Figure 2).
        senses: those there are at first.
        combine: "sum" adds the common and the specific layer, so that leaving the latter out is the ablation "without
            specific layers"; "chain" puts the specific layer behind the common one (method-facts 3.2).
        specific: whether senses have layers of their own.
        residual: add x.

    Raises:
        ConfigError: fewer than one expert.
    """

    def __init__(
        self,
        dim: int,
        experts: int = 6,
        senses: Iterable[str] = (),
        *,
        combine: Combine = "sum",
        specific: bool = True,
        residual: bool = False,
    ) -> None:
        super().__init__()
        if experts < 1 or dim < 1:
            raise ConfigError(f"an adapter of {experts} experts of width {dim}", fix="Use positive numbers.")
        self.dim, self.experts, self.combine = dim, experts, combine
        self.with_specific, self.residual = specific, residual
        self.gate = nn.Linear(dim, experts)
        self.common = ExpertLinears(experts, dim)
        self.specific = nn.ModuleDict()
        self.senses: set[str] = set()
        for sense in senses:
            self.add_sense(sense)

    def add_sense(self, sense: str) -> None:
        """Give a sense its layers: new keys only. A sense that is there already keeps them."""
        self.senses.add(sense)
        if self.with_specific and sense not in self.specific:
            self.specific[sense] = ExpertLinears(self.experts, self.dim)

    def forward(
        self, sense: str, x: Float[Tensor, "*steps dim"]
    ) -> tuple[Float[Tensor, "*steps dim"], Float[Tensor, "*steps experts"]]:
        """Adapted features, and the gates that made them.

        Raises:
            UnknownModalityError: there is no such sense here.
        """
        if sense not in self.senses:
            raise UnknownModalityError(sense, sorted(self.senses))
        gates = self.gate(x).float().softmax(dim=-1).to(x.dtype)
        inputs, last, bias = self._last_layers(sense, x)
        # sum_i G_i (W_i x_i + b_i) is one product: the inputs, each weighed, side by side, times all W_i
        weighed = (gates[..., None] * inputs).flatten(-2)
        mixed = weighed @ last.transpose(1, 2).flatten(0, 1) + gates @ bias
        return (mixed + x if self.residual else mixed), gates

    def _last_layers(
        self, sense: str, x: Float[Tensor, "*steps dim"]
    ) -> tuple[Float[Tensor, "*steps _experts dim"], Float[Tensor, "experts dim dim"], Float[Tensor, "experts dim"]]:
        """What enters the last linear layers of the experts, and their weights and biases.

        A sum of two linear layers is one; "chain" has another before.
        """
        inputs, common = x.unsqueeze(-2), self.common
        if not self.with_specific:
            return inputs, common.weight, common.bias
        own = cast(ExpertLinears, self.specific[sense])
        if self.combine == "sum":
            return inputs, common.weight + own.weight, common.bias + own.bias
        chained = torch.addmm(common.bias.flatten(), x.reshape(-1, self.dim), common.weight.flatten(0, 1).t())
        return chained.view(*x.shape[:-1], self.experts, self.dim), own.weight, own.bias
