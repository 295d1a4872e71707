from __future__ import annotations

import pytest
import torch

from polysense.errors import ConfigError
from polysense.nn.sequence_encoder import (
    AttentionBlock,
    Decoder,
    MapDecoder,
    MapPooling,
    MapSpecificEncoder,
    SemanticEncoder,
    SpecificEncoder,
)


def encoder(in_dim: int = 5, *, maps: bool = False, recurrent: bool = False) -> SemanticEncoder:
    return SemanticEncoder(in_dim, 8, layers=2, heads=2, hidden=16, dropout=0.0, maps=maps, recurrent=recurrent)


def test_a_block_is_torchs_post_norm_layer() -> None:
    ours = AttentionBlock(8, 2, 16, 0.0)
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
    theirs.self_attn.in_proj_weight.data, theirs.self_attn.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    pairs = (("out", theirs.self_attn.out_proj), ("fc1", theirs.linear1), ("fc2", theirs.linear2))
    for name, module in pairs:
        module.load_state_dict(getattr(ours, name).state_dict())
    x, mask = torch.randn(3, 4, 8), torch.tensor([[True] * 4, [True, True, False, False], [True] * 4])
    real = mask[..., None].float()
    expected = theirs(x, src_key_padding_mask=~mask)
    torch.testing.assert_close(ours(x, mask) * real, expected * real, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours(x, None), theirs(x), atol=1e-5, rtol=1e-5)


def test_padding_does_not_reach_real_steps_and_an_empty_sample_stays_finite() -> None:
    for recurrent in (False, True):
        made, x = encoder(recurrent=recurrent), torch.randn(2, 4, 5)
        mask = torch.tensor([[True, True, False, False], [False] * 4])
        z = made(made.front(x, mask), mask)
        x[:, 2:] = 99.0
        assert torch.equal(made(made.front(x, mask), mask)[0, :2], z[0, :2])
        assert z.isfinite().all()


def test_steps_have_no_positions_without_a_recurrent_front() -> None:
    made, x = encoder(), torch.randn(2, 4, 5)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(made(x[:, order], None), made(x, None)[:, order])


def test_maps_are_pooled_by_weights_that_sum_to_one() -> None:
    pooling, same = MapPooling(8), torch.ones(2, 3, 4, 4, 8)
    gate = pooling.excite(pooling.squeeze(torch.ones(8)).relu()).sigmoid()
    torch.testing.assert_close(pooling(same), (1 + gate).expand(2, 3, 8))


@pytest.mark.parametrize(("grid", "inner"), [((7, 7), (3, 3)), ((4, 4), (2, 2)), ((1, 6), (1, 2)), ((2, 2), (2, 2))])
def test_maps_of_any_size_come_back_at_their_size(grid: tuple[int, int], inner: tuple[int, int]) -> None:
    specific, decoder = MapSpecificEncoder(3, grid), MapDecoder(8, 3, grid)
    maps = torch.randn(2, 5, *grid, 3)
    content, summary = specific(maps)
    assert content.shape == (2, 5, *inner, 12) and summary.shape == (2, 5, 3) == (2, 5, specific.summary_dim)
    assert decoder(torch.randn(2, 5, 8), content).shape == maps.shape


def test_vectors_come_back_at_their_width() -> None:
    content, summary = SpecificEncoder(5, 8)(torch.randn(2, 3, 5))
    assert content is summary and content.min() >= 0
    assert Decoder(8, 5)(torch.randn(2, 3, 8), content).shape == (2, 3, 5)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match="a width of 8 with 3 heads"):
        SemanticEncoder(5, 8, layers=1, heads=3, hidden=8, dropout=0.0, maps=False, recurrent=False)
