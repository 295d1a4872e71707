from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from torch import nn

from polysense.errors import ConfigError, UnknownModalityError
from polysense.nn import ExpertSite, GroupExperts, add_experts, routing_weights, svd_experts


def site(**changes: Any) -> ExpertSite:
    """A site of 6 to 5 features, two experts of rank 2 and alpha 8 per group, with experts that are not zero."""
    options = {"experts": 2, "rank": 2, "alpha": 8.0, "top_k": None, "routing": "group", "frozen_start": False}
    return ExpertSite(6, 5, **{**options, **changes})


def wake(module: nn.Module) -> None:
    """Give every B a value, as training would."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("up"):
                parameter.normal_()


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


def test_routing_is_done_in_single_precision() -> None:
    assert routing_weights(torch.zeros(2, 2, dtype=torch.bfloat16)).dtype == torch.float32


# ---- stacked experts --------------------------------------------------------------------------------------------


def test_one_token_by_hand() -> None:
    """Experts of rank 1 on a token x = 2: p = (1/4, 3/4), B A x = 1 * 1 * 2 and 10 * 3 * 2; 100 + 0.5 + 45."""
    down = torch.tensor([[1.0], [3.0], [0.0], [math.log(3.0) / 2]])  # A1, A2, router rows
    out = add_experts(
        torch.tensor([[100.0]]),
        torch.tensor([[2.0]]),
        down,
        torch.tensor([[1.0, 10.0]]),
        experts=2,
        rank=1,
        top_k=None,
    )
    assert out.item() == pytest.approx(145.5)


def test_a_single_expert_is_plain_lora() -> None:
    experts = site(experts=1)
    experts.add_group("audio")
    wake(experts)
    own: Any = experts.groups["audio"]
    x, output = torch.randn(3, 6), torch.randn(3, 5)
    expected = output + 4.0 * x @ own.down[:2].t() @ own.up.t()
    torch.testing.assert_close(experts(output, x, "audio"), expected)


def test_a_new_group_is_the_identity() -> None:
    experts = site()
    experts.add_group("audio")
    output = torch.randn(2, 4, 5)
    assert torch.equal(experts(output, torch.randn(2, 4, 6), "audio"), output)


def test_parameters_have_the_shapes_that_the_design_names() -> None:
    group = GroupExperts(6, 5, 3, 2, frozen_start=False)
    assert {name: tuple(value.shape) for name, value in group.state_dict().items()} == {"down": (9, 6), "up": (5, 6)}
    assert torch.equal(group.router, group.down[6:])


def test_a_group_that_is_not_there_is_named() -> None:
    experts = site()
    experts.add_group("audio")
    with pytest.raises(UnknownModalityError, match=r"unknown modality 'smell' \(known here: audio\)"):
        experts(torch.randn(2, 5), torch.randn(2, 6), "smell")


@pytest.mark.parametrize("routing", ["group", "global"])
@pytest.mark.parametrize("frozen_start", [False, True])
def test_adding_a_group_leaves_every_older_tensor_and_output_as_it_was(routing: str, frozen_start: bool) -> None:
    experts = site(routing=routing, frozen_start=frozen_start)
    experts.add_group("audio")
    wake(experts)
    x, output = torch.randn(3, 6), torch.randn(3, 5)
    state = {name: value.clone() for name, value in experts.state_dict().items()}
    before = experts(output, x, "audio", ["audio"])
    experts.add_group("depth")
    assert all(torch.equal(experts.state_dict()[name], value) for name, value in state.items())
    assert torch.equal(experts(output, x, "audio", ["audio"]), before)


def test_grouped_routing_never_sees_another_group() -> None:
    experts = site()
    for group in ("audio", "depth"):
        experts.add_group(group)
    wake(experts)
    x, output = torch.randn(3, 6), torch.randn(3, 5)
    assert torch.equal(experts(output, x, "audio", ["audio", "depth"]), experts(output, x, "audio"))


def test_global_routing_is_one_softmax_over_the_experts_of_all_visible_groups() -> None:
    experts = site(routing="global")
    for group in ("audio", "depth"):
        experts.add_group(group)
    wake(experts)
    x, output = torch.randn(3, 6), torch.randn(3, 5)
    own, other, cross = (
        cast(Any, experts.get_submodule(path)) for path in ("groups.audio", "groups.depth", "routers.audio.depth")
    )
    gates = torch.cat([x @ own.router.t(), x @ cross.weight.t()], dim=-1).softmax(-1)
    expected = output
    for index, (group, start) in enumerate([(own, 0), (own, 2), (other, 0), (other, 2)]):
        down, up = group.down[start : start + 2], group.up[:, start : start + 2]
        expected = expected + 4.0 * gates[:, index : index + 1] * (x @ down.t() @ up.t())
    torch.testing.assert_close(experts(output, x, "audio", ["audio", "depth"]), expected)


def test_low_precision_inputs_meet_experts_of_their_own_precision() -> None:
    experts = site()
    experts.add_group("audio")
    wake(experts)
    x, output = torch.randn(3, 6), torch.randn(3, 5)
    low = experts(output.bfloat16(), x.bfloat16(), "audio")
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), experts(output, x, "audio"), atol=0.3, rtol=0.05)


# ---- start at the singular vectors ------------------------------------------------------------------------------


def test_singular_triplets_are_dealt_out_in_order() -> None:
    weight = torch.diag(torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0]))
    down, up = svd_experts(weight, experts=2, rank=2)
    torch.testing.assert_close(up[:, :2] @ down[:2], torch.diag(torch.tensor([5.0, 4.0, 0.0, 0.0, 0.0])))
    torch.testing.assert_close(up[:, 2:] @ down[2:], torch.diag(torch.tensor([0.0, 0.0, 3.0, 2.0, 0.0])))
    torch.testing.assert_close(down.norm(dim=1), torch.tensor([5.0, 4.0, 3.0, 2.0]).sqrt())


def test_more_triplets_than_the_matrix_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 experts of rank 3 need 6 singular values, the matrix has 5"):
        svd_experts(torch.randn(5, 7), experts=2, rank=3)


def test_the_singular_start_changes_no_output_and_trains_from_there() -> None:
    experts, weight = site(frozen_start=True), torch.randn(5, 6)
    experts.add_group("audio")
    group: Any = experts.groups["audio"]
    group.start_from(weight, experts.scale)
    x, output = torch.randn(3, 6), torch.randn(3, 5)
    torch.testing.assert_close(experts(output, x, "audio"), output, atol=1e-5, rtol=0)
    share = experts.scale * group.up @ group.down[:4]
    left, values, right = torch.linalg.svd(weight)
    torch.testing.assert_close(share, left[:, :4] * values[:4] @ right[:4], atol=1e-5, rtol=1e-5)
    assert {"down_start", "up_start"} == {name for name, _ in group.named_buffers()}
    with torch.no_grad():
        group.up.add_(1.0)
    assert not torch.allclose(experts(output, x, "audio"), output, atol=1e-3)
