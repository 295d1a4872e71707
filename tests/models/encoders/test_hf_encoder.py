from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    ASTConfig,
    AutoModel,
    CLIPVisionModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
    WhisperConfig,
    WhisperModel,
)

from polysense.errors import CheckpointError, ConfigError, FeatureShapeError, UnsafeFileError
from polysense.models.encoders import HFEncoder
from polysense.testing import tiny_clip, tiny_features

PIXELS = tiny_features()["pixel_values"]


def image_tokens(encoder: HFEncoder) -> Tensor:
    tokens = encoder.encode_tokens("image", PIXELS).tokens
    assert tokens is not None
    return tokens


@pytest.fixture(scope="module")
def tower() -> CLIPVisionModel:
    return tiny_clip().vision_model


@pytest.mark.parametrize("layer", [-4, -2, -1, 0, 3])
def test_tokens_are_the_bases_hidden_states_without_the_class_token(tower: CLIPVisionModel, layer: int) -> None:
    encoder = HFEncoder.from_model(tower)
    out = encoder.encode_tokens("image", PIXELS, layer=layer)
    expected = tower(PIXELS, output_hidden_states=True)
    assert out.tokens is not None and out.pooled is not None
    assert torch.equal(out.tokens, expected.hidden_states[layer][:, 1:].unsqueeze(1))
    assert torch.equal(out.pooled, expected.pooler_output)


def test_a_whole_clip_is_taken_by_its_vision_tower(tower: CLIPVisionModel) -> None:
    encoder = HFEncoder.from_model(tiny_clip())
    assert torch.equal(image_tokens(encoder), image_tokens(HFEncoder.from_model(tower)))
    assert encoder.config.base.model_type == "clip_vision_model"


def test_frames_are_encoded_each_alone(tower: CLIPVisionModel) -> None:
    encoder, video = HFEncoder.from_model(tower), tiny_features()["video_values"]
    out = encoder.encode_tokens("video", video)
    assert out.tokens is not None and out.grid == (4, 4, 4)
    for step in range(4):
        alone = encoder.encode_tokens("image", video[:, step]).tokens
        torch.testing.assert_close(out.tokens[:, step : step + 1], alone)


def test_the_class_token_can_be_kept(tower: CLIPVisionModel) -> None:
    out = HFEncoder.from_model(tower, prefix_tokens=0).encode_tokens("image", PIXELS)
    assert out.tokens is not None
    assert out.tokens.shape == (2, 1, 17, 32) and out.grid == (1, 1, 17)


def test_a_spectrogram_reaches_ast_as_it_wants_it() -> None:
    config = ASTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, max_length=24,
        num_mel_bins=16, patch_size=8, frequency_stride=8, time_stride=8,
    )  # fmt: skip
    base = AutoModel.from_config(config).eval()
    encoder, banks = HFEncoder.from_model(base), torch.randn(2, 3, 1, 16, 24)
    out = encoder.encode_tokens("audio", banks)
    assert out.tokens is not None and out.grid == (3, 2, 3)
    expected = base(banks[:, 1, 0].transpose(1, 2), output_hidden_states=True).hidden_states[-1][:, 2:]
    torch.testing.assert_close(out.tokens[:, 1], expected)
    with pytest.raises(FeatureShapeError, match="a spectrogram has one channel"):
        encoder.encode_tokens("audio", torch.randn(2, 3, 2, 16, 24))


def test_the_callers_model_is_left_alone(tower: CLIPVisionModel) -> None:
    encoder = HFEncoder.from_model(tower.train())
    encoder.requires_grad_(False)
    assert tower.training and all(parameter.requires_grad for parameter in tower.parameters())
    assert not encoder.training
    tower.eval()


def test_saving_and_loading_is_bit_equal_by_class_and_by_auto_class(tower: CLIPVisionModel, tmp_path: Path) -> None:
    encoder = HFEncoder.from_model(tower)
    encoder.save_pretrained(tmp_path)
    for loaded in (HFEncoder.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(loaded) is HFEncoder
        assert torch.equal(image_tokens(loaded), image_tokens(encoder))
    assert HFEncoder.from_pretrained(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_base_may_be_a_folder(clip_folder: Path) -> None:
    encoder = HFEncoder.from_base(clip_folder)
    assert torch.equal(image_tokens(encoder), image_tokens(HFEncoder.from_model(tiny_clip())))


def test_a_folder_is_judged_before_it_is_read(tmp_path: Path) -> None:
    tiny_clip().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"PK\x03\x04 a pickle in truth")
    with pytest.raises(UnsafeFileError, match="is a pickle"):
        HFEncoder.from_base(tmp_path)


def test_only_a_head_of_its_own_may_be_missing(tmp_path: Path) -> None:
    config = ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32,
                       patch_size=8)  # fmt: skip
    ViTForImageClassification(config).save_pretrained(tmp_path)  # has no pooler
    assert HFEncoder.from_base(tmp_path).token_spec("image").grid == (1, 4, 4)
    state = load_file(tmp_path / "model.safetensors")
    del state["vit.layernorm.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks the weights \['layernorm.weight'\]"):
        HFEncoder.from_base(tmp_path)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(1, 3, 16, 16), r"image features have shape \(1, 3, 16, 16\), which this encoder cannot take"),
        (torch.zeros(3, 32), "where a sample has 3 axes, or one more for time"),
        (torch.zeros(1, 1, 1, 3, 32, 32), "where a sample has 3 axes"),
    ],
)
def test_features_of_another_shape_are_refused(tower: CLIPVisionModel, features: Any, message: str) -> None:
    with pytest.raises(FeatureShapeError, match=message):
        HFEncoder.from_model(tower).encode_tokens("image", features)


def test_a_raster_that_is_not_the_bases_is_noticed(tower: CLIPVisionModel) -> None:
    encoder = HFEncoder.from_model(tower, grid=(3, 3))
    with pytest.raises(FeatureShapeError, match=r"which give tokens of shape \(16, 32\), not \(1, 3, 3\)"):
        encoder.encode_tokens("image", PIXELS)


@pytest.mark.parametrize("layer", [-5, 4])
def test_a_layer_that_is_not_there_is_refused(tower: CLIPVisionModel, layer: int) -> None:
    with pytest.raises(ConfigError, match=f"image: there is no layer {layer}"):
        HFEncoder.from_model(tower).encode_tokens("image", PIXELS, layer=layer)


def test_a_model_that_auto_model_would_not_build_is_refused() -> None:
    """It would be saved, and not be loaded again."""
    sizes: Any = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
                  "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 8,
                  "max_source_positions": 10, "pad_token_id": 0}  # fmt: skip
    with pytest.raises(ConfigError, match="whisper: this WhisperEncoder is not what AutoModel builds from its config"):
        HFEncoder.from_model(WhisperModel(WhisperConfig(**sizes)).encoder, feature_rank=2, grid=(1, 10))
    vit = ViTModel(ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2), add_pooling_layer=False)
    with pytest.raises(ConfigError, match=r"2 weights differ, such as pooler\.dense\.bias"):
        HFEncoder.from_model(vit)
