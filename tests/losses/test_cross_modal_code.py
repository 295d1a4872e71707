from __future__ import annotations

import math

import pytest
import torch

from polysense.losses import code_distribution, cross_modal_code


def test_the_distribution_is_the_mean_softmax_of_plain_distances() -> None:
    features, codes = torch.randn(3, 4, 2), torch.randn(5, 2)
    expected = (-torch.cdist(features, codes.expand(3, 5, 2))).softmax(dim=-1)
    torch.testing.assert_close(code_distribution(features, codes), expected.mean(dim=1))
    mask = torch.tensor([[True, True, False, False]]).expand(3, 4)
    torch.testing.assert_close(code_distribution(features, codes, mask), expected[:, :2].mean(dim=1))


def test_double_precision_is_kept_and_half_precision_is_not_used() -> None:
    features, codes = torch.randn(3, 4, 2).double(), torch.randn(5, 2)
    exact = (-torch.cdist(features, codes.double().expand(3, 5, 2))).softmax(dim=-1).mean(dim=1)
    torch.testing.assert_close(code_distribution(features, codes), exact, atol=1e-12, rtol=0)
    assert code_distribution(features.bfloat16(), codes).dtype == torch.float32


def test_mixed_precision_changes_neither_the_loss_nor_its_slope() -> None:
    features, codes = torch.randn(4, 3, 2, requires_grad=True), torch.randn(5, 2)

    def matched(mixed: bool) -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            likely = {name: code_distribution(z, codes) for name, z in (("a", features), ("b", features.flip(1) + 1))}
            loss = cross_modal_code(likely)
        return [loss, *torch.autograd.grad(loss, features)]

    torch.testing.assert_close(matched(True), matched(False))


def test_a_feature_on_its_code_has_a_finite_gradient() -> None:
    features = torch.zeros(1, 1, 2, requires_grad=True)
    code_distribution(features, torch.zeros(2, 2)).sum().backward()
    assert features.grad is not None and features.grad.isfinite().all()


def test_its_slope_is_that_of_the_formula_and_scores_of_a_search_change_nothing() -> None:
    features, codes = torch.randn(3, 4, 2).double().requires_grad_(), torch.randn(5, 2).double()
    mask = torch.tensor([[True] * 4, [True, False, True, False], [False] * 4])
    assert torch.autograd.gradcheck(lambda z: code_distribution(z, codes, mask), (features,))
    scores = features.detach() @ codes.t() - codes.square().sum(dim=1) / 2
    given = code_distribution(features, codes, mask, scores)
    torch.testing.assert_close(given, code_distribution(features, codes, mask))
    slopes = [torch.autograd.grad(each.square().sum(), features)[0]
              for each in (given, code_distribution(features, codes, mask))]  # fmt: skip
    torch.testing.assert_close(*slopes)


def test_equal_distributions_cost_the_logarithm_of_the_batch() -> None:
    same = torch.full((7, 4), 0.25)
    assert cross_modal_code({"a": same, "b": same}).item() == pytest.approx(math.log(7), rel=1e-6)
    assert cross_modal_code({"a": same, "b": same, "c": same}).item() == pytest.approx(3 * math.log(7), rel=1e-6)


def test_two_samples_by_hand() -> None:
    a = torch.tensor([[0.8, 0.2], [0.3, 0.7]])
    score = 2 * (a @ a.log().t())
    expected = -(score.log_softmax(dim=1)[0, 0] + score.log_softmax(dim=1)[1, 1]) / 2
    assert cross_modal_code({"a": a, "b": a}).item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_code_that_nobody_uses_stays_finite() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = cross_modal_code({"a": a, "b": a})
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6) and a.grad is not None and a.grad.isfinite().all()


def test_one_sense_has_nothing_to_match() -> None:
    assert cross_modal_code({"a": torch.full((2, 2), 0.5)}).item() == 0
