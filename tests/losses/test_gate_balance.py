from __future__ import annotations

import pytest
import torch

from polysense.losses import gate_balance


def test_uniform_gates_cost_nothing() -> None:
    assert gate_balance(torch.full((9, 6), 1 / 6)).item() == pytest.approx(0.0, abs=1e-12)


def test_one_expert_that_takes_everything_costs_their_number_less_one() -> None:
    gates = torch.zeros(5, 6)
    gates[:, 2] = 1
    assert gate_balance(gates).item() == pytest.approx(5.0)


def test_by_hand() -> None:
    """Loads 0.9 and 0.1 of two experts, ideal 0.5: (0.8^2 + 0.8^2) / 2."""
    assert gate_balance(torch.tensor([[1.0, 0.0], [0.8, 0.2]])).item() == pytest.approx(0.64)


def test_no_rows_cost_nothing() -> None:
    assert gate_balance(torch.zeros(0, 3)).item() == 0
