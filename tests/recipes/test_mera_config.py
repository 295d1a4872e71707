"""What a MERA recipe may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polysense.continual.methods import Ewc, FreshLora, PathWeave
from polysense.errors import ConfigError
from polysense.recipes.config import read_config
from polysense.recipes.mera_config import MeraRecipe


def recipe(*overrides: str) -> MeraRecipe:
    return read_config(MeraRecipe, "mera", "world", overrides)


@pytest.mark.parametrize(
    ("overrides", "method"),
    [
        ([], FreshLora(merge="running_average")),
        (["merge=null"], FreshLora(merge=None)),
        (["merge=slerp", "method={name: fresh_lora}"], FreshLora(merge="slerp")),
        (["method={name: ewc}"], Ewc(strength=1.0, share=0.01)),
        (["method={name: ewc, strength: 100, share: 0.05}"], Ewc(strength=100.0, share=0.05)),
        (["method={name: pathweave, noise: true}", "merge=null"], PathWeave(noise=True)),
        (["method.merge=ties"], FreshLora(merge="ties")),
        (["merge={name: ties, density: 0.3}"], FreshLora(merge={"name": "ties", "density": 0.3})),
    ],
    ids=str,
)
def test_the_way_of_learning_is_named_with_its_options(overrides: list[str], method: Any) -> None:
    assert recipe(*overrides).learning_method() == method


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method={name: ewk}", "method: name: there is no learning method 'ewk'"),
        ("method={name: ewc, strenght: 2.0}", "method: unknown key 'strenght'.*'strength'"),
        ("method={name: ewc, share: much}", "method: share: 'much' is not float"),
        ("method={name: ewc, share: 2.0}", "method: share: the share is 2.0"),
        ("method={name: pathweave, in_adapter_start: zero}", "method: in_adapter_start: 'zero' is not a choice"),
        ("method={name: ewc, merge: ties}", "method: unknown key 'merge'"),
        ("merge=average", "method: there is no merge method 'average'"),
        ("merge={name: ties, density: 2.0}", "method: density: density is 2"),
        ("merge={name: ties, dense: 0.3}", r"method: merge method 'ties' has no options \['dense'\]. It has: density"),
        ("merge={density: 0.3}", "method: there is no merge method 'without a name'"),
    ],
)
def test_names_and_options_that_are_none_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(override).learning_method()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("connector.learning_rates={conectors: 1.0e-3}",
         r"connector: learning_rates: unknown key 'conectors'. Did you mean 'connectors'"),
        ("realign.learning_rates={llm: 1.0e-3}",
         r"realign: learning_rates: unknown key 'llm'. Known keys: connectors, language_model"),
        ("joint.learning_rates={connectors: 1.0e-3, languagemodel: 2.0e-4}", "Did you mean 'language_model'"),
        ("realign.learning_rates={language_model: 1.0e-3}", "realign: learning_rates: the connectors have no"),
        ("joint.learning_rates={connectors: 1.0e-3}", "joint: learning_rates: the language model has no"),
    ],
)  # fmt: skip
def test_every_part_that_trains_has_a_rate_and_nothing_else_has(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("warmup_share=1.5", "world.yaml: warmup_share is 1.5"),
        ("warmup_share=-0.1", "world.yaml: warmup_share is -0.1"),
        ("adapter.rank=0", "world.yaml: adapter: rank is 0"),
        ("evaluation.tokenizer=words", "evaluation: tokenizer: there is no caption tokenizer 'words'"),
        ("evaluation.limit=0", "evaluation: limit is 0"),
        ("sources.image.data.sample=-1", "sources: image: data: sample is -1"),
    ],
)
def test_values_that_nothing_can_be_done_with_are_refused_as_they_are_read(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(override)


def test_data_sets_are_found_by_sense_and_those_with_captions_among_them(tmp_path: Path) -> None:
    extra = "sources.qa={modality: video, captions: false, data: {manifest: manifests/clips-train.jsonl}}"
    found = recipe(extra)
    assert found.named_sources(["video"]) == ["video", "qa"]
    assert found.named_sources(["video", "image"], captions=True) == ["image", "video"]
    assert found.named_sources(["touch"]) == []
