"""Losses are computed in single precision at least: half precision is widened, double precision kept."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_single(values: Float[Tensor, "*sizes"]) -> Float[Tensor, "*sizes"]:
    """The values themselves, or in single precision if theirs is less."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
