from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import nn

from polysense.errors import UnknownModalityError
from polysense.nn import ExpertOptions, ExpertSite, GroupExperts


def site(**changes: Any) -> ExpertSite:
    """A site beside a map of 6 to 5 features, with two experts of rank 2 and alpha 8 per group."""
    options: dict[str, Any] = {"experts": 2, "rank": 2, "alpha": 8.0}
    return ExpertSite(6, 5, ExpertOptions(**{**options, **changes}))


def frozen() -> nn.Linear:
    return nn.Linear(6, 5).requires_grad_(False)


def wake(module: nn.Module) -> None:
    """Give every B a value, as training would."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("up"):
                parameter.normal_()


def test_a_single_expert_is_plain_lora() -> None:
    experts = site(experts=1)
    experts.add_group("audio")
    wake(experts)
    own: Any = experts.groups["audio"]
    x, base = torch.randn(3, 6), frozen()
    expected = base(x) + 4.0 * x @ own.down[:2].t() @ own.up.t()
    torch.testing.assert_close(experts(base, x, "audio"), expected)


def test_a_new_group_is_the_identity() -> None:
    experts = site()
    experts.add_group("audio")
    x, base = torch.randn(2, 4, 6), frozen()
    assert torch.equal(experts(base, x, "audio"), base(x))


def test_parameters_have_the_shapes_that_the_design_names() -> None:
    group = GroupExperts(6, 5, 3, 2, frozen_start=False)
    assert {name: tuple(value.shape) for name, value in group.state_dict().items()} == {"down": (9, 6), "up": (5, 6)}
    assert torch.equal(group.router, group.down[6:])


def test_a_group_that_is_not_there_is_named() -> None:
    experts = site()
    experts.add_group("audio")
    with pytest.raises(UnknownModalityError, match=r"unknown modality 'smell' \(known here: audio\)"):
        experts(frozen(), torch.randn(2, 6), "smell")


@pytest.mark.parametrize("routing", ["group", "global"])
@pytest.mark.parametrize("frozen_start", [False, True])
def test_adding_a_group_leaves_every_older_tensor_and_output_as_it_was(routing: str, frozen_start: bool) -> None:
    experts = site(routing=routing, frozen_start=frozen_start)
    experts.add_group("audio")
    wake(experts)
    x, base = torch.randn(3, 6), frozen()
    state = {name: value.clone() for name, value in experts.state_dict().items()}
    before = experts(base, x, "audio", ["audio"])
    experts.add_group("depth")
    assert all(torch.equal(experts.state_dict()[name], value) for name, value in state.items())
    assert torch.equal(experts(base, x, "audio", ["audio"]), before)


@pytest.mark.parametrize("routing", ["group", "global"])
@pytest.mark.parametrize("frozen_start", [False, True])
def test_a_map_that_trains_gets_its_gradients_too(routing: str, frozen_start: bool) -> None:
    """Beside a frozen linear layer a hand-written backward pass runs, beside anything else autograd's."""
    experts, base, x = site(routing=routing, frozen_start=frozen_start), frozen(), torch.randn(3, 6)
    for group in ("audio", "depth"):
        experts.add_group(group)
    wake(experts)
    results = []
    for trains in (False, True):
        base.requires_grad_(trains)
        experts.zero_grad()
        result = experts(base, x, "audio", ["audio", "depth"])
        result.square().sum().backward()
        results.append([result, *(p.grad for p in experts.parameters() if p.grad is not None)])
    assert base.weight.grad is not None
    torch.testing.assert_close(*results)


def test_grouped_routing_never_sees_another_group() -> None:
    experts = site()
    for group in ("audio", "depth"):
        experts.add_group(group)
    wake(experts)
    x, base = torch.randn(3, 6), frozen()
    assert torch.equal(experts(base, x, "audio", ["audio", "depth"]), experts(base, x, "audio"))


def test_global_routing_is_one_softmax_over_the_experts_of_all_visible_groups() -> None:
    experts = site(routing="global")
    for group in ("audio", "depth"):
        experts.add_group(group)
    wake(experts)
    x, base = torch.randn(3, 6), frozen()
    own, other, cross = (
        cast(Any, experts.get_submodule(path)) for path in ("groups.audio", "groups.depth", "routers.audio.depth")
    )
    gates = torch.cat([x @ own.router.t(), x @ cross.weight.t()], dim=-1).softmax(-1)
    expected = base(x)
    for index, (group, start) in enumerate([(own, 0), (own, 2), (other, 0), (other, 2)]):
        down, up = group.down[start : start + 2], group.up[:, start : start + 2]
        expected = expected + 4.0 * gates[:, index : index + 1] * (x @ down.t() @ up.t())
    torch.testing.assert_close(experts(base, x, "audio", ["audio", "depth"]), expected)


def test_low_precision_inputs_meet_experts_of_their_own_precision() -> None:
    experts = site()
    experts.add_group("audio")
    wake(experts)
    x, base = torch.randn(3, 6), frozen()
    high = experts(base, x, "audio")
    low = experts(base.bfloat16(), x.bfloat16(), "audio")
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), high, atol=0.3, rtol=0.05)


# ---- start at the singular vectors ------------------------------------------------------------------------------


def test_the_singular_start_changes_no_output_and_trains_from_there() -> None:
    experts, weight = site(frozen_start=True), torch.randn(5, 6)
    experts.add_group("audio")
    group: Any = experts.groups["audio"]
    group.start_from(weight, experts.scale)
    x, base = torch.randn(3, 6), frozen()
    torch.testing.assert_close(experts(base, x, "audio"), base(x), atol=1e-5, rtol=0)
    share = experts.scale * group.up @ group.down[:4]
    left, values, right = torch.linalg.svd(weight)
    torch.testing.assert_close(share, left[:, :4] * values[:4] @ right[:4], atol=1e-5, rtol=1e-5)
    assert {"down_start", "up_start"} == {name for name, _ in group.named_buffers()}
    with torch.no_grad():
        group.up.add_(1.0)
    assert not torch.allclose(experts(base, x, "audio"), base(x), atol=1e-3)
