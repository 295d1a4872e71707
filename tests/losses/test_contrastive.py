from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polysense.losses import info_nce


def test_two_pairs_by_hand() -> None:
    """Logits [[2, 0], [1, 1.732]]: rows -log(e2/(e2+1)) and -log(e1.732/(e1.732+e)); columns likewise."""
    queries = torch.tensor([[1.0, 0.0], [0.5, math.sqrt(3) / 2]])
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    rows = math.log1p(math.exp(-2.0)) + math.log1p(math.exp(1 - math.sqrt(3)))
    columns = math.log1p(math.exp(1.0 - 2.0)) + math.log1p(math.exp(-math.sqrt(3)))
    assert info_nce(queries, keys, 2.0).item() == pytest.approx((rows + columns) / 4, abs=1e-6)


def test_another_pair_of_the_same_class_is_no_negative() -> None:
    """Of three pairs the first two share a class: pair 0 competes with pair 2 alone, pair 2 with both."""
    queries = torch.eye(3)
    loss = info_nce(queries, queries, 1.0, labels=torch.tensor([7, 7, 9]))
    one_rival, two_rivals = math.log1p(math.exp(-1.0)), math.log1p(2 * math.exp(-1.0))
    assert loss.item() == pytest.approx((2 * one_rival + two_rivals) / 3, abs=1e-6)


def test_one_class_only_gives_zero_loss_and_finite_gradients() -> None:
    queries = F.normalize(torch.randn(4, 3), dim=-1).requires_grad_()
    loss = info_nce(queries, queries.detach(), 10.0, labels=torch.zeros(4, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert queries.grad is not None and torch.isfinite(queries.grad).all()


def test_distinct_labels_change_nothing_and_the_loss_is_symmetric() -> None:
    queries, keys = (F.normalize(torch.randn(5, 4), dim=-1) for _ in range(2))
    plain = info_nce(queries, keys, 5.0)
    assert torch.equal(plain, info_nce(queries, keys, 5.0, labels=torch.arange(5)))
    torch.testing.assert_close(plain, info_nce(keys, queries, 5.0))


def test_gathered_rows_count_as_one_batch() -> None:
    """Two processes of two pairs each see the loss of all four."""
    queries, keys = (F.normalize(torch.randn(4, 3), dim=-1) for _ in range(2))
    labels = torch.tensor([0, 1, 0, 2])
    everything = {tuple(part[:2].flatten().tolist()): part for part in (queries, keys, labels)}

    def gather(rows: Tensor) -> Tensor:
        return everything[tuple(rows.flatten().tolist())]

    whole = info_nce(queries, keys, 3.0, labels)
    assert torch.equal(info_nce(queries[:2], keys[:2], 3.0, labels[:2], gather), whole)


def test_low_precision_features_are_compared_in_single_precision() -> None:
    queries = F.normalize(torch.randn(4, 8), dim=-1).bfloat16()
    assert info_nce(queries, queries, 100.0).dtype == torch.float32
