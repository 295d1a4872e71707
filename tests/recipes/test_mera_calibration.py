"""Calibration of MERA's world on made-up cells, and the refusal of every other one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.recipes import mera_calibration
from polysense.recipes.cells import Cell
from polysense.recipes.config import read_config
from polysense.recipes.mera_calibration import check_calibrated
from polysense.recipes.mera_config import MeraRecipe
from polysense.recipes.mera_gains import EXPERT
from polysense.recipes.mera_world import Setting
from polysense.world import WorldConfig, WorldSummary
from tests.recipes.mera_cells import expert, learner

FROZEN = {"content_hash": "b" * 64, "senses": {"audio": 1}, "frozen": True}


def setting(content_hash: str = "a" * 64, key: str = "k" * 12) -> Setting:
    world = WorldSummary(Path("world"), WorldConfig(size="tiny"), content_hash, {}, {}, 0.0)
    return Setting(recipe=read_config(MeraRecipe, "mera", "world"), world=world, key=key, output=Path("runs"))


@pytest.fixture
def calibrate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[dict[str, float]], dict[str, Any]]:
    """`world.json` after a calibration in which fine-tuning keeps the given shares, by order; seed 101 0.04 more."""

    def run(kept: dict[str, float]) -> dict[str, Any]:
        def cells(cells: Sequence[Cell], work: Any, folder: Path, *, workers: int) -> Mapping[Cell, Any]:
            assert {cell.method for cell in cells} == {EXPERT, "fine-tuning"}, "no other method runs before"
            assert folder == tmp_path / "world" / f"mera-{'k' * 12}"
            return {
                cell: expert(cell.order) if cell.method == EXPERT
                else learner(cell.order, [kept[cell.order] + 0.04 * (cell.seed - 100)] * 3)
                for cell in cells
            }  # fmt: skip

        monkeypatch.setattr(mera_calibration, "setting", lambda config, output: setting())
        monkeypatch.setattr(Setting, "base", lambda self: self.recipe)
        monkeypatch.setattr(mera_calibration, "run_cells", cells)
        (tmp_path / "world.json").write_text(json.dumps(FROZEN))
        assert mera_calibration.run(tmp_path, tmp_path / "runs") == tmp_path / "world.json"
        return dict(json.loads((tmp_path / "world.json").read_text()))

    return run


def test_the_share_kept_stands_beside_the_frozen_media(
    calibrate: Callable[[dict[str, float]], dict[str, Any]], tmp_path: Path
) -> None:
    """A share s after three stages is a mean of (1 + 3 s) / 4: 0.4 and 0.44 make 0.55 and 0.58."""
    record = calibrate({"sequential": 0.4, "reverse": 0.3})
    assert {key: record[key] for key in FROZEN} == FROZEN
    mera = record["mera"]
    kept = mera["orders"]["sequential"]
    assert kept["by_seed"] == pytest.approx([0.55, 0.58]) and kept["backward_gain"] == pytest.approx(0.565)
    assert kept["in_range"]
    assert mera["calibrated"] and mera["recipe"] == "k" * 12 and mera["content_hash"] == "a" * 64
    assert (
        mera["seeds"] == [100, 101]
        and mera["range"] == [0.4, 0.65]
        and set(mera["experts"]) == set(setting().recipe.senses)
    )
    check_calibrated(tmp_path, setting())


@pytest.mark.parametrize("kept", [0.1, 0.8])
def test_one_order_out_of_range_keeps_the_report_from_being_made(
    kept: float, calibrate: Callable[[dict[str, float]], dict[str, Any]], tmp_path: Path
) -> None:
    assert not calibrate({"sequential": 0.4, "reverse": kept})["mera"]["calibrated"]
    with pytest.raises(ConfigError, match=r"does not keep 0\.4 to 0\.65: reverse \(0\.\d\d\)"):
        check_calibrated(tmp_path, setting())


def test_another_world_or_recipe_is_refused(
    calibrate: Callable[[dict[str, float]], dict[str, Any]], tmp_path: Path
) -> None:
    calibrate({"sequential": 0.4, "reverse": 0.4})
    with pytest.raises(ConfigError, match="the content_hash is cccccccccccc, the calibrated one aaaaaaaaaaaa"):
        check_calibrated(tmp_path, setting("c" * 64))
    with pytest.raises(ConfigError, match=r"the recipe is llllllllllll, the calibrated one k.*calibrate_mera\.py"):
        check_calibrated(tmp_path, replace(setting(), key="l" * 12))


def test_without_a_calibration_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="frozen world cannot be read"):
        check_calibrated(tmp_path, setting())
    (tmp_path / "world.json").write_text(json.dumps(FROZEN))
    with pytest.raises(ConfigError, match="nobody has looked yet"):
        check_calibrated(tmp_path, setting())
