"""`polysense train` hands everything to the recipe, and reports on what has stages."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from polysense.cli import main
from polysense.cli.train import SYSTEMS
from tests.cli.stand_ins import stand_in
from tests.report.runs import write_run


def test_config_overrides_and_imports_are_handed_over_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished, page = tmp_path / "stages" / "stage-2-depth", tmp_path / "report" / "report.html"
    recipe = stand_in(monkeypatch, "polysense.recipes.unialign.run", finished)
    report = stand_in(monkeypatch, "polysense.report.write_report", page)
    out = str(write_run(tmp_path))
    words = ["train", "unialign", "--config", "world", "seed=1", "--output", out, "--imports", "mine", "a.b=2"]
    assert main(words) == 0
    recipe.assert_called_once_with("world", tmp_path, ["seed=1", "a.b=2"], ["mine"])
    report.assert_called_once_with(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(finished) and lines[-1] == f"report: {page}"
    assert any("60.0 [50.0, 70.0]" in line for line in lines)


def test_a_run_of_mera_goes_on_from_a_stage_and_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched = stand_in(monkeypatch, "polysense.cli.train.fetched", tmp_path / "start")
    recipe = stand_in(monkeypatch, "polysense.recipes.mera.run", tmp_path / "last")
    words = ["--config", "world", "--output", str(tmp_path), "--start", "me/x", "--revision", "stage-2"]
    assert main(["train", "mera", *words]) == 0
    fetched.assert_called_once_with("me/x", "stage-2")
    recipe.assert_called_once_with("world", tmp_path, [], [], start=tmp_path / "start")
    assert main(["train", "unialign", *words]) == 1
    assert "unialign cannot go on from another run's stage" in capsys.readouterr().err
    assert main(["train", "mera", *words[:4], *words[6:]]) == 1
    assert "--revision: there is no checkpoint to take this revision of" in capsys.readouterr().err


def test_a_run_without_stages_has_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, "polysense.recipes.anchors.run", tmp_path / "anchor")
    assert main(["train", "anchors", "--config", "clip", "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'anchor'}\n" and not (tmp_path / "report").exists()


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_is_a_recipe_that_ships_a_config(system: str) -> None:
    assert callable(import_module(f"polysense.recipes.{system}").run)
    assert list((Path(__file__).parents[2] / "training" / system).glob("**/*.yaml"))
