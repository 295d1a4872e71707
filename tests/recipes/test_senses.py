"""Senses as recipes name them: the registered spec, refined."""

from __future__ import annotations

from dataclasses import replace

import pytest

from polysense.errors import ConfigError, UnregisteredModalityError
from polysense.modality import get_modality
from polysense.recipes.senses import SenseSettings, check_sense


def test_settings_refine_the_registered_spec_and_leave_it_as_it_is() -> None:
    settings = SenseSettings(channels=6, tokenizer={"groups": 8}, processor={"num_groups": 8})
    registered = get_modality("point_cloud")
    spec = settings.spec("point_cloud")
    assert (spec.channels, spec.tokenizer["groups"], spec.processor["num_groups"]) == (6, 8, 8)
    assert replace(spec, channels=registered.channels, tokenizer=registered.tokenizer, processor={}) == registered
    assert get_modality("point_cloud") is registered and registered.channels == 3


def test_a_sense_without_settings_is_as_registered() -> None:
    assert SenseSettings().spec("audio") == get_modality("audio")
    with pytest.raises(UnregisteredModalityError, match="smell"):
        SenseSettings().spec("smell")


def test_options_and_prompts_are_checked_with_their_place() -> None:
    check_sense(SenseSettings(processor={"crop_scale": [0.5, 1.0]}).spec("depth"), ["a {}"], "senses: depth")
    with pytest.raises(ConfigError, match=r"senses: depth: .*has no options \['crop'\]"):
        check_sense(SenseSettings(processor={"crop": 1}).spec("depth"), [], "senses: depth")
    with pytest.raises(ConfigError, match=r"senses: depth: templates: the template 'a cup' has no \{\}"):
        check_sense(get_modality("depth"), ["a {}", "a cup"], "senses: depth")
