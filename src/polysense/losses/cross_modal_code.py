"""Cross-modal code matching: samples that belong together use the same codes (Liu et al. 2021; method-facts 2.6)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polysense.losses.contrastive import Gather
from polysense.losses.precision import at_least_single

_EPSILON = 1e-10


def code_distribution(
    features: Float[Tensor, "batch steps dim"],
    codes: Float[Tensor, "size dim"],
    mask: Bool[Tensor, "batch steps"] | None = None,
) -> Float[Tensor, "batch size"]:
    """How likely each code is for a sample: softmax of the negative Euclidean distance, averaged over real steps.

    Gradients flow to the features alone if `codes` is a buffer. One matrix product, no table of differences, in single
    precision at least.
    """
    rows = at_least_single(features).flatten(0, 1)
    table = codes.to(rows.dtype)
    squared = torch.addmm(table.square().sum(dim=1), rows, table.t(), alpha=-2) + rows.square().sum(
        dim=1, keepdim=True
    )
    # the root has no slope at zero: a feature on its code gets no gradient from that code
    likely = (-squared.clamp(min=1e-12).sqrt()).softmax(dim=1).view(*features.shape[:2], -1)
    if mask is None:
        return likely.mean(dim=1)
    weights = mask.to(likely.dtype)
    return torch.einsum("bts,bt->bs", likely, weights / weights.sum(dim=1, keepdim=True).clamp(min=1))


def cross_modal_code(
    distributions: Mapping[str, Float[Tensor, "batch size"]], *, gather: Gather | None = None
) -> Float[Tensor, ""]:
    """Sum over pairs of senses of the cross-entropy of finding a sample's other half by its codes.

    S_ij = sum_k P^a_ik log P^b_jk + P^b_ik log P^a_jk; the loss of a pair is -mean_i log softmax_j(S)_ii, so log B
    where all samples have the same codes. The released code shifts by the maximum and adds 1e-5 to the denominator,
    which a log-softmax makes needless.

    Args:
        distributions: sense to `code_distribution`.
        gather: collects the rows of all processes, see `info_nce`.
    """
    if gather is not None:
        distributions = {name: gather(each) for name, each in distributions.items()}
    total = next(iter(distributions.values())).sum() * 0
    for first, second in combinations(distributions.values(), 2):
        scores = first @ (second + _EPSILON).log().t() + second @ (first + _EPSILON).log().t()
        total = total - scores.log_softmax(dim=1).diagonal().mean()
    return total
