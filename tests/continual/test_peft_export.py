"""All stages as one peft LoRA: the merged weights' logits, and what peft's own concatenation gives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM

from polysense.continual.adapter_checks import stored_key
from polysense.continual.adapter_settings import AdapterSettings
from polysense.continual.peft_export import export_adapters
from polysense.continual.stage_adapter import (
    add_adapter,
    bare_key,
    merge_adapter,
    read_adapters,
    save_adapter,
    trained_adapter,
)
from polysense.errors import CheckpointError, ConfigError
from polysense.models.mera import MeraForConditionalGeneration
from polysense.testing import tiny_llama, tiny_mera

IDS = torch.tensor([[1, 8, 9, 10, 11]])
RANKS = (4, 2, 3)


@torch.no_grad()
def logits(model: Any) -> Tensor:
    found: Tensor = model(input_ids=IDS).logits
    return found


def three_stages(model: Any, folder: Path) -> Any:
    """`model` after three stages, whose adapters, of different ranks and targets, are in `folder / "stage"`."""
    folder = folder / "stage"
    for stage, rank in enumerate(RANKS, start=1):
        places = r".*language_model\.layers\.\d+\.self_attn\.\w_proj" if stage == 2 else AdapterSettings().targets
        settings = AdapterSettings(rank=rank, alpha=6.0, dropout=0.0, targets=places)
        wrapped = add_adapter(model, settings, stage=stage, seed=0)
        generator = torch.Generator().manual_seed(stage)
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        adapter = trained_adapter(wrapped, stage=stage, method="running_average")
        save_adapter(wrapped, folder / "adapters" / f"stage-{stage}", adapter, method="running_average")
        merge_adapter(wrapped, adapter, method="running_average")
        model = wrapped.get_base_model()
    return model


def test_one_adapter_gives_the_merged_logits_on_the_bare_language_model_and_on_mera(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path / "llm")
    merged = three_stages(MeraForConditionalGeneration.from_parts(tmp_path / "llm"), tmp_path)
    before = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "llm"))
    assert (logits(merged) - before).abs().max() > 0.01
    assert export_adapters(tmp_path / "stage", tmp_path / "one") == sum(RANKS)
    assert export_adapters(tmp_path / "stage", tmp_path / "two", base="mera") == sum(RANKS)
    bases = {
        "one": AutoModelForCausalLM.from_pretrained(tmp_path / "llm"),
        "two": MeraForConditionalGeneration.from_parts(tmp_path / "llm"),
    }
    for name, base in bases.items():
        loaded: Any = PeftModel.from_pretrained(base, tmp_path / name)
        assert torch.allclose(logits(loaded), logits(merged), atol=1e-5)
        assert torch.allclose(logits(loaded.merge_and_unload()), logits(merged), atol=1e-5)


def test_a_language_model_that_names_its_body_otherwise_gets_it_by_that_name(tmp_path: Path) -> None:
    config = GPTNeoXConfig(vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=1, pad_token_id=0,
                           num_attention_heads=2, max_position_embeddings=32)  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(tmp_path / "llm")
    model: Any = MeraForConditionalGeneration.from_parts(tmp_path / "llm")
    settings = AdapterSettings(rank=2, alpha=4.0, dropout=0.0, targets=r".*language_model\.layers\.0\..*\.dense\w*")
    wrapped = add_adapter(model, settings, stage=1, seed=0)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape) * 0.1
    adapter = trained_adapter(wrapped, stage=1, method=None)
    save_adapter(wrapped, tmp_path / "stage" / "adapters" / "stage-1", adapter, method=None)
    merge_adapter(wrapped, adapter, method=None)
    model.config.save_pretrained(tmp_path / "stage")
    export_adapters(tmp_path / "stage", tmp_path / "one")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "llm")
    assert (logits(base) - logits(model)).abs().max() > 0.01
    assert torch.allclose(logits(PeftModel.from_pretrained(base, tmp_path / "one")), logits(model), atol=1e-5)
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "llm").state_dict()
    assert all(stored_key(key, stored).startswith("gpt_neox.layers.0.") for key in adapter.factors)
    assert stored_key("model.language_model.layers.9.x.weight", stored) == "model.layers.9.x.weight"


def test_it_is_what_peft_concatenates(tmp_path: Path) -> None:
    three_stages(tiny_mera(), tmp_path)
    folders = sorted((tmp_path / "stage" / "adapters").iterdir())
    theirs: Any = PeftModel.from_pretrained(tiny_mera(), folders[0], adapter_name="1")
    theirs.load_adapter(folders[2], adapter_name="3")
    theirs.add_weighted_adapter(["1", "3"], [1.0, 1 / 3], "both", combination_type="cat")
    theirs.set_adapter("both")
    # as if the third had been the second
    (folders[2] / "merge.json").write_text(json.dumps({"stage": 2, "coefficient": 1 / 3, "whole": True}))
    folders[1].rename(tmp_path / "away")
    folders[2].rename(folders[1])
    assert export_adapters(tmp_path / "stage", tmp_path / "one", base="mera") == RANKS[0] + RANKS[2]
    ours: Any = PeftModel.from_pretrained(tiny_mera(), tmp_path / "one")
    assert torch.allclose(logits(ours), logits(theirs), atol=1e-6)
    found = load_file(tmp_path / "one" / "adapter_model.safetensors")
    for name, module in theirs.named_modules():
        if hasattr(module, "lora_A") and "both" in module.lora_A:
            torch.testing.assert_close(found[f"{name}.lora_A.weight"], module.lora_A["both"].weight.data)
            torch.testing.assert_close(found[f"{name}.lora_B.weight"], module.lora_B["both"].weight.data)


def test_the_base_is_never_taken_for_the_other(tmp_path: Path) -> None:
    three_stages(tiny_mera(), tmp_path)
    assert bare_key("model.language_model.layers.0.mlp.up_proj.weight") == "model.layers.0.mlp.up_proj.weight"
    export_adapters(tmp_path / "stage", tmp_path / "one")
    with pytest.raises(ValueError, match="not found in the base model"):
        PeftModel.from_pretrained(tiny_mera(), tmp_path / "one")


def test_what_no_adapter_stands_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there are no adapters"):
        export_adapters(tmp_path / "stage", tmp_path / "one")
    wrapped = add_adapter(tiny_mera(), AdapterSettings(rank=2), stage=1, seed=0)
    for method, whole in (("ties", True), ("running_average", False)):
        adapter = replace(trained_adapter(wrapped, stage=1, method=method), whole=whole)
        save_adapter(wrapped, tmp_path / "stage" / "adapters" / "stage-1", adapter, method=method)
        with pytest.raises(ConfigError, match="stage 1 changed the language model by more than"):
            export_adapters(tmp_path / "stage", tmp_path / "one")
    assert [each.stage for each in read_adapters(tmp_path / "stage")] == [1] and not (tmp_path / "one").exists()


@pytest.mark.parametrize("inner", [".", "one", "adapters", "adapters/stage-4", ".."])
def test_a_stage_is_neither_changed_nor_replaced_by_its_export(tmp_path: Path, inner: str) -> None:
    """A stage's folder is verified as a whole, so another file in it would spoil it."""
    three_stages(tiny_mera(), tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="lie within one another"):
        export_adapters(tmp_path / "stage", tmp_path / "stage" / inner)
    assert sorted(tmp_path.rglob("*")) == before
