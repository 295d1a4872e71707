"""COMET's tables: what stands in them, what is left out, and how one figure is printed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polysense.recipes.cells import Cell
from polysense.recipes.comet_variants import FIRST, SECOND
from polysense.recipes.comet_world import summary
from polysense.report import plot_transfer, to_png, transfer_markdown
from polysense.report.transfer import code_rows, expert_rows, figure_rows, reference_rows
from tests.recipes.comet_cells import cells, raw, run


def made(records: Any) -> dict[str, Any]:
    """As it comes back from its file."""
    return dict(json.loads(json.dumps(summary(records))))


def lines_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


WHOLE = made(cells({"dcid": 0.2, "dcid-comet": 0.5}, seeds=(0, 1)))


def test_a_table_has_single_figures_and_an_average_for_every_stage() -> None:
    rows = [(FIRST, "dcid"), (SECOND, "dcid-comet"), (FIRST, "no such")]
    head, _, *body = lines_of(figure_rows(WHOLE, "Table 4", "I-T", rows, (3,)))
    assert head == ["method", "3: T → I R@1", "3: T → I R@5", "3: T → I R@10", "3: I → T R@1", "3: I → T R@5",
                    "3: I → T R@10", "3: Avg."]  # fmt: skip
    assert body == [
        ["DCID (2)", *["20.0"] * 6, "20.0 [20.0, 20.0]"],
        ["DCID + COMET (2) †", *["50.0"] * 6, "50.0 [50.0, 50.0]"],
    ]
    assert figure_rows(WHOLE, "Table 4", "I-T", rows, (1,)) == "", "no pictures in the first stage"


def test_a_single_seed_has_no_interval() -> None:
    one = made({Cell("dcid", 0, FIRST): run(FIRST, 0.25)})
    *_, row = lines_of(figure_rows(one, "Table 2", "V-T", [(FIRST, "dcid")], (1, 2)))
    assert row == ["DCID (1)", *["25.0"] * 14]


def test_what_parts_are_for_is_told_on_the_seeds_that_all_rows_have() -> None:
    records = cells({"dcid-comet": 0.5}, seeds=(0,))
    more = {Cell("dcid-comet", seed, FIRST): run(FIRST, 0.9) for seed in (1, 2)}
    report = made({**records, **more})
    text = transfer_markdown(report)
    table = text.partition("**Each part removed, frozen teacher (Table 8)**")[2].partition("**")[0]
    assert "| DCID + COMET (1) | 50.0 |" in table and "| COMET - EWC (1) | 30.0 |" in table
    frozen = next(row for row in lines_of(expert_rows(report)) if row[0] == "frozen teacher, stage 2")
    assert frozen[4] == "50.0", "and so are numbers of experts"
    first = text.partition("(Table 7)**")[2].partition("**")[0]
    assert "| DCID + COMET (3) | 76.7 |" in first


def test_experts_and_codes_are_those_of_figures_2_and_3() -> None:
    head, _, *body = lines_of(expert_rows(WHOLE))
    assert head == ["method", "1", "2", "4", "6", "8"] and body[0][0] == "frozen teacher, stage 2"
    frozen = next(row for row in body if row[0] == "frozen teacher, stage 3")
    assert frozen[4].startswith("50.0") and frozen[1].startswith("30.0"), "six are COMET itself"
    *_, last = (row for row in lines_of(code_rows(WHOLE)) if row[0] == "DCID (2), stage 2")
    assert [text.split()[0] for text in last[1:]] == ["10.0", "20.0", "30.0", "40.0", "2.0", "15.0", "40.0"]


def test_bounds_and_chance_stand_beside_table_1() -> None:
    one = made({Cell("raw", 0): raw(), Cell("dcid", 0, FIRST): run(FIRST, 0.25)})
    chance, codes, sequences = lines_of(reference_rows(one))[2:]
    assert chance[:3] == ["DCID", "chance", "10.0"] and codes[1:3] == ["bound on codes", "90.0"]
    assert sequences[1:4] == ["bound on raw sequences", "95.0", "-"]


def test_the_whole_report_names_every_table_and_its_orders() -> None:
    text = transfer_markdown(WHOLE)
    for number in (1, 2, 3, 4, 5, 6, 7, 8):
        assert f"Table {number})" in text
    assert f"{FIRST}: video-text, audio-text, image-text" in text and "above chance that is kept to the end" in text
    assert "| CO1 (as printed) |" in text and f"`{WHOLE['command']}`" in text


def test_what_was_not_run_is_left_out() -> None:
    text = transfer_markdown(made({}))
    assert "Table 1" not in text.partition("**Claims**")[0] and "not measured" in text
    assert to_png(plot_transfer(made({}))).startswith(b"\x89PNG")


def test_the_figures_show_memory_experts_and_codes() -> None:
    figure = plot_transfer(WHOLE)
    memory, experts, codes, claims = figure.axes
    places = {text.get_text(): text.xy for text in memory.texts}  # type: ignore[attr-defined]
    assert places["DCID"] == pytest.approx((20.0, 100.0)) and places["DCID + COMET"] == pytest.approx((50.0, 100.0))
    assert [line.get_label() for line in experts.lines][:2] == ["frozen teacher, stage 2", "frozen teacher, stage 3"]
    assert len(codes.get_yticklabels()) == 9 and len(codes.patches) == 4 * 9
    assert claims.get_yticklabels()[0].get_text() == "CO1 (as printed)"
    assert to_png(figure) == to_png(plot_transfer(WHOLE))
