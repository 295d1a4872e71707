"""What tells a MERA checkpoint's folder from others, before any of its weights is read."""

from __future__ import annotations

from pathlib import Path

from polysense.errors import CheckpointError
from polysense.models.mera.configuration_mera import MeraConfig
from polysense.safety import read_json


def check_mera(folder: Path) -> tuple[str, ...]:
    """The senses of a folder that holds a MERA model with its processor.

    Raises:
        CheckpointError: it holds another model, or no processor.
    """
    config = read_json(folder / "config.json")
    if config.get("model_type") != MeraConfig.model_type:
        raise CheckpointError(f"the model is of type {config.get('model_type')!r}, not of MERA", where=folder,
                              fix="Give a stage that MERA's recipe wrote, or what from_llava made.")  # fmt: skip
    check_processor(folder, "MeraProcessor")
    return tuple(config.get("modalities") or ())


def check_processor(folder: Path, kind: str) -> None:
    """Refuse a model's folder without its processor.

    Raises:
        CheckpointError: naming the kind of processor.
    """
    if not (folder / "processor_config.json").exists():
        raise CheckpointError("the model has no processor", where=folder,
                              fix=f"Save its {kind} into the same folder.")  # fmt: skip


__all__ = ["check_mera", "check_processor"]
