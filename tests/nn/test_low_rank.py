from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polysense.errors import ConfigError
from polysense.nn import Gate, add_experts, linear_with_experts, routing_weights, svd_experts
from polysense.testing.counting import saved_bytes

# ---- routing ----------------------------------------------------------------------------------------------------


def test_routing_weights_are_a_softmax_over_the_experts() -> None:
    weights = routing_weights(torch.tensor([[0.0, math.log(3.0)]]))
    torch.testing.assert_close(weights, torch.tensor([[0.25, 0.75]]))


def test_top_k_takes_the_largest_logits_first_and_the_softmax_then() -> None:
    weights = routing_weights(torch.tensor([[0.0, math.log(3.0), -1.0, -9.0]]), top_k=2)
    torch.testing.assert_close(weights, torch.tensor([[0.25, 0.75, 0.0, 0.0]]))


@pytest.mark.parametrize("top_k", [3, 4, None])
def test_a_top_k_of_all_experts_keeps_all(top_k: int | None) -> None:
    logits = torch.randn(4, 3)
    assert torch.equal(routing_weights(logits, top_k), logits.softmax(-1))


def test_equal_logits_still_keep_exactly_k_experts() -> None:
    assert (routing_weights(torch.zeros(5, 4), top_k=2) > 0).sum(-1).tolist() == [2] * 5


def test_routing_is_done_in_single_precision_at_least() -> None:
    assert routing_weights(torch.zeros(2, 2, dtype=torch.bfloat16)).dtype == torch.float32
    assert routing_weights(torch.zeros(2, 2, dtype=torch.float64)).dtype == torch.float64


# ---- stacked experts --------------------------------------------------------------------------------------------


def test_one_token_by_hand() -> None:
    """Experts of rank 1 on a token x = 2: p = (1/4, 3/4), B A x = 1 * 1 * 2 and 10 * 3 * 2; 100 + 0.5 + 45."""
    down = torch.tensor([[1.0], [3.0], [0.0], [math.log(3.0) / 2]])  # A1, A2, router rows
    out = add_experts(
        torch.tensor([[100.0]]),
        torch.tensor([[2.0]]),
        down,
        torch.tensor([[1.0, 10.0]]),
        Gate(experts=2, rank=1),
    )
    assert out.item() == pytest.approx(145.5)


def test_further_values_are_gated_alike() -> None:
    hidden = torch.randn(5, 2 * 3 + 2 + 2 * 3)
    gated = Gate(experts=2, rank=3)(hidden)
    gates = hidden[:, 6:8].softmax(-1).repeat_interleave(3, dim=-1)
    torch.testing.assert_close(gated, torch.cat([hidden[:, :6] * gates, hidden[:, 8:] * gates], dim=-1))


# ---- beside a frozen linear layer -------------------------------------------------------------------------------

GATES = [Gate(experts=2, rank=2), Gate(experts=4, rank=2, top_k=2), Gate(experts=1, rank=3)]


