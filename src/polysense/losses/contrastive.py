"""InfoNCE between two modalities (UniAlign, L_NCE of Eq. 16; method-facts 1.7)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

Gather = Callable[[Tensor], Tensor]
"""Turns a process's rows into all processes' rows, in rank order, letting gradients through."""


def info_nce(
    queries: Float[Tensor, "batch embed"],
    keys: Float[Tensor, "batch embed"],
    scale: Float[Tensor, ""] | float,
    labels: Int[Tensor, " batch"] | None = None,
    gather: Gather | None = None,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE: the mean of the cross-entropies of queries over keys and of keys over queries.

    Args:
        queries, keys: unit vectors; row i of one belongs to row i of the other.
        scale: factor on the cosines, CLIP's exponentiated logit scale.
        labels: class of each pair. Another pair of the same class is no negative: its logit is set to -inf, so that
            texts that repeat (class labels) do not push their own class away. `None` keeps all negatives.
        gather: collects the rows of all processes, so that every process sees the loss of the whole batch.

    Returns:
        The loss in nats, the same on every process.
    """
    if gather is not None:
        queries, keys = gather(queries), gather(keys)
        labels = None if labels is None else gather(labels)
    logits = scale * (queries @ keys.t()).float()
    if labels is not None:
        same = labels[:, None] == labels[None, :]
        same.fill_diagonal_(False)
        logits = logits.masked_fill(same, -math.inf)
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2
