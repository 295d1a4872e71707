from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from polysense import modality as registry
from polysense.errors import ConfigError, UnregisteredModalityError
from polysense.modality import (
    Modality,
    get_modality,
    get_processor_class,
    register_modality,
    registered_modalities,
    specs_of,
)


class Processor:
    pass


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_SPECS", {})
    monkeypatch.setattr(registry, "_PROCESSORS", {})
    yield


def test_a_modality_is_its_own_group_unless_it_names_one() -> None:
    assert Modality(name="audio", kind="spectrogram").expert_group == "audio"
    assert Modality(name="speech", kind="spectrogram", group="sound").expert_group == "sound"


@pytest.mark.parametrize(
    ("name", "values", "mask"),
    [
        ("image", "pixel_values", "image_mask"),
        ("text", "input_ids", "attention_mask"),
        ("depth", "depth_values", "depth_mask"),
    ],
)
def test_features_are_keyed_as_processors_return_them(name: str, values: str, mask: str) -> None:
    spec = Modality(name=name, kind="grid")
    assert (spec.values_key, spec.mask_key) == (values, mask)


@pytest.mark.parametrize("name", ["", "Audio", "2d", "a b", "a.b", "a/b", "../x", "ä", "a" * 65, "a\n"])
def test_a_name_is_an_identifier(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a modality"):
        Modality(name=name, kind="grid")


def test_a_group_is_an_identifier() -> None:
    with pytest.raises(ConfigError, match=r"group '\.\./x'\) cannot name a modality"):
        Modality(name="audio", kind="grid", group="../x")


@pytest.mark.parametrize("name", ["values", "train", "training", "forward", "pixel", "attention"])
def test_a_name_that_would_hide_a_part_of_the_library_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is taken by the library"):
        Modality(name=name, kind="grid")


def test_a_modality_has_channels() -> None:
    with pytest.raises(ConfigError, match="'depth' has 0 channels"):
        Modality(name="depth", kind="grid", channels=0)


def test_a_spec_survives_json() -> None:
    spec = Modality(name="depth", kind="grid", channels=1, tokenizer={"stride": 4}, processor={"mean": 0.04})
    assert Modality.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "a modality spec: unknown key 'colour'"),
        ({"name": 3}, "key 'name' has a value of type int"),
        ({"channels": "3"}, "key 'channels' has a value of type str"),
        ({"channels": True}, "key 'channels' has a value of type bool"),
        ({"channels": 1.0}, "key 'channels' has a value of type float"),
        ({"tokenizer": [1]}, "key 'tokenizer' has a value of type list"),
        ({"group": None}, "key 'group' has a value of type NoneType"),
    ],
)
def test_a_spec_with_unknown_or_mistyped_keys_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Modality.from_dict({"name": "depth", "kind": "grid", **changes})


def test_a_spec_needs_name_and_kind() -> None:
    with pytest.raises(ConfigError, match=r"lacks \['kind'\]"):
        Modality.from_dict({"name": "depth"})


def test_registration_makes_spec_and_processor_known(own_registry: None) -> None:
    spec = register_modality(Modality(name="thermal", kind="grid", channels=1), Processor)
    assert registered_modalities() == ("thermal",)
    assert get_modality("thermal") is spec
    assert get_processor_class("thermal") is Processor


def test_registering_the_same_again_changes_nothing_and_another_is_refused(own_registry: None) -> None:
    spec = register_modality(Modality(name="thermal", kind="grid", channels=1), Processor)
    assert register_modality(Modality(name="thermal", kind="grid", channels=1), Processor) == spec
    with pytest.raises(ConfigError, match="'thermal' is already registered with another spec"):
        register_modality(Modality(name="thermal", kind="grid", channels=3), Processor)
    with pytest.raises(ConfigError, match="'thermal' is already registered with another spec or processor"):
        register_modality(spec, type("Other", (), {}))
    assert registered_modalities() == ("thermal",)


def test_what_no_one_registered_names_the_missing_call(own_registry: None) -> None:
    with pytest.raises(UnregisteredModalityError, match=r"Call polysense\.register_modality"):
        get_modality("smell")
    with pytest.raises(UnregisteredModalityError, match="'smell' is not registered"):
        get_processor_class("smell")


def test_a_misspelt_name_is_met_with_the_right_one() -> None:
    with pytest.raises(UnregisteredModalityError, match=r"Did you mean 'audio'. If not, call polysense.register"):
        get_modality("audoi")


def test_one_sense_is_no_list_of_senses() -> None:
    with pytest.raises(ConfigError, match=r"'audio' is one sense, not a list of them. Give \['audio'\]"):
        specs_of("audio")
    with pytest.raises(ConfigError, match="named twice"):
        specs_of(["audio", "audio"])


def test_the_built_in_senses_are_registered_on_import() -> None:
    built_in = {"image", "text", "video", "audio", "speech", "depth", "point_cloud"}
    assert built_in <= set(registered_modalities())
