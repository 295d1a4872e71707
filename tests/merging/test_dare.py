from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from peft.utils.merge_utils import prune

from polysense.errors import ConfigError
from polysense.merging import dare, running_average
from polysense.merging.dare import keep_mask


def test_what_survives_is_rescaled_by_hand() -> None:
    """With density 1/2 an update of 4 becomes 0 or 8, of which stage 2 takes a half."""
    merged = dare({"w": torch.ones(64)}, {"w": torch.full((64,), 5.0)}, stage=2, density=0.5)["w"]
    assert set(merged.tolist()) == {1.0, 5.0}
    kept = keep_mask("0/2/w", 0, 64, 0.5)
    assert torch.equal(merged == 5.0, kept)


def test_density_one_is_the_running_average() -> None:
    previous, current = {"w": torch.randn(50)}, {"w": torch.randn(50)}
    merged = dare(previous, current, stage=3, density=1.0)["w"]
    torch.testing.assert_close(merged, running_average(previous, current, stage=3)["w"])


def test_on_average_nothing_is_lost() -> None:
    previous, current = {"w": torch.zeros(200_000)}, {"w": torch.ones(200_000)}
    for density in (0.1, 0.5):
        merged = dare(previous, current, stage=4, density=density)["w"]
        expected = prune(current["w"], density, "random", rescale=True) / 4  # peft's own drop and rescale
        assert merged.mean().item() == pytest.approx(0.25, abs=5e-3)
        assert merged.mean().item() == pytest.approx(expected.mean().item(), abs=8e-3)
        assert sorted(set(merged.tolist())) == sorted(set(expected.tolist()))


def test_the_mask_does_not_depend_on_the_order_of_the_tensors() -> None:
    previous = {name: torch.zeros(100) for name in "abc"}
    current = {name: torch.ones(100) for name in "abc"}
    merged = dare(previous, current, stage=2)
    backwards = dare({name: previous[name] for name in "cba"}, {name: current[name] for name in "bca"}, stage=2)
    alone = dare({"b": previous["b"]}, {"b": current["b"]}, stage=2)
    assert all(torch.equal(merged[name], backwards[name]) for name in "abc")
    assert torch.equal(merged["b"], alone["b"])


def test_the_mask_depends_on_name_stage_and_seed() -> None:
    previous, current = {"a": torch.zeros(100), "b": torch.zeros(100)}, {"a": torch.ones(100), "b": torch.ones(100)}
    merged = dare(previous, current, stage=2, scale=1.0)
    assert torch.equal(merged["a"], dare(previous, current, stage=2, scale=1.0)["a"])
    for other in (
        merged["b"],
        dare(previous, current, stage=3, scale=1.0)["a"],
        dare(previous, current, stage=2, scale=1.0, seed=1)["a"],
    ):
        assert not torch.equal(merged["a"], other)


@pytest.mark.parametrize("cuts", [(0, 1, 2, 3, 50), (0, 7, 9, 50), (0, 4, 49, 50)])
def test_a_mask_drawn_in_pieces_is_the_same(cuts: tuple[int, ...]) -> None:
    whole = keep_mask("x", 0, 50, 0.3)
    pieces = [keep_mask("x", start, stop - start, 0.3) for start, stop in pairwise(cuts)]
    assert torch.equal(torch.cat(pieces), whole)


def test_the_coins_stay_the_same_in_every_version() -> None:
    assert keep_mask("0/2/w", 0, 12, 0.5).int().tolist() == [0, 0, 0, 1, 0, 0, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("options", [{"density": 0.0}, {"density": 2.0}, {"scale": float("nan")}])
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"(density|scale) is"):
        dare({}, {}, stage=2, **options)
