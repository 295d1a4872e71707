from __future__ import annotations

from typing import Any

import pytest
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedConfig

from polysense import UniAlignConfig
from polysense.errors import ConfigError, UnsafeFileError
from polysense.models.nested import check_sizes, nested_config
from polysense.testing import tiny_clip

TYPES = ("llama", "clip_vision_model", "vit", "dinov2", "audio-spectrogram-transformer", "gemma2", "qwen2", "gpt2",
         "mistral", "siglip_vision_model", "bert")  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_of_transformers_passes_with_its_defaults(kind: str) -> None:
    config = nested_config({"model_type": kind}, where="text_config")
    assert isinstance(config, PreTrainedConfig) and config.model_type == kind
    assert nested_config(config, where="text_config") is config


def test_our_own_types_nest_as_well() -> None:
    spec = UniAlignConfig(clip_config=tiny_clip().config).to_dict()
    assert isinstance(nested_config(spec, where="encoder"), UniAlignConfig)


def test_values_survive() -> None:
    config: Any = nested_config({"model_type": "llama", "hidden_size": 24, "num_attention_heads": 2}, where="llm")
    assert isinstance(config, LlamaConfig) and config.hidden_size == 24


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "llm: there is no model type None"),
        ({"model_type": "evil"}, "llm: there is no model type 'evil'"),
        ({"model_type": ["llama"]}, r"llm: there is no model type \['llama'\]"),
        (
            {"model_type": "llama", "hidden_size": 10**9},
            "llm: hidden_size is 1000000000",
        ),
        ({"model_type": "llama", "hidden_size": 0}, "hidden_size is 0"),
        ({"model_type": "llama", "hidden_size": 64.5}, "hidden_size is 64.5"),
        ({"model_type": "llama", "hidden_size": "64"}, "do not fit a config of type 'llama'"),
        ({"model_type": "llama", "num_hidden_layers": 10**6}, "num_hidden_layers is 1000000"),
        ({"model_type": "gpt2", "n_layer": 10**6}, "n_layer is 1000000"),
        ({"model_type": "mixtral", "num_local_experts": 10**6}, "num_local_experts is 1000000"),
        ({"model_type": "clip_vision_model", "image_size": [10**6, 4]}, "image_size is 1000000"),
        ({"model_type": "clip_vision_model", "patch_size": 0}, "patch_size is 0"),
        ({"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 10**12}}, "vocab_size is"),
        ({"model_type": "llama", "num_attention_heads": 3}, "not a multiple of the number of attention heads"),
    ],
)
def test_what_no_model_can_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        nested_config(values, where="llm")


@pytest.mark.parametrize(
    "values",
    [
        {"auto_map": {"AutoModel": "evil.Model"}},
        {"_attn_implementation": "evil/kernels"},
        {"text_config": {"trust_remote_code": True}},
        {"num_labels": 10**9},
    ],
    ids=str,
)
def test_what_transformers_would_obey_is_refused_before_it_does(values: dict[str, Any]) -> None:
    with pytest.raises(UnsafeFileError, match="encoder: "):
        nested_config({"model_type": "llama", **values}, where="encoder")


def test_objects_are_looked_at_like_dictionaries() -> None:
    config = CLIPVisionConfig()
    config.num_hidden_layers = 10**6
    with pytest.raises(ConfigError, match="num_hidden_layers is 1000000"):
        nested_config(config, where="encoder")


def test_numbers_that_are_no_sizes_are_free() -> None:
    check_sizes({"rope_theta": 5e8, "eos_token_id": 10**6, "layer_norm_eps": 1e-5, "use_cache": True}, where="llm")
