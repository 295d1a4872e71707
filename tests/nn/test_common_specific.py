from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from polysense.errors import ConfigError, UnknownModalityError
from polysense.nn.common_specific import CommonSpecificExperts, ExpertLinears


def by_loop(adapter: CommonSpecificExperts, sense: str, x: Tensor) -> Tensor:
    """Eq. 4 as it is printed, one expert after another."""
    gates = adapter.gate(x).softmax(dim=-1)
    total = torch.zeros_like(x)
    for index in range(adapter.experts):
        common = x @ adapter.common.weight[index].t() + adapter.common.bias[index]
        if adapter.with_specific:
            own = cast(ExpertLinears, adapter.specific[sense])
            source = x if adapter.combine == "sum" else common
            specific = source @ own.weight[index].t() + own.bias[index]
            common = common + specific if adapter.combine == "sum" else specific
        total = total + gates[..., index : index + 1] * common
    return total + x if adapter.residual else total


@pytest.mark.parametrize(
    "options", [{}, {"combine": "chain"}, {"specific": False}, {"residual": True}, {"experts": 1}]
)
def test_the_dense_form_is_the_printed_sum_over_experts(options: dict[str, Any]) -> None:
    adapter = CommonSpecificExperts(4, **{"experts": 3, "senses": ["text", "audio"], **options})
    x = torch.randn(2, 5, 4)
    y, gates = adapter("audio", x)
    torch.testing.assert_close(y, by_loop(adapter, "audio", x))
    torch.testing.assert_close(gates.sum(dim=-1), torch.ones(2, 5))


def test_the_number_of_parameters_is_that_of_the_paper() -> None:
    """6 x 65,792 x (1 + M) + 1,542 for a width of 256 (method-facts 3.2)."""
    with torch.device("meta"):
        adapter = CommonSpecificExperts(256, 6, ["text", "video", "audio"])
    assert sum(each.numel() for each in adapter.parameters()) == 6 * 65_792 * 4 + 1_542


def test_a_new_sense_adds_keys_and_leaves_the_others_outputs_alone() -> None:
    adapter, x = CommonSpecificExperts(4, 2, ["text"]), torch.randn(3, 4)
    before, keys = adapter("text", x)[0], set(adapter.state_dict())
    adapter.add_sense("audio")
    assert torch.equal(adapter("text", x)[0], before)
    assert set(adapter.state_dict()) - keys == {"specific.audio.weight", "specific.audio.bias"}


def test_a_sense_never_touches_anothers_layers() -> None:
    adapter = CommonSpecificExperts(4, 2, ["text", "audio"])
    adapter("text", torch.randn(3, 4))[0].sum().backward()
    assert all(parameter.grad is None for parameter in adapter.specific["audio"].parameters())
    assert adapter.common.weight.grad is not None


def test_an_unknown_sense_and_no_expert_are_refused() -> None:
    with pytest.raises(UnknownModalityError, match="unknown modality 'smell'"):
        CommonSpecificExperts(4, 2, ["text"])("smell", torch.randn(1, 4))
    with pytest.raises(ConfigError, match="an adapter of 0 experts"):
        CommonSpecificExperts(4, 0)
