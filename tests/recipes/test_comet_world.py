"""COMET's reproduction as a whole: which cells are computed where, and what the report is made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.recipes import comet_world
from polysense.recipes.cells import Cell, Chosen
from polysense.recipes.comet_cells import RAW, Setting
from polysense.recipes.comet_config import CometRecipe
from polysense.recipes.comet_variants import CONFIGS, FIRST, FRESH, METHODS, SECOND, cells_of
from polysense.recipes.comet_world import Bench, removed, summary
from polysense.recipes.config import read_config
from polysense.world import WorldConfig, WorldSummary
from tests.recipes.comet_cells import KNOWN, cells, raw, run

BASE = read_config(CometRecipe, "comet", "world")


def setting_of(key: str, output: Path) -> Setting:
    world = WorldSummary(Path("world"), WorldConfig(size="tiny"), "a" * 64, {}, {}, 0.0)
    return Setting(recipe=BASE, world=world, key=key, output=output)


def made_setting(output: Path) -> Callable[..., Setting]:
    """Stands for `setting`: the key is the config, and the seed of a world of another seed."""

    def found(config: str, _: Path, overrides: Sequence[str] = ()) -> Setting:
        return setting_of("-".join([config, *(each.rpartition("=")[2] for each in overrides)]), output)

    return found


class Made:
    """Stands for `run_cells`: writes every cell, and knows what was asked for, by folder."""

    def __init__(self, noise: float = 0.0) -> None:
        self.noise, self.asked = noise, list[tuple[str, list[Cell]]]()

    def __call__(self, wanted: Sequence[Cell], work: Any, folder: Path, *, workers: int) -> dict[Cell, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        self.asked.append((folder.name, list(wanted)))
        for cell in wanted:
            (folder / f"{cell.name}.json").write_text(json.dumps({**cell.to_dict(), **self._record(cell)}))
        return {}

    def _record(self, cell: Cell) -> dict[str, Any]:
        if cell.method == RAW:
            return raw()
        value = 0.3 + 0.01 * list(METHODS).index(cell.method) + 0.01 * cell.seed
        value += self.noise * (-1) ** cell.seed if cell.method == "turn-comet" else 0.0
        active = (0.2, 0.2, 0.3, 0.3) if cell.method == "dcid" else (0.1, 0.2, 0.3, 0.4)
        return run(cell.order if cell.order in KNOWN else FIRST, value, active=active)

    @property
    def cells(self) -> list[Cell]:
        return [cell for _, asked in self.asked for cell in asked if cell.method != RAW]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Made:
    found = Made()
    monkeypatch.setattr(comet_world, "setting", made_setting(tmp_path))
    monkeypatch.setattr(Setting, "base", lambda self: self.recipe)
    monkeypatch.setattr(comet_world, "run_cells", found)
    monkeypatch.setattr(comet_world, "parts_name", lambda folders: "")
    return found


def reported(tmp_path: Path, **options: Any) -> dict[str, Any]:
    path = comet_world.run(tmp_path, tmp_path / "runs", lambda setting: None, **options)
    assert path == tmp_path / "comet-world.json"
    return dict(json.loads(path.read_text()))


def test_the_report_has_tables_claims_and_figures_of_all_cells(made: Made, tmp_path: Path) -> None:
    report = reported(tmp_path)
    assert [folder for folder, _ in made.asked] == ["world"] * 8 + ["world-unialign"] * 2
    numbers = [len(asked) for _, asked in made.asked]
    assert numbers == [1, len(cells_of((0, 1, 2))), *[1, 3] * 3, 1, 2], "raw sequences come first"
    assert report["seeds"] == [0, 1, 2, 101, 102, 103] and report["scores"]["unialign"]["dcid"]["seeds"] == [0]
    assert report["claims"]["CO1 (as printed)"]["mean"] == pytest.approx(0.06), "six methods further"
    assert report["scores"][FIRST]["dcid"]["stages"][1]["transfer"]["mean"] == pytest.approx(0.31)
    text = (tmp_path / "comet-world.md").read_text()
    for title in ("Table 1", "Table 2", "Table 5", "Table 6", "Table 7", "Table 8", "Figure 2", "Figure 3", "Claims"):
        assert title in text
    assert (tmp_path / "comet-world.png").read_bytes().startswith(b"\x89PNG")


def test_only_what_is_undecided_gets_more_seeds(made: Made, tmp_path: Path) -> None:
    made.noise = 0.5
    report = reported(tmp_path)
    more = {(cell.method, cell.order) for cell in made.cells if cell.seed > 2 and cell.order not in FRESH}
    assert more == {("turn", FIRST), ("turn-comet", FIRST)}
    assert len(report["claims"]["CO3 (frozen teacher)"]["values"]) == 6


def test_chosen_methods_alone_are_computed_and_the_report_says_what_is_missing(made: Made, tmp_path: Path) -> None:
    report = reported(tmp_path, only=Chosen(methods=["dcid", "dcid-comet"]))
    assert {cell.method for cell in made.cells} == {"dcid", "dcid-comet"}
    assert report["claims"]["CO1 (frozen teacher)"]["verdict"] == "reproduced"
    assert report["claims"]["CO1 (as printed)"]["verdict"] == "not measured"
    asked = len(made.asked)
    assert reported(tmp_path, only=Chosen(methods=[]))["scores"] == report["scores"] and len(made.asked) == asked


def test_a_report_on_nothing_says_that_nothing_was_measured(made: Made, tmp_path: Path) -> None:
    report = reported(tmp_path, only=Chosen(methods=[]))
    assert {each["verdict"] for each in report["claims"].values()} == {"not measured"} and not report["seeds"]
    assert "Table 1" not in (tmp_path / "comet-world.md").read_text().partition("**Claims**")[0]


def test_finished_cells_are_not_asked_for_again(made: Made, tmp_path: Path) -> None:
    bench = Bench(found=setting_of("world", tmp_path), reports=tmp_path)
    bench.compute([Cell("dcid", 0, FIRST)])
    bench.compute([Cell("dcid", 0, FIRST)])
    assert len(made.asked) == 2, "the bounds and the cell, once"
    assert set(bench.records()) == {Cell(RAW, 0), Cell("dcid", 0, FIRST)}


def test_fresh_worlds_judge_what_they_can_with_a_value_each(made: Made, tmp_path: Path) -> None:
    report = reported(tmp_path, only=Chosen(orders=["fresh-101", "fresh-103"]))
    assert {cell.name for cell in made.cells} == {
        f"{method}-fresh-{seed}-seed{seed}" for method in ("dcid", "dcid-comet", "dcid-printed") for seed in (101, 103)
    }
    assert {each["verdict"] for each in report["claims"].values()} == {"not measured"}
    fresh = report["fresh"]["claims"]
    assert len(fresh["CO1 (as printed)"]["values"]) == 2 and "CO6 (frozen teacher)" in fresh
    assert "CO3 (frozen teacher)" not in fresh, "of methods that fresh worlds have not"
    text = (tmp_path / "comet-world.md").read_text()
    assert "**Claims on fresh worlds" in text and f"fresh-103: {FIRST} on a world of seed 103" in text


def test_beyond_the_paper_are_another_mediator_and_a_chain_of_six(made: Made, tmp_path: Path) -> None:
    report = reported(tmp_path, only=Chosen(methods=["dcid", "dcid-comet"]), beyond=True)
    assert {cell.order for cell in made.cells} >= {"at-av-it", *CONFIGS}
    assert {folder for folder, _ in made.asked} == {"world", *CONFIGS.values()}
    assert "Averages after every stage, long" in (tmp_path / "comet-world.md").read_text()
    assert set(report["scores"]) >= {"long", "at-av-it", "unialign"}


def test_nothing_is_computed_on_a_world_that_the_check_refuses(made: Made, tmp_path: Path) -> None:
    def refuse(found: Setting) -> None:
        raise ConfigError("not calibrated", fix="Calibrate.")

    with pytest.raises(ConfigError, match="not calibrated"):
        comet_world.run(tmp_path, tmp_path / "runs", refuse)
    with pytest.raises(ConfigError, match=r"there is no method 'comet'.*dcid-comet"):
        comet_world.run(tmp_path, tmp_path / "runs", lambda found: None, only=Chosen(methods=["comet"]))
    with pytest.raises(ConfigError, match=r"there is no order 'typo'.*fresh-101"):
        comet_world.run(tmp_path, tmp_path / "runs", lambda found: None, only=Chosen(orders=["typo"]))
    assert not made.asked


def test_rows_of_the_ablation_end_with_none_and_all_of_comet() -> None:
    assert removed("printed")[0] == "printed-no-replay" and removed("printed")[-2:] == ["dcid", "dcid-printed"]
    report = summary(cells({}, seeds=(0,)))
    assert all(name in report["methods"] for names in report["rows"]["removed"].values() for name in names)
    assert report["main"] == [FIRST, SECOND] and set(report["references"]) == set(report["rows"]["compared"])
