"""Self-supervision by two views."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polysense.errors import ConfigError
from polysense.models.encoders import StepNet, StepNetConfig
from polysense.trainer.two_views import TwoViews, TwoViewsObjective


class Noise:
    """A processor whose features are drawn at random."""

    def __call__(
        self,
        modality: str,
        sources: Sequence[object],
        *,
        facts: Sequence[Mapping[str, Any]],
        rngs: Sequence[np.random.Generator] | None,
    ) -> dict[str, Tensor]:
        drawn = [torch.from_numpy(rng.normal(size=2)) for rng in rngs or ()]
        return {"audio_values": torch.stack(drawn), "audio_mask": torch.ones(len(sources), 2, dtype=torch.bool)}


def objective(shift: int = 0) -> TwoViewsObjective:
    torch.manual_seed(0)
    return TwoViewsObjective(StepNet(StepNetConfig(height=8, width=8, widths=[8])), "image", shift=shift)


def batch(first: Tensor, second: Tensor, **mask: Tensor) -> Any:
    return SimpleNamespace(features={"image": {"first": first, "second": second, **mask}})


def test_views_of_a_sample_differ_and_depend_on_its_generator_alone() -> None:
    views = TwoViews(Noise(), "audio_values", "audio_mask")

    def drawn(*seeds: int) -> dict[str, Tensor]:
        rngs = [np.random.default_rng(seed) for seed in seeds]
        return views("audio", ["x"] * len(seeds), facts=[{}] * len(seeds), rngs=rngs)

    both = drawn(0, 1)
    assert set(both) == {"first", "second", "mask"} and not torch.equal(both["first"], both["second"])
    assert torch.equal(drawn(1)["second"][0], both["second"][1])
    with pytest.raises(ConfigError, match="drawn at random"):
        views("audio", ["x"], facts=[{}], rngs=None)


def test_the_loss_is_that_of_all_steps_against_each_other() -> None:
    built, first, second = objective(), torch.randn(2, 3, 3, 8, 8), torch.randn(2, 3, 3, 8, 8)
    found = built.losses("image", batch(first, second))["two_views"]

    def vectors(values: Tensor) -> Tensor:
        tokens = built.encoder.encode_tokens("image", values).tokens
        return F.normalize(built.head(tokens.mean(dim=2).flatten(0, 1)), dim=-1)

    logits = vectors(first) @ vectors(second).t() / 0.1
    wanted = (F.cross_entropy(logits, torch.arange(6)) + F.cross_entropy(logits.t(), torch.arange(6))) / 2
    assert torch.allclose(found, wanted)


def test_a_step_can_be_held_against_the_next_one_with_other_samples_as_negatives() -> None:
    built = objective(shift=1)
    # both samples the same: of two positives and one negative each, all are alike
    values = torch.randn(1, 3, 3, 8, 8)[:, :1].expand(2, 3, -1, -1, -1)
    loss = built.losses("image", batch(values, values))["two_views"]
    assert float(loss) == pytest.approx(math.log(3))  # itself and the other sample's two steps


def test_padded_steps_do_not_count() -> None:
    built, first, second = objective(), torch.randn(2, 3, 3, 8, 8), torch.randn(2, 3, 3, 8, 8)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    whole = built.losses("image", batch(first, second, mask=mask))["two_views"]
    first[0, 2], second[0, 2] = 9, -9
    assert torch.equal(whole, built.losses("image", batch(first, second, mask=mask))["two_views"])


def test_everything_trains() -> None:
    built = objective()
    built.losses("image", batch(torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)))["two_views"].backward()
    assert all(parameter.grad is not None for parameter in built.module.parameters())
    assert built.dummy("image") == 0 and built.modalities == ("image",)
