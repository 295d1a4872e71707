from __future__ import annotations

import pytest
import torch

from polysense.losses.precision import at_least_single


@pytest.mark.parametrize(
    ("given", "kept"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_only_what_is_less_than_single_is_widened(given: torch.dtype, kept: torch.dtype) -> None:
    values = torch.tensor([0.5, 3.0], dtype=given)
    assert at_least_single(values).dtype == kept and at_least_single(values).tolist() == [0.5, 3.0]
