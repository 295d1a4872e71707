"""Benchmarks P1 and P1m: grouped experts beside a gated per-expert loop, peft, and the bare frozen FFN.

    python -m eval.performance.experts [--repeats 15] [--threads 2] [--out eval/reports/performance]

Tokens (8, 197, 768), fc1 768 -> 3072, GELU, fc2, rank 4, alpha 32, forward and backward. Two experts, dense, and four
experts with top-2. The peers, all with a router per linear layer whose softmax is in float32:

- X-LoRA: peft's own gated layer, which scales the inputs for every expert in turn (the pattern of target P1);
- plain loop: one expert after another at full width, the formula as it is printed;
- LoRA: peft with two active adapters, which has no gates at all;
- the bare frozen FFN, which bounds what can be reached.

Values and all gradients are compared first, for three modalities; then bytes kept for the backward pass are counted,
and all sides are timed in turn. The exit code is 1 when a gate is missed.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from itertools import product
from types import SimpleNamespace
from typing import Any, cast

import peft
import torch
from peft.tuners.xlora import XLoraConfig
from peft.tuners.xlora.layer import XLoraLinearLayer
from torch import Tensor, nn

from eval.performance.harness import Gate, Report, arguments, require, take_turns
from polysense.nn import BlockExperts, ExpertOptions, ExpertSite, GroupExperts
from polysense.testing.counting import flops, saved_bytes

BATCH, TOKENS, DIM, HIDDEN, RANK, ALPHA = 8, 197, 768, 3072, 4, 32.0
MODALITIES = ("audio", "depth", "video")
CASES: dict[str, tuple[int, int | None]] = {"2 experts": (2, None), "4 experts, top-2": (4, 2)}


class Ffn(nn.Module):
    """The frozen FFN, under the names that an HF CLIP block gives its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.activation_fn, self.fc2 = nn.Linear(DIM, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, DIM)
        self.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(self.activation_fn(self.fc1(inputs))))


class LoopedLinear(nn.Module):
    """A frozen linear layer with one module per expert, each adding its own full-width output."""

    def __init__(self, linear: nn.Linear, group: GroupExperts, top_k: int | None) -> None:
        super().__init__()
        hidden = group.experts * group.rank
        self.linear, self.top_k = linear, top_k
        self.router = _linear(group.down[hidden:])
        self.down = nn.ModuleList(_linear(part) for part in group.down[:hidden].split(group.rank))
        self.up = nn.ModuleList(_linear(part) for part in group.up.split(group.rank, dim=1))

    def gates(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.router(inputs).float()
        if self.top_k is not None:
            kept = logits.topk(self.top_k, dim=-1)
            logits = torch.full_like(logits, float("-inf")).scatter(-1, kept.indices, kept.values)
        return logits.softmax(dim=-1).to(inputs.dtype)

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.linear(inputs)
        gates = self.gates(inputs)
        for index, (down, up) in enumerate(zip(self.down, self.up, strict=True)):
            output = output + gates[..., index : index + 1] * (up(down(inputs)) * (ALPHA / RANK))
        return output

    def stacked_gradients(self) -> list[Tensor]:
        """In the form of `GroupExperts`: down with the router's rows below, and up."""
        downs = [cast(nn.Linear, each).weight.grad for each in (*self.down, self.router)]
        ups = [cast(nn.Linear, each).weight.grad for each in self.up]
        return [torch.cat(cast(list[Tensor], downs)), torch.cat(cast(list[Tensor], ups), dim=1)]


class XLoraLinear(nn.Module):
    """peft's X-LoRA layer over a frozen linear layer, with the same router and experts as a `LoopedLinear`."""

    def __init__(self, linear: nn.Linear, looped: LoopedLinear) -> None:
        super().__init__()
        config = peft.LoraConfig(r=RANK, lora_alpha=int(ALPHA), target_modules=["0"], lora_dropout=0.0)
        model: Any = peft.get_peft_model(cast(Any, nn.Sequential(linear)), config, adapter_name="0")
        for index in range(1, len(looped.down)):
            model.add_adapter(str(index), config)
        model.base_model.set_adapter([str(index) for index in range(len(looped.down))])
        self.target, self.gates = model.base_model.model[0], looped.gates
        self.router = looped.router
        for index, (down, up) in enumerate(zip(looped.down, looped.up, strict=True)):
            self.target.lora_A[str(index)].weight = down.weight
            self.target.lora_B[str(index)].weight = up.weight
        settings = XLoraConfig(hidden_size=DIM, adapters={})
        owner: Any = SimpleNamespace(disabled=False)
        self.layer = XLoraLinearLayer(owner, self.target, self.target.forward, 0, settings)

    def forward(self, inputs: Tensor) -> Tensor:
        return cast(Tensor, self.layer.forward(inputs, scalings=self.gates(inputs).unsqueeze(2)))


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight.detach().clone())
    return layer


