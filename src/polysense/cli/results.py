"""Results as tables on the console."""

from __future__ import annotations

from collections.abc import Sequence

from polysense.cli.console import console
from polysense.report import StageResults, grouped, headlines, result_rows, stage_names, table_cells


def show_results(stages: Sequence[StageResults]) -> None:
    """One table per kind of task, metric and data set: the headline figures of all stages."""
    rows = result_rows(stages)
    names = stage_names(rows, stages)
    for title, group in grouped(headlines(rows)).items():
        head, body = table_cells(group, names)
        console.table(f"{title}, %", head, body)
