"""The freezing tables of MERA's steps; `test_modeling_mera` says what of a model they match."""

from __future__ import annotations

import re

from polysense.models.mera.freezing import LANGUAGE_MODEL, freezing_table


def test_only_what_is_named_trains() -> None:
    connector = r"model\.connectors\.audio\..*"
    assert freezing_table([]) == {".*": False}
    assert freezing_table(["audio"]) == {".*": False, connector: True}
    assert freezing_table(["audio"], language_model=True) == {".*": False, connector: True, LANGUAGE_MODEL: True}


def test_the_language_model_is_its_blocks_and_its_head() -> None:
    names = ["model.language_model.layers.0.mlp.up_proj.weight", "lm_head.weight"]
    assert all(re.fullmatch(LANGUAGE_MODEL, name) for name in names)
    assert not re.fullmatch(LANGUAGE_MODEL, "model.connectors.audio.linear_1.weight")
