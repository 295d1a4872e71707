"""`polysense push` publishes a stage or a run; `polysense card` shows what its page will say."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from polysense.cli import main
from tests.cli.stand_ins import stand_in
from tests.hub.stages import stage_record
from tests.models.mera.saved import write_mera
from tests.report.runs import write_run


def test_push_publishes_a_stage_or_a_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = SimpleNamespace(commit_url="https://hub/me/x/commit/1")
    stage = stand_in(monkeypatch, "polysense.hub.push_stage", commit)
    run = stand_in(monkeypatch, "polysense.hub.push_run", [commit, commit])
    one = write_run(tmp_path) / "stages" / "stage-2-depth"
    assert main(["push", str(one), "me/x", "--tag", "v2", "--private"]) == 0
    stage.assert_called_once_with(one, "me/x", tag="v2", private=True)
    run.assert_not_called()
    assert main(["push", str(tmp_path), "me/x"]) == 0
    run.assert_called_once_with(tmp_path, "me/x", private=False)
    assert capsys.readouterr().out == f"{commit.commit_url}\n" * 3


def test_push_refuses_one_tag_for_many_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(write_run(tmp_path)), "me/x", "--tag", "v1"]) == 1
    assert "one tag cannot name them all" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["push", "{}", "me/x"], ["card", "{}"]])
def test_a_model_that_is_no_stage_is_told_what_to_do(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mera(tmp_path)
    assert main([word.format(tmp_path) for word in words]) == 1
    told = capsys.readouterr().err
    assert f"{tmp_path}: this is no folder of a stage, which has a stage.json. Give one that a recipe wrote" in told


def test_the_card_goes_to_a_file_or_to_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stage.json").write_text(json.dumps(stage_record()))
    assert main(["card", str(tmp_path), "-o", str(tmp_path / "card.md")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'card.md'}\n"
    assert main(["card", str(tmp_path)]) == 0
    assert capsys.readouterr().out.rstrip("\n") == (tmp_path / "card.md").read_text().rstrip("\n")


def test_a_place_where_no_card_can_be_written_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stage.json").write_text(json.dumps(stage_record()))
    assert main(["card", str(tmp_path), "-o", "/proc/nope/card.md"]) == 1
    assert "card.md: it cannot be written (No such file or directory)" in capsys.readouterr().err
