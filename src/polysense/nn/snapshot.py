"""A frozen copy of the way of one sense: the teacher of the replay that does not drift."""

from __future__ import annotations

import copy
from typing import Self, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polysense.nn.common_specific import CommonSpecificExperts
from polysense.nn.sequence_encoder import SemanticEncoder


class Snapshot(nn.Module):
    """The way of one sense to its continuous features, frozen as it was: a teacher that forgets nothing."""

    def __init__(self, semantic: SemanticEncoder, adapter: CommonSpecificExperts | None, branch: str) -> None:
        super().__init__()
        self.semantic, self.adapter, self.branch = copy.deepcopy(semantic), copy.deepcopy(adapter), branch
        if self.adapter is not None:
            for other in [name for name in self.adapter.specific if name != branch]:
                del self.adapter.specific[other]
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode, whatever it is a part of."""
        return super().train(False)

    @torch.no_grad()
    def forward(
        self, features: Float[Tensor, "batch time *sizes"], mask: Bool[Tensor, "batch time"] | None
    ) -> Float[Tensor, "batch time dim"]:
        z = self.semantic(self.semantic.front(features, mask), mask)
        return cast(Tensor, z if self.adapter is None else self.adapter(self.branch, z)[0])
