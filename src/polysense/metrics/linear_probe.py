"""What a linear classifier reads out of frozen features: the usual check of self-supervised encoders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from polysense.errors import FeatureShapeError

_ITERATIONS = 60


def linear_probe(
    features: Float[Tensor, "samples dim"],
    labels: Sequence[str],
    tested: Float[Tensor, "tested dim"],
    penalty: float = 1e-3,
) -> list[str]:
    """Labels of `tested` by multinomial logistic regression on `features`, standardised by the latter's statistics.

    Args:
        features, labels: what the classifier is fitted to, by L-BFGS from zero, so that it is a function of its input.
        penalty: factor on the squared weights beside the mean cross-entropy.

    Raises:
        FeatureShapeError: numbers of samples that differ, or fewer than two classes.
    """
    names = sorted(set(labels))
    if len(features) != len(labels) or len(names) < 2:
        raise FeatureShapeError(
            f"{tuple(features.shape)} features with {len(labels)} labels of {len(names)} classes cannot be probed",
            fix="Give a label per row, and two classes at least.",
        )  # fmt: skip
    mean, scale = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
    known, asked = (features - mean) / scale, (tested - mean) / scale
    numbers = {name: number for number, name in enumerate(names)}
    weight = _fitted(known, torch.tensor([numbers[label] for label in labels], device=known.device), penalty)
    best = (asked @ weight[:-1] + weight[-1]).argmax(dim=1)
    return [names[number] for number in best.tolist()]


def _fitted(
    rows: Float[Tensor, "samples dim"], targets: Int[Tensor, " samples"], penalty: float
) -> Float[Tensor, "dim_and_one classes"]:
    """Weights with the biases below them; biases are not penalised."""
    classes = int(targets.max()) + 1
    weight = torch.zeros(rows.shape[1] + 1, classes, device=rows.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        value = F.cross_entropy(rows @ weight[:-1] + weight[-1], targets) + penalty * weight[:-1].square().sum()
        value.backward()
        return value.item()

    with torch.enable_grad():
        optimizer.step(loss)
    return weight.detach()
