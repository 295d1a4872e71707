"""`polysense extend` is `polysense train mera --start`, and says what cannot be extended."""

from __future__ import annotations

from pathlib import Path

import pytest

from polysense.cli import main
from polysense.testing import tiny_llama
from tests.cli.stand_ins import stand_in
from tests.models.mera.saved import write_mera


def test_stage_config_overrides_and_imports_are_handed_over_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched = stand_in(monkeypatch, "polysense.cli.train.fetched", tmp_path / "start")
    recipe = stand_in(monkeypatch, "polysense.recipes.mera.run", tmp_path / "last")
    words = ["extend", "me/x", "--config", "world", "stages=[audio]", "-o", str(tmp_path), "--imports", "mine",
             "seed=1", "--revision", "stage-2"]  # fmt: skip
    assert main(words) == 0
    fetched.assert_called_once_with("me/x", "stage-2")
    recipe.assert_called_once_with("world", tmp_path, ["stages=[audio]", "seed=1"], ["mine"], start=tmp_path / "start")
    assert capsys.readouterr().out == f"{tmp_path / 'last'}\n"


def test_what_cannot_be_extended_is_one_error_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_llama().save_pretrained(tmp_path / "llama")
    write_mera(tmp_path / "mera")
    out = tmp_path / "out"
    cases = {
        "llama": "of type 'llama', not of MERA",
        "mera": "mera has learned image already. Take out what it has: image.",
        "nowhere/at/all": "nowhere/at/all: there is no such folder",
    }
    for name, reason in cases.items():
        words = ["extend", str(tmp_path / name), "--config", "world", "-o", str(out), "world=null",
                 f"data_root={tmp_path}"]  # fmt: skip
        assert main(words) == 1
        captured = capsys.readouterr()
        assert reason in captured.err and captured.err.count("polysense: ") == 1 and not out.exists()
