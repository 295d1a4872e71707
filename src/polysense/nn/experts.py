"""Modality-aware mixture of LoRA experts (UniAlign, section 3.1).

All experts of one group at one site are stacked, with the router's rows below them, so that a token costs two thin
matrix products whatever the number of experts: `down` gives every expert's hidden values and the router's logits at
once, `up` takes the gated hidden values straight into the frozen output. Every group has Parameters of its own, under
keys of its own: adding a sense adds keys and touches none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from polysense.errors import ConfigError, UnknownModalityError

Routing = Literal["group", "global"]


def routing_weights(
    logits: Float[Tensor, "*tokens experts"], top_k: int | None = None
) -> Float[Tensor, "*tokens experts"]:
    """Softmax over the `top_k` largest logits of each token (all of them if `None`), in float32; the rest is zero."""
    logits = logits.float()
    if top_k is not None and top_k < logits.shape[-1]:
        kept = logits.topk(top_k, dim=-1)
        logits = torch.full_like(logits, -math.inf).scatter(-1, kept.indices, kept.values)
    return logits.softmax(dim=-1)


def add_experts(
    output: Float[Tensor, "*tokens out"],
    inputs: Float[Tensor, "*tokens in"],
    down: Float[Tensor, "rows in"],
    up: Float[Tensor, "out hidden"],
    *,
    experts: int,
    rank: int,
    top_k: int | None,
) -> Float[Tensor, "*tokens out"]:
    """`output + sum_e p_e B_e A_e inputs`, the gated low-rank updates of Eqs. 8-9 added to a frozen output.

    `down` holds, from top to bottom, experts * rank rows of A, `experts` router rows and, optionally, another
    experts * rank rows whose (equally gated) contribution `up` is to add as well: see `svd_experts`. The factor
    alpha / r is already in `up`.
    """
    hidden = F.linear(inputs.flatten(0, -2), down)
    before, logits, after = hidden.tensor_split([experts * rank, experts * rank + experts], dim=-1)
    gates = routing_weights(logits, top_k).to(hidden.dtype).repeat_interleave(rank, dim=-1)
    gated = before * gates
    if after.shape[-1]:
        gated = torch.cat([gated, after * gates], dim=-1)
    return torch.addmm(output.flatten(0, -2), gated, up.t()).view_as(output)


def svd_experts(
    weight: Float[Tensor, "out in"], experts: int, rank: int
) -> tuple[Float[Tensor, "hidden in"], Float[Tensor, "out hidden"]]:
    """Split the leading singular triplets of a frozen matrix over the experts (PiSSA; method-facts 1.3).

    Expert e takes triplets e * rank to (e + 1) * rank; A = sqrt(S) V^T and B = U sqrt(S), so that B A is the
    share of `weight` that the triplets span.
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
        experts: experts per group.
        rank, alpha: every expert is scaled by alpha / rank.
        top_k: experts kept per token; `None` keeps all that the token may see.
        routing: "group" (Eq. 5: a token sees its own group's experts) or "global" (Eq. 6: those of every visible one).
        frozen_start: keep the initial experts as buffers and subtract them (SVD initialisation).
    """

    def __init__(
        self, in_features: int, out_features: int, *, experts: int, rank: int, alpha: float, top_k: int | None,
        routing: Routing, frozen_start: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_features, self.out_features, self.experts, self.rank = in_features, out_features, experts, rank
        self.scale, self.top_k, self.routing, self.frozen_start = alpha / rank, top_k, routing, frozen_start
        self.groups = nn.ModuleDict()
        # routers[g][h] is group g's CrossRouter for group h; empty unless routing is global
        self.routers = nn.ModuleDict()

    def add_group(self, group: str) -> None:
        """Add one group's experts; no existing Parameter changes its size or its values."""
        others = list(self.groups)
        self.groups[group] = GroupExperts(
            self.in_features, self.out_features, self.experts, self.rank, frozen_start=self.frozen_start
        )
        if self.routing == "global":
            self.routers[group] = nn.ModuleDict()
            for other in others:
                for rating, rated in ((group, other), (other, group)):
                    routers = cast(nn.ModuleDict, self.routers[rating])
                    routers[rated] = CrossRouter(self.in_features, self.experts)

    def _stack(self, group: str, visible: Sequence[str]) -> tuple[Tensor, Tensor]:
        """`down` and `up` of `add_experts` for tokens of `group` that may see the experts of `visible`."""
        own = cast(GroupExperts, self.groups[group])
        members = [cast(GroupExperts, self.groups[name]) for name in visible]
        if members == [own] and not self.frozen_start:
            return own.down, own.up * self.scale
        hidden = self.experts * self.rank
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
        output: Float[Tensor, "*tokens out"],
        inputs: Float[Tensor, "*tokens in"],
        group: str,
        visible: Iterable[str] | None = None,
    ) -> Float[Tensor, "*tokens out"]:
        """Add to the frozen map's `output` what the experts that `group` may see make of its `inputs`.

        Args:
            visible: groups whose experts the router may choose (global routing); `None` means its own only.

        Raises:
            UnknownModalityError: there is no such group here.
        """
        if group not in self.groups:
            raise UnknownModalityError(group, self.groups)
        seen = [group] if visible is None or self.routing == "group" else list(visible)
        down, up = self._stack(group, seen)
        return add_experts(
            output, inputs, down.to(inputs.dtype), up.to(inputs.dtype),
            experts=self.experts * len(seen), rank=self.rank, top_k=self.top_k,
        )  # fmt: skip
