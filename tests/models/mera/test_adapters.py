"""PathWeave's adapters inside a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from polysense.errors import ConfigError
from polysense.models.mera import MeraForConditionalGeneration
from polysense.models.mera.adapters import MeraAdapters
from polysense.nn.adapter_in_adapter import AdapterOptions, AdapterPath, use_path
from polysense.testing import tiny_mera

LINEARS = ("layers.0.self_attn.q_proj", "layers.1.mlp.down_proj")
OPTIONS = AdapterOptions(rank=3, alpha=6.0)
VALUES: dict[str, Any] = MeraAdapters(linears=LINEARS, options=OPTIONS, paths=("image", "audio")).to_dict()


def adapted(*paths: str) -> MeraForConditionalGeneration:
    """A tiny MERA whose paths have learned something."""
    model = tiny_mera("audio")
    model.add_adapters(LINEARS, OPTIONS)
    for name in paths:
        model.add_path(name)
    generator = torch.Generator().manual_seed(0)
    for path in (each for each in model.modules() if isinstance(each, AdapterPath)):
        path.up.data = torch.randn(path.up.shape, generator=generator)
    return model


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model(input_ids=torch.tensor([[1, 8, 9, 10]])).logits  # type: ignore[no-any-return]


def test_adapters_without_paths_change_nothing_and_a_path_begins_at_nothing() -> None:
    before, model = logits(tiny_mera("audio")), adapted()
    assert torch.equal(logits(model), before)
    model.add_path("image")
    assert torch.equal(logits(model), before)
    assert model.config.adapters == {**VALUES, "paths": ["image"]}


@pytest.mark.parametrize("paths", [(), ("image",), ("image", "audio")])
def test_a_model_with_adapters_survives_its_folder(paths: tuple[str, ...], tmp_path: Path) -> None:
    model = adapted(*paths)
    model.save_pretrained(tmp_path)
    again: Any = MeraForConditionalGeneration.from_pretrained(tmp_path)
    assert again.config.adapters == model.config.adapters
    assert torch.equal(logits(again), logits(model))
    training = {name for name, each in again.model.language_model.named_parameters() if ".paths." in name
                and each.requires_grad}  # fmt: skip
    assert all(f".paths.{paths[-1]}." in name for name in training) and bool(training) == bool(paths)
    if paths:
        use_path(again, paths[0])
        use_path(model, paths[0])
        assert torch.equal(logits(again), logits(model))


def test_paths_stay_in_full_precision(tmp_path: Path) -> None:
    adapted("image").save_pretrained(tmp_path)
    half: Any = MeraForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    kinds = {".paths." in name: each.dtype for name, each in half.model.language_model.named_parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    assert logits(half).dtype == torch.bfloat16


def test_a_config_from_before_there_were_adapters_has_none(tmp_path: Path) -> None:
    tiny_mera().save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values.pop("adapters") is None
    (tmp_path / "config.json").write_text(json.dumps(values))
    again: Any = MeraForConditionalGeneration.from_pretrained(tmp_path)
    assert again.config.adapters is None and torch.equal(logits(again), logits(tiny_mera()))


def test_what_does_not_fit_changes_nothing() -> None:
    model = tiny_mera()
    with pytest.raises(ConfigError, match=r"no linear 'layers\.7\.mlp\.up_proj'"):
        model.add_adapters([*LINEARS, "layers.7.mlp.up_proj"], OPTIONS)
    with pytest.raises(ConfigError, match="the model has no adapters"):
        model.add_path("image")
    assert model.config.adapters is None and not any(
        ".base." in name for name in model.model.language_model.state_dict()
    )
    model.add_adapters(LINEARS, OPTIONS)
    model.add_path("image")
    with pytest.raises(ConfigError, match="image: the modality has a path already"):
        model.add_path("image")
    with pytest.raises(ConfigError, match="no linear"):
        model.add_adapters(LINEARS, OPTIONS)
    assert model.config.adapters == {**VALUES, "paths": ["image"]}


BAD: list[tuple[Any, str]] = [
    (3, "adapters: the adapters are no mapping"),
    ({**VALUES, "hook": "evil"}, "adapters: the adapters are no mapping"),
    ({**VALUES, "linears": "layers.0"}, r"adapters\.linears: there is no list of different names"),
    ({**VALUES, "paths": ["image", "image"]}, r"adapters\.paths: there is no list of different names"),
    ({**VALUES, "paths": ["../x"]}, "'../x' .* cannot name a modality"),
    ({**VALUES, "paths": [f"s{i}" for i in range(65)]}, "there are 65 paths"),
    ({**VALUES, "options": {"rank": 3}}, r"adapters\.options: the options are not rank, alpha"),
    ({**VALUES, "options": {**VALUES["options"], "rank": 10**9}}, r"adapters\.options: rank is 1000000000"),
    ({**VALUES, "options": {**VALUES["options"], "alpha": float("nan")}}, "alpha is nan"),
    ({**VALUES, "options": {**VALUES["options"], "noise": 1}}, "noise is 1"),
    ({**VALUES, "options": {**VALUES["options"], "in_adapter_start": "x"}}, "in_adapter_start is 'x'"),
]


@pytest.mark.parametrize(("values", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_adapters_that_no_model_has_are_refused(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MeraAdapters.from_dict(values)


def test_they_come_back_as_they_were() -> None:
    assert MeraAdapters.from_dict(json.loads(json.dumps(VALUES))).to_dict() == VALUES
