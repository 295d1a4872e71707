from __future__ import annotations

import pytest
import torch
from torch import Tensor

from polysense.merging import running_average


def states(count: int, dtype: torch.dtype = torch.float32) -> list[dict[str, Tensor]]:
    return [{"a": torch.randn(5, 7).to(dtype), "b": torch.randn(11).to(dtype)} for _ in range(count)]


def test_the_average_by_hand() -> None:
    """2/3 of (1, 2) and 1/3 of (4, 8)."""
    merged = running_average({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([4.0, 8.0])}, stage=3)
    assert merged["w"].tolist() == [2.0, 4.0]


@pytest.mark.parametrize("stage", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_equal_models_give_exactly_that_model(stage: int, dtype: torch.dtype) -> None:
    (state,) = states(1, dtype)
    merged = running_average(state, state, stage=stage)
    assert all(torch.equal(merged[key], state[key]) for key in state)


def test_the_running_average_of_all_stages_is_their_mean() -> None:
    models = states(6)
    merged = models[0]
    for stage, model in enumerate(models[1:], start=2):
        merged = running_average(merged, model, stage=stage)
    mean = torch.stack([model["a"].double() for model in models]).mean(dim=0)
    assert (merged["a"] - mean).abs().max() <= 1e-6


def test_half_precision_is_averaged_in_float32_and_rounded_once() -> None:
    previous, current = states(2, torch.bfloat16)
    merged = running_average(previous, current, stage=3)["a"]
    exact = (2 * previous["a"].double() + current["a"].double()) / 3
    assert merged.dtype == torch.bfloat16
    assert ((merged.double() - exact).abs() <= 2.0**-8 * exact.abs() + 1e-6).all()


def test_the_result_has_the_dtype_of_the_previous_state() -> None:
    previous, current = {"w": torch.ones(2, dtype=torch.bfloat16)}, {"w": torch.full((2,), 2.0)}
    assert running_average(previous, current, stage=2)["w"].dtype == torch.bfloat16
    assert running_average(current, previous, stage=2)["w"].dtype == torch.float32
