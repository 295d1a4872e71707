"""A reproduction's tables and plot say what its JSON says."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from polysense.report import evidence_markdown, plot_evidence, to_png


def row(mean: float, share: float | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"seeds": [0, 1], "mean": mean, "low": mean - 0.05, "high": mean + 0.05, "values": [mean]}
    return found if share is None else {**found, "share_of_bound": share}


REPORT: dict[str, Any] = {
    "command": "eval/unialign_world.py", "seeds": [0, 1, 2],
    "senses": {
        sense: {
            "bound": row(0.8),
            "test": {"joint": row(0.5, 0.625), "nce": row(0.4, 0.5), "chance": 0.02},
            "compositional": {"joint": row(0.3), "nce": row(0.2), "chance": 0.25},
        }
        for sense in ("depth", "point_cloud")
    },
    "claims": {
        "UA6": {**row(0.02), "measure": "grouping minus global", "values": [0.01, 0.03], "verdict": "reproduced"},
        "UA9": {**row(-0.15), "measure": "with minus without", "values": [-0.1, -0.2], "verdict": "not reproduced"},
        "UA15": {"measure": "FLOPs", "values": [1.0, 1.0], "verdict": "reproduced"},
    },
    "held_to": {
        "range": [0.4, 0.8], "least": 3.0,
        "nce_share": {"depth": {**row(0.5), "verdict": "reproduced"}},
        "times_chance": {"compositional": {"joint": {"depth": {**row(1.2), "verdict": "not reproduced"}}}},
    },
    "by_sense": {"UA6": {"depth": row(0.02), "point_cloud": row(0.04)}},
    "bound_words": {"stills": {"clips": 0.25}, "clips": {"stills": 0.5}},
    "anchor": {"command": "eval/unialign_world.py", "commit": "c0ffee", "parts": "abc"},
}  # fmt: skip


def test_the_tables_have_every_split_and_claim() -> None:
    lines = evidence_markdown(REPORT).splitlines()
    assert "(of all: 3)" in lines[0] and "`eval/unialign_world.py`" in lines[0]
    assert lines[2] == "| sense | split | chance | joint (2) | nce (2) | supervised (2) |"
    assert lines[3].count("---") == 6
    assert lines[4] == (
        "| depth | test | 2.0 | 50.0 [45.0, 55.0] (62 %) | 40.0 [35.0, 45.0] (50 %) | 80.0 [75.0, 85.0] |"
    )
    assert lines[5] == "| depth | compositional | 25.0 | 30.0 [25.0, 35.0] | 20.0 [15.0, 25.0] |  |"
    assert "| UA6 | grouping minus global | 0.020 | -0.030 to 0.070 | 2 | reproduced |" in lines
    assert "| NCE alone, percent of full supervision | test | depth | 50.0 [45.0, 55.0] | 1 | reproduced |" in lines
    assert "| joint, times chance | compositional | depth | 1.2 [1.1, 1.2] | 1 | not reproduced |" in lines
    assert any("40 to 80 % of full supervision" in line and "at least 3 times chance" in line for line in lines)
    assert "| UA15 | FLOPs | 1.000 | exact | - | reproduced |" in lines
    assert "| UA6 | 2.0 [-3.0, 7.0] | 4.0 [-1.0, 9.0] |" in lines
    assert lines[-4:] == [
        "| stills |  | 25 |", "| clips | 50 |  |", "",
        "UA15 and what soft binding binds were measured by `eval/unialign_world.py`, commit `c0ffee`, on the anchor "
        "`abc`.",
    ]  # fmt: skip


def test_what_was_not_measured_has_no_figure_and_no_table() -> None:
    nothing: dict[str, Any] = {"seeds": [], "mean": None, "low": None, "high": None, "values": []}
    one = {"seeds": [0], "mean": 0.5, "low": None, "high": None, "values": [0.5], "share_of_bound": None}
    report = deepcopy(REPORT)
    for entry in report["senses"].values():
        entry["bound"], entry["test"]["joint"] = nothing, one
    report["held_to"]["nce_share"]["depth"] = {**nothing, "verdict": "not measured"}
    report |= {"by_sense": {}, "bound_words": {}, "anchor": {"command": "x", "commit": "c"}}
    report["claims"]["UA6"] = {"measure": "g", "values": [], "verdict": "not measured", "reason": "missing: global"}
    lines = evidence_markdown(report).splitlines()
    assert lines[2] == "| sense | split | chance | joint (1) | nce (2) | supervised (0) |"
    assert lines[4] == "| depth | test | 2.0 | 50.0 | 40.0 [35.0, 45.0] (50 %) | - |"
    assert "| UA6 | g | - | - | - | not measured: missing: global |" in lines
    assert "| NCE alone, percent of full supervision | test | depth | - | 0 | not measured |" in lines
    assert lines[-1] == "UA15 and what soft binding binds were measured by `x`, commit `c`."
    assert not any("Difference in top-1" in line or "soft binding (UA9)" in line for line in lines)
    scores, claims = plot_evidence(report).axes
    assert [list(map(float, line.get_xdata())) for line in scores.lines][:3] == [[2.0, 2.0], [6.0, 6.0], [50.0]]  # type: ignore[arg-type]
    assert [label.get_text() for label in claims.get_yticklabels()] == ["UA9"]


def test_a_report_on_nothing_says_so() -> None:
    report = {**REPORT, "seeds": [], "senses": {}, "by_sense": {}, "bound_words": {}, "anchor": {}}
    text = evidence_markdown(report)
    assert text.startswith("Top-1 in percent") and "| sense | split |" not in text and "measured by" not in text
    assert not plot_evidence(report).axes[0].lines


def test_the_plot_sets_scores_between_chance_and_bound_and_claims_about_zero() -> None:
    figure = plot_evidence(REPORT)
    scores, claims = figure.axes
    drawn = [list(map(float, line.get_xdata())) for line in scores.lines]  # type: ignore[arg-type]
    assert drawn[:3] == [[2.0, 2.0], [6.0, 6.0], [80.0, 80.0]]
    assert drawn[3] == pytest.approx([45.0, 55.0]) and drawn[4] == [50.0]
    assert [text.get_text() for text in scores.texts] == ["depth", "point cloud"]
    names = [label.get_text() for label in claims.get_yticklabels()]
    assert names == ["UA6", "UA9"], "an exact claim has no interval to draw"
    assert claims.texts[1].get_text() == "with minus without: not reproduced"
    assert to_png(figure) == to_png(plot_evidence(REPORT))
