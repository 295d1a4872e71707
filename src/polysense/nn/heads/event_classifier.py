"""Which event a clip shows, from the codes of its seconds."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class EventClassifier(nn.Module):
    """Linear, maximum over time, linear: CMG's head on AVE, which COMET takes over (method-facts 2.9).

    Args:
        dim: width of the codes.
        classes: number of event classes.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.project, self.classify = nn.Linear(dim, dim), nn.Linear(dim, classes)

    def forward(
        self, codes: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Logits; steps where `mask` is false take no part. A sample needs at least one real step."""
        hidden: Tensor = self.project(codes)
        if mask is not None:
            hidden = hidden.masked_fill(~mask[..., None], -torch.inf)
        logits: Tensor = self.classify(hidden.amax(dim=1))
        return logits
