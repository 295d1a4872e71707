from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from polysense.errors import ConfigError
from polysense.metrics import best_match_ranks, composed, match_ranks, recall_at


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


def test_the_best_of_several_matches_counts_and_the_others_are_no_rivals() -> None:
    """Query 0 owns rows 0 and 1 (scores 0.6, 1.0), query 1 rows 2 and 3 (scores 0, 0.6; row 0 scores 0.8)."""
    gallery = torch.tensor([[0.6, 0.8], [1.0, 0.0], [1.0, 0.0], [0.8, 0.6]])
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    owners = torch.tensor([0, 0, 1, 1])
    assert best_match_ranks(queries, gallery, owners).tolist() == [0.5, 1.0]  # row 2 ties with query 0's best
    assert best_match_ranks(queries, gallery, owners, chunk=1).tolist() == [0.5, 1.0]


def test_one_match_each_is_the_plain_rank() -> None:
    queries, gallery = (F.normalize(torch.randn(n, 5), dim=-1) for n in (9, 9))
    order = torch.randperm(9)
    assert torch.equal(best_match_ranks(queries, gallery, order.argsort()), match_ranks(queries, gallery, order))


def test_a_query_without_a_match_is_refused() -> None:
    with pytest.raises(ConfigError, match="query 1 has no match"):
        best_match_ranks(torch.eye(2), torch.eye(2), torch.tensor([0, 0]))
