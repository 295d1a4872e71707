"""One suite for every `ModalityEncoder` of the library: what COMET, MERA and the recipes rely on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import ASTConfig, AutoModel, Dinov2Config, SiglipVisionConfig, ViTConfig

from polysense import Modality, UniAlignModel
from polysense.models.encoders import (
    BeatsConfig,
    BeatsEncoder,
    HFEncoder,
    PointBertConfig,
    PointBertEncoder,
    StepNet,
    StepNetConfig,
)
from polysense.protocols import ModalityEncoder
from polysense.testing import tiny_clip, tiny_features, tiny_senses

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
PICTURE = {**SIZES, "image_size": 32, "patch_size": 8}
SOUND = {**SIZES, "num_mel_bins": 32, "max_length": 32, "patch_size": 8, "frequency_stride": 8, "time_stride": 8}
BEATS = {**SIZES, "patch_dim": 16, "patch_size": 8, "num_mel_bins": 32, "max_length": 32, "conv_kernel": 8}


def wrapped(config: Any) -> Callable[[], Any]:
    return lambda: HFEncoder.from_model(AutoModel.from_config(config))


ENCODERS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "unialign": (
        lambda: UniAlignModel.from_clip(tiny_clip(), tiny_senses()),
        ("image", "depth", "video", "audio", "point_cloud"),
    ),
    "clip": (lambda: HFEncoder.from_model(tiny_clip()), ("image", "video")),
    "vit": (wrapped(ViTConfig(**PICTURE)), ("image", "video")),
    "dinov2": (wrapped(Dinov2Config(**PICTURE)), ("image",)),
    "siglip": (wrapped(SiglipVisionConfig(**PICTURE)), ("image",)),
    "ast": (wrapped(ASTConfig(**SOUND)), ("audio",)),
    "beats": (lambda: BeatsEncoder(BeatsConfig(**BEATS)), ("audio",)),
    "point_bert": (lambda: PointBertEncoder(PointBertConfig(**SIZES, num_groups=8, point_width=8)), ("point_cloud",)),
    "step_net": (lambda: StepNet(StepNetConfig(height=32, width=32, widths=[8, 16])), ("image", "video")),
}
CASES = [(name, modality) for name, (_, modalities) in ENCODERS.items() for modality in modalities]
LAYERED = [case for case in CASES if case[0] != "step_net"]


@cache
def encoder(name: str) -> Any:
    torch.manual_seed(0)
    return ENCODERS[name][0]().eval()


def features(modality: str, batch: int = 2) -> Tensor:
    return tiny_features(batch)["pixel_values" if modality == "image" else f"{modality}_values"]


@pytest.mark.parametrize("name", ENCODERS)
def test_it_is_an_encoder_by_protocol(name: str) -> None:
    assert isinstance(encoder(name), ModalityEncoder)


@pytest.mark.parametrize(("name", "modality"), CASES)
def test_tokens_have_the_shape_that_the_spec_promises(name: str, modality: str) -> None:
    spec, out = encoder(name).token_spec(modality), encoder(name).encode_tokens(modality, features(modality))
    assert out.grid[1:] == spec.grid[1:]
    assert spec.frames_per_step == 1
    assert out.tokens.shape == (2, out.grid[0], spec.grid[1] * spec.grid[2], spec.dim)
    assert out.mask.shape == out.tokens.shape[:2] and out.mask.dtype == torch.bool and out.mask.all()
    assert out.pooled.shape == (2, spec.dim)


@pytest.mark.parametrize(("name", "modality"), LAYERED)
def test_layers_count_from_either_end(name: str, modality: str) -> None:
    spec, values = encoder(name).token_spec(modality), features(modality)
    tokens = [encoder(name).encode_tokens(modality, values, layer=index).tokens for index in range(spec.layers + 1)]
    for layer in (-1, -2, -spec.layers - 1):
        found = encoder(name).encode_tokens(modality, values, layer=layer).tokens
        assert torch.equal(found, tokens[layer])
    assert not torch.equal(tokens[0], tokens[-1]) and not torch.equal(tokens[-2], tokens[-1])


@pytest.mark.parametrize(("name", "modality"), CASES)
def test_samples_do_not_meet(name: str, modality: str) -> None:
    values = features(modality, batch=3)
    together = encoder(name).encode_tokens(modality, values)
    alone = encoder(name).encode_tokens(modality, values[1:2])
    torch.testing.assert_close(together.tokens[1:2], alone.tokens, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.pooled[1:2], alone.pooled, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "modality"), [case for case in CASES if case[1] in {"video", "audio"}])
def test_padded_steps_are_marked_and_do_not_count(name: str, modality: str) -> None:
    values = features(modality)
    steps = values.shape[1]
    mask = torch.arange(steps) < torch.tensor([steps, 1])[:, None]
    out = encoder(name).encode_tokens(modality, values, mask=mask)
    assert torch.equal(out.mask, mask)
    first = encoder(name).encode_tokens(modality, values[1:, :1]).pooled
    torch.testing.assert_close(out.pooled[1:], first, atol=1e-5, rtol=1e-4)


def test_tubelets_are_told() -> None:
    video = Modality(name="video", kind="frames", tokenizer={"tubelet": 2})
    model = UniAlignModel.from_clip(tiny_clip(), [video])
    assert model.token_spec("video").frames_per_step == 2 and model.token_spec("image").frames_per_step == 1
    assert model.encode_tokens("video", features("video")).grid == (2, 4, 4)


@pytest.mark.parametrize(("name", "modality"), CASES)
def test_precision_follows_the_weights(name: str, modality: str) -> None:
    out = ENCODERS[name][0]().eval().bfloat16().encode_tokens(modality, features(modality))
    assert out.tokens.dtype == torch.bfloat16 and out.tokens.isfinite().all()
