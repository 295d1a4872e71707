from __future__ import annotations

import math

import pytest
import torch

from polysense.errors import FeatureShapeError
from polysense.nn.alignment import ALIGNMENTS, cross_attention, same_step


def test_the_partner_of_a_step_is_the_step_at_the_same_time() -> None:
    queries, keys, values = torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.randn(2, 3, 5)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    partners, there = same_step(queries, keys, values, mask)
    assert torch.equal(partners, values) and torch.equal(there, mask)
    with pytest.raises(FeatureShapeError, match=r"3 and 2 steps cannot be paired.*mixing: attention"):
        same_step(queries, keys[:, :2], values[:, :2], mask[:, :2])


def test_attention_by_hand() -> None:
    """Scores 0 and ln 3 after the scaling by sqrt(1) give weights 1/4 and 3/4."""
    queries = torch.tensor([[[math.log(3.0)]]])
    keys, values = torch.tensor([[[0.0], [1.0], [9.0]]]), torch.tensor([[[4.0], [8.0], [1e6]]])
    partners, there = cross_attention(queries, keys, values, torch.tensor([[True, True, False]]))
    assert partners.item() == pytest.approx(0.25 * 4 + 0.75 * 8) and there.tolist() == [[True]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_attention_in_other_precisions(dtype: torch.dtype) -> None:
    queries, keys = torch.randn(2, 5, 4), torch.randn(2, 3, 4)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    expected, _ = cross_attention(queries, keys, keys, mask)
    partners, _ = cross_attention(queries.to(dtype), keys.to(dtype), keys.to(dtype), mask)
    assert partners.dtype == dtype
    torch.testing.assert_close(partners[0].float(), expected[0], atol=0.05, rtol=0.05)


def test_attention_takes_sequences_of_different_lengths_and_knows_empty_ones() -> None:
    mask = torch.tensor([[True, False, False], [False, False, False]])
    keys = torch.randn(2, 3, 4)
    partners, there = cross_attention(torch.randn(2, 5, 4), keys, keys, mask)
    torch.testing.assert_close(partners[0], keys[0, :1].expand(5, 4))
    assert there.tolist() == [[True] * 5, [False] * 5]
    assert set(ALIGNMENTS) == {"time", "attention"}
