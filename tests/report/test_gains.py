"""MERA's tables: the paper's own raw scores come out as the paper prints them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from polysense.recipes.mera_gains import gain_summary
from polysense.report import gains_markdown, plot_gains, to_png
from polysense.report.gains import COMPARED, cost_rows, gain_rows, raw_rows, realigning_rows, shared, stage_rows
from tests.metrics.test_gains import PAPER, of_paper

NAMES = dict(zip(COMPARED, PAPER["table_2"], strict=True))
LABELS = {**NAMES, "merging": "Merging", **{f"{name}-realigned": f"{label} + realigning" for name, label in
                                           NAMES.items()}}  # fmt: skip
GAINS: dict[str, dict[str, Any]] = {
    order: {name: gain_summary({(0, ""): of_paper(label, order)}) for name, label in NAMES.items()}
    for order in ("sequential", "reverse")
}
"""What the report makes of Tables 9 and 10."""


def printed(mean: float, deviation: float) -> dict[str, Any]:
    """A row of which the paper gives nothing but mean and deviation, in percent."""
    row = {name: {"mean": value / 100, "low": None, "high": None, "values": [value / 100]} for name, value in
           (("mean", mean), ("deviation", deviation))}  # fmt: skip
    return {"seeds": [0], **row, "backward": [1.0, mean / 100], "forward": [1.0, 1.0]}


def with_ablation() -> dict[str, dict[str, Any]]:
    """With the rows of Table 4 that Tables 9 and 10 do not have."""
    rows = {"merging": PAPER["table_4"]["+Merging"], "fine-tuning-realigned": PAPER["table_4"]["+Realigning"]}
    return {
        order: {**GAINS[order], **{name: printed(*values[2 * i : 2 * i + 2]) for name, values in rows.items()}}
        for i, order in enumerate(("sequential", "reverse"))
    }


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_tables_9_and_10_print_table_2() -> None:
    lines = list(gain_rows(GAINS, COMPARED, LABELS))
    assert cells_of(lines[0]) == ["method", "sequential mean", "sequential std", "reverse mean", "reverse std"]
    found = {cells_of(line)[0]: [float(each) for each in cells_of(line)[1:]] for line in lines[2:]}
    assert found == {f"{name} (1)": values for name, values in PAPER["table_2"].items()}


def test_table_4_is_printed() -> None:
    rows = ("fine-tuning", "merging", "fine-tuning-realigned", "mera-10")
    lines = list(gain_rows(with_ablation(), rows, LABELS))[2:]
    found = [[float(each) for each in cells_of(line)[1:]] for line in lines]
    assert found == [PAPER["table_4"][name] for name in ("Fine-Tuning", "+Merging", "+Realigning", "MERA")]


def test_table_5_is_printed_but_for_the_last_decimal_of_differences() -> None:
    """The paper subtracts before it rounds, and prints no runs of realigned rivals."""
    lines = [cells_of(line) for line in realigning_rows(with_ablation(), LABELS)][2:]
    assert [line[0] for line in lines] == ["Fine-Tuning (1)", "+ realigning", "Merging (1)", "+ realigning"]
    for name, (own, added) in zip(("Fine-Tuning", "Merging"), (lines[:2], lines[2:]), strict=True):
        before, more = PAPER["table_5"][name]
        assert [float(each) for each in own[1:]] == before
        assert [float(each) for each in added[1:]] == pytest.approx(more, abs=0.011)
    assert lines[1][1] == "+28.16" and lines[1][2].startswith("-14.8")


def test_raw_scores_are_printed_as_in_table_9() -> None:
    order = PAPER["order"]["sequential"]

    def scored(values: list[float]) -> Mapping[str, Mapping[str, float]]:
        return {sense: {"captioning": values[2 * i] / 100, "question answering": values[2 * i + 1]}
                for i, sense in enumerate(order[: len(values) // 2])}  # fmt: skip

    runs = {name: [scored(row) for row in PAPER["raw"]["sequential"][label]] for name, label in NAMES.items()}
    experts = scored([value for sense in order for value in PAPER["experts"][sense]])
    lines = [cells_of(line) for line in raw_rows(order, experts, runs, LABELS)]
    assert lines[0][:3] == ["method", "image cap", "image QA"] and lines[0][-1] == "point cloud QA"
    assert lines[2] == ["experts", "100.76", "0.358", "138.39", "0.460", "60.14", "0.658", "99.93", "0.568"]
    assert lines[4] == ["Fine-Tuning, stage 2", "54.52", "0.172", "130.22", "0.555", "-", "-", "-", "-"]
    assert len(lines) == 2 + 1 + 7 * 4


def test_forward_gains_are_printed_by_stage() -> None:
    lines = [cells_of(line) for line in stage_rows(GAINS["sequential"], LABELS, "forward")]
    mera = next(line for line in lines if line[0] == "MERA (10%)")
    assert [round(float(each), 1) for each in mera[1:]] == [100.0, 117.9, 103.1, 85.0]


def test_intervals_stand_in_brackets_and_costs_are_multiples() -> None:
    row = {"seeds": [0, 1], "mean": {"mean": 0.5, "low": 0.4, "high": 0.6}, "deviation": {"mean": 0.1}}
    (line,) = list(gain_rows({"sequential": {"ewc": row}}, ["ewc", "mera-1"], LABELS))[2:]
    assert cells_of(line) == ["EWC (2)", "50.00 [40.00, 60.00]", "10.00", "-", "-"]
    costs = list(cost_rows({"ewc": {"time": 1.254, "memory": None}}, LABELS))
    assert cells_of(costs[0]) == ["method", "time", "memory"] and cells_of(costs[2]) == ["EWC", "1.25", "-"]


def test_what_is_compared_is_compared_over_common_seeds_alone() -> None:
    """Realigning adds 10 points to seed 1, whatever seed 0 without it has."""

    def of(**means: float) -> dict[str, Any]:
        values = list(means.values())
        return {"seeds": list(means), "mean": {"mean": sum(values) / len(values), "values": values},
                "deviation": {"mean": 0.1, "values": [0.1] * len(values)}}  # fmt: skip

    gains = {"sequential": {"merging": of(a=0.2, b=0.6), "mera-10": of(b=0.7)}, "reverse": {"merging": of(a=0.5)}}
    own, added = ([cells_of(line) for line in realigning_rows(gains, LABELS)])[2:]
    assert own == ["Merging (1)", "60.00", "10.00", "-", "-"]
    assert added == ["+ realigning", "+10.00", "+0.00", "-", "-"]
    assert shared(gains, ["merging", "mera-10"])["sequential"]["merging"]["mean"]["mean"] == 0.6
    assert shared(gains, ["merging"])["reverse"]["merging"]["seeds"] == ["a"]
    assert "sequential" not in shared({"sequential": {"merging": of(a=1.0), "mera-10": of(b=1.0)}},
                                      ["merging", "mera-10"])  # fmt: skip


def report(**changed: Any) -> dict[str, Any]:
    claim = {"measure": "MERA minus best", "values": [0.1, 0.2], "mean": 0.15, "low": 0.1, "high": 0.2,
             "verdict": "reproduced"}  # fmt: skip
    made = {
        "command": "mera_world.py", "seeds": [0, 1, 2], "orders": PAPER["order"], "methods": LABELS,
        "raw": {"sequential": {"seeds": [0, 1], "experts": {}, "methods": {}}},
        "gains": GAINS, "cost": {},
        "claims": {"ME2": claim, "ME18 (PathWeave)": claim},
        "language_model_unchanged": True, "encoders": dict.fromkeys(PAPER["experts"], "unialign:world"),
    }  # fmt: skip
    return json.loads(json.dumps({**made, **changed}))  # type: ignore[no-any-return]


def test_the_report_says_what_it_rests_on_and_has_every_table() -> None:
    text = gains_markdown(report())
    assert "(of all: 3)" in text and "`mera_world.py`" in text and "reverse: image unialign:world, video" in text
    assert "(seeds: 0, 1)" in text
    assert "bit for bit as it was" in text and "CHANGED" in gains_markdown(report(language_model_unchanged=False))
    for title in ("(Table 2)", "(Table 4)", "(Table 5)", "(Table 3)", "Forward gain by stage, reverse", "| ME2 |"):
        assert title in text
    assert "Further variants" not in text
    more = {order: {**rows, "mera-10-ties": rows["mera-10"]} for order, rows in GAINS.items()}
    assert "Further variants" in gains_markdown(report(gains=more, methods={**LABELS, "mera-10-ties": "TIES"}))


def test_the_figures_are_the_means_of_both_orders() -> None:
    figure = plot_gains(report())
    backward, forward, claims = figure.axes
    drawn = {line.get_color(): list(map(float, line.get_ydata())) for line in backward.lines[1:]}  # type: ignore[arg-type]
    assert len(drawn) == len(forward.lines) - 1 == 7
    ends = [values[-1] for values in drawn.values()]
    assert round(max(ends), 2) == 99.84, "the paper's headline"
    assert {values[0] for values in drawn.values()} == {100.0}
    assert [label.get_text() for label in claims.get_yticklabels()] == ["ME2"], "costs have no place beside gains"
    assert to_png(figure) == to_png(plot_gains(report()))
