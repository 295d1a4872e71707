from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from polysense.continual import batch_fisher, normalised, sample_fisher
from polysense.errors import ConfigError

Losses = Callable[[Any], Tensor]


def naive(model: nn.Module, samples: Tensor, losses: Losses) -> dict[str, Tensor]:
    """The definition: one sample at a time, gradient squared, mean."""
    total = {name: torch.zeros_like(each) for name, each in model.named_parameters() if each.requires_grad}
    for sample in samples:
        model.zero_grad()
        losses(sample[None]).sum().backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and name in total:
                total[name] += parameter.grad.square() / len(samples)
    return total


def check(model: nn.Module, samples: Tensor, losses: Losses, batch_size: int = 4, **options: Any) -> None:
    expected = naive(model, samples, losses)
    found = sample_fisher(model, samples.split(batch_size), losses, **options)
    assert set(found) == set(expected)
    for name, each in expected.items():
        torch.testing.assert_close(found[name], each, rtol=1e-4, atol=1e-5 * float(each.max()), msg=name)


def tokenwise(model: nn.Module) -> Losses:
    return lambda x: model(x).tanh().square().flatten(1).sum(dim=1)


def test_a_line_through_one_point_by_hand() -> None:
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(2.0)
        model.bias.fill_(0.0)
    x = torch.tensor([[1.0], [3.0]])
    fisher = sample_fisher(model, [x], lambda batch: model(batch).square().sum(dim=1) / 2)
    # gradients by the weight are w x^2 = 2 and 18, by the bias w x = 2 and 6
    assert fisher["weight"].item() == (2.0**2 + 18.0**2) / 2
    assert fisher["bias"].item() == (2.0**2 + 6.0**2) / 2


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_an_mlp_equals_the_loop_over_samples(batch_size: int) -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(inplace=True), nn.Linear(8, 3))
    check(model, torch.randn(7, 5), tokenwise(model), batch_size)


@settings(max_examples=25, deadline=None)
@given(
    samples=st.integers(1, 9), tokens=st.integers(1, 5), width=st.integers(1, 7), batch_size=st.integers(1, 10),
    cap_bytes=st.integers(1, 2000), bias=st.booleans(),
)  # fmt: skip
def test_sizes_batches_and_memory_change_nothing(
    samples: int, tokens: int, width: int, batch_size: int, cap_bytes: int, bias: bool
) -> None:
    layer = nn.Linear(width, width, bias=bias)
    model = nn.Sequential(layer, nn.Tanh(), layer)  # one layer, two uses
    check(model, torch.randn(samples, tokens, width), tokenwise(model), batch_size, cap_bytes=cap_bytes)


@pytest.mark.parametrize("cap_bytes", [1, 200, 1 << 20])
def test_tokens_equal_the_loop_over_samples_whatever_the_memory(cap_bytes: int) -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 3, bias=False))
    check(model, torch.randn(6, 7, 5), tokenwise(model), cap_bytes=cap_bytes)


class Attention(nn.Module):
    """LoRA factors beside frozen projections, one layer used twice, a norm that is no linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.lora_A, self.lora_B = nn.Linear(6, 2, bias=False), nn.Linear(2, 6, bias=False)
        self.twice = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.frozen(x) + self.lora_B(self.lora_A(x))
        x = F.scaled_dot_product_attention(self.twice(x), x, self.twice(self.norm(x)), is_causal=True)
        return self.norm(x)  # type: ignore[no-any-return]


def test_low_rank_factors_repeated_layers_and_norms_equal_the_loop() -> None:
    model = Attention()
    check(model, torch.randn(5, 4, 6), tokenwise(model))


def test_a_layer_whose_rows_are_not_samples_equals_the_loop() -> None:
    model = nn.Linear(6, 3)
    check(model, torch.randn(4, 5, 6), lambda x: model(x.flatten(0, 1)).view(len(x), -1).sum(dim=1).square())


def test_parameters_that_the_loss_does_not_reach_have_no_importance() -> None:
    model = nn.ModuleDict({"used": nn.Linear(3, 1), "idle": nn.Linear(3, 1)})

    def losses(x: Tensor) -> Tensor:
        model["idle"](x)
        return model["used"](x).square()[:, 0]  # type: ignore[no-any-return]

    fisher = sample_fisher(model, [torch.randn(4, 3)], losses)
    assert fisher["used.weight"].all() and not fisher["idle.weight"].any()


def test_nothing_is_left_behind() -> None:
    model = nn.Linear(3, 2).bfloat16()
    fisher = sample_fisher(model, [torch.randn(4, 3).bfloat16()], tokenwise(model), which="weight")
    assert {name: each.dtype for name, each in fisher.items()} == {"weight": torch.float32}
    assert model.weight.grad is None and not model._forward_hooks


def test_the_square_of_a_batch_is_another_thing() -> None:
    model = nn.Linear(1, 1, bias=False)
    x = torch.tensor([[1.0], [-1.0]])
    assert sample_fisher(model, [x], lambda batch: model(batch)[:, 0])["weight"].item() == 1.0
    assert batch_fisher(model, [x], lambda batch: model(batch).mean())["weight"].item() == 0.0


def test_the_mean_over_batches_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    fisher = batch_fisher(model, [torch.tensor([[1.0]]), torch.tensor([[3.0]])], lambda batch: model(batch).sum())
    assert fisher["weight"].item() == (1.0 + 9.0) / 2


def test_processes_that_share_a_batch_square_the_gradient_of_all_of_it() -> None:
    """Of gradients 2 here and 4 on the other process: 9, and not the mean of 4 and 16; unused parameters count too."""
    model = nn.Linear(1, 1)

    def average(flat: Tensor) -> Tensor:
        assert flat.tolist() == [2.0, 0.0]
        return torch.tensor([(2.0 + 4.0) / 2, 5.0])

    batches = [torch.tensor([[2.0]])]
    fisher = batch_fisher(model, batches, lambda batch: (batch * model.weight).sum(), average=average)
    assert fisher["weight"].item() == 9.0 and fisher["bias"].item() == 25.0


def test_normalised_importances_have_mean_one_over_each_part() -> None:
    fisher = {"a.x": [1.0, 3.0], "a.y": [[8.0]], "b": [5.0], "c.x": [0.0]}
    expected = {"a.x": [0.25, 0.75], "a.y": [[2.0]], "b": [1.0], "c.x": [0.0]}
    scaled = normalised({name: torch.tensor(each) for name, each in fisher.items()})
    torch.testing.assert_close(scaled, {name: torch.tensor(each) for name, each in expected.items()})
    with pytest.raises(ConfigError, match="no parameter has any importance"):
        normalised({"a": torch.zeros(2)})


def test_what_cannot_be_computed_is_refused() -> None:
    model = nn.Linear(2, 1)
    x = torch.ones(3, 2)
    with pytest.raises(ConfigError, match=r"lora.*: no trainable parameter matches"):
        sample_fisher(model, [x], tokenwise(model), which="lora.*")
    with pytest.raises(ConfigError, match="at least one batch"):
        sample_fisher(model, [], tokenwise(model))
    with pytest.raises(ConfigError, match=r"shape \(\) and requires_grad=True"):
        sample_fisher(model, [x], lambda batch: model(batch).mean())
    with pytest.raises(ConfigError, match=r"weight: the Fisher information is not finite"):
        sample_fisher(model, [x * torch.inf], tokenwise(model))
    with pytest.raises(ConfigError, match="batch normalisation"):
        sample_fisher(nn.Sequential(model, nn.BatchNorm1d(1)), [x], tokenwise(model))
