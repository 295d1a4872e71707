"""What all reproductions do with paired figures, and the files they write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from polysense.recipes.claims import claim, exact_claim, interval, paired, undecided, unmeasured, write_report


def test_differences_are_paired_by_seed_and_seeds_of_one_side_are_left_out() -> None:
    assert paired({0: 0.6, 1: 0.7, 3: 0.9}, {1: 0.5, 0: 0.5, 2: 0.1}) == pytest.approx([0.1, 0.2])
    assert paired({(0, ""): 0.6, (0, "a"): 0.7}, {(0, "a"): 0.5, (1, ""): 0.5}) == pytest.approx([0.2])


def test_an_interval_is_students_and_a_single_value_has_none_and_none_no_mean() -> None:
    assert interval([0.1, -0.1, 0.0]) == {
        "mean": pytest.approx(0.0), "low": pytest.approx(-2.92 * 0.1 / 3**0.5),
        "high": pytest.approx(2.92 * 0.1 / 3**0.5),
    }  # fmt: skip
    assert interval([0.3]) == {"mean": 0.3, "low": None, "high": None}
    assert interval([]) == {"mean": None, "low": None, "high": None}


def test_a_claim_stands_if_its_interval_lies_above_zero() -> None:
    found = {name: claim("x", values)["verdict"] for name, values in
             {"above": [0.2, 0.21], "below": [-0.2, -0.21], "open": [0.1, -0.1], "one": [0.5]}.items()}  # fmt: skip
    assert found == {"above": "reproduced", "below": "not reproduced", "open": "undecided within the spread",
                     "one": "one seed, which decides nothing"}  # fmt: skip


def test_only_methods_of_undecided_claims_get_more_seeds() -> None:
    table = {"A": claim("x", [0.1, -0.1]), "B": claim("x", [0.2, 0.21]), "C": unmeasured("x", "no data"),
             "D": exact_claim("x", [1.0], holds=False)}  # fmt: skip
    compared = {"A": ("one", "two"), "B": ("three",), "C": ("four",), "D": ("five",)}
    assert undecided(table, compared) == ["one", "two"]


def test_a_report_is_three_files_of_one_name(tmp_path: Path) -> None:
    path = write_report(tmp_path / "x.json", {"a": 1}, "# a\n", Figure())
    assert json.loads(path.read_text()) == {"a": 1} and (tmp_path / "x.md").read_text() == "# a\n"
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_report_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path / "x.json", {"a": 1}, "# a\n", Figure())

    def half(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:3])
        raise OSError("no space")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="no space"):
        write_report(tmp_path / "x.json", {"a": 2}, "# b\n", Figure())
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1} and (tmp_path / "x.md").read_text() == "# a\n"


def test_a_figure_that_json_cannot_say_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_report(tmp_path / "x.json", {"a": float("inf")}, "", Figure())
    assert not list(tmp_path.iterdir())
