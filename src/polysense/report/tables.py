"""The table of a run: one line per task and sense, one column per stage, beside chance and the upper bound."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from polysense.hub.records import distinct
from polysense.report.run import StageResults, stage_title

RANKS = ("median_rank", "mean_rank")
"""Metrics that are shown as they are; all others are shown times 100."""
_UNBOUNDED = ("CIDEr",)  # how metrics begin that may exceed 1


def is_share(metric: str) -> bool:
    """Whether a metric lies between 0 and 1, so that it is a percentage and can be drawn as a bar."""
    return metric not in RANKS and not metric.startswith(_UNBOUNDED)


def unit(metric: str) -> str:
    """What figures of a metric are shown in: percent, hundredths (CIDEr-D, as papers print it), or nothing."""
    return "%" if is_share(metric) else "" if metric in RANKS else "x 100"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A measurement at one stage; the interval may be unknown."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One task on one sense, over the stages that were measured.

    Attributes:
        cells: name of the stage to what was measured.
        chance: what guessing scores.
        upper_bound: what a supervised model of the same size scores.
        count: items measured.
    """

    task: str
    modality: str
    dataset: str
    metric: str
    cells: Mapping[str, Cell]
    chance: float | None = None
    upper_bound: float | None = None
    count: int | None = None

    @property
    def last(self) -> Cell:
        """The measurement at the last stage."""
        return list(self.cells.values())[-1]

    @property
    def share_of_bound(self) -> float | None:
        """The last value divided by the upper bound."""
        return self.last.value / self.upper_bound if self.upper_bound else None


def result_rows(stages: Sequence[StageResults]) -> list[Row]:
    """Rows of all results of `stages`: kinds of task together, then senses, in order of appearance."""
    found: dict[tuple[str, str, str, str], dict[str, Mapping[str, Any]]] = {}
    for stage in stages:
        for result in distinct(stage.results):
            key = (result["task"], result["metric"], result["modality"], result["dataset"])
            found.setdefault(key, {})[stage.name] = result
    kinds = list(dict.fromkeys(task_kind(task, modality) for task, _, modality, _ in found))
    rows = []
    for key in sorted(found, key=lambda key: kinds.index(task_kind(key[0], key[2]))):
        by_stage, (task, metric, modality, dataset) = found[key], key
        newest = list(by_stage.values())[-1]
        cells = {name: Cell(value=r["value"], low=r.get("low"), high=r.get("high")) for name, r in by_stage.items()}
        rows.append(Row(
            task=task, modality=modality, dataset=dataset, metric=metric, cells=cells, chance=newest.get("chance"),
            upper_bound=newest.get("upper_bound"), count=newest.get("count"),
        ))  # fmt: skip
    return rows


def task_kind(task: str, modality: str) -> str:
    """The task without the name of its sense, so that one task on several senses has one name."""
    return task.replace(modality, "sense")


def headlines(rows: Sequence[Row]) -> list[Row]:
    """The first metric of every task, sense and data set: top-1 before top-5, R@1 before R@5."""
    first: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        first.setdefault((row.task, row.modality, row.dataset), row)
    return list(first.values())


def stage_names(rows: Sequence[Row], stages: Sequence[StageResults]) -> list[str]:
    """Names of the stages that have at least one measurement, in order."""
    return [stage.name for stage in stages if any(stage.name in row.cells for row in rows)]


def shown(value: float | None, metric: str) -> str:
    """A value as text: percent for shares, a dash for what is not known."""
    if value is None:
        return "-"
    return f"{value:.1f}" if metric in RANKS else f"{100 * value:.1f}"


def shown_cell(cell: Cell | None, metric: str) -> str:
    """A measurement with its interval as text."""
    if cell is None:
        return "-"
    known = cell.low is not None and cell.high is not None
    interval = f" [{shown(cell.low, metric)}, {shown(cell.high, metric)}]" if known else ""
    return shown(cell.value, metric) + interval


def grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by kind of task, metric and data set, so that a group compares senses.

    A data set that is called after its sense, as each sense of a group then has its own, is not named.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        place = "" if row.dataset == row.modality else f" on {row.dataset}"
        groups.setdefault(f"{task_kind(row.task, row.modality)}, {row.metric}{place}", []).append(row)
    return groups


def table_cells(
    rows: Sequence[Row], stages: Sequence[str], *, bounded: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Header and body of one group's table as text, without the columns of upper bounds if `bounded` is false."""
    head = ["sense", "chance", *map(stage_title, stages), *(["upper bound", "share of the bound"] * bounded), "items"]
    body = [
        [
            row.modality.replace("_", " "), shown(row.chance, row.metric),
            *(shown_cell(row.cells.get(stage), row.metric) for stage in stages),
            *([shown(row.upper_bound, row.metric), shown(row.share_of_bound, "")] * bounded),
            "-" if row.count is None else f"{row.count:,}",
        ]
        for row in rows
    ]  # fmt: skip
    return head, body


def are_bounded(rows: Sequence[Row]) -> bool:
    """Whether any row has an upper bound."""
    return any(row.upper_bound is not None for row in rows)


def to_markdown(rows: Sequence[Row], stages: Sequence[str]) -> str:
    """One table per group in Markdown, and a line that says how to read them."""
    parts, bounded = [], are_bounded(rows)
    for title, group in grouped(rows).items():
        head, body = table_cells(group, stages, bounded=bounded)
        parts.append(markdown_table(title, head, body))
    return "\n\n".join([*parts, LEGEND]) + "\n"


def markdown_table(title: str, head: Sequence[str], body: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table in Markdown whose first `left` columns are text and whose others are figures."""
    lines = [head, ["---"] * left + ["---:"] * (len(head) - left), *body]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"**{title}**\n\n{table}"


def to_html(rows: Sequence[Row], stages: Sequence[str]) -> str:
    """One table in HTML with a headed part per group; every share also as a bar, with a mark where chance is."""
    bounded = are_bounded(rows)
    head, _ = table_cells([], stages, bounded=bounded)
    lines = ["<table><thead><tr>", *(f"<th>{html.escape(name)}</th>" for name in head), "</tr></thead>"]
    for title, group in grouped(rows).items():
        lines.append(f"<tbody><tr><th class=group colspan={len(head)}>{html.escape(title)}</th></tr>")
        for row, texts in zip(group, table_cells(group, stages, bounded=bounded)[1], strict=True):
            cells = [None, None, *map(row.cells.get, stages), *([None] * (3 if bounded else 1))]
            lines += ["<tr>", *(_html_cell(*each, row) for each in zip(texts, cells, strict=True)), "</tr>"]
        lines.append("</tbody>")
    return "".join([*lines, "</table>"])


def to_json(rows: Sequence[Row]) -> str:
    """The rows as JSON, with the share of the bound."""
    return json.dumps([{**asdict(row), "share_of_bound": row.share_of_bound} for row in rows], indent=1) + "\n"


def _html_cell(text: str, cell: Cell | None, row: Row) -> str:
    if cell is None:
        return f"<td>{html.escape(text)}</td>"
    value, _, interval = text.partition(" ")
    inner = f"<b>{html.escape(value)}</b> <small>{html.escape(interval)}</small>"
    if not is_share(row.metric):
        return f"<td>{inner}</td>"
    chance = "" if row.chance is None else f"<i style='left:{100 * row.chance:.1f}%'></i>"
    return f"<td>{inner}<span class=bar><span style='width:{100 * cell.value:.1f}%'></span>{chance}</span></td>"


LEGEND = (
    "Shares in percent, intervals in brackets. *Chance*: what guessing scores. *Upper bound*: a model of the same "
    "size trained with labels for that sense alone. *Share of the bound*: the last stage's value divided by it."
)
