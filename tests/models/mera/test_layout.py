from __future__ import annotations

from typing import Any

import pytest
import torch

from polysense.errors import ConfigError
from polysense.models.mera.layout import TokenLayout, pooled_grid, token_layout
from polysense.nn.connectors import Connector, build_connector
from polysense.outputs import EncodedTokens
from polysense.protocols import TokenSpec

QFORMER: dict[str, Any] = {"queries": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                           "num_attention_heads": 2}  # fmt: skip


@pytest.mark.parametrize(
    ("grid", "kind", "pool", "steps", "tokens"),
    [
        ((1, 24, 24), "mlp", 1, 1, 576),  # an image of CLIP-L/14-336
        ((4, 24, 24), "mlp", 2, 4, 576),  # four frames, pooled: 4 x 144
        ((1, 8, 62), "qformer", 1, 1, 32),  # BEATs: 496 tokens to 32 queries
        ((1, 1, 513), "mlp", 1, 1, 513),  # Point-BERT with its class token
        ((1, 5, 7), "mlp", 2, 3, 3 * 3 * 4),  # odd sides round up
    ],
)
def test_an_item_becomes_as_many_tokens_as_the_paper_says(
    grid: tuple[int, int, int], kind: str, pool: int, steps: int, tokens: int
) -> None:
    connector = build_connector(kind, 8, 8, **(QFORMER if kind == "qformer" else {}))
    layout = token_layout(TokenSpec(dim=8, grid=grid, layers=1), connector, pool, where="sense")
    assert layout.count(steps) == tokens


def test_tubelets_share_their_tokens() -> None:
    spec = TokenSpec(dim=8, grid=(4, 2, 2), layers=1, frames_per_step=2)
    layout = token_layout(spec, build_connector("mlp", 8, 8), 1, where="video")
    assert [layout.count(frames) for frames in (2, 3, 8)] == [4, 8, 16]


def test_a_layout_survives_its_file() -> None:
    layout = TokenLayout(per_step=32, fixed=True, frames_per_step=2)
    assert TokenLayout.from_dict(layout.to_dict()) == layout
    assert layout.count(1) == layout.count(100) == 32


@pytest.mark.parametrize(
    "values",
    [{}, {"per_step": 0}, {"per_step": "9"}, {"per_step": 1, "frames_per_step": 0}, {"per_step": 1, "fixed": 1},
     {"per_step": 1, "hook": "evil"}, {"per_step": True}],
    ids=str,
)  # fmt: skip
def test_what_counts_no_tokens_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="token"):
        TokenLayout.from_dict(values)


def test_a_connector_that_cannot_be_counted_is_refused() -> None:
    class Odd(Connector):
        def out_tokens(self, tokens: int) -> int:
            return tokens + 1

    with pytest.raises(ConfigError, match="audio: the connector makes 5 tokens of one time step and 9 of two"):
        token_layout(TokenSpec(dim=8, grid=(1, 2, 2), layers=1), Odd(8, 8), 1, where="audio")


def test_tokens_without_a_raster_are_not_pooled() -> None:
    with pytest.raises(ConfigError, match="point_cloud: tokens of a 1 x 512 grid cannot be pooled"):
        token_layout(
            TokenSpec(dim=8, grid=(1, 1, 512), layers=1), build_connector("mlp", 8, 8), 2, where="point_cloud"
        )


def test_pooling_by_two_takes_the_mean_of_squares() -> None:
    values = torch.arange(16.0).reshape(1, 1, 16, 1)  # rows 0..3, 4..7, 8..11, 12..15
    encoded = EncodedTokens(tokens=values, mask=torch.ones(1, 1, dtype=torch.bool), grid=(1, 4, 4), pooled=None)
    out = pooled_grid(encoded, 2)
    assert out.grid == (1, 2, 2) and out.tokens is not None
    assert out.tokens.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


def test_every_frame_is_pooled_alone() -> None:
    tokens = torch.randn(2, 3, 16, 5)
    encoded = EncodedTokens(tokens=tokens, mask=torch.ones(2, 3, dtype=torch.bool), grid=(3, 4, 4), pooled=None)
    out = pooled_grid(encoded, 2).tokens
    expected = tokens.unflatten(2, (2, 2, 2, 2)).mean(dim=(3, 5)).flatten(2, 3)
    assert out is not None
    torch.testing.assert_close(out, expected)


def test_no_pooling_changes_nothing() -> None:
    encoded = EncodedTokens(tokens=torch.randn(1, 1, 4, 2), mask=None, grid=(1, 2, 2), pooled=None)
    assert pooled_grid(encoded, 1) is encoded
