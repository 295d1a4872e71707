"""Stacked experts are the plain loop over experts, and one expert is peft's LoRA."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

from polysense.nn import ExpertOptions, ExpertSite

IN, OUT, RANK, ALPHA = 12, 10, 4, 32.0


def stacked(experts: int, top_k: int | None = None) -> ExpertSite:
    site = ExpertSite(IN, OUT, ExpertOptions(experts=experts, rank=RANK, alpha=ALPHA, top_k=top_k))
    site.add_group("audio")
    with torch.no_grad():
        for parameter in site.parameters():
            parameter.normal_(std=0.3)
    return site


class ExpertLoop(nn.Module):
    """One expert after another, each with its own A and B at full width: the formula of Eqs. 8-9 as it is printed."""

    def __init__(self, site: ExpertSite) -> None:
        super().__init__()
        group: Any = site.groups["audio"]
        hidden = site.options.experts * RANK
        self.a = nn.ParameterList(part.clone().detach() for part in group.down[:hidden].split(RANK))
        self.b = nn.ParameterList(part.clone().detach() for part in group.up.split(RANK, dim=1))
        self.router = nn.Parameter(group.down[hidden:].clone().detach())
        self.top_k = site.options.top_k

    def forward(self, base: nn.Linear, inputs: Tensor) -> Tensor:
        output: Tensor = base(inputs)
        gates = (inputs @ self.router.t()).float()
        if self.top_k is not None:
            gates = gates.masked_fill(gates < gates.topk(self.top_k, dim=-1).values[..., -1:], float("-inf"))
        gates = gates.softmax(-1)
        for index, (a, b) in enumerate(zip(self.a, self.b, strict=True)):
            output = output + gates[..., index : index + 1] * (ALPHA / RANK) * (inputs @ a.t() @ b.t())
        return output

    def stacked_gradients(self) -> tuple[Tensor, Tensor]:
        def grad(parameter: Tensor) -> Tensor:
            return parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)

        return torch.cat([*map(grad, self.a), grad(self.router)]), torch.cat([*map(grad, self.b)], dim=1)


@pytest.mark.parametrize(("experts", "top_k"), [(1, None), (2, None), (2, 2), (4, 2), (4, 1), (3, None)])
def test_stacked_experts_equal_the_loop_in_value_and_every_gradient(experts: int, top_k: int | None) -> None:
    site = stacked(experts, top_k)
    loop, base = ExpertLoop(site), nn.Linear(IN, OUT).requires_grad_(False)
    weights, start = torch.randn(3, 7, OUT), torch.randn(3, 7, IN)
    results = []
    for call in (lambda x: site(base, x, "audio"), lambda x: loop(base, x)):
        inputs = start.clone().requires_grad_()
        result = call(inputs)
        (result * weights).sum().backward()
        results.append((result, inputs.grad))
    down, up = loop.stacked_gradients()
    group: Any = site.groups["audio"]
    pairs = [*zip(*results, strict=True), (group.down.grad, down), (group.up.grad, up)]
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, atol=1e-6 * max(1.0, expected.abs().max().item()), rtol=1e-6)


def test_one_expert_is_pefts_lora() -> None:
    base = nn.ModuleDict({"fc": nn.Linear(IN, OUT)})
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["fc"], lora_dropout=0.0)
    adapted: Any = peft.get_peft_model(base, config).base_model.model["fc"]
    site = stacked(1)
    group: Any = site.groups["audio"]
    with torch.no_grad():
        adapted.lora_A["default"].weight.copy_(group.down[:RANK])
        adapted.lora_B["default"].weight.copy_(group.up)
    inputs = torch.randn(5, IN)
    found, expected = site(adapted.base_layer, inputs, "audio"), adapted(inputs)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-6)
    for result in (found, expected):
        result.square().sum().backward()
    torch.testing.assert_close(group.down.grad[:RANK], adapted.lora_A["default"].weight.grad, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(group.up.grad, adapted.lora_B["default"].weight.grad, atol=1e-3, rtol=1e-5)
