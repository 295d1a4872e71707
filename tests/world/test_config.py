from __future__ import annotations

import json

import pytest

from polysense.errors import ConfigError
from polysense.world.config import SIZES, Difficulty, WorldConfig


@pytest.mark.parametrize("difficulty", ["easy", "standard", "hard"])
def test_a_config_survives_json(difficulty: str) -> None:
    config = WorldConfig(size="tiny", difficulty=difficulty, seed=3)
    again = WorldConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again.to_dict() == config.to_dict()
    assert again.content_hash == config.content_hash


def test_the_content_hash_follows_what_shapes_the_content_and_nothing_else() -> None:
    base = WorldConfig(size="tiny")
    same = WorldConfig(size="my own", difficulty=Difficulty.named("standard"), counts=SIZES["tiny"])
    assert base.content_hash == same.content_hash
    others = [WorldConfig(size="tiny", seed=1), WorldConfig(size="demo"), WorldConfig(size="tiny", difficulty="hard")]
    assert len({base.content_hash, *(other.content_hash for other in others)}) == 4


def test_the_standard_world_has_six_thousand_stills_and_some_three_thousand_clips() -> None:
    assert sum(SIZES["standard"]["stills"].values()) == 6000
    assert sum(SIZES["standard"]["clips"].values()) == 2960


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "vast"}, "unknown world size 'vast'.*tiny, demo, standard"),
        ({"difficulty": "mean"}, "unknown difficulty 'mean'.*easy, standard, hard"),
        ({"counts": {"films": {"train": 1}}}, "unknown kind or split: films"),
        ({"counts": {"stills": {"dev": 1}}}, r"unknown kind or split: stills \['dev'\]"),
        ({"counts": {"stills": {"train": -1}}}, "whole numbers"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WorldConfig(**arguments)  # type: ignore[arg-type]


def test_unknown_and_missing_keys_are_refused() -> None:
    with pytest.raises(ConfigError, match="a world config: unknown key 'colour'"):
        WorldConfig.from_dict({"size": "tiny", "colour": "red"})
    values = WorldConfig(size="tiny").to_dict()
    del values["level"]["tilt"]
    with pytest.raises(ConfigError, match=r"difficulty keys differ.*\['tilt'\]"):
        WorldConfig.from_dict(values)
