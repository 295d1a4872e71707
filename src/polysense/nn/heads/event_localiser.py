"""Which events happen in each second, from the codes of those seconds."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class EventLocaliser(nn.Module):
    """Two linear maps, second by second: CMG's head on AVVP, which COMET takes over (method-facts 2.9).

    Args:
        dim: width of the codes.
        classes: number of event classes, background included.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.project, self.classify = nn.Linear(dim, dim), nn.Linear(dim, classes)

    def forward(self, codes: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time classes"]:
        """Logits, each class for itself: a sigmoid above 0.5 says that the event happens."""
        logits: Tensor = self.classify(self.project(codes))
        return logits
