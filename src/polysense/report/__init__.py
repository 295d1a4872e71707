"""What a run came to, for people: table, learning curves, retrieval gallery, and one page with all of it."""

from polysense.report.curves import plot_curves, plot_scores
from polysense.report.evidence import evidence_markdown, plot_evidence
from polysense.report.gains import gains_markdown, plot_gains
from polysense.report.gallery import Found, GalleryRow, Pool, Query, draw_gallery, retrieve
from polysense.report.page import render_page, snippet, write_report
from polysense.report.run import Run, StageResults, read_log, read_run
from polysense.report.senses import draw_sense
from polysense.report.style import to_png
from polysense.report.tables import (
    Cell,
    Row,
    grouped,
    headlines,
    result_rows,
    stage_names,
    table_cells,
    to_html,
    to_json,
    to_markdown,
)

__all__ = [
    "Cell",
    "Found",
    "GalleryRow",
    "Pool",
    "Query",
    "Row",
    "Run",
    "StageResults",
    "draw_gallery",
    "draw_sense",
    "evidence_markdown",
    "gains_markdown",
    "grouped",
    "headlines",
    "plot_curves",
    "plot_evidence",
    "plot_gains",
    "plot_scores",
    "read_log",
    "read_run",
    "render_page",
    "result_rows",
    "retrieve",
    "snippet",
    "stage_names",
    "table_cells",
    "to_html",
    "to_json",
    "to_markdown",
    "to_png",
    "write_report",
]
