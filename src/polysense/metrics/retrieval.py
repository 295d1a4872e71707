"""Retrieval scores from embeddings, by counting ranks: never a sorted matrix, memory flat in the gallery's size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def match_ranks(
    queries: Float[Tensor, "queries embed"],
    gallery: Float[Tensor, "gallery embed"],
    match: Int[Tensor, " queries"] | None = None,
    *,
    chunk: int = 4096,
) -> Float[Tensor, " queries"]:
    """Rank of each query's match in the gallery, 0 for the best; ties count half.

    Args:
        match: gallery row that belongs to each query; by default row i to query i.
        chunk: gallery rows compared at once.
    """
    match = torch.arange(len(queries), device=queries.device) if match is None else match
    own = (queries * gallery[match]).sum(dim=-1, keepdim=True)
    better = torch.zeros(len(queries), device=queries.device)
    for start in range(0, len(gallery), chunk):
        scores = queries @ gallery[start : start + chunk].t()
        columns = torch.arange(start, start + scores.shape[1], device=queries.device)
        rival = columns[None, :] != match[:, None]
        # a product of rows and a dot product differ in the last bits: what is that close is a tie
        near = torch.isclose(scores, own, rtol=1e-6, atol=1e-6)
        better += ((scores > own) & ~near & rival).sum(dim=-1) + 0.5 * (near & rival).sum(dim=-1)
    return better


def recall_at(ranks: Float[Tensor, " queries"], ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """R@k for each k: the share of queries whose match is among the k best, as `{"R@1": ...}` between 0 and 1."""
    return {f"R@{k}": (ranks < k).float().mean().item() for k in ks}


def composed(*parts: Float[Tensor, "batch embed"]) -> Float[Tensor, "batch embed"]:
    """One query of several senses (A + V): the normalised mean of their unit vectors (method-facts 1.5)."""
    return torch.nn.functional.normalize(torch.stack(parts).mean(dim=0), dim=-1)
