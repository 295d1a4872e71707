from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from polysense.metrics import composed, match_ranks, recall_at


def test_ranks_by_hand() -> None:
    """Scores of query 0: 0.6, 0.8, 1.0 (match is gallery 0: two better); of query 1: 0.8, 0.6, 0."""
    gallery = torch.tensor([[0.6, 0.8], [0.8, 0.6], [1.0, 0.0]])
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert match_ranks(queries, gallery).tolist() == [2.0, 1.0]
    assert match_ranks(queries, gallery, torch.tensor([2, 0])).tolist() == [0.0, 0.0]


def test_ties_count_half() -> None:
    gallery = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert match_ranks(torch.tensor([[1.0, 0.0]]), gallery).tolist() == [0.5]


def test_a_gallery_of_equal_rows_gives_chance_and_not_perfection() -> None:
    same = F.normalize(torch.randn(1, 7), dim=-1).expand(101, -1)
    ranks = match_ranks(same, same)
    assert ranks.unique().tolist() == [50.0]
    assert recall_at(ranks)["R@10"] == 0


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_do_not_change_ranks(chunk: int) -> None:
    queries, gallery = (F.normalize(torch.randn(n, 5), dim=-1) for n in (7, 20))
    expected = [(row > row[i]).sum().item() for i, row in enumerate(queries @ gallery.t())]
    assert match_ranks(queries, gallery, chunk=chunk).tolist() == expected


def test_recall_counts_ranks_below_k() -> None:
    assert recall_at(torch.tensor([0.0, 0.5, 1.0, 4.5]), ks=(1, 5)) == {"R@1": 0.5, "R@5": 1.0}


def test_a_composed_query_is_the_normalised_mean() -> None:
    query = composed(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(query, torch.tensor([[0.5**0.5, 0.5**0.5]]))
