"""Retrieval scores from embeddings, by counting ranks: never a sorted matrix, memory flat in the gallery's size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysense.errors import ConfigError


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
    return _better(queries, gallery, own, lambda columns: columns[None, :] != match[:, None], chunk)


def best_match_ranks(
    queries: Float[Tensor, "queries embed"],
    gallery: Float[Tensor, "gallery embed"],
    owners: Int[Tensor, " gallery"],
    *,
    chunk: int = 4096,
) -> Float[Tensor, " queries"]:
    """Rank of each query's best match where several gallery rows belong to it, such as five captions to a sound.

    Args:
        owners: query that each gallery row belongs to. Further matches of a query are no rivals of its best one.
        chunk: gallery rows compared at once.

    Raises:
        ConfigError: a query has no match.
    """
    own = queries.new_full((len(queries),), -torch.inf)
    own = own.scatter_reduce(0, owners, (gallery * queries[owners]).sum(dim=-1), "amax")[:, None]
    if bool(own.isinf().any()):
        raise ConfigError(f"query {int(own.isinf().nonzero()[0, 0])} has no match in the gallery",
                          fix="Leave it out, or add its match.")  # fmt: skip
    numbers = torch.arange(len(queries), device=queries.device)
    return _better(queries, gallery, own, lambda columns: owners[columns][None, :] != numbers[:, None], chunk)


def _better(
    queries: Float[Tensor, "queries embed"],
    gallery: Float[Tensor, "gallery embed"],
    own: Float[Tensor, "queries 1"],
    rivals: Callable[[Tensor], Tensor],
    chunk: int,
) -> Float[Tensor, " queries"]:
    """How many rivals score better than a query's own match, ties counted half.

    Args:
        rivals: columns of the gallery to which of them are rivals of which query.
    """
    better = torch.zeros(len(queries), device=queries.device)
    for start in range(0, len(gallery), chunk):
        scores = queries @ gallery[start : start + chunk].t()
        rival = rivals(torch.arange(start, start + scores.shape[1], device=queries.device))
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
