"""Benchmark UA15: what encoding one sense costs does not depend on how many senses the model has.

    python -m eval.performance.senses [--repeats 15] [--threads 2] [--out eval/reports/performance]

Two models on one ViT-B/16 tower, random weights, with 2 and with 8 added senses. Floating-point operations and bytes
of parameters read are counted exactly and must be equal; outputs must be equal to the last bit; the time of the larger
model, calls in turn, may be 1.05 of the smaller's at most. The exit code is 1 when a gate is missed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from eval.performance.harness import Gate, Report, arguments, take_turns
from polysense import Modality, UniAlignModel
from polysense.testing.counting import flops, parameter_bytes

SENSES = 8
BATCH = 1


def models() -> dict[int, UniAlignModel]:
    """A model with 2 senses and one with 8, over the same frozen tower."""
    config = CLIPConfig(
        text_config={"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2},
        vision_config={"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "patch_size": 16},
        projection_dim=512,
    )
    clip = CLIPModel(config)
    senses = [Modality(name="depth", kind="grid", channels=1)]
    senses += [Modality(name=f"sense_{index}", kind="grid", channels=1) for index in range(SENSES - 1)]
    built = {count: UniAlignModel.from_clip(clip, senses[:count]) for count in (2, SENSES)}
    built[SENSES].clip = built[2].clip  # the same bytes in memory: neither side has the warmer tower
    return built


def train_step(model: UniAlignModel, values: Tensor) -> None:
    model.zero_grad(set_to_none=True)
    model.embed("depth", values).sum().backward()


def infer(model: UniAlignModel, values: Tensor) -> Tensor:
    with torch.no_grad():
        return model.embed("depth", values)


def main() -> int:
    parsed = arguments("eval.performance.senses", __doc__, repeats=15)
    report = Report("senses", "python -m eval.performance.senses", parsed.seed, ("transformers",))
    built, values = models(), torch.randn(BATCH, 1, 224, 224)
    few, many = (infer(model, values) for model in built.values())
    report.gates.append(Gate("largest difference of outputs, 8 senses against 2", (few - many).abs().max().item(),
                             at_most=0.0))  # fmt: skip
    kinds: dict[str, Callable[[UniAlignModel, Tensor], object]] = {"inference": infer, "training step": train_step}
    for kind, call in kinds.items():
        calls = {f"{count} senses": partial(call, model, values) for count, model in built.items()}
        work = {side: flops(each) for side, each in calls.items()}
        read = {side: parameter_bytes(model, each) for (side, each), model in zip(calls.items(), built.values(),
                                                                                  strict=True)}  # fmt: skip
        times = take_turns(calls, parsed.repeats)
        report.figures |= {
            f"{kind}, ms": times,
            f"{kind}: floating-point operations": work,
            f"{kind}: bytes of parameters read": read,
        }
        for name, exact in (("floating-point operations", work), ("bytes of parameters read", read)):
            small, large = exact.values()
            report.gates.append(Gate(f"{kind}: {name}, 8 senses / 2", large / small, at_least=1.0, at_most=1.0))
        small_time, large_time = times.values()
        report.gates.append(Gate(f"{kind}: time, 8 senses / 2", large_time.min / small_time.min, at_most=1.05))
        report.gates.append(Gate(f"{kind}: processor time, 8 senses / 2", large_time.cpu / small_time.cpu))
    return report.write(parsed.out)


if __name__ == "__main__":
    sys.exit(main())
