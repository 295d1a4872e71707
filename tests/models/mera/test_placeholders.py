from __future__ import annotations

import pytest
import torch

from polysense.errors import ConfigError, FeatureShapeError
from polysense.models.mera.placeholders import check_counts, exchange, known_ids


@pytest.mark.parametrize(
    ("placeholders", "items"),
    [
        ([4, 4], [4, 4]),
        ([8, 0, 4], [4, 4, 4]),
        ([0, 0], []),
        ([5, 3], [2, 3, 3]),  # items of different lengths
        ([3, 0], [3]),
    ],
)
def test_counts_that_agree_pass(placeholders: list[int], items: list[int]) -> None:
    check_counts(placeholders, items, modality="video", token="<video>")


@pytest.mark.parametrize(
    ("placeholders", "items", "message"),
    [
        ([4, 3], [4, 4], r"video of sample 1: there are 3 placeholders <video>, and 1 items of \[4\] tokens for them"),
        ([6, 2], [4, 4], r"video of sample 0: there are 6 placeholders <video>, and 2 items of \[4\] tokens"),
        ([4, 4], [4], "video of sample 1: there are 4 placeholders <video>, and no features for them"),
        ([0, 1], [], "video of sample 1: there are 1 placeholders <video>, and no features"),
        ([4, 4], [4, 4, 4], r"video of sample 1 \(or before\): 3 items came for placeholders <video> of 2"),
        ([4, 0, 0], [4, 4], r"video of sample 2 \(or before\): 2 items came for placeholders <video> of 1"),
    ],
)
def test_the_sample_that_does_not_fit_is_named(placeholders: list[int], items: list[int], message: str) -> None:
    with pytest.raises(FeatureShapeError, match=message):
        check_counts(placeholders, items, modality="video", token="<video>")


def test_features_take_the_places_in_row_major_order() -> None:
    ids = torch.tensor([[9, 1, 9], [2, 9, 3]])
    vectors = torch.zeros(2, 3, 2)
    out = exchange(vectors, ids, 9, [torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.tensor([[3.0, 3.0]])])
    assert out[..., 0].tolist() == [[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]
    assert not vectors.any()


def test_features_take_the_precision_of_the_vectors() -> None:
    out = exchange(torch.zeros(1, 1, 2, dtype=torch.bfloat16), torch.tensor([[9]]), 9, [torch.ones(1, 2)])
    assert out.dtype == torch.bfloat16


def test_placeholders_without_a_row_become_known_and_other_ids_stay() -> None:
    ids = torch.tensor([[3, 4, 9, 0], [9, 9, 7, 1]])
    assert known_ids(ids, [4, 7, 9], 5).tolist() == [[3, 4, 0, 0], [0, 0, 0, 1]]
    assert known_ids(ids[:, :2], [9], 5).tolist() == [[3, 4], [0, 0]]


@pytest.mark.parametrize(("wrong", "placeholders"), [(8, [7]), (7, []), (-1, [7]), (-100, [7])])
def test_ids_of_no_word_and_no_placeholder_are_named(wrong: int, placeholders: list[int]) -> None:
    with pytest.raises(ConfigError, match=f"input_ids of sample 1: the id {wrong} is none of the 5"):
        known_ids(torch.tensor([[1, 2], [wrong, 3]]), placeholders, 5)
