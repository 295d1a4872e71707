"""Soft modality binding across data sets that share no sample (UniAlign, section 3.2, Eqs. 10-11)."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def label_similarity(
    own: Float[Tensor, "own embed"], other: Float[Tensor, "other embed"], scale: Float[Tensor, ""] | float
) -> Float[Tensor, "own other"]:
    """S(y_i, y_j) of Eq. 10: how much each class of one data set is like each class of the other; rows sum to one.

    `scale` multiplies the dot products of unit vectors; 1 is the printed equation, whose softmax over hundreds of
    labels is nearly uniform, so recipes use CLIP's logit scale (method-facts 1.7).
    """
    return (scale * (own @ other.t()).float()).softmax(dim=-1)


def soft_binding(
    embeddings: Float[Tensor, "batch embed"],
    labels: Int[Tensor, " batch"],
    own: Float[Tensor, "own embed"],
    other: Float[Tensor, "other embed"],
    scale: Float[Tensor, ""] | float,
) -> Float[Tensor, ""]:
    """One direction of Eq. 11: pull S(x, y_other) of samples towards S(y_own, y_other) of their own classes.

    Args:
        embeddings: samples of this data set's modality, unit norm.
        labels: class of each sample, an index into `own`.
        own, other: text embeddings of the two data sets' class names, unit norm. Constants: no gradient flows there.
        scale: factor on the dot products, see `label_similarity`.

    Returns:
        KL(target | model) in nats, the mean over the batch. The other direction is the same call with the data sets
        exchanged; no sample of the other data set is needed.
    """
    target = label_similarity(own, other, scale).detach()[labels]
    model = (scale * (embeddings @ other.t()).float()).log_softmax(dim=-1)
    return F.kl_div(model, target, reduction="batchmean")
