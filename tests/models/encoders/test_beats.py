from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from polysense.errors import CheckpointError, ConfigError, FeatureShapeError
from polysense.models.encoders import BeatsConfig, BeatsEncoder, convert_beats
from polysense.models.encoders.beats import BeatsAttention, buckets

TINY: dict[str, Any] = {
    "patch_dim": 8, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "patch_size": 4, "num_mel_bins": 16, "max_length": 24, "conv_kernel": 4, "conv_groups": 2, "num_buckets": 8,
    "max_distance": 16,
}  # fmt: skip
CFG: dict[str, Any] = {
    "embed_dim": 8, "encoder_embed_dim": 16, "encoder_ffn_embed_dim": 24, "encoder_layers": 2,
    "encoder_attention_heads": 2, "input_patch_size": 4, "conv_pos": 4, "conv_pos_groups": 2, "num_buckets": 8,
    "max_distance": 16,
}  # fmt: skip


def tiny() -> BeatsEncoder:
    torch.manual_seed(0)
    encoder = BeatsEncoder(BeatsConfig(**TINY))
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "norm" not in name:
                parameter.normal_(std=0.3)
    encoder.eval()
    return encoder


def sound(batch: int = 2, windows: int = 3, frames: int = 24) -> Tensor:
    return torch.randn(batch, windows, 1, 16, frames, generator=torch.Generator().manual_seed(1))


def published() -> dict[str, Tensor]:
    """Random weights under the names of the published files."""
    generator = torch.Generator().manual_seed(2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    conv = "encoder.pos_conv.0"
    state = {"patch_embedding.weight": normal(8, 1, 4, 4), f"{conv}.bias": normal(16),
             f"{conv}.weight_g": normal(1, 1, 4).abs(), f"{conv}.weight_v": normal(16, 8, 4)}  # fmt: skip
    maps, norms, bias = {"post_extract_proj": (16, 8)}, {"layer_norm": 8, "encoder.layer_norm": 16}, normal(8, 2)
    for layer in range(2):
        start = f"encoder.layers.{layer}"
        attention = f"{start}.self_attn"
        maps |= {f"{attention}.{name}_proj": (16, 16) for name in ("q", "k", "v", "out")}
        maps |= {f"{attention}.grep_linear": (8, 8), f"{start}.fc1": (24, 16), f"{start}.fc2": (16, 24)}
        state |= {f"{attention}.grep_a": normal(1, 2, 1, 1), f"{attention}.relative_attention_bias.weight": bias}
        norms |= {f"{start}.self_attn_layer_norm": 16, f"{start}.final_layer_norm": 16}
    for name, shape in maps.items():
        state |= {f"{name}.weight": normal(*shape), f"{name}.bias": normal(shape[0])}
    for name, width in norms.items():
        state |= {f"{name}.weight": 1 + normal(width), f"{name}.bias": normal(width)}
    return state


def reference(state: dict[str, Tensor], pictures: Tensor) -> Tensor:
    """BEATs from its paper and its weights' names, one head and one step at a time: `rows frames mel` to tokens."""

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    patches = F.conv2d(pictures[:, None], state["patch_embedding.weight"], stride=4).flatten(2).transpose(1, 2)
    x = linear("post_extract_proj", norm("layer_norm", patches))
    conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(16, 16, 4, padding=2, groups=2), dim=2)
    names = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1",
             "bias": "bias"}  # fmt: skip
    conv.load_state_dict({new: state[f"encoder.pos_conv.0.{old}"] for old, new in names.items()})
    x = norm("encoder.layer_norm", x + F.gelu(conv(x.transpose(1, 2))[..., :-1]).transpose(1, 2))
    places = torch.arange(x.shape[1])
    table = state["encoder.layers.0.self_attn.relative_attention_bias.weight"]
    bias = table[buckets(places[None] - places[:, None], 8, 16)]
    for layer in range(2):
        start, mixed = f"encoder.layers.{layer}", []
        for head in range(2):
            part = slice(8 * head, 8 * head + 8)
            q, k, v = (linear(f"{start}.self_attn.{name}_proj", x)[..., part] for name in "qkv")
            gates = torch.sigmoid(linear(f"{start}.self_attn.grep_linear", q).reshape(*q.shape[:2], 2, 4).sum(-1))
            scale = state[f"{start}.self_attn.grep_a"][0, head, 0, 0]
            weight = gates[..., :1] * (gates[..., 1:] * scale - 1) + 2
            scores = q @ k.transpose(1, 2) / 8**0.5 + weight * bias[..., head]
            mixed.append(scores.softmax(-1) @ v)
        alpha = 4**0.25  # (2 x 2 layers)^(1/4)
        x = norm(
            f"{start}.self_attn_layer_norm", x * alpha + linear(f"{start}.self_attn.out_proj", torch.cat(mixed, -1))
        )
        x = norm(f"{start}.final_layer_norm", x * alpha + linear(f"{start}.fc2", F.gelu(linear(f"{start}.fc1", x))))
    return x


def test_published_weights_give_the_papers_function() -> None:
    encoder, picture = BeatsEncoder.from_published(published(), CFG), torch.randn(1, 1, 1, 128, 24)
    with torch.no_grad():
        found = encoder.encode_tokens("audio", picture).tokens
        expected = reference(published(), picture[0, 0].transpose(1, 2))
    assert found is not None and not encoder.training
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-4)


