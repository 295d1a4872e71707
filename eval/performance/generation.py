"""Benchmark ME18: a generated token costs what the bare language model takes, however many senses were learned.

    python -m eval.performance.generation [--repeats 15] [--threads 2] [--out eval/reports/performance]

A Llama of SmolLM2-135M's sizes, random weights; MERA models of 1 and of 6 senses around the same weights; and what
PathWeave makes of it after 1 and after 4 senses, as many as in the paper: an adapter per sense beside every linear
layer, whose rank is a 32nd of the width, as there. Adapters begin as zeros, so that all sides generate the same tokens
after the same prompt, which is checked first. Floating-point operations and bytes of parameters that one token takes
are counted exactly; the time is that of 16 tokens by `generate`, the prompt included, all sides in turn. The exit code
is 1 when a gate is missed.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from eval.performance.harness import Gate, Report, arguments, take_turns
from polysense import MeraForConditionalGeneration, Modality
from polysense.models.mera.inputs import SenseInputs
from polysense.nn.adapter_in_adapter import AdapterOptions
from polysense.testing.counting import flops, parameter_bytes

SMOLLM2 = {"vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1_536, "num_hidden_layers": 30,
           "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True}  # fmt: skip
SENSES, PATHS = (1, 6), (1, 4)
RANK, PROMPT, TOKENS = SMOLLM2["hidden_size"] // 32, 16, 16
BARE, MERA, PAPER = "bare language model", "MERA, senses: {}", 3.3
VISION = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
          "image_size": 32, "patch_size": 8}  # fmt: skip


def models() -> dict[str, Any]:
    """The bare model, and the others around its very weights, so that no side has the warmer ones."""
    llama: Any = LlamaForCausalLM(LlamaConfig(**SMOLLM2, pad_token_id=0, eos_token_id=None)).eval()
    built: dict[str, Any] = {BARE: llama}
    tower = CLIPVisionModel(CLIPVisionConfig(**VISION))
    for count in SENSES:
        model = around(llama)
        model.add_modality("image", tower)
        for index in range(1, count):
            model.add_modality(Modality(name=f"sense_{index}", kind="grid"), "image")
        built[MERA.format(count)] = model.eval()
    linears = [name for name, layer in llama.model.named_modules() if type(layer) is nn.Linear]
    for count in PATHS:
        model = around(llama)
        model.add_adapters(linears, AdapterOptions(rank=RANK))
        for index in range(count):
            model.add_path(f"sense_{index}")
        built[f"PathWeave, senses: {count}"] = model.eval()
    return built


def around(llama: nn.Module) -> Any:
    """A MERA model without senses, whose parameters are the language model's own."""
    shared = {id(parameter): parameter for parameter in llama.parameters()}
    mine: Any = copy.deepcopy(llama, shared)
    model: Any = MeraForConditionalGeneration.from_parts(mine)
    model.model.language_model, model.lm_head = mine.model, mine.lm_head
    return model


def prompt(model: Any) -> Tensor:
    """Word vectors of an image between words, as every side's prompt."""
    words = torch.randint(1, SMOLLM2["vocab_size"], (1, PROMPT))
    places = torch.full((1, model.token_layout("image").count(1)), model.config.senses["image"].token_id)
    pixels = torch.randn(1, 3, VISION["image_size"], VISION["image_size"])
    with torch.no_grad():
        return cast(Tensor, model.model.embed(torch.cat([words, places, words], dim=1),
                                              {"image": SenseInputs(values=pixels)}))  # fmt: skip


def generate(model: Any, vectors: Tensor) -> Tensor:
    """The tokens after a prompt; no model has one to end with, so that all of them are there."""
    mask = torch.ones(vectors.shape[:2], dtype=torch.long)
    return cast(
        Tensor, model.generate(inputs_embeds=vectors, attention_mask=mask, max_new_tokens=TOKENS, do_sample=False)
    )


def one_token(model: Any, vectors: Tensor) -> Callable[[], object]:
    """Computes the token after the next, with the prompt in a cache of its own."""
    with torch.no_grad():
        cache = model(inputs_embeds=vectors, use_cache=True).cache

    @torch.no_grad()
    def step() -> object:
        return model(input_ids=torch.ones(1, 1, dtype=torch.long), cache=copy.deepcopy(cache))

    return step


def measure(report: Report, built: Mapping[str, Any], repeats: int) -> None:
    vectors = prompt(built[MERA.format(SENSES[0])])
    said = {side: generate(model, vectors) for side, model in built.items()}
    if unlike := [side for side, tokens in said.items() if not torch.equal(tokens, said[BARE])]:
        sys.exit(f"the tokens of {', '.join(unlike)} are not the bare model's: nothing was timed")
    steps = {side: one_token(model, vectors) for side, model in built.items()}
    work = {side: flops(step) for side, step in steps.items()}
    read = {side: parameter_bytes(built[side], step) for side, step in steps.items()}
    times = take_turns({side: partial(generate, model, vectors) for side, model in built.items()}, repeats)
    report.figures |= {
        f"{TOKENS} tokens, ms": times,
        "one token: floating-point operations": work,
        "one token: bytes of parameters read": read,
        "the paper's time per token, PathWeave / bare": PAPER,
    }
    for side in [side for side in built if side != BARE]:
        exact, bound = (1.0, 1.05) if side.startswith("MERA") else (None, None)
        slower = times[side].min / times[BARE].min
        report.gates += [
            Gate(f"{side}: operations / bare", work[side] / work[BARE], at_least=exact, at_most=exact),
            Gate(f"{side}: bytes of parameters / bare", read[side] / read[BARE], at_least=exact, at_most=exact),
            Gate(f"{side}: time / bare", slower, at_most=bound),
            Gate(f"{side}: processor time / bare", times[side].cpu / times[BARE].cpu),
        ]


def main() -> int:
    parsed = arguments("eval.performance.generation", __doc__, repeats=15)
    report = Report("generation", "python -m eval.performance.generation", parsed.seed, ("transformers",))
    measure(report, models(), parsed.repeats)
    return report.write(parsed.out)


if __name__ == "__main__":
    sys.exit(main())
