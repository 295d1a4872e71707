from __future__ import annotations

import math

import pytest
import torch

from polysense.errors import ConfigError
from polysense.metrics import code_activation, code_counts, perplexity

COUNTS = {
    "video": torch.tensor([40, 40, 0, 19, 1, 0]),
    "audio": torch.tensor([20, 4, 22, 1, 3, 0]),
    "text": torch.tensor([5, 1, 1, 2, 1, 0]),
}
"""100, 50 and 10 steps: code 0 has rates 0.4, 0.4, 0.5; code 1 0.4, 0.08, 0.1; code 2 0, 0.44, 0.1; and so on."""


def test_codes_are_counted_without_padding() -> None:
    indices = torch.tensor([[0, 1, 1], [3, 0, 0]])
    assert code_counts(indices, 4).tolist() == [3, 2, 0, 1]
    assert code_counts(indices, 4, torch.tensor([[True, True, False], [True, False, False]])).tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize("wrong", [4, -1])
def test_codes_of_another_codebook_are_refused(wrong: int) -> None:
    with pytest.raises(ConfigError, match="codebook of 4"):
        code_counts(torch.tensor([[0, wrong]]), 4)


def test_perplexity_is_the_number_of_codes_in_even_use() -> None:
    assert perplexity(torch.tensor([7, 7, 7, 0])) == pytest.approx(3)
    assert perplexity(torch.tensor([3, 1])) == pytest.approx(math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)))
    assert perplexity(torch.tensor([0, 0])) == 0


def test_every_sense_counts_as_if_it_had_as_many_steps() -> None:
    found = code_activation(COUNTS)
    torch.testing.assert_close(found.shares[:, 0], torch.tensor([0.4, 0.4, 0.5]) / 1.3)
    torch.testing.assert_close(found.shares[:, 1], torch.tensor([0.4, 0.08, 0.1]) / 0.58)
    assert found.shares[:, 5].tolist() == [0, 0, 0]


def test_levels_are_those_of_figure_3() -> None:
    """Code 4: 5 hits, rates 0.01, 0.06, 0.1; code 3: rates 0.19, 0.02, 0.2 of which 0.02 is under a tenth of 0.41."""
    found = code_activation(COUNTS)
    assert found.level.tolist() == [3, 3, 2, 2, 2, 0]
    assert found.level_shares == pytest.approx({0: 1 / 6, 1: 0, 2: 3 / 6, 3: 2 / 6})
    assert found.dead == pytest.approx(1 / 6)


def test_few_hits_activate_nothing_and_are_yet_not_dead() -> None:
    found = code_activation(COUNTS, min_hits=6)
    assert found.level.tolist() == [3, 3, 2, 2, 0, 0] and found.dead == pytest.approx(1 / 6)


def test_between_two_senses_a_fifth_is_needed() -> None:
    counts = {"video": torch.tensor([85, 79, 836]), "audio": torch.tensor([15, 21, 964])}
    assert code_activation({k: v * torch.tensor([1, 1, 0]) for k, v in counts.items()}).level.tolist() == [2, 2, 0]
    even = {"video": torch.tensor([85, 15]), "audio": torch.tensor([15, 85])}
    assert code_activation(even).level.tolist() == [1, 1]
    assert code_activation(even, share=0.1).level.tolist() == [2, 2]


def test_senses_of_different_codebooks_or_without_a_step_are_refused() -> None:
    with pytest.raises(ConfigError, match="sizes"):
        code_activation({"video": torch.tensor([1, 2]), "audio": torch.tensor([1])})
    with pytest.raises(ConfigError, match="audio"):
        code_activation({"video": torch.tensor([1, 2]), "audio": torch.tensor([0, 0])})
    with pytest.raises(ConfigError):
        code_activation({})
