"""Results as tables on the console."""

from __future__ import annotations

from collections.abc import Sequence

from polysense.cli.console import console
from polysense.report import (
    Row,
    Run,
    StageResults,
    Table,
    grouped,
    headlines,
    result_rows,
    retention_tables,
    stage_names,
    stage_title,
)
from polysense.report.tables import are_bounded, shown, shown_cell, unit


def show_run(run: Run) -> None:
    """The tables of a run: of MERA what its stages still know, otherwise what its stages score."""
    if tables := retention_tables(run):
        show_tables(tables)
    else:
        show_results(run.stages)


def show_tables(tables: Sequence[Table]) -> None:
    """Tables as they are."""
    for table in tables:
        console.table(table.title, table.head, table.rows, left=table.left)


def show_results(stages: Sequence[StageResults]) -> None:
    """One table per kind of task, metric and data set: the headline figures, narrow enough for a terminal.

    The last stage's stand with their intervals; the report has those of all.
    """
    rows = result_rows(stages)
    names = stage_names(rows, stages)
    bounded = are_bounded(rows)
    titles = [stage_title(name).removeprefix("stage-") for name in names]
    head = ["sense", "chance", *titles, *(["bound", "% of it"] * bounded), "items"]
    for title, group in grouped(headlines(rows)).items():
        cells = [_cells(row, names, bounded=bounded) for row in group]
        console.table(f"{title}, {unit(group[0].metric)}".removesuffix(", "), head, cells)


def _cells(row: Row, stages: Sequence[str], *, bounded: bool) -> list[str]:
    earlier = (row.cells.get(stage) for stage in stages[:-1])
    return [
        row.modality.replace("_", " "),
        shown(row.chance, row.metric),
        *("-" if cell is None else shown(cell.value, row.metric) for cell in earlier),
        shown_cell(row.cells.get(stages[-1]), row.metric),
        *([shown(row.upper_bound, row.metric), shown(row.share_of_bound, "")] * bounded),
        "-" if row.count is None else f"{row.count:,}",
    ]
