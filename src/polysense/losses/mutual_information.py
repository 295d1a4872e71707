"""vCLUB: an upper bound of the mutual information of two vectors (Cheng et al. 2020; COMET, Eq. 1; method-facts 2.7).

q(y | x) is a Gaussian that another optimisation fits (`negative_log_likelihood`) while this bound is pushed down.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor


def negative_log_likelihood(
    mean: Float[Tensor, "batch steps dim"],
    log_variance: Float[Tensor, "batch steps dim"],
    y: Float[Tensor, "batch steps dim"],
) -> Float[Tensor, ""]:
    """-log q(y | x) up to factor 2 and constant: squared error over variance plus log-variance, summed over the width
    and averaged over steps."""
    return ((mean - y).square() / log_variance.exp() + log_variance).sum(dim=-1).mean()


def vclub(
    mean: Float[Tensor, "batch steps dim"],
    log_variance: Float[Tensor, "batch steps dim"],
    y: Float[Tensor, "batch steps dim"],
    permutation: Int[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """Half the difference of log q of other samples' y and of a sample's own, in the temporal form of CMG's release:
    squared errors and log-variances are averaged over time first, then divided and summed over the width.

    Args:
        mean, log_variance: of q(y | x) for every x.
        y: the true ones.
        permutation: which other sample's y stands for a draw from p(y).

    Returns:
        The estimate in nats; 0 if the permutation is the identity.
    """
    variance = log_variance.mean(dim=1).exp()
    own = (mean - y).square().mean(dim=1) / variance
    others = (mean - y[permutation]).square().mean(dim=1) / variance
    return (others - own).sum(dim=-1).mean() / 2
