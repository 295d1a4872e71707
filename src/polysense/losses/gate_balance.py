"""Load balance of a dense mixture (COMET, Eq. 5)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def gate_balance(gates: Float[Tensor, "rows experts"]) -> Float[Tensor, ""]:
    """mean_j (L_j / (B / U) - 1)^2 with L_j the sum of expert j's gates over B rows and U experts.

    0 for uniform gates, U - 1 where one expert gets everything, 0 without any row.
    """
    if not len(gates):
        return gates.sum() * 0
    load = gates.float().mean(dim=0) * gates.shape[1]
    return (load - 1).square().mean()
