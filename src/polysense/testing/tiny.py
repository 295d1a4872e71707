"""Tiny models from configs: seconds to build, no download."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel

from polysense.modality import Modality

IMAGE_SIZE = 32
PATCH_SIZE = 8


def tiny_clip(seed: int = 0, **vision: Any) -> CLIPModel:
    """A CLIP of about 60,000 parameters on 32-pixel images, patch 8, random weights, in eval mode."""
    config = CLIPConfig(
        text_config={
            "vocab_size": 64, "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 3,
            "pad_token_id": 0,
        },
        vision_config={
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
            "image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE, **vision,
        },
        projection_dim=16,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIPModel(config).eval()


def tiny_senses() -> list[Modality]:
    """One small spec of every kind of sense."""
    return [
        Modality(name="depth", kind="grid", channels=1),
        Modality(name="video", kind="frames", channels=3),
        Modality(name="audio", kind="spectrogram", channels=1),
        Modality(name="speech", kind="spectrogram", channels=1),
        Modality(name="point_cloud", kind="points", channels=6, tokenizer={"groups": 8, "width": 8}),
    ]


def tiny_features(batch: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random features of every tiny sense, image and text, as a processor would return them."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=generator)

    return {
        "pixel_values": normal(3, IMAGE_SIZE, IMAGE_SIZE),
        "input_ids": torch.tensor([[1, 5, 9, 3], [1, 7, 3, 0]])[torch.arange(batch) % 2],
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])[torch.arange(batch) % 2],
        "depth_values": normal(1, IMAGE_SIZE, IMAGE_SIZE),
        "video_values": normal(4, 3, IMAGE_SIZE, IMAGE_SIZE),
        "audio_values": normal(2, 1, IMAGE_SIZE, IMAGE_SIZE),
        "speech_values": normal(1, 1, IMAGE_SIZE, IMAGE_SIZE),
        "point_cloud_values": normal(8, 6, 6),
    }
