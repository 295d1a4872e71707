from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polysense.nn.nearest import nearest


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 9), st.integers(1, 5), st.integers(0, 10_000))
def test_the_flat_search_agrees_with_all_distances(rows: int, size: int, dim: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors, codes = torch.randn(rows, dim, generator=generator), torch.randn(size, dim, generator=generator)
    distances = torch.cdist(vectors.double(), codes.double())
    found = distances.gather(1, nearest(vectors, codes)[:, None])[:, 0]
    torch.testing.assert_close(found, distances.min(dim=1).values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_finds_the_nearest_of_its_own_codes(dtype: torch.dtype) -> None:
    vectors, codes = (300 + torch.randn(64, 8)).to(dtype), (300 + torch.randn(32, 8)).to(dtype)
    assert torch.equal(nearest(vectors, codes), nearest(vectors.double(), codes.double()))


def test_no_vectors_have_no_nearest_codes_and_of_equal_codes_the_first_counts() -> None:
    codes = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert nearest(torch.zeros(0, 2), codes).tolist() == []
    assert nearest(torch.ones(3, 2), codes).tolist() == [0, 0, 0]
