"""The losses of event localisation: binary cross-entropy and CMG's ExpLog term (method-facts 2.9)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

INITIAL_DISCOUNT = 0.1


def exp_log(
    logits: Float[Tensor, "batch time classes"],
    targets: Float[Tensor, "batch time classes"],
    discounts: Float[Tensor, " classes"],
    mask: Bool[Tensor, "batch time"] | None = None,
) -> Float[Tensor, ""]:
    """-mean over seconds of sum_c y_c exp(-a_c) log softmax_c: the classes that are there against all others.

    Args:
        targets: 1 where the class happens in that second, 0 elsewhere; several may.
        discounts: a_c.
        mask: false where a step is padding.
    """
    each = -(targets * logits.log_softmax(dim=-1) * discounts.neg().exp()).sum(dim=-1)
    return _mean(each, mask)


class LocalisationLoss(nn.Module):
    """Binary cross-entropy plus `exp_log`, whose discounts are learned.

    Nothing holds the discounts back, so that training lets them grow and the second term fades: as published.

    Args:
        classes: number of event classes, background included.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.discounts = nn.Parameter(torch.full((classes,), INITIAL_DISCOUNT))

    def forward(
        self,
        logits: Float[Tensor, "batch time classes"],
        targets: Float[Tensor, "batch time classes"],
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, ""]:
        each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=-1)
        return _mean(each, mask) + exp_log(logits, targets, self.discounts, mask)


def _mean(each: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"] | None) -> Float[Tensor, ""]:
    return each.mean() if mask is None else each[mask].mean()
