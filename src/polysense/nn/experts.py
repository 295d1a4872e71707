"""Modality-aware mixture of LoRA experts (UniAlign, section 3.1): the parts that hold Parameters.

Experts are stacked only inside a group. Every group has Parameters of its own, under keys of its own: adding a sense
adds keys and touches none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polysense.errors import UnknownModalityError
from polysense.nn.low_rank import Gate, add_experts, linear_with_experts, svd_experts

Routing = Literal["group", "global"]


@dataclass(frozen=True, kw_only=True)
class ExpertOptions:
    """What the experts of all sites and groups have in common.

    Attributes:
        experts: experts per group.
        rank, alpha: every expert is scaled by alpha / rank.
        top_k: experts kept per token; `None` keeps all that the token may see.
        routing: "group" (Eq. 5: a token sees its own group's experts) or "global" (Eq. 6: those of every visible one).
        frozen_start: keep the initial experts as buffers and subtract them (SVD initialisation).
    """

    experts: int
    rank: int
    alpha: float
    top_k: int | None = None
    routing: Routing = "group"
    frozen_start: bool = False


class GroupExperts(nn.Module):
    """The experts of one group at one site, and the rows of the group's router that rate them.

    Parameters: `down` (experts * rank + experts, in), the A matrices with the router rows below them, and
    `up` (out, experts * rank), the B matrices side by side. With `frozen_start`, buffers of the same form hold the
    initial A and B, whose contribution is subtracted at run time so that the frozen base is never edited.
    """

    def __init__(self, in_features: int, out_features: int, experts: int, rank: int, *, frozen_start: bool) -> None:
        super().__init__()
        self.experts, self.rank = experts, rank
        self.down_start: Tensor | None
        self.up_start: Tensor | None
        self.down = nn.Parameter(torch.empty(experts * rank + experts, in_features))
        self.up = nn.Parameter(torch.empty(out_features, experts * rank))
        self.register_buffer("down_start", torch.zeros(experts * rank, in_features) if frozen_start else None)
        self.register_buffer("up_start", torch.zeros(out_features, experts * rank) if frozen_start else None)
        self.reset_parameters()

    @property
    def router(self) -> Float[Tensor, "experts in"]:
        """The rows of `down` that are this group's router over its own experts."""
        return self.down[self.experts * self.rank :]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """LoRA's start: A and router Kaiming-uniform with a = sqrt(5), B zero (method-facts 1.1)."""
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        nn.init.zeros_(self.up)

    @torch.no_grad()
    def start_from(self, weight: Float[Tensor, "out in"], scale: float) -> None:
        """Begin at the leading singular triplets of the frozen `weight`; the site's function does not change."""
        down, up = svd_experts(weight, self.experts, self.rank)
        self.down[: len(down)] = down / math.sqrt(scale)
        self.up.copy_(up / math.sqrt(scale))
        self.down_start = self.down[: len(down)].clone()
        self.up_start = self.up.clone()


class CrossRouter(nn.Module):
    """How one group's router rates the experts of another group (global routing): `weight` is (experts, in)."""

    def __init__(self, in_features: int, experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, in_features))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))


class ExpertSite(nn.Module):
    """All groups' experts beside one frozen map (a linear layer of the FFN, or the whole FFN).

    Args:
        in_features, out_features: widths of the frozen map.
    """

    def __init__(self, in_features: int, out_features: int, options: ExpertOptions) -> None:
        super().__init__()
        self.in_features, self.out_features, self.options = in_features, out_features, options
        self.scale = options.alpha / options.rank
        self.groups = nn.ModuleDict()
        # routers[g][h] is group g's CrossRouter for group h; empty unless routing is global
        self.routers = nn.ModuleDict()

    def add_group(self, group: str) -> None:
        """Add one group's experts; no existing Parameter changes its size or its values."""
        others, own = list(self.groups), self.options
        self.groups[group] = GroupExperts(
            self.in_features, self.out_features, own.experts, own.rank, frozen_start=own.frozen_start
        )
        if own.routing == "global":
            self.routers[group] = nn.ModuleDict()
            for other in others:
                for rating, rated in ((group, other), (other, group)):
                    routers = cast(nn.ModuleDict, self.routers[rating])
                    routers[rated] = CrossRouter(self.in_features, own.experts)

    def _stack(self, group: str, visible: Sequence[str]) -> tuple[Tensor, Tensor]:
        """`down` and `up` for tokens of `group` that may see the experts of `visible`."""
        own = cast(GroupExperts, self.groups[group])
        members = [cast(GroupExperts, self.groups[name]) for name in visible]
        if members == [own] and not self.options.frozen_start:
            return own.down, own.up * self.scale
        hidden = self.options.experts * self.options.rank
        routers = [own.router if name == group else self._cross_router(group, name) for name in visible]
        downs = [member.down[:hidden] for member in members]
        ups: list[Tensor] = [member.up for member in members]
        starts = [member.down_start for member in members if member.down_start is not None]
        ups += [-member.up_start for member in members if member.up_start is not None]
        return torch.cat([*downs, *routers, *starts]), torch.cat(ups, dim=1) * self.scale

    def _cross_router(self, group: str, other: str) -> Tensor:
        return cast(CrossRouter, cast(nn.ModuleDict, self.routers[group])[other]).weight

    def forward(
        self,
        base: Callable[[Tensor], Tensor],
        inputs: Float[Tensor, "*tokens in"],
        group: str,
        visible: Iterable[str] | None = None,
    ) -> Float[Tensor, "*tokens out"]:
        """The frozen map's output for `inputs`, and what the experts that `group` may see add to it.

        Args:
            base: the frozen map.
            visible: groups whose experts the router may choose (global routing); `None` means its own only.

        Raises:
            UnknownModalityError: there is no such group here.
        """
        if group not in self.groups:
            raise UnknownModalityError(group, self.groups)
        options = self.options
        seen = [group] if visible is None or options.routing == "group" else list(visible)
        down, up = (part.to(inputs.dtype) for part in self._stack(group, seen))
        gate = Gate(experts=options.experts * len(seen), rank=options.rank, top_k=options.top_k)
        if type(base) is nn.Linear and not base.weight.requires_grad:
            return linear_with_experts(base, inputs, down, up, gate)
        return add_experts(base(inputs), inputs, down, up, gate)
