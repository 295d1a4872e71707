"""Masks of padded samples: which tokens attention may see, which time steps an average counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from polysense.errors import FeatureShapeError

Mask = Bool[Tensor, "batch steps"] | Int[Tensor, "batch steps"]
"""True (or non-zero, as tokenizers of text give it) where a step is real and not padding."""
MaskLike: TypeAlias = Mask | Sequence[Sequence[int]]
"""The same, or as rows of truth values or numbers."""


def step_mask(mask: MaskLike, device: torch.device, *, where: str) -> Bool[Tensor, "batch steps"]:
    """A mask as truth values.

    Raises:
        FeatureShapeError: rows that are not of one length.
    """
    try:
        return torch.as_tensor(mask, device=device).bool()
    except (TypeError, ValueError, RuntimeError) as error:
        raise FeatureShapeError(f"the mask is no table of truth values ({error})", where=where,
                                fix="Give one truth value per sample and step.") from error  # fmt: skip


def attention_mask(mask: Mask, rows: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch 1 tokens tokens"]:
    """Additive mask that hides padding tokens of `rows`, whose first token is the class token and always seen."""
    seen = F.pad(mask.bool(), (1, 0), value=True)[:, None, None, :].expand(-1, 1, rows.shape[1], -1)
    hidden = torch.finfo(rows.dtype).min
    return torch.zeros(seen.shape, dtype=rows.dtype, device=rows.device).masked_fill(~seen, hidden)


def real_steps(mask: Mask | None, batch: int, steps: int, device: torch.device) -> Bool[Tensor, "batch encoded"]:
    """Which encoded time steps are real. Several steps of `mask` may share one (tubelets): any real one counts.

    Raises:
        FeatureShapeError: the mask has another batch size, or no whole number of its steps per encoded step.
    """
    if mask is None:
        return torch.ones(batch, steps, dtype=torch.bool, device=device)
    if mask.shape[0] != batch or mask.shape[1] % steps:
        raise FeatureShapeError(
            f"a mask of shape {tuple(mask.shape)} does not fit {batch} samples of {steps} steps",
            fix="Use the mask that the processor returned with the features.",
        )
    return cast(Tensor, mask.bool().unflatten(1, (steps, -1)).any(dim=-1))


def masked_mean(
    values: Float[Tensor, "batch steps dim"], mask: Bool[Tensor, "batch steps"]
) -> Float[Tensor, "batch dim"]:
    """Mean over the real steps; zero where a sample has none, the value itself where there is only one step."""
    if values.shape[1] == 1:
        return values[:, 0]
    weights = mask.to(values.dtype)
    total = zero_padding(values, mask).sum(dim=1)
    counts = weights.sum(dim=1, keepdim=True).clamp(min=1)
    return total / counts


def zero_padding(
    sequence: Float[Tensor, "batch steps *sizes"], mask: Bool[Tensor, "batch steps"] | None
) -> Float[Tensor, "batch steps *sizes"]:
    """The sequence with zeros in its padded steps, whatever stood there: hidden or not, NaN would spread."""
    return sequence if mask is None else torch.where(mask.view(*mask.shape, *[1] * (sequence.ndim - 2)), sequence, 0.0)
