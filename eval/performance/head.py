"""Benchmark P5: logits at labelled positions alone, beside logits everywhere.

    python -m eval.performance.head [--repeats 9] [--threads 2] [--out eval/reports/performance]

The head alone: hidden states (1, 1024, 512), vocabularies of 32,000 and 128,256, of which 3, 6 and 50 % of the
positions have a label; loss and gradient by the hidden states, the head frozen as in MERA. Both sides are whole models
without layers: transformers' `LlamaForCausalLM` and a MERA model on the same weights.

A training step: an image of 576 tokens, 64 of text, 24 of which are labelled, through a small LLaVA whose projector
trains; transformers' `LlavaForConditionalGeneration` and what `from_llava` makes of it. Losses and gradients are
compared first. Peak memory is that of a fresh process, the weights included and beyond them. The exit code is 1 when a
gate is missed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, LlavaConfig, LlavaForConditionalGeneration

from eval.performance.harness import Gate, Report, arguments, take_turns
from eval.performance.memory import MIB, growth, in_child
from polysense import MeraForConditionalGeneration

TOKENS, WIDTH, LAYERS, HEADS = 1024, 512, 4, 8
VOCABULARIES, SHARES = (32_000, 128_256), (0.03, 0.06, 0.5)
GATES = {0.06: 8.0}
VISION = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 2,
          "image_size": 336, "patch_size": 14}  # fmt: skip
TEXT, LABELLED = 64, 24
IGNORED, TOLERANCE = -100, 1e-5  # beyond the tolerance the sides are not the same computation
PEER, OURS = "transformers", "ours"
Step = Callable[[], tuple[Tensor, Tensor]]
"""One forward and backward pass; the loss and the gradient that is compared."""


# ---- the head alone -------------------------------------------------------------------------------------------------


def heads(vocabulary: int) -> dict[str, nn.Module]:
    """Two models of nothing but embeddings, norm and head, whose weights are equal and frozen."""
    config = LlamaConfig(vocab_size=vocabulary, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=HEADS)
    llama = LlamaForCausalLM(config).requires_grad_(False).eval()
    llama.model.layers = nn.ModuleList()
    ours = MeraForConditionalGeneration.from_parts(llama).requires_grad_(False)
    return {PEER: llama, OURS: ours}


def head_step(model: nn.Module, hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    leaf = hidden.detach().requires_grad_()
    loss = model(inputs_embeds=leaf, labels=labels).loss
    loss.backward()
    return loss.detach(), cast(Tensor, leaf.grad)


def labels_of(share: float, vocabulary: int) -> Tensor:
    """Labels of that share of all positions, the first one excluded, which nothing predicts."""
    labels = torch.full((1, TOKENS), IGNORED)
    places = 1 + torch.randperm(TOKENS - 1)[: max(1, round(share * TOKENS))]
    labels[0, places] = torch.randint(vocabulary, (len(places),))
    return labels


def measure_head(report: Report, vocabulary: int, repeats: int) -> None:
    models, hidden = heads(vocabulary), torch.randn(1, TOKENS, WIDTH)
    for share in SHARES:
        name, labels = f"head, {vocabulary} words, {share:.0%} labelled", labels_of(share, vocabulary)
        steps: dict[str, Step] = {side: partial(head_step, model, hidden, labels) for side, model in models.items()}
        check_equality(report, name, steps)
        times = take_turns(steps, repeats)
        report.figures[f"{name}: ms"] = times
        report.gates.append(Gate(f"{name}: transformers / ours", times[PEER].min / times[OURS].min,
                                 at_least=GATES.get(share)))  # fmt: skip


# ---- a training step ------------------------------------------------------------------------------------------------


def write_llava(folder: Path, vocabulary: int, seed: int) -> None:
    """A small LLaVA with random weights; its placeholder is the last word."""
    torch.manual_seed(seed)
    text = {"model_type": "llama", "vocab_size": vocabulary, "hidden_size": WIDTH, "intermediate_size": 3 * WIDTH,
            "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "pad_token_id": 0}  # fmt: skip
    config = LlavaConfig(vision_config={"model_type": "clip_vision_model", **VISION}, text_config=text,
                         image_token_index=vocabulary - 1, tie_word_embeddings=False)  # fmt: skip
    LlavaForConditionalGeneration(config).save_pretrained(folder)


def projector_step(side: str, model: Any, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The gradient is that of the projector's first matrix."""
    projector = model.model.multi_modal_projector if side == PEER else model.model.connectors["image"]
    model.requires_grad_(False)
    projector.requires_grad_(True).zero_grad(set_to_none=True)
    loss = model(**inputs).loss
    loss.backward()
    return loss.detach(), projector.linear_1.weight.grad.clone()


