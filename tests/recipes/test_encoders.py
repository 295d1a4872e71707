"""Encoders by folder or by the config that trains them."""

from __future__ import annotations

from pathlib import Path

import pytest

from polysense.errors import CheckpointError, ConfigError
from polysense.recipes.encoders import check_encoder, clip_configs, encoder_folder, is_elsewhere
from polysense.recipes.sources import WorldSettings
from polysense.testing.anchors import tiny_anchor
from tests.cli.stand_ins import stand_in


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tiny_anchor(tmp_path / "anchor")
    assert encoder_folder(str(folder), tmp_path, tmp_path, None) == folder


def test_a_config_of_unialign_is_trained_on_the_same_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = stand_in(monkeypatch, "polysense.recipes.unialign.run", tmp_path / "stage")
    world = WorldSettings(size="tiny", seed=3)
    assert encoder_folder("unialign:world", tmp_path, tmp_path / "data", world) == tmp_path / "stage"
    config, output, overrides = recipe.call_args.args
    assert (config, output) == ("world", tmp_path / "unialign-world")
    assert {f"data_root={tmp_path / 'data'}", "world.size=tiny", "world.seed=3", "bounds=0"} <= set(overrides)


def test_a_net_of_one_sense_is_trained_alone_on_its_own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = stand_in(monkeypatch, "polysense.recipes.features.train_features", tmp_path / "nets")
    assert encoder_folder("net:audio", tmp_path, tmp_path / "data", None) == tmp_path / "nets" / "audio"
    recipe, output = train.call_args.args
    assert list(recipe.nets) == ["audio"] and recipe.text is None and not recipe.probes
    assert (output, recipe.data_root) == (tmp_path / "features", str(tmp_path / "features" / "world"))
    with pytest.raises(ConfigError, match="has no net 'smell'"):
        encoder_folder("net:smell", tmp_path, tmp_path / "data", None)


def test_an_encoder_that_is_nowhere_is_told_with_the_names_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "polysense.models.base.snapshot_download", None).side_effect = OSError("no network")
    for name in ("unialign:world", "net:audio", "clip"):
        check_encoder(name, clip_configs())
    with pytest.raises(CheckpointError, match=r"^clpi: .*one of clip, clip-demo, unialign:demo, .*, net:video, "):
        check_encoder("clpi", clip_configs())


def test_a_name_is_that_of_a_config_unless_it_lies_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_elsewhere(str(tmp_path)) and is_elsewhere("me/encoder") and not is_elsewhere("clip")
    train = stand_in(monkeypatch, "polysense.recipes.anchors.train_anchor", tmp_path / "anchor")
    assert encoder_folder("clip", tmp_path, tmp_path / "data", None) == tmp_path / "anchor"
    assert train.call_args.args[0].data_root == str(tmp_path / "data")
