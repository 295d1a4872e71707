"""Cross-modal code matching: samples that belong together use the same codes (Liu et al. 2021; method-facts 2.6)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from polysense.losses.contrastive import Gather
from polysense.losses.precision import at_least_single

_EPSILON = 1e-10
_NEAREST = 1e-6  # a distance below counts as this


def code_distribution(
    features: Float[Tensor, "batch steps dim"],
    codes: Float[Tensor, "size dim"],
    mask: Bool[Tensor, "batch steps"] | None = None,
    scores: Float[Tensor, "batch steps size"] | None = None,
) -> Float[Tensor, "batch size"]:
    """How likely each code is for a sample: softmax of the negative Euclidean distance, averaged over real steps.

    Gradients flow to the features alone. One matrix product each way, no table of differences, in single precision at
    least.

    Args:
        scores: z e - |e|^2 / 2 of every step z and code e, where a search for the nearest code has left them.
    """
    rows = at_least_single(features)
    with torch.autocast(rows.device.type, enabled=False):
        table = codes.detach().to(rows.dtype)
        if scores is None or scores.dtype != rows.dtype:
            flat = torch.addmm(table.square().sum(dim=1) / 2, rows.detach().flatten(0, 1), table.t(), beta=-1)
            scores = flat.view(*rows.shape[:2], -1)
        real = rows.new_ones(rows.shape[:2]) if mask is None else mask.to(rows.dtype)
        weights = real / real.sum(dim=1, keepdim=True).clamp(min=1)
        return cast(Tensor, _CodeDistribution.apply(rows, table, weights, scores))


class _CodeDistribution(torch.autograd.Function):
    """sum_t w_t softmax_k(-s_tk) with s_tk = |z_t - e_k|, whose slope is dz_t = sum_k (dL / ds_tk) (z_t - e_k) / s_tk.

    Autograd would keep and pass over a table of steps by codes for every operation; this keeps two.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, codes: Tensor, weights: Tensor, scores: Tensor) -> Tensor:
        squared = torch.add(features.square().sum(dim=-1, keepdim=True), scores, alpha=-2)
        distances = squared.clamp_(min=_NEAREST**2).sqrt_()
        likely = distances.neg().softmax(dim=-1)
        ctx.save_for_backward(features, codes, weights, distances, likely)
        return (weights[:, None] @ likely)[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, codes, weights, distances, likely = ctx.saved_tensors
        mean = likely @ grad[:, :, None]
        pull = (grad[:, None] - mean).mul_(likely).div_(distances)  # -(dL / ds) / s, but for the weight
        if distances.amin() <= _NEAREST:  # the root has no slope at zero: a feature on its code gets none from it
            pull.masked_fill_(distances <= _NEAREST, 0.0)
        towards = torch.matmul(pull, codes).sub_(pull.sum(dim=-1, keepdim=True) * features)
        return towards.mul_(weights[..., None]), None, None, None


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
        with torch.autocast(first.device.type, enabled=False):
            scores = first @ (second + _EPSILON).log().t() + second @ (first + _EPSILON).log().t()
        total = total - scores.log_softmax(dim=1).diagonal().mean()
    return total
