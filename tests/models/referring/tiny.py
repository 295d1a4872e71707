"""The smallest CLIPSeg."""

from __future__ import annotations

from typing import Any

from transformers import CLIPSegConfig

VALUES: dict[str, Any] = {
    "projection_dim": 8, "extract_layers": [0, 1], "reduce_dim": 8, "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
    "vision_config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                      "image_size": 32, "patch_size": 8},
    "text_config": {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1},
}  # fmt: skip


def tiny_clipseg() -> Any:
    return CLIPSegConfig(**VALUES)
