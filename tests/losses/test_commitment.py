from __future__ import annotations

import pytest
import torch

from polysense.losses import commitment
from polysense.nn.alignment import same_step


def ones(**features: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: torch.ones(each.shape[:2], dtype=torch.bool) for name, each in features.items()}


def test_two_senses_by_hand() -> None:
    """z = 1 and 4, codes 0 and 2, beta 0.25: a: 0.5 * 1 + 0.25 * 1; b: 0.5 * 4 + 0.25 * 16."""
    z = {"a": torch.tensor([[[1.0]]]), "b": torch.tensor([[[4.0]]])}
    codes = {"a": torch.tensor([[[0.0]]]), "b": torch.tensor([[[2.0]]])}
    assert commitment(z, codes, ones(**z), align=same_step).item() == pytest.approx(0.75 + 6.0)
    assert commitment(z, codes, ones(**z)).item() == pytest.approx(0.5 + 2.0), "plain VQ has no cross terms"


def test_the_cross_terms_of_three_senses_share_one_beta() -> None:
    z = {name: torch.zeros(1, 1, 1) for name in "abc"}
    codes = {"a": torch.zeros(1, 1, 1), "b": torch.ones(1, 1, 1), "c": torch.full((1, 1, 1), 2.0)}
    own = 0.5 * (0 + 1 + 4)
    cross = 0.125 * ((1 + 4) + (0 + 4) + (0 + 1))
    assert commitment(z, codes, ones(**z), align=same_step).item() == pytest.approx(own + cross)


def test_identical_senses_have_identical_terms() -> None:
    one, code = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    z, codes = {"a": one, "b": one}, {"a": code, "b": code}
    single = commitment({"a": one}, {"a": code}, ones(a=one), align=same_step)
    torch.testing.assert_close(commitment(z, codes, ones(**z), align=same_step), 3 * single)


def test_gradients_go_to_the_features_alone() -> None:
    z, codes = ({name: torch.randn(1, 2, 3, requires_grad=True) for name in "ab"} for _ in range(2))
    commitment(z, codes, ones(**z), align=same_step).backward()
    assert all(each.grad is not None for each in z.values())
    assert all(each.grad is None for each in codes.values())