def loop_of(ffn: Ffn, experts: BlockExperts, modality: str, top_k: int | None) -> Ffn:
    """The FFN with looped experts that equal those of `modality`."""
    looped = copy.copy(ffn)
    looped._modules = dict(ffn._modules)
    for name, site in experts.sites.items():
        group = cast(GroupExperts, cast(ExpertSite, site).groups[modality])
        setattr(looped, name, LoopedLinear(getattr(ffn, name), group, top_k))
    return looped


def x_lora_of(ffn: Ffn, looped: Ffn) -> Ffn:
    """The FFN with peft's X-LoRA layers that share the parameters of `looped`."""
    gated = copy.copy(ffn)
    gated._modules = dict(ffn._modules)
    for name in ("fc1", "fc2"):
        setattr(gated, name, XLoraLinear(copy.deepcopy(getattr(ffn, name)), cast(LoopedLinear, getattr(looped, name))))
    return gated


def peft_of(ffn: Ffn) -> nn.Module:
    """The FFN with two active LoRA adapters of the same rank on both linear layers."""
    config = peft.LoraConfig(r=RANK, lora_alpha=int(ALPHA), target_modules=["fc1", "fc2"], lora_dropout=0.0)
    model: Any = peft.get_peft_model(cast(Any, copy.deepcopy(ffn)), config, adapter_name="first")
    model.add_adapter("second", config)
    model.base_model.set_adapter(["first", "second"])
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.02)
    if sum(parameter.requires_grad for parameter in model.parameters()) != 8:
        sys.exit("peft does not train both adapters: nothing was timed")
    return cast(nn.Module, model)


def step(call: Callable[[Tensor], Tensor], inputs: Tensor, weights: Tensor, modules: nn.Module | None) -> Tensor:
    """One forward and backward pass with fresh gradients; the gradient of the inputs."""
    inputs = inputs.detach().requires_grad_()
    if modules is not None:
        modules.zero_grad(set_to_none=True)
    call(inputs).backward(weights)
    return cast(Tensor, inputs.grad)


def check_equality(ffn: Ffn, experts: BlockExperts, inputs: Tensor, top_k: int | None) -> float:
    """Largest difference of outputs and all gradients, each relative to its own largest value; at most 1e-6."""
    worst = 0.0
    weights = torch.randn_like(inputs)
    for modality, peer in product(MODALITIES, ("plain loop", "X-LoRA")):
        looped = loop_of(ffn, experts, modality, top_k)
        side = looped if peer == "plain loop" else x_lora_of(ffn, looped)
        with torch.no_grad():
            pairs = [(experts(ffn, inputs, modality, None), side(inputs))]
        ours = step(lambda x, m=modality: experts(ffn, x, m, None), inputs, weights, experts)  # type: ignore[misc]
        pairs.append((ours, step(side, inputs, weights, side)))
        for name, site in experts.sites.items():
            group = cast(GroupExperts, cast(ExpertSite, site).groups[modality])
            expected = cast(LoopedLinear, getattr(looped, name)).stacked_gradients()
            pairs += zip((cast(Tensor, group.down.grad), cast(Tensor, group.up.grad)), expected, strict=True)
        worst = max(worst, *(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs))
    return worst


