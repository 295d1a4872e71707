"""What a run came to, for people: table, learning curves, retrieval gallery, and one page with all of it."""

from polysense.report.answers import Told, draw_answers
from polysense.report.codes import activation_rows, plot_activation, plot_code_map
from polysense.report.curves import plot_curves, plot_scores
from polysense.report.evidence import evidence_markdown, plot_evidence
from polysense.report.gains import gains_markdown, plot_gains
from polysense.report.gallery import Found, GalleryRow, Pool, Query, draw_gallery, retrieve
from polysense.report.page import render_page, write_report
from polysense.report.retention import Retention, Table, final_stage, method_name, plot_retention, retention_tables
from polysense.report.run import Run, StageResults, read_log, read_run, stage_title
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
from polysense.report.transfer import plot_transfer, transfer_markdown
from polysense.report.usage import chat_line, codes_line, snippet, usage

__all__ = [
    "Cell",
    "Found",
    "GalleryRow",
    "Pool",
    "Query",
    "Retention",
    "Row",
    "Run",
    "StageResults",
    "Table",
    "Told",
    "activation_rows",
    "chat_line",
    "codes_line",
    "draw_answers",
    "draw_gallery",
    "draw_sense",
    "evidence_markdown",
    "final_stage",
    "gains_markdown",
    "grouped",
    "headlines",
    "method_name",
    "plot_activation",
    "plot_code_map",
    "plot_curves",
    "plot_evidence",
    "plot_gains",
    "plot_retention",
    "plot_scores",
    "plot_transfer",
    "read_log",
    "read_run",
    "render_page",
    "result_rows",
    "retention_tables",
    "retrieve",
    "snippet",
    "stage_names",
    "stage_title",
    "table_cells",
    "to_html",
    "to_json",
    "to_markdown",
    "to_png",
    "transfer_markdown",
    "usage",
    "write_report",
]