def test_distances_fall_into_wavlms_buckets() -> None:
    wavlm = WavLMAttention(16, 2, num_buckets=320, max_distance=800)
    places = torch.arange(1000)
    distance = places[None] - places[:, None]
    assert torch.equal(buckets(distance, 320, 800), wavlm._relative_positions_bucket(distance))


def test_attention_is_wavlms_where_queries_are_the_hidden_states() -> None:
    """WavLM gates by the hidden states, BEATs by their queries: with a query map that changes nothing they agree."""
    ours = BeatsAttention(BeatsConfig(**TINY))
    wavlm = WavLMAttention(16, 2, num_buckets=8, max_distance=16)
    with torch.no_grad():
        ours.get_parameter("q_proj.weight").copy_(torch.eye(16))
        ours.get_parameter("q_proj.bias").zero_()
        ours.gate_scale.uniform_(-1, 1)
    state = {name.replace("gate_scale", "gru_rel_pos_const").replace("gate.", "gru_rel_pos_linear."): value
             for name, value in ours.state_dict().items()}  # fmt: skip
    wavlm.load_state_dict({**state, "rel_attn_embed.weight": torch.randn(8, 2)})
    hidden = torch.randn(2, 6, 16)
    expected, _, bias = wavlm(hidden)
    torch.testing.assert_close(ours(hidden, bias[:2]), expected, atol=1e-5, rtol=1e-4)


def test_windows_are_encoded_each_alone() -> None:
    encoder, values = tiny(), sound()
    out = encoder.encode_tokens("audio", values)
    assert out.tokens is not None and out.grid == (3, 6, 4) and out.tokens.shape == (2, 3, 24, 16)
    for window in range(3):
        alone = encoder.encode_tokens("audio", values[:, window : window + 1]).tokens
        torch.testing.assert_close(out.tokens[:, window : window + 1], alone, atol=1e-5, rtol=1e-4)


def test_other_lengths_are_taken() -> None:
    assert tiny().encode_tokens("audio", sound(frames=18)).grid == (3, 4, 4)


def test_converted_names_are_the_models() -> None:
    converted = convert_beats(published())
    assert converted.keys() == tiny().state_dict().keys()
    length = converted["position_conv.weight"].norm(dim=(0, 1))
    torch.testing.assert_close(length, published()["encoder.pos_conv.0.weight_g"].flatten())
    headed = {**published(), "predictor.weight": torch.zeros(527, 16), "predictor.bias": torch.zeros(527)}
    assert convert_beats(headed).keys() == converted.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder.extra": torch.zeros(1)}, "encoder.extra: no BEATs has this weight"),
        ({"encoder.layers.2.fc1.bias": torch.zeros(24)}, r"unknown \['layers.2.fc1.bias'\]"),
        (
            {"post_extract_proj.bias": torch.zeros(3)},
            r"patch_projection.bias: the weight has shape \(3,\)",
        ),
        ({"post_extract_proj.bias": [0.0] * 16}, "post_extract_proj.bias: the weight is no tensor but of type list"),
        (
            {"encoder.pos_conv.0.weight_g": 1.0},
            "encoder.pos_conv.0.weight_g: the weight is no tensor but of type float",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        BeatsEncoder.from_published({**published(), **change}, CFG)


@pytest.mark.parametrize("change", [None, torch.ones(1, 1, 1), torch.ones(16, 1, 1), torch.ones(1, 1, 5)])
@pytest.mark.parametrize("half", ["weight_g", "weight_v"])
def test_half_of_the_normed_convolution_is_refused(half: str, change: Tensor | None) -> None:
    state = published()
    del state[f"encoder.pos_conv.0.{half}"]
    if change is not None:
        state = {**published(), "encoder.pos_conv.0.weight_g": change}
    with pytest.raises(CheckpointError, match="no direction with a length per place of its kernel"):
        convert_beats(state)


@pytest.mark.parametrize("shape", [(2, 3, 2, 16, 24), (2, 3, 1, 15, 24), (2, 1, 16, 24), (2, 3, 1, 16, 3)])
def test_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FeatureShapeError, match="audio features have shape"):
        tiny().encode_tokens("audio", torch.zeros(shape))


@pytest.mark.parametrize("layer", [-4, 3])
def test_a_layer_that_is_not_there_is_refused(layer: int) -> None:
    with pytest.raises(ConfigError, match=f"audio: there is no layer {layer}"):
        tiny().encode_tokens("audio", sound(), layer=layer)


def test_saving_and_loading_is_bit_equal_by_class_and_by_auto_class(tmp_path: Path) -> None:
    encoder = tiny()
    encoder.save_pretrained(tmp_path)
    for loaded in (BeatsEncoder.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(loaded) is BeatsEncoder
        assert torch.equal(loaded(sound()).tokens, encoder(sound()).tokens)


def test_a_fresh_gate_is_one() -> None:
    encoder = BeatsEncoder(BeatsConfig(**TINY))
    assert all(bool((value == 1).all()) for name, value in encoder.state_dict().items() if "gate_scale" in name)
