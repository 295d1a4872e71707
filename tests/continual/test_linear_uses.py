from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from polysense.continual.linear_uses import record_uses, sum_of_squares


def test_squares_of_two_samples_by_hand() -> None:
    x = torch.tensor([[[1.0, 2.0], [0.0, 1.0]], [[3.0, 0.0], [1.0, 1.0]]])  # samples tokens in
    g = torch.tensor([[[1.0], [2.0]], [[1.0], [-1.0]]])  # samples tokens out
    # gradients of the samples: 1 [1 2] + 2 [0 1] = [1 4] and 1 [3 0] - 1 [1 1] = [2 -1]
    expected = torch.tensor([[1.0 + 4.0, 16.0 + 1.0]])
    for cap in (1, 1 << 20):
        assert torch.equal(sum_of_squares((1, 2), [x], [g], cap), expected)
    assert torch.equal(sum_of_squares((1,), [x], [g], 1), torch.tensor([3.0**2 + 0.0]))


def test_one_token_per_sample_needs_no_gradients_of_samples() -> None:
    x, g = torch.randn(5, 3), torch.randn(5, 2)
    by_sample = (g[:, :, None] * x[:, None]).square().sum(dim=0)
    torch.testing.assert_close(sum_of_squares((2, 3), [x], [g], 1), by_sample)


def test_several_uses_are_further_tokens() -> None:
    x, g = torch.randn(3, 4, 2), torch.randn(3, 4, 5)
    whole = sum_of_squares((5, 2), [x], [g], 1 << 20)
    parts = sum_of_squares((5, 2), [x[:, :1], x[:, 1:]], [g[:, :1], g[:, 1:]], 1 << 20)
    torch.testing.assert_close(whole, parts)


def test_uses_are_recorded_until_the_block_ends_and_only_where_a_gradient_will_come() -> None:
    layer = nn.Linear(2, 2)
    with record_uses(layer, {"weight": cast(nn.Parameter, layer.weight)}) as uses:
        layer(torch.ones(1, 2))
        layer(input=torch.zeros(1, 2))
        with torch.no_grad():
            layer(torch.ones(1, 2))
    layer(torch.ones(1, 2))
    assert {name: len(each) for name, each in uses.items()} == {"weight": 2}
    assert torch.equal(uses["weight"][1].inputs, torch.zeros(1, 2))


def test_a_weight_that_another_kind_of_module_shares_is_left_out() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(3, 2), nn.Linear(2, 3)
            self.head.weight = self.embedding.weight

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.embedding(tokens))  # type: ignore[no-any-return]

    model = Tied()
    with record_uses(model, dict(model.named_parameters())) as uses:
        model(torch.tensor([[0, 1]]))
    assert set(uses) == {"head.bias"}
