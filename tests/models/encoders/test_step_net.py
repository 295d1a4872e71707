from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel

from polysense.errors import ConfigError, FeatureShapeError
from polysense.models.encoders import StepNet, StepNetConfig

FILM = StepNetConfig(height=16, width=16, widths=[8, 16], frames_per_step=2)
SOUND = StepNetConfig(channels=1, height=16, width=10, widths=[8, 16], vector=True)


def test_two_frames_make_a_step_with_a_raster() -> None:
    net = StepNet(FILM).eval()
    out = net.encode_tokens("video", torch.randn(2, 6, 3, 16, 16))
    assert out.tokens is not None and out.tokens.shape == (2, 3, 16, 16) and out.grid == (3, 4, 4)
    spec = net.token_spec("video")
    assert (spec.dim, spec.grid, spec.frames_per_step, spec.layers) == (16, (1, 4, 4), 2, 0)


def test_a_window_of_sound_becomes_one_vector() -> None:
    out = StepNet(SOUND).encode_tokens("audio", torch.randn(2, 5, 1, 16, 10))
    assert out.tokens is not None and out.tokens.shape == (2, 5, 1, 16) and out.grid == (5, 1, 1)


def test_its_arithmetic_is_that_of_strided_convolutions() -> None:
    net, picture = StepNet(StepNetConfig(height=4, width=4, widths=[4], groups=1)), torch.randn(1, 3, 4, 4)
    convolution, norm = cast(nn.Conv2d, net.stages[0]), cast(nn.GroupNorm, net.stages[1])
    maps = F.conv2d(picture, convolution.weight, convolution.bias, stride=2, padding=1)
    normed = (maps - maps.mean()) / (maps.var(unbiased=False) + norm.eps).sqrt()
    tokens = F.layer_norm(F.gelu(normed).flatten(2).transpose(1, 2), (4,))
    found = net.encode_tokens("image", picture).tokens
    assert found is not None and torch.allclose(found[:, 0], tokens, atol=1e-5)


def test_a_step_depends_on_its_own_frames_alone() -> None:
    net, film = StepNet(FILM).eval(), torch.randn(1, 6, 3, 16, 16)
    before = net.encode_tokens("video", film).tokens
    film[:, 2:4] += 1
    after = net.encode_tokens("video", film).tokens
    assert before is not None and after is not None
    assert (before != after).flatten(2).any(dim=2).tolist() == [[False, True, False]]


def test_padded_frames_are_padded_steps_and_do_not_count() -> None:
    net, film = StepNet(FILM).eval(), torch.randn(1, 4, 3, 16, 16)
    out = net.encode_tokens("video", film, mask=torch.tensor([[True, True, False, False]]))
    assert out.mask is not None and out.mask.tolist() == [[True, False]]
    assert out.pooled is not None
    assert torch.allclose(out.pooled, net.encode_tokens("video", film[:, :2]).pooled, atol=1e-6)


def test_it_is_saved_and_loaded_by_its_type(tmp_path: Path) -> None:
    net, film = StepNet(FILM).eval(), torch.randn(1, 2, 3, 16, 16)
    net.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is StepNet and torch.equal(again(film).tokens, net(film).tokens)


@pytest.mark.parametrize("shape", [(1, 3, 3, 16, 16), (1, 2, 1, 16, 16), (1, 2, 3, 8, 16), (3, 16)])
def test_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FeatureShapeError, match="a step has 2"):
        StepNet(FILM).encode_tokens("video", torch.zeros(shape))


def test_there_is_one_layer() -> None:
    with pytest.raises(ConfigError, match="no layer 1"):
        StepNet(FILM).encode_tokens("video", torch.zeros(1, 2, 3, 16, 16), layer=1)


def test_a_vector_can_be_made_of_statistics_over_time() -> None:
    pooled = StepNetConfig(
        channels=1, height=16, width=20, widths=[8, 16], halvings=1, vector=True, parts=2, frequencies=5
    )
    assert pooled.raster == (4, 10) and pooled.strides == [(2, 2), (2, 1)]
    net = StepNet(pooled)
    assert net.head.in_features == 16 * (2 * 4 * 2 + 5)
    assert net(torch.randn(2, 3, 1, 16, 20)).tokens.shape == (2, 3, 1, 16)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"halvings": 3}, "halvings"),
        ({"vector": True, "parts": 4}, "a raster 3 wide"),
        ({"vector": True, "parts": 1, "frequencies": 2}, "a raster 3 wide"),
        ({"parts": 1}, "only vectors have parts"),
        ({"vector": True, "frequencies": 1}, "only vectors have parts"),
    ],
)
def test_statistics_that_do_not_fit_are_refused(options: dict[str, int], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        StepNetConfig(channels=1, height=16, width=10, widths=[8, 16], **options)
