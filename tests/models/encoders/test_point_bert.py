from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel

from polysense.errors import CheckpointError, ConfigError, FeatureShapeError
from polysense.models.encoders import PointBertConfig, PointBertEncoder, convert_point_bert

TINY: dict[str, Any] = {
    "num_groups": 5, "point_width": 4, "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 3,
}  # fmt: skip


def clouds(batch: int = 2) -> Tensor:
    return torch.randn(batch, 5, 7, 6, generator=torch.Generator().manual_seed(1))


def published() -> dict[str, Tensor]:
    """Random weights under the names of the published file."""
    generator = torch.Generator().manual_seed(2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    state = {"cls_token": normal(1, 1, 12), "cls_pos": normal(1, 1, 12), "norm.weight": 1 + normal(12),
             "norm.bias": normal(12)}  # fmt: skip
    maps: dict[str, tuple[int, ...]] = {
        "encoder.first_conv.0": (4, 6, 1), "encoder.first_conv.3": (8, 4, 1), "encoder.second_conv.0": (16, 16, 1),
        "encoder.second_conv.3": (8, 16, 1), "reduce_dim": (12, 8), "pos_embed.0": (4, 3), "pos_embed.2": (12, 4),
    }  # fmt: skip
    for layer in range(2):
        start = f"blocks.blocks.{layer}"
        maps |= {f"{start}.attn.proj": (12, 12), f"{start}.mlp.fc1": (20, 12), f"{start}.mlp.fc2": (12, 20)}
        state[f"{start}.attn.qkv.weight"] = normal(36, 12)
        for norm in ("norm1", "norm2"):
            state |= {f"{start}.{norm}.weight": 1 + normal(12), f"{start}.{norm}.bias": normal(12)}
    for name, shape in maps.items():
        state |= {f"{name}.weight": normal(*shape), f"{name}.bias": normal(shape[0])}
    for name, width in (("encoder.first_conv.1", 4), ("encoder.second_conv.1", 16)):
        state |= {f"{name}.weight": 1 + normal(width), f"{name}.bias": normal(width),
                  f"{name}.running_mean": normal(width), f"{name}.running_var": 1 + normal(width).abs(),
                  f"{name}.num_batches_tracked": torch.tensor(3)}  # fmt: skip
    return state


def reference(state: dict[str, Tensor], cloud: Tensor) -> Tensor:
    """Point-BERT from its paper and its weights' names, for one cloud: `groups neighbours 6` to `tokens dim`."""

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv1d(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def batch_norm(name: str, x: Tensor) -> Tensor:
        mean, variance, weight, bias = (
            state[f"{name}.{each}"] for each in ("running_mean", "running_var", "weight", "bias")
        )
        return F.relu(F.batch_norm(x, mean, variance, weight, bias))

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    centres = cloud[:, :1, :3]
    local = torch.cat([cloud[..., :3] - centres, cloud[..., 3:]], dim=-1).transpose(1, 2)
    local = conv("encoder.first_conv.3", batch_norm("encoder.first_conv.1", conv("encoder.first_conv.0", local)))
    whole = local.max(dim=2, keepdim=True).values.expand(-1, -1, 7)
    joint = batch_norm("encoder.second_conv.1", conv("encoder.second_conv.0", torch.cat([whole, local], dim=1)))
    tokens = linear("reduce_dim", conv("encoder.second_conv.3", joint).max(dim=2).values)
    places = linear("pos_embed.2", F.gelu(linear("pos_embed.0", centres[:, 0])))
    x = torch.cat([state["cls_token"][0], tokens])
    places = torch.cat([state["cls_pos"][0], places])
    for layer in range(2):
        start = f"blocks.blocks.{layer}"
        x = x + places
        qkv = norm(f"{start}.norm1", x) @ state[f"{start}.attn.qkv.weight"].t()
        heads = []
        for head in range(3):
            q, k, v = (qkv[:, 12 * part + 4 * head : 12 * part + 4 * head + 4] for part in range(3))
            heads.append((q @ k.t() / 2).softmax(-1) @ v)
        x = x + linear(f"{start}.attn.proj", torch.cat(heads, dim=-1))
        x = x + linear(f"{start}.mlp.fc2", F.gelu(linear(f"{start}.mlp.fc1", norm(f"{start}.norm2", x))))
    return norm("norm", x)


def test_published_weights_give_the_papers_function() -> None:
    encoder = PointBertEncoder.from_published(published(), PointBertConfig(**TINY))
    with torch.no_grad():
        out = encoder.encode_tokens("point_cloud", clouds())
        expected = torch.stack([reference(published(), cloud) for cloud in clouds()])
    assert out.tokens is not None and out.pooled is not None and out.grid == (1, 1, 6)
    torch.testing.assert_close(out.tokens[:, 0], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out.pooled, expected[:, 0], atol=1e-5, rtol=1e-4)


def test_the_names_of_pointllms_file_are_understood() -> None:
    state = {f"module.point_encoder.{name}": value for name, value in published().items()}
    state["module.open_clip_model.logit_scale"] = torch.zeros(())
    converted = convert_point_bert(state)
    assert converted.keys() == PointBertEncoder(PointBertConfig(**TINY)).state_dict().keys()
    assert converted["tokenizer.local.0.weight"].shape == (4, 6) and converted["class_token"].shape == (1, 1, 12)


def test_the_class_token_may_be_left_out() -> None:
    whole = PointBertEncoder.from_published(published(), PointBertConfig(**TINY))
    without = PointBertEncoder.from_published(published(), PointBertConfig(**TINY, keep_class=False))
    assert without.token_spec("point_cloud").grid == (1, 1, 5)
    expected, found = whole(clouds()).tokens, without(clouds()).tokens
    assert torch.equal(found, expected[:, :, 1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": torch.zeros(1)}, "extra: no Point-BERT has this weight"),
        ({"reduce_dim.bias": torch.zeros(3)}, r"tokenizer.projection.bias: the weight has shape \(3,\), not \(12,\)"),
        ({"blocks.blocks.2.norm1.bias": torch.zeros(12)}, r"unknown \['blocks.2.norm1.bias'\]"),
        ({"cls_pos": None}, "cls_pos: the weight is no tensor but of type NoneType"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        PointBertEncoder.from_published({**published(), **change}, PointBertConfig(**TINY))


@pytest.mark.parametrize("shape", [(2, 4, 7, 6), (2, 5, 7, 3), (2, 5, 6)])
def test_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FeatureShapeError, match="point_cloud features have shape"):
        PointBertEncoder(PointBertConfig(**TINY)).encode_tokens("point_cloud", torch.zeros(shape))


@pytest.mark.parametrize("layer", [-4, 3])
def test_a_layer_that_is_not_there_is_refused(layer: int) -> None:
    with pytest.raises(ConfigError, match=f"point_cloud: there is no layer {layer}"):
        PointBertEncoder(PointBertConfig(**TINY)).encode_tokens("point_cloud", clouds(), layer=layer)


def test_saving_and_loading_is_bit_equal_by_class_and_by_auto_class(tmp_path: Path) -> None:
    encoder = PointBertEncoder.from_published(published(), PointBertConfig(**TINY))
    encoder.save_pretrained(tmp_path)
    for loaded in (PointBertEncoder.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(loaded) is PointBertEncoder
        assert torch.equal(loaded(clouds()).tokens, encoder(clouds()).tokens)
