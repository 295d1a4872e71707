"""Encoders by folder or by the config that trains them."""

from __future__ import annotations

from pathlib import Path

import pytest

from polysense.errors import CheckpointError, ConfigError
from polysense.recipes.encoders import check_encoder, encoder_folder, is_elsewhere
from polysense.recipes.sources import WorldSettings
from polysense.testing.anchors import tiny_anchor
from tests.cli.stand_ins import stand_in


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tiny_anchor(tmp_path / "anchor")
    assert encoder_folder(str(folder), tmp_path, tmp_path, None) == folder


@pytest.mark.parametrize("name", ["clipp", "unialing:world"])
def test_shipped_names_are_told_where_one_was_mistyped(name: str, tmp_path: Path) -> None:
    for call in (check_encoder, lambda name: encoder_folder(name, tmp_path, tmp_path, None)):
        with pytest.raises(
            CheckpointError, match=rf"{name}: .* Or give one .* clip, .*, unialign:world, .*, net:audio"
        ):
            call(name)


def test_shipped_names_are_no_matter_of_repositories_and_damaged_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clipp").mkdir()
    for name in ("me/clipp", "clipp"):
        with pytest.raises(CheckpointError) as caught:
            check_encoder(name)
        assert "shipped names" not in str(caught.value)


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


def test_a_name_is_that_of_a_config_unless_it_lies_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_elsewhere(str(tmp_path)) and is_elsewhere("me/encoder") and not is_elsewhere("clip")
    train = stand_in(monkeypatch, "polysense.recipes.anchors.train_anchor", tmp_path / "anchor")
    assert encoder_folder("clip", tmp_path, tmp_path / "data", None) == tmp_path / "anchor"
    assert train.call_args.args[0].data_root == str(tmp_path / "data")
