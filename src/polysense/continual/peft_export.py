"""The adapters of all stages as one LoRA that peft loads: W_0 + sum_i c_i s_i B_i A_i, exactly, at the summed rank.

This is peft's `add_weighted_adapter(combination_type="cat")`; its other ways of combining are no such sum (see
`polysense.merging.lora_delta`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

from polysense.continual.adapter_checks import check_sum
from polysense.continual.stage_adapter import ROOT, StageAdapter, bare_key, read_adapters
from polysense.errors import CheckpointError
from polysense.merging import concatenate_factors
from polysense.merging.lora_delta import Factors
from polysense.merging.streaming import check_apart
from polysense.safety import read_json
from polysense.storage import atomic_folder

Base: TypeAlias = Literal["llm", "mera"]


def export_adapters(stage_folder: str | Path, target: str | Path, *, base: Base = "llm") -> int:
    """Write the adapters of a stage and of all before it as one, with their coefficients in the merge.

    Args:
        stage_folder: with `adapters/stage-i`.
        target: folder for `PeftModel.from_pretrained(model, target)`, outside of the stage's; replaced if it is
            there.
        base: what `model` will be: the language model that the first of the adapters was trained on ("llm"), or a
            MERA model with that language model ("mera"). The stage's own weights hold the sum already.

    Returns:
        The rank.

    Raises:
        CheckpointError: there are no adapters, or one cannot be read.
        ConfigError: a stage changed the language model otherwise than by a multiple of its adapter, or the target
            lies within the stage's folder, is it, or is around it.
    """
    # the stage is one of the folders around its adapters, so that it is not replaced either
    check_apart(target, [stage_folder, Path(stage_folder) / "adapters"])
    adapters = read_adapters(Path(stage_folder))
    if not adapters:
        raise CheckpointError(
            "there are no adapters", where=stage_folder, fix="Give a stage that MERA's recipe wrote."
        )
    check_sum(adapters, stage_folder)
    joined = {key: concatenate_factors(scaled) for key, scaled in _by_key(adapters).items()}
    rank = max(len(A) for A, _, _ in joined.values())
    prefix = _prefix(Path(stage_folder))
    places = {key: (bare_key(key, prefix) if base == "llm" else key).removesuffix(".weight") for key in joined}
    config = LoraConfig(
        r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", inference_mode=True,
        target_modules=sorted(places.values()), task_type="CAUSAL_LM" if base == "llm" else None,
    )  # fmt: skip
    tensors = {}
    for key, (A, B, _) in joined.items():  # a layer that some stages left out is filled up with zeros
        missing = rank - len(A)
        tensors[f"{ROOT}{places[key]}.lora_A.weight"] = torch.cat([A, A.new_zeros(missing, A.shape[1])])
        tensors[f"{ROOT}{places[key]}.lora_B.weight"] = torch.cat([B, B.new_zeros(len(B), missing)], dim=1)
    with atomic_folder(target, details={"stages": [each.stage for each in adapters]}) as folder:
        config.save_pretrained(folder)
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return rank


def _prefix(stage_folder: Path) -> str:
    """What the names of the body's weights begin with in the language model alone: "gpt_neox" of a GPT-NeoX."""
    config = stage_folder / "config.json"
    text = read_json(config).get("text_config") if config.exists() else None
    kind = text.get("model_type") if isinstance(text, dict) else None
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        return "model"
    llm = MODEL_FOR_CAUSAL_LM_MAPPING.get(CONFIG_MAPPING[kind], None)
    return "model" if llm is None else str(llm.base_model_prefix)


def _by_key(adapters: Sequence[StageAdapter]) -> dict[str, list[Factors]]:
    found: dict[str, list[Factors]] = {}
    for adapter in adapters:
        for key in adapter.factors:
            found.setdefault(key, []).append(adapter.scaled(key))
    return found


__all__ = ["export_adapters"]
