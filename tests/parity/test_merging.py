"""Merging beside peft and transformers: the same weights, the same logits, and folders that load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from polysense.merging import (
    add_deltas,
    concatenate_factors,
    effective_weight,
    lora_delta,
    merge_coefficients,
    merge_folders,
    running_average,
)

RANK, ALPHA, STAGES = 4, 6, 3
TARGETS = ["q_proj", "v_proj", "down_proj"]
PROMPT = torch.arange(12).view(2, 6)


def llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, tie_word_embeddings=False)
    ).eval()  # fmt: skip


@pytest.fixture
def adapted() -> Any:
    """A Llama with one LoRA per stage, all with large random factors."""
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, lora_dropout=0.0)
    model: Any = get_peft_model(llama(), config, adapter_name="stage-1")
    for stage in range(2, STAGES + 1):
        model.add_adapter(f"stage-{stage}", config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    return model.eval()


def layers(model: Any) -> dict[str, Any]:
    """Every layer with LoRA, under the key of its weight in the bare model."""
    return {
        f"{name.removeprefix('base_model.model.')}.weight": module
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }


def deltas_of(layer: Any) -> list[tuple[Tensor, Tensor, float]]:
    return [
        (layer.lora_A[f"stage-{i}"].weight.data, layer.lora_B[f"stage-{i}"].weight.data, ALPHA / RANK * coefficient)
        for i, coefficient in enumerate(merge_coefficients(STAGES), start=1)
    ]


def combine(model: Any, kind: str) -> None:
    names = [f"stage-{i}" for i in range(1, STAGES + 1)]
    model.add_weighted_adapter(names, merge_coefficients(STAGES), adapter_name=kind, combination_type=kind)
    model.set_adapter(kind)


@torch.no_grad()
def logits(model: Any) -> Tensor:
    result: Tensor = model(input_ids=PROMPT).logits
    return result


def merged_llama(model: Any) -> LlamaForCausalLM:
    """A bare Llama with the effective weights of all stages."""
    bare = llama()
    state = {key: layer.base_layer.weight for key, layer in layers(model).items()}
    whole = {key.replace(".base_layer", ""): tensor for key, tensor in model.base_model.model.state_dict().items()
             if "lora_" not in key}  # fmt: skip
    whole |= {key: effective_weight(weight.data, deltas_of(layers(model)[key])) for key, weight in state.items()}
    bare.load_state_dict(whole)
    return bare


def test_effective_weights_give_the_logits_of_peft_cat(adapted: Any) -> None:
    merged = merged_llama(adapted)
    combine(adapted, "cat")
    torch.testing.assert_close(logits(merged), logits(adapted), atol=1e-5, rtol=1e-5)


def test_concatenated_factors_are_those_of_peft_cat(adapted: Any) -> None:
    expected = {key: concatenate_factors(deltas_of(layer)) for key, layer in layers(adapted).items()}
    combine(adapted, "cat")
    for key, layer in layers(adapted).items():
        A, B, scaling = expected[key]
        torch.testing.assert_close(layer.lora_A["cat"].weight.data, A)
        assert torch.equal(layer.lora_B["cat"].weight.data, B) and layer.scaling["cat"] == scaling


def test_peft_linear_is_wrong(adapted: Any) -> None:
    exact = {key: sum(lora_delta(*each) for each in deltas_of(layer)) for key, layer in layers(adapted).items()}
    combine(adapted, "linear")
    for key, layer in layers(adapted).items():
        error = (layer.get_delta_weight("linear").detach() - exact[key]).norm() / exact[key].norm()  # type: ignore[union-attr]
        assert error > 0.5, key


def test_peft_linear_is_wrong_in_two_dimensions() -> None:
    """The counter-example in the docstring of `polysense.merging.lora_delta`."""
    model: Any = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False))
    config = LoraConfig(r=1, lora_alpha=1, target_modules=["0"])
    model = get_peft_model(model, config, adapter_name="first")
    model.add_adapter("second", config)
    layer = model.base_model.model[0]
    for index, name in enumerate(("first", "second")):
        layer.lora_A[name].weight.data, layer.lora_B[name].weight.data = (
            torch.eye(2)[[index]],
            torch.eye(2)[:, [index]],
        )
    for kind, expected in (("linear", [[0.5, 0.5], [0.5, 0.5]]), ("cat", [[0.5, 0.0], [0.0, 0.5]])):
        model.add_weighted_adapter(["first", "second"], [0.5, 0.5], adapter_name=kind, combination_type=kind)
        torch.testing.assert_close(layer.get_delta_weight(kind).detach(), torch.tensor(expected))


def test_concatenated_factors_can_be_saved_as_a_peft_adapter_and_reloaded(adapted: Any, tmp_path: Path) -> None:
    expected = logits(merged_llama(adapted))
    joined = {key: concatenate_factors(deltas_of(layer)) for key, layer in layers(adapted).items()}
    rank = RANK * STAGES
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS, lora_dropout=0.0)
    base = llama()
    base.load_state_dict({key.replace(".base_layer", ""): tensor for key, tensor in
                          adapted.base_model.model.state_dict().items() if "lora_" not in key})  # fmt: skip
    base.save_pretrained(tmp_path / "base")
    exported: Any = get_peft_model(base, config)
    state: dict[str, Tensor] = {}
    for key, (A, B, _) in joined.items():
        module = f"base_model.model.{key.removesuffix('.weight')}"
        state |= {f"{module}.lora_A.weight": A, f"{module}.lora_B.weight": B}
    assert set(get_peft_model_state_dict(exported)) == set(state)
    assert not set_peft_model_state_dict(exported, state).unexpected_keys
    exported.save_pretrained(tmp_path / "adapter")
    reloaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter")
    torch.testing.assert_close(logits(reloaded.eval()), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_merged_folders_load_in_transformers(tmp_path: Path, shard: str) -> None:
    previous, current = llama().to(torch.bfloat16), llama().to(torch.bfloat16)
    for name, model in (("previous", previous), ("current", current)):
        model.save_pretrained(tmp_path / name, max_shard_size=shard)
    merge_folders([tmp_path / "previous", tmp_path / "current"], tmp_path / "merged", stage=2)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    expected = running_average(previous.state_dict(), current.state_dict(), stage=2)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())


def test_deltas_added_to_a_folder_give_the_logits_of_peft_cat(adapted: Any, tmp_path: Path) -> None:
    bare = merged_llama(adapted)
    expected = logits(bare)
    bare.load_state_dict({key.replace(".base_layer", ""): tensor for key, tensor in
                          adapted.base_model.model.state_dict().items() if "lora_" not in key})  # fmt: skip
    bare.save_pretrained(tmp_path / "base")
    deltas = {key: deltas_of(layer) for key, layer in layers(adapted).items()}
    add_deltas(tmp_path / "base", deltas, tmp_path / "merged", chunk_bytes=1024)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(loaded.eval()), expected, atol=1e-5, rtol=1e-5)
