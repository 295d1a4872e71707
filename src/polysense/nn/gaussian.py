"""vCLUB's approximation q(y | x): a Gaussian whose mean and variance are perceptrons of x (method-facts 2.7)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class GaussianApproximation(nn.Module):
    """Mean and log-variance of y given x, each a perceptron of four layers; the log-variance stays within +-1.

    Args:
        in_dim, out_dim: widths of x and y.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.mean, self.log_variance = _perceptron(in_dim, out_dim), _perceptron(in_dim, out_dim)

    def forward(
        self, x: Float[Tensor, "batch steps in"]
    ) -> tuple[Float[Tensor, "batch steps out"], Float[Tensor, "batch steps out"]]:
        return self.mean(x), self.log_variance(x).tanh()


def _perceptron(in_dim: int, out_dim: int) -> nn.Sequential:
    hidden = max(1, in_dim // 2)
    return nn.Sequential(
        nn.Linear(in_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden),
        nn.ReLU(), nn.Linear(hidden, out_dim),
    )  # fmt: skip
