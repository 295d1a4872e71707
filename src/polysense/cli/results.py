"""Results as tables on the console."""

from __future__ import annotations

from collections.abc import Sequence

from polysense.cli.console import console
from polysense.report import Row, StageResults, grouped, headlines, result_rows, stage_names
from polysense.report.tables import shown, shown_cell


def show_results(stages: Sequence[StageResults]) -> None:
    """One table per kind of task, metric and data set: the headline figures, narrow enough for a terminal.

    The last stage's stand with their intervals; the report has those of all.
    """
    rows = result_rows(stages)
    names = stage_names(rows, stages)
    head = ["sense", "chance", *(name.removeprefix("stage-") for name in names), "bound", "% of it", "items"]
    for title, group in grouped(headlines(rows)).items():
        console.table(f"{title}, %", head, [_cells(row, names) for row in group])


def _cells(row: Row, stages: Sequence[str]) -> list[str]:
    earlier = (row.cells.get(stage) for stage in stages[:-1])
    return [
        row.modality.replace("_", " "),
        shown(row.chance, row.metric),
        *("-" if cell is None else shown(cell.value, row.metric) for cell in earlier),
        shown_cell(row.cells.get(stages[-1]), row.metric),
        shown(row.upper_bound, row.metric),
        shown(row.share_of_bound, ""),
        "-" if row.count is None else f"{row.count:,}",
    ]
