"""Merging low-rank updates exactly: on the weights they stand for, never on their factors.

A stage that trains a fresh LoRA on the merged weights ends at W_{i-1} + s B_i A_i, so the running average of MERA
(section 4.1) scales its delta and needs no old weights:

    W_i = (i-1)/i W_{i-1} + 1/i (W_{i-1} + s B_i A_i) = W_{i-1} + (s/i) B_i A_i
    W_m = W_0 + sum_i (s/i) B_i A_i

Averaging the factors is something else: it adds the cross terms B_1 A_2 and B_2 A_1. With

    A_1 = [1 0], B_1 = [1 0]^T   so that   B_1 A_1 = [1 0; 0 0]
    A_2 = [0 1], B_2 = [0 1]^T   so that   B_2 A_2 = [0 0; 0 1]

the mean delta is [1/2 0; 0 1/2], of rank 2. The mean factors give [1/4 1/4; 1/4 1/4], and peft's
`add_weighted_adapter(combination_type="linear")`, which takes the square root of the weights, [1/2 1/2; 1/2 1/2]; both
are of rank 1. Its "cat", and `concatenate_factors` here, are exact at the cost of the summed rank. For the same reason
a stage trains a fresh LoRA: the average of one that went on training would have twice the rank after every stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from polysense.errors import ConfigError
from polysense.merging.registry import check_finite, check_stage

Factors = tuple[Float[Tensor, "_ _"], Float[Tensor, "_ _"], float]
"""A (rank inputs), B (outputs rank) and the factor before B A: the LoRA's scaling, alpha / rank, times its coefficient
in the merge. Ranks may differ from one to the next."""


def merge_coefficients(stages: int) -> list[float]:
    """[1, 1/2, 1/3, ...]: what each stage's delta counts in the running average after `stages` stages.

    Raises:
        ConfigError: fewer than one stage.
    """
    check_stage(stages)
    return [1 / stage for stage in range(1, stages + 1)]


def lora_delta(
    A: Float[Tensor, "rank inputs"], B: Float[Tensor, "outputs rank"], scaling: float
) -> Float[Tensor, "outputs inputs"]:
    """s B A, in at least float32. Raises `ConfigError` where the ranks differ."""
    _weight_shape(A, B, scaling)
    precision = _precision(A, B)
    return scaling * (B.to(precision) @ A.to(precision))


@torch.no_grad()
def effective_weight(
    weight: Float[Tensor, "outputs inputs"], deltas: Sequence[Factors]
) -> Float[Tensor, "outputs inputs"]:
    """W_0 + sum_i s_i B_i A_i, in at least float32, not yet rounded to the dtype of `weight`.

    Args:
        weight: W_0, the weight before the first stage.
        deltas: one (A_i, B_i, coefficient * scaling) per stage, see `merge_coefficients`.

    Raises:
        ConfigError: the shapes of a delta do not fit.
    """
    check_deltas(weight.shape, deltas)
    start = weight.to(_precision(weight), copy=True)
    return sum((lora_delta(A, B, scale) for A, B, scale in deltas), start=start)


@torch.no_grad()
def concatenate_factors(factors: Sequence[Factors]) -> Factors:
    """One LoRA of the summed rank whose delta is the weighted sum: [B_1 B_2 ...] [s_1 A_1; s_2 A_2; ...].

    So a merge of m stages can be saved as one peft adapter: rank and alpha both the summed rank. peft calls the same
    "cat" (`add_weighted_adapter`).

    Args:
        factors: (A_i, B_i, coefficient * scaling) of the same layer, ranks as they may be.

    Returns:
        A, B in at least float32 and the scaling 1, which can be merged on.

    Raises:
        ConfigError: there are none, or their shapes do not fit one layer.
    """
    if not factors:
        raise ConfigError("there are no factors to concatenate", fix="Give at least one LoRA.")
    shapes = {_weight_shape(*each) for each in factors}
    if len(shapes) > 1:
        raise ConfigError(f"the LoRAs are of layers of shapes {sorted(shapes)}", fix="Give factors of one layer.")
    precision = _precision(*(each for A, B, _ in factors for each in (A, B)))
    rows = torch.cat([scale * A.to(precision) for A, _, scale in factors])
    return rows, torch.cat([B.to(precision) for _, B, _ in factors], dim=1), 1.0


def check_deltas(shape: Sequence[int], deltas: Sequence[Factors], *, where: str | None = None) -> None:
    """Every delta has the shape of the weight it is for. Raises `ConfigError`, naming `where`."""
    for delta in deltas:
        if (found := _weight_shape(*delta)) != tuple(shape):
            raise ConfigError(f"a LoRA for weights of shape {found} meets {tuple(shape)}", where=where,
                              fix="Give the factors of this very layer.")  # fmt: skip


def _weight_shape(A: Tensor, B: Tensor, scaling: float) -> tuple[int, int]:
    """(outputs, inputs) of the weight that a LoRA belongs to; `ConfigError` if it is none."""
    check_finite("scaling", scaling)
    if A.ndim != 2 or B.ndim != 2 or len(A) != B.shape[1]:
        raise ConfigError(f"A of shape {tuple(A.shape)} and B of shape {tuple(B.shape)} are no LoRA of a linear layer",
                          fix="Give A as (rank, inputs) and B as (outputs, rank).")  # fmt: skip
    return len(B), A.shape[1]


def _precision(*tensors: Tensor) -> torch.dtype:
    wide = (tensor.dtype for tensor in tensors if tensor.dtype.itemsize > 1)  # torch promotes no 8-bit floats
    return reduce(torch.promote_types, wide, torch.float32)
