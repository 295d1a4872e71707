"""Benchmark P6: the exact diagonal of the Fisher information beside the usual ways to compute it.

    python -m eval.performance.fisher [--repeats 9] [--threads 2] [--out eval/reports/performance]

256 samples with random labels through a three-layer MLP (all parameters) and through a two-layer transformer on 16
tokens each (its LoRA factors alone, of the rank that MERA's recipes have). The peers are re-typed: one sample at a
time, as in hand-written EWC; and `torch.func.vmap` over `grad`, whole and in chunks of 32, of which the faster one
counts. All are compared in float64 with the loop in float64 before anything is timed. Also printed: what squaring the
gradient of a batch of 32, as Avalanche's EWC does, leaves of the Fisher information; and one plain forward and
backward pass, below which nothing exact can come. The exit code is 1 when a gate is missed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from eval.performance.harness import Gate, Report, arguments, take_turns
from polysense.continual import batch_fisher, sample_fisher

SAMPLES, TOKENS, CLASSES, BATCH, CHUNK = 256, 16, 10, 128, 32
MLP_WIDTH, WIDTH, HEADS, RANK = 512, 256, 4, 16
Fisher = Mapping[str, Tensor]


class LoraLinear(nn.Module):
    """W x + B A x with W frozen and neither factor zero."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs).requires_grad_(False)
        self.lora_A, self.lora_B = nn.Linear(inputs, RANK, bias=False), nn.Linear(RANK, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.lora_B(self.lora_A(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm attention and MLP; attention is written out, so that vmap has no kernel it must loop over."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH) for _ in range(2)]).requires_grad_(False)
        self.qkv, self.out = LoraLinear(WIDTH, 3 * WIDTH), LoraLinear(WIDTH, WIDTH)
        self.up, self.down = LoraLinear(WIDTH, 4 * WIDTH), LoraLinear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        samples, tokens, _ = x.shape
        qkv = self.qkv(self.norms[0](x)).view(samples, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        scores = qkv[0] @ qkv[1].transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
        attended = (scores.softmax(dim=-1) @ qkv[2]).transpose(1, 2).reshape(samples, tokens, WIDTH)
        x = x + self.out(attended)
        return x + self.down(F.gelu(self.up(self.norms[1](x))))  # type: ignore[no-any-return]


@dataclass
class Task:
    """A model, its samples and the sides that compute its Fisher information."""

    model: nn.Module
    inputs: Tensor
    labels: Tensor

    def losses(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = self.model(batch[0])
        return (
            F.cross_entropy(logits.flatten(0, -2), batch[1].flatten(), reduction="none").view(len(logits), -1).mean(1)
        )

    def batches(self, size: int) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.inputs.split(size), self.labels.split(size), strict=True))

    def trained(self) -> dict[str, nn.Parameter]:
        return {name: each for name, each in self.model.named_parameters() if each.requires_grad}

    def ours(self) -> Fisher:
        return sample_fisher(self.model, self.batches(BATCH), self.losses)

    def loop(self) -> Fisher:
        parameters = self.trained()
        total = {name: torch.zeros_like(each) for name, each in parameters.items()}
        for batch in self.batches(1):
            gradients = torch.autograd.grad(self.losses(batch)[0], list(parameters.values()))
            for name, gradient in zip(parameters, gradients, strict=True):
                total[name] += gradient**2
        return {name: each / len(self.inputs) for name, each in total.items()}

    def vmapped(self, chunk: int | None) -> Fisher:
        parameters = {name: each.detach() for name, each in self.trained().items()}

        def loss(values: Fisher, x: Tensor, label: Tensor) -> Tensor:
            logits = functional_call(self.model, dict(values), (x[None],))
            return F.cross_entropy(logits.flatten(0, -2), label.flatten())

        singles = vmap(grad(loss), in_dims=(None, 0, 0), chunk_size=chunk)(parameters, self.inputs, self.labels)
        return {name: each.square().mean(dim=0) for name, each in singles.items()}

    def backward(self) -> None:
        for batch in self.batches(BATCH):
            torch.autograd.grad(self.losses(batch).mean(), list(self.trained().values()))

    def double(self) -> Task:
        return Task(deepcopy(self.model).double(), self.inputs.double(), self.labels)


def mlp_task() -> Task:
    wide = MLP_WIDTH
    model = nn.Sequential(nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, CLASSES))
    return Task(model, torch.randn(SAMPLES, wide), torch.randint(CLASSES, (SAMPLES,)))


def lora_task() -> Task:
    model = nn.Sequential(Block(), Block(), nn.Linear(WIDTH, CLASSES).requires_grad_(False))
    return Task(model, torch.randn(SAMPLES, TOKENS, WIDTH), torch.randint(CLASSES, (SAMPLES, TOKENS)))


def error(found: Fisher, exact: Fisher) -> float:
    """Largest difference of an entry, relative to the largest entry of its tensor."""
    return max(float((found[name].double() - each).abs().max() / each.max()) for name, each in exact.items())


def measure(report: Report, name: str, task: Task, bounds: tuple[float, float], repeats: int) -> None:
    sides: dict[str, Callable[[], object]] = {
        "ours": task.ours,
        "one sample at a time": task.loop,
        "vmap": lambda: task.vmapped(None),
        f"vmap in chunks of {CHUNK}": lambda: task.vmapped(CHUNK),
        "one forward and backward": task.backward,
    }
    exact = task.double().loop()
    worst = error(task.ours(), exact)
    if worst > 1e-5 or error(task.vmapped(None), exact) > 1e-5:
        sys.exit(f"{name}: ours or vmap disagrees with the loop (ours by {worst:.2g}): nothing was timed")
    squared = batch_fisher(task.model, task.batches(CHUNK), lambda batch: task.losses(batch).mean())
    flat, true = (torch.cat([each[key].double().flatten() for key in exact]) for each in (squared, exact))
    report.figures[f"{name}: squared gradient of batches of {CHUNK}"] = {
        "share of the sum": float(flat.sum() / true.sum()),
        "correlation": float(torch.corrcoef(torch.stack([flat, true]))[0, 1]),
    }
    times = take_turns(sides, repeats)
    report.figures[f"{name}: ms"] = times
    ours = times["ours"].min
    vmapped = min(timing.min for side, timing in times.items() if side.startswith("vmap"))
    report.gates += [
        Gate(f"{name}: largest relative error", worst, at_most=1e-5),
        Gate(f"{name}: loop over ours", times["one sample at a time"].min / ours, at_least=bounds[0]),
        Gate(f"{name}: vmap over ours", vmapped / ours, at_least=bounds[1]),
        Gate(f"{name}: ours over one forward and backward", ours / times["one forward and backward"].min,
             at_most=2.0 if name == "MLP" else None),
    ]  # fmt: skip


def main() -> int:
    parsed = arguments("eval.performance.fisher", __doc__, repeats=9)
    report = Report("fisher", "python -m eval.performance.fisher", parsed.seed, packages=())
    measure(report, "MLP", mlp_task(), (10.0, 5.0), parsed.repeats)
    measure(report, "LoRA factors", lora_task(), (3.0, 1.5), parsed.repeats)
    return report.write(parsed.out)


if __name__ == "__main__":
    sys.exit(main())
