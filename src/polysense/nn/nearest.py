"""Which code is nearest, for many vectors at once."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_SCORES_AT_ONCE = 1 << 20  # enough for a fast product, few enough to be near when the largest is looked for


def nearest(rows: Float[Tensor, "rows dim"], codes: Float[Tensor, "size dim"]) -> Int[Tensor, " rows"]:
    """Index of the nearest code for every row: one matrix product per few rows, never all scores at once."""
    return nearest_with_scores(rows, codes)[0]


def nearest_with_scores(
    rows: Float[Tensor, "rows dim"], codes: Float[Tensor, "size dim"]
) -> tuple[Int[Tensor, " rows"], Float[Tensor, "rows size"] | None]:
    """`nearest`, and the scores z e - |e|^2 / 2 that it compares, if they are few enough to be there at once.

    The least squared distance has the largest score, so the rows' own lengths are not needed. In single precision at
    least: in half, codes that are near one another would have the same score.
    """
    codes = codes.to(torch.promote_types(codes.dtype, torch.float32))
    half = codes.square().sum(dim=1) / 2
    with torch.autocast(rows.device.type, enabled=False):
        pieces = rows.to(codes.dtype).split(max(1, _SCORES_AT_ONCE // len(codes)))
        if len(pieces) == 1:
            scores = torch.addmm(half, pieces[0], codes.t(), beta=-1)
            return scores.max(dim=1).indices, scores
        found = [torch.addmm(half, piece, codes.t(), beta=-1).max(dim=1).indices for piece in pieces]
    return torch.cat(found), None
