"""Which events happen in which second: precision, recall and F1 over seconds and classes (CMG's protocol on AVVP)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor


@dataclass(frozen=True)
class EventScore:
    """Scores between 0 and 1.

    Attributes:
        precision: share of the predicted (second, class) pairs that are right.
        recall: share of the true pairs that were predicted.
    """

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; 0 where both are."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-12)


def event_score(
    predicted: Bool[Tensor, "samples time classes"],
    truth: Bool[Tensor, "samples time classes"],
    mask: Bool[Tensor, "samples time"] | None = None,
    *,
    batch_size: int | None = None,
) -> EventScore:
    """Micro precision and recall; background is a class like any other.

    Args:
        mask: false where a step is padding and does not count.
        batch_size: the published convention: precision and recall of every so many samples, averaged with their
            numbers of samples as weights, and F1 of the averages (method-facts 2.9). `None` takes all samples
            together, so that the score does not depend on how they were batched.

    Returns:
        The score; precision is 0 where nothing was predicted, recall 0 where there is nothing to find.
    """
    if mask is not None:
        predicted, truth = predicted & mask[..., None], truth & mask[..., None]
    right, made, there = (each.flatten(1).sum(dim=1).double() for each in (predicted & truth, predicted, truth))
    size = batch_size or len(right)
    precision = recall = 0.0
    for hits, claims, facts in zip(right.split(size), made.split(size), there.split(size), strict=True):
        weight = len(hits) / len(right)
        precision += weight * float(hits.sum() / claims.sum().clamp(min=1))
        recall += weight * float(hits.sum() / facts.sum().clamp(min=1))
    return EventScore(precision, recall)


def constant_f1(
    truth: Bool[Tensor, "samples time classes"], mask: Bool[Tensor, "samples time"] | None = None
) -> float:
    """The best F1 that the same classes in every second reach: what localisation is worth that sees nothing."""
    steps = truth.flatten(0, 1) if mask is None else truth[mask]
    often = steps.sum(dim=0).sort(descending=True).values.double()
    claims = len(steps) * torch.arange(1, len(often) + 1, device=often.device)
    return float((2 * often.cumsum(dim=0) / (claims + often.sum()).clamp(min=1)).max())


def f1_interval(
    predicted: Bool[Tensor, "samples time classes"],
    truth: Bool[Tensor, "samples time classes"],
    mask: Bool[Tensor, "samples time"] | None = None,
    *,
    draws: int = 1000,
) -> tuple[float, float]:
    """90 % interval of the F1 of `event_score` (all samples together) over the samples, by a seeded bootstrap."""
    if mask is not None:
        predicted, truth = predicted & mask[..., None], truth & mask[..., None]
    counts = torch.stack(
        [(predicted & truth).flatten(1).sum(1), (predicted.flatten(1).sum(1) + truth.flatten(1).sum(1))]
    )
    chosen = torch.randint(len(truth), (draws, len(truth)), generator=torch.Generator().manual_seed(0))
    right, both = counts.double().cpu()[:, chosen].sum(dim=-1)
    low, high = (2 * right / both.clamp(min=1)).quantile(torch.tensor([0.05, 0.95], dtype=torch.float64)).tolist()
    return low, high
