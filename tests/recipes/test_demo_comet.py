"""The demonstration of COMET, tiny."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.recipes import demo_comet
from polysense.recipes.comet_config import CometRecipe
from polysense.recipes.config import read_config
from polysense.report import Table
from tests.recipes.comet_parts import comet_recipe
from tests.recipes.features import trained_nets
from tests.recipes.fixtures import Parts


def test_it_compares_the_method_alone_with_comet_and_ends_with_a_command(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets = trained_nets(tmp_path.parent / "recipes", parts.world)
    tiny = comet_recipe(parts.world, nets, tmp_path / "sequences")
    monkeypatch.setattr(demo_comet, "read_config", lambda *_, **__: tiny)
    monkeypatch.setattr(demo_comet, "_in", lambda output, root, recipe: recipe)
    monkeypatch.setattr("polysense.recipes.demo.world_of", lambda output: parts.world)
    said: list[str] = []
    shown: list[Table] = []
    page = demo_comet.run(tmp_path, said.append, shown.extend)
    assert page == tmp_path / "comet" / "report" / "report.html" and page.exists()
    transfer, kept = shown
    assert {row[2] for row in transfer.rows} == {"DCID", "DCID + COMET, frozen teacher"}
    assert {row[0] for row in transfer.rows} == {"localisation video to audio", "localisation audio to video"}
    assert kept.rows and all(len(row) == len(kept.head) for row in kept.rows)
    assert any(line.startswith("polysense codes ") for line in said) and "CometReader" in said[-1]


def test_everything_lies_in_the_folder_of_the_demonstration(tmp_path: Path) -> None:
    recipe = read_config(CometRecipe, "comet", "demo")
    placed: Any = demo_comet._in(tmp_path, tmp_path / "world", recipe)
    assert placed.data.nets == str(tmp_path / "comet-features" / "nets")
    assert placed.features.data_root == str(tmp_path / "comet-features" / "world")
    assert set(placed.features.nets) == {"video", "audio"} and placed.data.world.size == "demo"
    assert replace(placed, data=recipe.data, features=recipe.features) == recipe


@pytest.mark.parametrize("arguments", [("no-such-config", []), ("demo", ["method=clip"]), ("demo", ["ewcc=1"])])
def test_what_is_wrong_with_a_config_is_said_before_anything_is_built(
    arguments: tuple[str, list[str]], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError):
        demo_comet.run(tmp_path / "run", print, lambda tables: None, *arguments)
    assert not (tmp_path / "run").exists()
