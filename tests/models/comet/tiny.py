"""A COMET model of a few thousand parameters, and sequences for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from polysense.models.comet import CometModel

SENSES: dict[str, dict[str, Any]] = {
    "video": {"feature_dim": 3, "grid": (4, 4)},
    "text": {"feature_dim": 5, "recurrent": True},
    "audio": {"feature_dim": 6},
}
SIZES: dict[str, Any] = {
    "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "dropout": 0.0,
    "codebook_sizes": [7], "num_experts": 2, "context_layers": 1,
}  # fmt: skip


def tiny_comet(*senses: str, seed: int = 0, **config: Any) -> CometModel:
    """Video (maps), text (recurrent) and audio, or those named."""
    chosen = {name: SENSES[name] for name in senses or SENSES}
    return CometModel.from_features(chosen, seed=seed, **{**SIZES, **config})


def tiny_sequences(*senses: str, batch: int = 3, steps: int = 4, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = {name: (*SENSES[name].get("grid", ()), SENSES[name]["feature_dim"]) for name in senses or SENSES}
    return {name: torch.randn(batch, steps, *each, generator=generator) for name, each in sizes.items()}
