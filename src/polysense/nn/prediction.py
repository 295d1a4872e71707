"""Cross-CPC's context: what the past of one sense says about the next step of any sense (method-facts 2.5)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polysense.errors import ConfigError


class ContextPredictor(nn.Module):
    """A unidirectional LSTM over a sequence, and one linear map per step into the future (W_k of Eq. 2).

    Args:
        dim: width of features and context.
        layers: of the LSTM; the paper says one, CMG's release has two.
        horizon: K, steps ahead that are predicted.

    Raises:
        ConfigError: a number that is not positive.
    """

    def __init__(self, dim: int, layers: int = 1, horizon: int = 1) -> None:
        super().__init__()
        if min(dim, layers, horizon) < 1:
            raise ConfigError(f"a predictor of width {dim}, {layers} layers and {horizon} steps ahead",
                              fix="Use positive numbers.")  # fmt: skip
        self.recurrent = nn.LSTM(dim, dim, layers, batch_first=True)
        self.ahead = nn.ModuleList(nn.Linear(dim, dim) for _ in range(horizon))

    def forward(self, past: Float[Tensor, "batch steps dim"]) -> Float[Tensor, "horizon batch dim"]:
        """Predictions of the steps 1..K after the end of `past`."""
        context = self.recurrent(past)[0][:, -1]
        return torch.stack([predict(context) for predict in self.ahead])
