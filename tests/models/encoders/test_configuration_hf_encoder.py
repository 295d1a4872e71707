from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoConfig, CLIPVisionConfig

from polysense.errors import ConfigError, UnsafeFileError
from polysense.models.encoders import HFEncoderConfig
from polysense.models.encoders.configuration_hf_encoder import prefix_tokens_of

CLIP: dict[str, Any] = {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 8}


def test_the_default_base_is_clips_vision_tower() -> None:
    config = HFEncoderConfig()
    assert isinstance(config.base_config, CLIPVisionConfig)
    assert config.token_grid == (7, 7)


def test_a_config_survives_its_folder(tmp_path: Path) -> None:
    original = HFEncoderConfig(base_config=CLIP, prefix_tokens=0, grid=(1, 17))
    original.save_pretrained(tmp_path)
    for loaded in (HFEncoderConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert isinstance(loaded, HFEncoderConfig) and isinstance(loaded.base_config, CLIPVisionConfig)
        assert loaded.to_diff_dict() == original.to_diff_dict()


@pytest.mark.parametrize(
    ("base", "prefix", "grid"),
    [
        (CLIP, 1, (4, 4)),
        (CLIP, 0, (1, 17)),  # the class token kept: LLaVA's strategy "full"
        (CLIP, 2, (1, 15)),  # a patch dropped with it
        ({"model_type": "beit", "image_size": 32, "patch_size": 8}, 2, (4, 4)),  # not known: as many as were given
        ({"model_type": "dinov2", "image_size": 28, "patch_size": 14}, 1, (2, 2)),
        ({"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8}, 0, (4, 4)),
        ({"model_type": "ijepa", "image_size": 32, "patch_size": 8}, 0, (4, 4)),
        ({"model_type": "aimv2_vision_model", "image_size": 32, "patch_size": 8}, 0, (4, 4)),
        ({"model_type": "vit", "image_size": [32, 16], "patch_size": 8}, 1, (4, 2)),
        ({"model_type": "audio-spectrogram-transformer"}, 2, (12, 101)),  # AST's published 1,212 patches
    ],
)
def test_the_raster_follows_from_the_base(base: dict[str, Any], prefix: int, grid: tuple[int, int]) -> None:
    assert HFEncoderConfig(base_config=base, prefix_tokens=prefix).token_grid == grid


def test_register_tokens_come_before_the_raster_too() -> None:
    registers: Any = AutoConfig.for_model("dinov2_with_registers", num_register_tokens=4)
    assert prefix_tokens_of(registers) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prefix_tokens": -1}, "prefix_tokens -1 and feature_rank 3 fit no encoder"),
        ({"feature_rank": 9}, "feature_rank 9 fit no encoder"),
        ({"feature_rank": 2, "layout": "spectrogram"}, "a spectrogram has three axes"),
        ({"grid": [4]}, r"grid is \[4\]"),
        ({"grid": [0, 4]}, r"grid is \[0, 4\]"),
        ({"base_config": {"model_type": "convnext"}}, "a 'convnext' has no hidden_size"),
        ({"base_config": {"model_type": "evil"}}, "there is no model type 'evil'"),
        ({"base_config": {"model_type": "bert"}}, "the raster of a 'bert' cannot be told"),
        ({"base_config": {**CLIP, "hidden_size": 10**9}}, "base_config: hidden_size is 1000000000"),
        ({"base_config": {**CLIP, "patch_size": 64}}, "Give height and width"),
    ],
)
def test_values_that_no_encoder_can_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HFEncoderConfig(**{"base_config": CLIP, **changes})


@pytest.mark.parametrize("changes", [{"layout": "os"}, {"prefix_tokens": "1"}, {"feature_rank": None}], ids=str)
def test_mistyped_fields_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(StrictDataclassFieldValidationError):
        HFEncoderConfig(base_config=CLIP, **changes)


def test_code_in_the_base_is_refused() -> None:
    with pytest.raises(UnsafeFileError, match="base_config"):
        HFEncoderConfig(base_config={**CLIP, "auto_map": {"AutoModel": "evil.Model"}})
