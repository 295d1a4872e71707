"""Calibration of COMET's world on made-up cells, and the refusal of every other one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.recipes import comet_calibration
from polysense.recipes.cells import Cell
from polysense.recipes.comet_calibration import check_calibrated, measured
from polysense.recipes.comet_cells import Setting
from polysense.recipes.comet_variants import FIRST
from polysense.recipes.comet_world import Bench
from tests.recipes.comet_cells import run
from tests.recipes.test_comet_world import setting_of

FROZEN = {"content_hash": "b" * 64, "senses": {"audio": 1}, "frozen": True}
SEEDS = (100, 101)

Calibrate = Callable[[float, float, float], dict[str, Any]]


def records(transfer: float, bare: float, kept: float) -> dict[Cell, dict[str, Any]]:
    """Cells in which DCID transfers and keeps so much (seed 101 a little more), and transfers `bare` without CPC."""
    found = {}
    for seed in SEEDS:
        value = transfer + 0.02 * (seed - 100)
        found[Cell("dcid", seed, FIRST)] = run(FIRST, value, later=value * kept)
        found[Cell("dcid-no-contrast", seed, FIRST)] = run(FIRST, bare)
    return found


def test_what_is_judged_by_hand() -> None:
    """Chance is 0.1: transfers of 0.4 and 0.42 are 4 and 4.2 times it; 0.16 leaves 0.06 of 0.3 and of 0.32. Of these,
    0.02 and 0.026 are kept in the end."""
    first, second, third = measured(records(0.4, 0.16, 0.3), SEEDS).values()
    assert first["by_seed"] == pytest.approx([4.0, 4.2]) and first["in_range"]
    assert second["by_seed"] == pytest.approx([0.2, 0.1875]) and second["in_range"]
    assert third["by_seed"] == pytest.approx([0.02 / 0.3, 0.026 / 0.32]) and third["in_range"]
    assert (first["at least"], second["below"], third["below"]) == (2.0, 0.5, 0.6)


def test_without_any_transfer_nothing_is_left_to_remove() -> None:
    first, second, _ = measured(records(0.05, 0.05, 0.3), SEEDS).values()
    assert not first["in_range"] and second["by_seed"] == [1.0, 1.0] and not second["in_range"]


@pytest.fixture
def calibrate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calibrate:
    """`world.json` after a calibration on such cells."""

    def run_on(transfer: float, bare: float, kept: float) -> dict[str, Any]:
        def compute(self: Bench, cells: Iterable[Cell]) -> None:
            assert {cell.method for cell in cells} == {"dcid", "dcid-no-contrast"}, "no other method runs before"
            assert self.folder(self.found) == tmp_path / "world/comet/kkk"

        monkeypatch.setattr(comet_calibration, "setting", lambda config, output: setting_of("kkk", tmp_path))
        monkeypatch.setattr(comet_calibration, "finished_cells", lambda folder: records(transfer, bare, kept))
        monkeypatch.setattr(Bench, "compute", compute)
        (tmp_path / "world.json").write_text(json.dumps(FROZEN))
        assert comet_calibration.run(tmp_path, tmp_path / "runs") == tmp_path / "world.json"
        return dict(json.loads((tmp_path / "world.json").read_text()))

    return run_on


def test_the_figures_stand_beside_the_frozen_media(calibrate: Calibrate, tmp_path: Path) -> None:
    record = calibrate(0.4, 0.16, 0.3)
    assert {key: record[key] for key in FROZEN} == FROZEN
    comet = record["comet"]
    assert comet["calibrated"] and comet["recipe"] == "kkk" and comet["content_hash"] == "a" * 64
    assert comet["seeds"] == [100, 101] and len(comet["figures"]) == 3
    check_calibrated(tmp_path, setting_of("kkk", tmp_path))


@pytest.mark.parametrize(
    ("figures", "named"),
    [((0.15, 0.1, 0.3), "times chance"), ((0.4, 0.3, 0.3), "without Cross-CPC"), ((0.4, 0.16, 0.8), "DCID keeps")],
)
def test_one_figure_out_of_range_keeps_the_report_from_being_made(
    figures: tuple[float, float, float], named: str, calibrate: Calibrate, tmp_path: Path
) -> None:
    assert not calibrate(*figures)["comet"]["calibrated"]
    with pytest.raises(ConfigError, match=rf"out of range: .*{named} \(\d\.\d\d\)"):
        check_calibrated(tmp_path, setting_of("kkk", tmp_path))


def test_another_world_or_recipe_is_refused(calibrate: Calibrate, tmp_path: Path) -> None:
    calibrate(0.4, 0.16, 0.3)
    found: Setting = setting_of("kkk", tmp_path)
    other = replace(found, world=replace(found.world, content_hash="c" * 64))
    with pytest.raises(ConfigError, match="the content_hash is cccccccccccc, the calibrated one aaaaaaaaaaaa"):
        check_calibrated(tmp_path, other)
    with pytest.raises(ConfigError, match=r"the recipe is lll, the calibrated one kkk.*calibrate_comet\.py"):
        check_calibrated(tmp_path, replace(found, key="lll"))


def test_without_a_calibration_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="frozen world cannot be read"):
        check_calibrated(tmp_path, setting_of("kkk", tmp_path))
    (tmp_path / "world.json").write_text(json.dumps(FROZEN))
    with pytest.raises(ConfigError, match="nobody has looked yet"):
        check_calibrated(tmp_path, setting_of("kkk", tmp_path))
