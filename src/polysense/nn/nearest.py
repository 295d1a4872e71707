"""Which code is nearest, for many vectors at once."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_SCORES_AT_ONCE = 1 << 20  # enough for a fast product, few enough to be near when the largest is looked for


def nearest(rows: Float[Tensor, "rows dim"], codes: Float[Tensor, "size dim"]) -> Int[Tensor, " rows"]:
    """Index of the nearest code for every row: one matrix product per few rows, never all scores at once.

    Least squared distance is the largest z e - |e|^2 / 2, so the rows' own lengths are not needed.
    """
    half = codes.square().sum(dim=1) / 2
    with torch.autocast(rows.device.type, enabled=False):
        pieces = rows.to(codes.dtype).split(max(1, _SCORES_AT_ONCE // len(codes)))
        found = [torch.addmm(half, piece, codes.t(), beta=-1).max(dim=1).indices for piece in pieces]
    return torch.cat(found) if found else rows.new_zeros(0, dtype=torch.int64)
