"""A tiny anchor on disk: what the recipes begin with, ready in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel

from polysense.recipes.config import recipe_folder
from polysense.testing.tiny import IMAGE_SIZE, PATCH_SIZE


def tiny_anchor(folder: Path, *, seed: int = 0, size: int = IMAGE_SIZE, **vision: Any) -> Path:
    """Write an untrained CLIP of about 60,000 parameters with the shipped tokenizer and an image processor.

    Args:
        folder: gets the files; it is returned.
        size: side of its pictures in pixels.
        vision: fields of `CLIPVisionConfig` to change.
    """
    tokenizer = AutoTokenizer.from_pretrained(recipe_folder() / "anchors" / "tokenizer")
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
           "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    width = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length, **width, **ids}
    picture = {**width, "image_size": size, "patch_size": PATCH_SIZE, **vision}
    config = CLIPConfig(text_config=text, vision_config=picture, projection_dim=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size_of = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    CLIPImageProcessorPil(**size_of).save_pretrained(folder)
    return folder
