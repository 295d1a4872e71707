"""The arguments that all scripts of reproductions have in common."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from polysense.recipes.arguments import chosen_cells, names, numbers, reproduction_parser
from polysense.recipes.cells import Cell, Chosen

ROOT = Path(__file__).parents[2]


def test_without_arguments_all_cells_may_be_computed() -> None:
    given = reproduction_parser("what it does").parse_args([])
    assert given.output == Path("runs/evidence") and chosen_cells(given) == Chosen()


def test_methods_and_seeds_are_lists_and_an_empty_one_computes_nothing() -> None:
    parser = reproduction_parser(None)
    given = parser.parse_args(["runs/x", "--methods", "joint, nce,", "--seeds", "0,3"])
    assert given.output == Path("runs/x") and chosen_cells(given) == Chosen(methods=["joint", "nce"], seeds=[0, 3])
    assert chosen_cells(parser.parse_args(["--methods", ""])) == Chosen(methods=[])
    assert names("") == [] and numbers("") == []


def test_orders_are_asked_for_where_a_script_has_any(capsys: pytest.CaptureFixture[str]) -> None:
    parser = reproduction_parser(None, orders=["vt-at", "at-vt"])
    allowed = chosen_cells(parser.parse_args(["--orders", "at-vt"]))
    assert Cell("dcid", 0, "at-vt") in allowed and Cell("dcid", 0, "vt-at") not in allowed
    with pytest.raises(SystemExit):
        parser.parse_args(["--orders", "vt-at,at"])
    assert "there is no order 'at'; known: vt-at, at-vt" in capsys.readouterr().err


def test_a_seed_that_is_no_number_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        reproduction_parser(None).parse_args(["--seeds", "0,first"])
    assert "argument --seeds: invalid numbers value: '0,first'" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["unialign_world", "mera_world", "comet_world"])
def test_every_script_reads_them_by_itself(script: str) -> None:
    path = str(ROOT / "eval" / f"{script}.py")
    told = subprocess.run([sys.executable, path, "--help"], check=True, capture_output=True, text=True).stdout
    assert "--methods A,B" in told and "--seeds 0,1" in told and "runs/evidence" in told
