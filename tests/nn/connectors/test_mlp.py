from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from polysense.errors import ConfigError
from polysense.nn.connectors import build_connector


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "relu", "silu"])
def test_it_is_llavas_projector_weight_by_weight(activation: str, bias: bool) -> None:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=12), text_config=LlamaConfig(hidden_size=20, num_attention_heads=2),
        projector_hidden_act=activation, multimodal_projector_bias=bias,
    )  # fmt: skip
    theirs = LlavaMultiModalProjector(config)
    ours = build_connector("mlp", 12, 20, activation=activation, bias=bias)
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.randn(2, 5, 12)
    assert torch.equal(ours(tokens), theirs(tokens))


def test_two_layers_by_hand() -> None:
    """x = 1, -1: relu(2x + 1) = 3, 0, then 5y - 1 = 14, -1."""
    connector = build_connector("mlp", 1, 1, activation="relu")
    with torch.no_grad():
        for parameter, value in zip(connector.parameters(), (2.0, 1.0, 5.0, -1.0), strict=True):
            parameter.fill_(value)
    assert connector(torch.tensor([[[1.0], [-1.0]]])).flatten().tolist() == [14.0, -1.0]


@pytest.mark.parametrize(("hidden", "layers"), [([], 1), ([6], 2), ([6, 7], 3)])
def test_the_depth_is_a_choice(hidden: list[int], layers: int) -> None:
    connector = build_connector("mlp", 4, 8, hidden_dims=hidden)
    assert {name.split(".")[0] for name in connector.state_dict()} == {f"linear_{i + 1}" for i in range(layers)}
    assert connector(torch.randn(1, 2, 4)).shape == (1, 2, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "os.system"}, "activation 'os.system'"),
        ({"hidden_dims": [8] * 8}, "perceptron of 9 layers"),
        ({"hidden_dims": [0]}, r"hidden_dims\[0\] of a connector is 0"),
        ({"hidden_dims": 8}, "do not fit kind 'mlp'"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_connector("mlp", 4, 8, **options)


def test_it_may_begin_among_the_words() -> None:
    plain, small = (build_connector("mlp", 3, 4, init_scale=scale) for scale in (1.0, 0.25))
    tokens = torch.randn(2, 5, 3)
    for connector in (plain, small):
        torch.manual_seed(1)
        connector.reset_parameters()
    assert torch.allclose(small(tokens), plain(tokens) / 4, atol=1e-6)


@pytest.mark.parametrize("scale", [0, -1.0, 1.5, "small", float("nan")])
def test_a_factor_that_cannot_be_is_refused(scale: object) -> None:
    with pytest.raises(ConfigError, match="init_scale"):
        build_connector("mlp", 3, 4, init_scale=scale)