def parts(gate: Gate, further: bool = False, dtype: torch.dtype = torch.float64) -> tuple[nn.Linear, list[Tensor]]:
    """A frozen layer of 6 to 5 features; inputs, `down` and `up` as leaves."""
    rows = gate.experts * gate.rank
    linear = nn.Linear(6, 5, dtype=dtype).requires_grad_(False)
    shapes = [(2, 3, 6), (rows + gate.experts + further * rows, 6), (5, rows * (1 + further))]
    return linear, [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def fused(linear: nn.Linear, leaves: list[Tensor], gate: Gate) -> Tensor:
    inputs, down, up = leaves
    return linear_with_experts(linear, inputs, down, up, gate)


def plain(linear: nn.Linear, leaves: list[Tensor], gate: Gate) -> Tensor:
    inputs, down, up = leaves
    return add_experts(linear(inputs), inputs, down, up, gate)


@pytest.mark.parametrize("further", [False, True])
@pytest.mark.parametrize("gate", GATES, ids=str)
def test_the_backward_pass_is_that_of_finite_differences(gate: Gate, further: bool) -> None:
    linear, leaves = parts(gate, further)
    assert torch.autograd.gradcheck(lambda *each: fused(linear, list(each), gate), leaves)


def gradients(result: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view_as(result)
    return [result, *torch.autograd.grad((result * weights).sum(), leaves)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gate", GATES, ids=str)
def test_values_and_gradients_are_autograds(gate: Gate, bias: bool) -> None:
    linear, leaves = parts(gate, dtype=torch.float32)
    if not bias:
        linear.register_parameter("bias", None)
    expected = gradients(plain(linear, leaves, gate), leaves)
    torch.testing.assert_close(gradients(fused(linear, leaves, gate), leaves), expected)


def test_inputs_that_need_no_gradient_get_none() -> None:
    linear, (inputs, *factors) = parts(GATES[0])
    gradients(fused(linear, [inputs.detach(), *factors], GATES[0]), factors)
    with torch.no_grad():
        assert not fused(linear, [inputs, *factors], GATES[0]).requires_grad


def test_a_scattered_gradient_is_taken_as_it_comes() -> None:
    linear, leaves = parts(GATES[0])
    for view in (lambda y: y.sum(), lambda y: y.transpose(0, 1).reshape(-1)[::2].sum(), lambda y: y[:, 0].sum()):
        expected = torch.autograd.grad(view(plain(linear, leaves, GATES[0])), leaves)
        found = torch.autograd.grad(view(fused(linear, leaves, GATES[0])), leaves)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("inside", [False, True], ids=["backward outside", "backward inside"])
def test_mixed_precision_is_autocasts(inside: bool) -> None:
    linear, leaves = parts(GATES[0], dtype=torch.float32)
    results = []
    for call in (lambda: fused(linear, leaves, GATES[0]),
                 lambda: plain(linear, leaves, GATES[0])):  # fmt: skip
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = call()
            if inside:
                results.append(gradients(result, leaves))
        if not inside:
            results.append(gradients(result, leaves))
    found, expected = results
    assert found[0].dtype == torch.bfloat16
    assert [each.dtype for each in found[1:]] == [torch.float32] * 3
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0.05)


def test_activation_checkpointing_recomputes_the_same() -> None:
    linear, leaves = parts(GATES[0])
    expected = gradients(fused(linear, leaves, GATES[0]), leaves)
    again: Any = checkpoint(fused, linear, leaves, GATES[0], use_reentrant=False)
    assert all(torch.equal(a, b) for a, b in zip(gradients(again, leaves), expected, strict=True))


def test_of_the_experts_only_thin_values_are_kept() -> None:
    """Six input values per token, as a linear layer that trains would keep, and the rows of `down`."""
    linear, leaves = parts(GATES[0], dtype=torch.float32)
    kept = saved_bytes(lambda: fused(linear, leaves, GATES[0]), [*linear.parameters(), *leaves[1:]])
    assert kept == 4 * 6 * (6 + 6)


# ---- singular vectors -------------------------------------------------------------------------------------------


def test_singular_triplets_are_dealt_out_in_order() -> None:
    weight = torch.diag(torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0]))
    down, up = svd_experts(weight, experts=2, rank=2)
    torch.testing.assert_close(up[:, :2] @ down[:2], torch.diag(torch.tensor([5.0, 4.0, 0.0, 0.0, 0.0])))
    torch.testing.assert_close(up[:, 2:] @ down[2:], torch.diag(torch.tensor([0.0, 0.0, 3.0, 2.0, 0.0])))
    torch.testing.assert_close(down.norm(dim=1), torch.tensor([5.0, 4.0, 3.0, 2.0]).sqrt())


def test_more_triplets_than_the_matrix_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 experts of rank 3 need 6 singular values, the matrix has 5"):
        svd_experts(torch.randn(5, 7), experts=2, rank=3)
