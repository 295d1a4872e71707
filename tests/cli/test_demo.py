"""`polysense demo` shows what the demonstration says, line by line and as a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from polysense.cli import main
from polysense.report import StageResults, Table
from tests.cli.stand_ins import stand_in
from tests.hub.stages import metrics_record


def test_lines_and_table_reach_the_user_as_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = stand_in(monkeypatch, "polysense.recipes.demo.run")
    assert main(["demo", str(tmp_path)]) == 0
    output, say, show, config = recipe.call_args.args
    assert (output, config) == (tmp_path, "demo") and capsys.readouterr().out == ""
    say("Stage [1, 2] is done")
    show([StageResults(number=1, name="stage-1-depth", metrics=metrics_record())])
    out = capsys.readouterr().out
    assert out.startswith("Stage [1, 2] is done\n") and "61.3 [58.0, 64.0]" in out


def test_without_a_folder_it_goes_into_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = stand_in(monkeypatch, "polysense.recipes.demo.run")
    assert main(["demo"]) == 0
    assert recipe.call_args.args[0] == Path("runs/demo") and not recipe.call_args.kwargs


def test_the_demonstration_of_mera_has_its_own_recipe_and_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = stand_in(monkeypatch, "polysense.recipes.demo_mera.run")
    assert main(["demo", str(tmp_path), "--system", "mera", "--config", "smollm"]) == 0
    output, say, show, config = recipe.call_args.args
    say("Ask [it] something")
    show([Table("what it answers", ["sense", "answered"], [["audio", "a cup"]])])
    out = capsys.readouterr().out
    assert (output, config) == (tmp_path, "smollm") and out.startswith("Ask [it] something\n") and "a cup" in out


def test_the_demonstration_of_comet_has_its_own_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = stand_in(monkeypatch, "polysense.recipes.demo_comet.run")
    assert main(["demo", str(tmp_path), "--system", "comet"]) == 0
    output, _, _, config = recipe.call_args.args
    assert (output, config) == (tmp_path, "demo")


def test_there_is_no_demonstration_of_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--system", "clip"])
    assert ended.value.code == 2 and "invalid choice: 'clip'" in capsys.readouterr().err
