"""Claims as a table and as a plot."""

from __future__ import annotations

from typing import Any

from polysense.report.claims import claim_lines, draw_claims, draw_interval, drawable
from polysense.report.style import new_figure, styled

CLAIMS: dict[str, dict[str, Any]] = {
    "A": {"measure": "a minus b", "values": [0.1, 0.3], "mean": 0.2, "low": 0.1, "high": 0.3, "verdict": "reproduced"},
    "B": {"measure": "FLOPs", "values": [1.0], "verdict": "reproduced"},
    "C": {"measure": "one seed", "values": [0.5], "mean": 0.5, "low": None, "high": None, "verdict": "undecided"},
    "D": {"measure": "time", "values": [], "verdict": "not measured", "reason": "no checkpoint"},
}


def test_every_kind_of_claim_has_its_line() -> None:
    lines = list(claim_lines(CLAIMS))
    assert {line.count("|") for line in lines} == {7}
    assert lines[2:] == [
        "| A | a minus b | 0.200 | 0.100 to 0.300 | 2 | reproduced |",
        "| B | FLOPs | 1.000 | exact | - | reproduced |",
        "| C | one seed | 0.500 | none | 1 | undecided |",
        "| D | time | - | - | - | not measured: no checkpoint |",
    ]


def test_only_claims_with_an_interval_are_drawn() -> None:
    assert list(drawable(CLAIMS)) == ["A"]
    with styled():
        axes = new_figure(4.0, 3.0).subplots()
        draw_claims(axes, drawable(CLAIMS))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["A"]
    assert axes.texts[0].get_text() == "a minus b: reproduced"


def test_a_mean_without_an_interval_is_a_dot() -> None:
    axes = new_figure(4.0, 3.0).subplots()
    draw_interval(axes, CLAIMS["C"], 0.0, "#000000", 100.0)
    draw_interval(axes, CLAIMS["A"], 1.0, "#000000", 1.0)
    assert [line.get_xydata().shape for line in axes.lines] == [(1, 2), (2, 2), (1, 2)]  # type: ignore[union-attr]