def measure(report: Report, name: str, repeats: int) -> None:
    count, top_k = CASES[name]
    ffn = Ffn()
    experts = BlockExperts(DIM, HIDDEN, "linear", ExpertOptions(experts=count, rank=RANK, alpha=ALPHA, top_k=top_k))
    for modality in MODALITIES:
        experts.add_group(modality)
    for key, parameter in experts.named_parameters():
        if key.endswith("up"):
            nn.init.normal_(parameter, std=0.02)
    # the comparison of two roundings needs double precision to tell an error from a rounding
    doubled = copy.deepcopy(ffn).double(), copy.deepcopy(experts).double()
    exact = check_equality(*doubled, torch.randn(2, TOKENS, DIM, dtype=torch.float64), top_k)
    inputs, weights = torch.randn(BATCH, TOKENS, DIM), torch.randn(BATCH, TOKENS, DIM)
    report.gates.append(Gate(f"{name}: largest relative difference from the loop, float64", exact, at_most=1e-6))
    single = check_equality(ffn, experts, inputs, top_k)
    report.gates.append(Gate(f"{name}: largest relative difference from the loop, float32", single, at_most=1e-5))

    looped, adapted = loop_of(ffn, experts, "audio", top_k), peft_of(ffn)
    gated = x_lora_of(ffn, loop_of(ffn, experts, "audio", top_k))
    calls: dict[str, tuple[Callable[[Tensor], Tensor], nn.Module | None]] = {
        "bare FFN": (ffn, None),
        "ours": (lambda x: experts(ffn, x, "audio", None), experts),
        "X-LoRA": (gated, gated),
        "plain loop": (looped, looped),
        "LoRA, two adapters, no gates": (adapted, adapted),
    }
    parameters = [*ffn.parameters(), *experts.parameters(), *looped.parameters()]
    parameters += [*gated.parameters(), *adapted.parameters()]
    leaf = inputs.clone().requires_grad_()
    kept = {side: saved_bytes(lambda c=call: c(leaf), [*parameters]) for side, (call, _) in calls.items()}  # type: ignore[misc]
    extra = {side: each - kept["bare FFN"] for side, each in kept.items()}
    work = {side: flops(lambda c=call: step(c, inputs, weights, None)) for side, (call, _) in calls.items()}  # type: ignore[misc]
    times = take_turns(
        {side: lambda c=call, m=module: step(c, inputs, weights, m) for side, (call, module) in calls.items()},  # type: ignore[misc]
        repeats,
    )
    report.figures |= {
        f"{name}: forward and backward, ms": times,
        f"{name}: bytes kept for the backward pass": kept,
        f"{name}: floating-point operations": work,
    }
    ours = times["ours"].min
    report.gates += [
        Gate(f"{name}: X-LoRA / ours", times["X-LoRA"].min / ours, at_least=1.6),
        Gate(f"{name}: plain loop / ours", times["plain loop"].min / ours, at_least=1.6),
        Gate(f"{name}: plain loop / bare FFN", times["plain loop"].min / times["bare FFN"].min),
        Gate(f"{name}: LoRA without gates / ours", times["LoRA, two adapters, no gates"].min / ours,
             at_least=1.0 if count == 2 else None),
        Gate(f"{name}: ours / bare FFN (aim 1.25)", ours / times["bare FFN"].min, at_most=1.5),
        Gate(f"{name}: processor time, ours / bare FFN", times["ours"].cpu / times["bare FFN"].cpu),
        Gate(f"{name}: extra bytes kept, ours / X-LoRA", extra["ours"] / extra["X-LoRA"], at_most=0.4),
        Gate(f"{name}: extra bytes kept, ours / plain loop", extra["ours"] / extra["plain loop"], at_most=0.4),
        Gate(f"{name}: operations, ours / bare FFN", work["ours"] / work["bare FFN"]),
    ]  # fmt: skip


def main() -> int:
    require("peft", "torch")
    parsed = arguments("eval.performance.experts", __doc__, repeats=15)
    report = Report("experts", "python -m eval.performance.experts", parsed.seed, ("peft", "transformers"))
    for name in CASES:
        measure(report, name, parsed.repeats)
    return report.write(parsed.out)


if __name__ == "__main__":
    sys.exit(main())