def sides_of(folder: Path) -> dict[str, Callable[[], Any]]:
    """How to load each side, from one folder."""
    return {
        PEER: lambda: LlavaForConditionalGeneration.from_pretrained(folder),
        OURS: lambda: MeraForConditionalGeneration.from_llava(folder),
    }


def inputs_of(vocabulary: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    places = (VISION["image_size"] // VISION["patch_size"]) ** 2
    text = torch.randint(1, vocabulary - 1, (1, TEXT), generator=generator)
    ids = torch.cat([torch.full((1, places), vocabulary - 1), text], dim=1)
    labels = ids.clone()
    labels[:, :-LABELLED] = IGNORED
    pixels = torch.randn(1, 3, VISION["image_size"], VISION["image_size"], generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, "pixel_values": pixels}


def peaks(side: str, folder: Path, vocabulary: int, seed: int) -> dict[str, int]:
    """Bytes by which this process grows at most: from nothing to the end of a step, and by the step alone."""
    models: list[Any] = []
    loading = growth(lambda: models.append(sides_of(folder)[side]()))
    inputs = inputs_of(vocabulary, seed)
    step = growth(lambda: projector_step(side, models[0], inputs))
    weights = sum(each.numel() * each.element_size() for each in {id(p): p for p in models[0].parameters()}.values())
    return {"loading": loading, "step": step, "weights": weights}


def measure_step(report: Report, vocabulary: int, repeats: int, seed: int) -> None:
    name, inputs = f"training step, {vocabulary} words", inputs_of(vocabulary, seed)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        write_llava(folder, vocabulary, seed)
        bytes_of = {side: in_child(peaks, side, folder, vocabulary, seed) for side in (PEER, OURS)}
        steps: dict[str, Step] = {
            side: partial(projector_step, side, load(), inputs) for side, load in sides_of(folder).items()
        }
        check_equality(report, name, steps)
        times = take_turns(steps, repeats)
    report.figures |= {f"{name}: ms": times, f"{name}: bytes": bytes_of}
    mib = {side: each["step"] / MIB for side, each in bytes_of.items()}
    report.gates += [
        Gate(f"{name}: transformers / ours", times[PEER].min / times[OURS].min, at_least=1.0),
        Gate(f"{name}: peak MiB beyond the weights, transformers", mib[PEER]),
        Gate(f"{name}: peak MiB beyond the weights, ours", mib[OURS]),
        Gate(f"{name}: peak beyond the weights, ours / transformers", mib[OURS] / mib[PEER], at_most=1.0),
    ]


def check_equality(report: Report, name: str, steps: Mapping[str, Step]) -> None:
    """Stop unless losses and gradients agree, each relative to its own largest value."""
    theirs, ours = steps[PEER](), steps[OURS]()
    loss, gradient = (
        float((a.double() - b.double()).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True)
    )
    if max(loss, gradient) > TOLERANCE:
        sys.exit(f"{name}: loss and gradient differ by {loss:.2g} and {gradient:.2g}: nothing was timed")
    report.gates += [
        Gate(f"{name}: relative difference of the loss", loss, at_most=1e-6),
        Gate(f"{name}: largest relative difference of the gradient", gradient, at_most=1e-6),
    ]


def main() -> int:
    parsed = arguments("eval.performance.head", __doc__, repeats=9)
    report = Report("head", "python -m eval.performance.head", parsed.seed, ("transformers",))
    for vocabulary in VOCABULARIES:
        measure_head(report, vocabulary, parsed.repeats)
        measure_step(report, vocabulary, parsed.repeats, parsed.seed)
    return report.write(parsed.out)


if __name__ == "__main__":
    sys.exit(main())
