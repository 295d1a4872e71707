"""Which vector of another sense belongs to each step of a sequence (CMG's r; method-facts 2.3).

An alignment is a function and a registration in `ALIGNMENTS`. None has parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polysense.errors import FeatureShapeError

Aligned: TypeAlias = tuple[Float[Tensor, "batch steps width"], Bool[Tensor, "batch steps"]]
"""For every step of the query its partner, and whether there is one."""

Alignment: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Aligned]
"""`align(queries, keys, values, mask)`: partners are made of `values`, which go with `keys`, where `mask` is true."""


def same_step(
    queries: Float[Tensor, "batch steps dim"],
    keys: Float[Tensor, "batch others dim"],
    values: Float[Tensor, "batch others width"],
    mask: Bool[Tensor, "batch others"],
) -> Aligned:
    """The step at the same time: what CMG's release does, whose authors found cross-attention to make no difference.

    Raises:
        FeatureShapeError: the sequences have different numbers of steps.
    """
    if queries.shape[1] != keys.shape[1]:
        raise FeatureShapeError(
            f"sequences of {queries.shape[1]} and {keys.shape[1]} steps cannot be paired step by step",
            fix="Give both sides the same number of steps (padded, with a mask), or use mixing: attention.",
        )
    return values, mask


def cross_attention(
    queries: Float[Tensor, "batch steps dim"],
    keys: Float[Tensor, "batch others dim"],
    values: Float[Tensor, "batch others width"],
    mask: Bool[Tensor, "batch others"],
) -> Aligned:
    """Scaled dot-product attention to all real steps of the other sense, as CMG's paper has it (its section 3.3)."""
    scores = queries @ keys.transpose(1, 2) / math.sqrt(queries.shape[-1])
    weights = scores.masked_fill(~mask[:, None, :], torch.finfo(scores.dtype).min).softmax(dim=-1)
    return weights.to(values.dtype) @ values, mask.any(dim=1, keepdim=True).expand(queries.shape[:2])


ALIGNMENTS: dict[str, Alignment] = {"time": same_step, "attention": cross_attention}
