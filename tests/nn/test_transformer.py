from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from polysense.errors import UnknownModalityError
from polysense.nn import BlockExperts, ExpertOptions, ExpertTransformer
from polysense.nn.transformer import ExpertPlace
from polysense.testing import tiny_clip

OPTIONS = ExpertOptions(experts=2, rank=4, alpha=8.0)
PLACES: tuple[ExpertPlace, ...] = ("linear", "block")


def towers(place: ExpertPlace = "linear") -> tuple[Any, ExpertTransformer]:
    """The three frozen blocks of a tiny CLIP, and awake experts of two groups."""
    tower = tiny_clip().vision_model.encoder.requires_grad_(False)
    experts = ExpertTransformer(3, 32, 64, place, OPTIONS)
    for group in ("audio", "depth"):
        experts.add_group(group)
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.normal_(std=0.1)
    return tower, experts


def test_without_a_group_the_blocks_run_exactly_as_clips() -> None:
    tower, experts = towers()
    hidden = torch.randn(2, 5, 32)
    assert torch.equal(experts(tower, hidden, None), tower(inputs_embeds=hidden).last_hidden_state)


@pytest.mark.parametrize("place", PLACES)
def test_experts_are_added_beside_the_frozen_ffn(place: ExpertPlace) -> None:
    """Eq. 7 written out for one block: X' + FFN(LN X') + MoE(LN X')."""
    tower, experts = towers(place)
    block, own, hidden = tower.layers[0], experts.blocks[0], torch.randn(2, 5, 32)
    after_attention = hidden + block.self_attn(hidden_states=block.layer_norm1(hidden), attention_mask=None)[0]
    normed = block.layer_norm2(after_attention)
    sites: Any = own.sites
    if place == "block":
        ffn = sites["ffn"](block.mlp, normed, "audio")
    else:
        inner = block.mlp.activation_fn(sites["fc1"](block.mlp.fc1, normed, "audio"))
        ffn = sites["fc2"](block.mlp.fc2, inner, "audio")
    expected = after_attention + ffn
    torch.testing.assert_close(experts(tower, hidden, "audio", layers=1), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("place", PLACES)
def test_groups_differ_and_do_not_disturb_one_another(place: ExpertPlace) -> None:
    tower, experts = towers(place)
    hidden = torch.randn(2, 5, 32)
    first = experts(tower, hidden, "audio")
    assert not torch.allclose(first, experts(tower, hidden, "depth"), atol=1e-4)
    assert torch.equal(first, experts(tower, hidden, "audio"))


def test_only_the_asked_blocks_run() -> None:
    tower, experts = towers()
    hidden = torch.randn(2, 5, 32)
    assert torch.equal(experts(tower, hidden, "audio", layers=0), hidden)
    assert torch.equal(experts(tower, hidden, "audio", layers=3), experts(tower, hidden, "audio"))


def test_a_hidden_token_changes_no_other() -> None:
    tower, experts = towers()
    hidden = torch.randn(1, 4, 32)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 3] = torch.finfo(torch.float32).min
    changed = hidden.clone()
    changed[:, 3] = 9.0
    before, after = (experts(tower, each, "audio", attention_mask=mask) for each in (hidden, changed))
    torch.testing.assert_close(before[:, :3], after[:, :3])


def test_an_unknown_group_is_named() -> None:
    tower, experts = towers()
    with pytest.raises(UnknownModalityError, match="'smell'"):
        experts(tower, torch.randn(1, 2, 32), "smell")


@pytest.mark.parametrize("place", PLACES)
def test_checkpointed_blocks_remember_no_group(place: ExpertPlace) -> None:
    """Two groups in one backward pass: a remembered group would recompute the first with the second's experts."""
    tower, experts = towers(place)
    hidden = torch.randn(2, 5, 32)
    found = []
    for experts.gradient_checkpointing in (False, True):
        experts.train().zero_grad()
        loss = (experts(tower, hidden, "audio") * experts(tower, hidden, "depth")).sum()
        loss.backward()
        found.append([parameter.grad.clone() for parameter in experts.parameters() if parameter.grad is not None])
    assert len(found[0]) == len(list(experts.parameters()))
    torch.testing.assert_close(found[1], found[0], atol=1e-6, rtol=1e-5)


def test_checkpointing_is_for_training_only() -> None:
    tower, experts = towers()
    experts.gradient_checkpointing = True
    hidden = torch.randn(2, 5, 32)
    assert torch.equal(experts.eval()(tower, hidden, "audio"), experts.train()(tower, hidden, "audio"))


def test_sites_have_the_widths_of_what_they_stand_beside() -> None:
    linear, block = (BlockExperts(32, 64, place, OPTIONS) for place in PLACES)
    widths = {name: (cast(Any, site).in_features, cast(Any, site).out_features) for name, site in linear.sites.items()}
    assert widths == {"fc1": (32, 64), "fc2": (64, 32)}
    assert list(block.sites) == ["ffn"]
