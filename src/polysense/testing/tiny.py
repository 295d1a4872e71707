"""Tiny models from configs: seconds to build, no download."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from polysense.modality import Modality
from polysense.models.mera import MeraForConditionalGeneration
from polysense.models.unialign import UniAlignModel

IMAGE_SIZE = 32
PATCH_SIZE = 8

_QFORMER = {"kind": "qformer", "queries": 3, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2}  # fmt: skip
_LLAMA: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip


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


def tiny_llama(seed: int = 0, **config: Any) -> LlamaForCausalLM:
    """A Llama of about 25,000 parameters with 96 tokens and a padding token, random weights, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(LlamaConfig(**{**_LLAMA, **config})).eval()


def tiny_tokenizer(**special: Any) -> PreTrainedTokenizerFast:
    """Whole words for the tiny Llama: its special tokens, Llama 3's marks of a turn, and words up to id 94.

    Texts begin with `<s>`. The next token that is added, such as `<image>`, is 95, as in `tiny_llava`.
    """
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "<|start_header_id|>", "<|end_header_id|>",
              "<|reserved_special_token_0|>"]  # fmt: skip
    words = ["user", "assistant", "system", "what", "is", "this", "a", "red", "blue", "ball", "cup", "and", "?", "."]
    words += [f"word{index}" for index in range(95 - len(tokens) - len(words))]
    vocabulary = {token: index for index, token in enumerate([*tokens, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
             "extra_special_tokens": tokens[4:], **special}  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


def tiny_llava(seed: int = 0, *, vision: Any = None, **config: Any) -> LlavaForConditionalGeneration:
    """A LLaVA of the tiny Llama and the tiny CLIP's vision tower; 95 is its placeholder for 16 tokens an image."""
    tower = (vision or tiny_clip().vision_model.config).to_dict()
    values = {"vision_config": tower, "text_config": {"model_type": "llama", **_LLAMA}, "image_token_index": 95,
              "image_seq_length": 16, "pad_token_id": 0, **config}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlavaForConditionalGeneration(LlavaConfig(**values)).eval()


def tiny_mera(*senses: str, seed: int = 0) -> MeraForConditionalGeneration:
    """The tiny LLaVA with further senses: video through its own tower, the others through one tiny UniAlign.

    Video is pooled from 16 to 4 tokens a frame; audio and speech have a Q-Former of 3 queries, the rest perceptrons.
    """
    model = MeraForConditionalGeneration.from_llava(tiny_llava(seed))
    encoder: Any = None
    for name in senses:
        if name == "video":
            model.add_modality("video", "image", layer=-2, pool=2, seed=seed)
        else:
            encoder = encoder or UniAlignModel.from_clip(tiny_clip(seed), tiny_senses(), seed=seed)
            model.add_modality(name, encoder, _QFORMER if name in {"audio", "speech"} else "mlp", seed=seed)
            encoder = name if not isinstance(encoder, str) else encoder
    return model


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
