"""Cross-modal contrastive predictive coding (CMG, Eq. 2; method-facts 2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from polysense.losses.contrastive import Gather

Axis = Literal["both", "predictions", "targets"]


def cross_cpc(
    predictions: Mapping[str, Float[Tensor, "batch dim"]],
    targets: Mapping[str, Float[Tensor, "batch dim"]],
    *,
    axis: Axis = "both",
    self_weight: float = 0.1,
    weights: Mapping[str, Float[Tensor, " batch"]] | None = None,
    gather: Gather | None = None,
) -> Float[Tensor, ""]:
    """Every sense's prediction has to find the true next step of every sense among those of the batch.

    The sum over ordered pairs of senses of the mean over samples; pairs of a sense with itself count `self_weight`.
    Scores are plain dot products, the other samples at the same step are the negatives.

    Args:
        predictions: sense to W c, what its past says of the next step. A sense that only serves as a teacher may be
            in `targets` alone, or the other way round.
        targets: sense to the features of the next step.
        axis: what the softmax runs over: "predictions" as in CMG's release, "targets" as in its Eq. 2, or the mean of
            both.
        self_weight: of predictions of a sense from its own past; 0 leaves them out.
        weights: sense to a factor per sample on the terms that have the sense as their target.
        gather: collects the rows of all processes, see `info_nce`.
    """
    if gather is not None:
        predictions = {name: gather(each) for name, each in predictions.items()}
        targets = {name: gather(each) for name, each in targets.items()}
        weights = {name: gather(each) for name, each in (weights or {}).items()}
    total = next(iter(targets.values())).sum().float() * 0
    for source, predicted in predictions.items():
        for sense, true in targets.items():
            factor = self_weight if source == sense else 1.0
            if factor and len(true):
                losses = _losses((true @ predicted.t()).float(), axis)
                scale = (weights or {}).get(sense)
                total = total + factor * (losses if scale is None else losses * scale).mean()
    return total


def _losses(scores: Float[Tensor, "targets predictions"], axis: Axis) -> Float[Tensor, " batch"]:
    """Negative log-probability of the diagonal."""
    own = torch.arange(len(scores), device=scores.device)
    by_target = F.cross_entropy(scores, own, reduction="none") if axis != "targets" else 0.0
    by_prediction = F.cross_entropy(scores.t(), own, reduction="none") if axis != "predictions" else 0.0
    return (by_target + by_prediction) / (2 if axis == "both" else 1)  # type: ignore[return-value]  # never both 0.0
