"""Figures of a run's course and outcome: learning curves from its log, scores from its results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from polysense.report.run import LogLine, stage_title
from polysense.report.style import FAINT, INK, SOFT, TINT, colour_of, label_ends, new_figure, stage_colours, styled
from polysense.report.tables import Row, grouped, headlines, is_share

Series = dict[str, list[tuple[float, float]]]

_COLUMNS = 3  # panels side by side
_PANELS = 6  # of scores; the table has the rest
_WIDTH = 4.1  # inches of a panel
_LOWEST = 1.7  # inches of a line of scores, for its title, axis and legend


def plot_curves(log: Sequence[LogLine], titles: Mapping[str, str] | None = None) -> Figure | None:
    """Losses, one panel per stage, and beneath them what was validated, over all stages; `None` for an empty log.

    Args:
        titles: stage to what stands above its panel, where that is not its name.
    """
    training = _series_by_stage(log, "train", _losses)
    validated = _series_by_stage(log, "evaluate", lambda line: dict(_numbers(line.get("metrics"))))
    validation = {
        f"{stage} {phase}".strip(): series for stage, phases in validated.items() for phase, series in phases.items()
    }
    if not training and not validation:
        return None
    columns = max(2, min(_COLUMNS, len(training)))
    lines = math.ceil(len(training) / columns)
    heights = [2.5] * lines + [3.0] * bool(validation)
    with styled():
        figure = new_figure(_WIDTH * columns, sum(heights))
        grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
        for index, (stage, phases) in enumerate(training.items()):
            axes = figure.add_subplot(grid[index // columns, index % columns])
            _plot_losses(axes, phases, (titles or {}).get(stage, stage_title(stage)) or "training")
        if validation:
            _plot_validation(figure.add_subplot(grid[-1, :]), validation)
    return figure


def plot_scores(rows: Sequence[Row], stages: Sequence[str]) -> Figure | None:
    """The headline score of every task and sense over the stages, between chance and upper bound.

    One panel per kind of task and data set, the first six; intervals as bars.
    """
    groups = dict(list(grouped([row for row in headlines(rows) if is_share(row.metric)]).items())[:_PANELS])
    if not groups:
        return None
    columns = min(2, len(groups))
    lines = math.ceil(len(groups) / columns)
    tallest = max(len(group) for group in groups.values())
    with styled():
        height = max(_LOWEST, 0.85 + tallest * (0.2 + 0.07 * len(stages)))
        figure = new_figure(6.0 * columns, lines * height)
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes, (title, group) in zip(grid.flat, groups.items(), strict=False):
            _plot_group(axes, group, stages)
            axes.set_title(title)
        for axes in list(grid.flat)[len(groups) :]:
            axes.set_visible(False)
        handles, labels = grid.flat[0].get_legend_handles_labels()
        labels = [_words(label) for label in labels]
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _plot_losses(axes: Axes, phases: Mapping[str, Series], title: str) -> None:
    """The losses of a stage; those of its phases, where it has several, side by side."""
    axes.set(title=_words(title), xlabel="optimiser steps", ylabel="loss")
    axes.margins(x=0)
    start, ends = 0.0, list[tuple[float, float, str, str]]()
    for index, (phase, series) in enumerate(phases.items()):
        ends = _plot_phase(axes, series, start)
        end = max(x for x, *_ in ends)
        if len(phases) > 1:
            _mark_span(axes, start, end, phase, shaded=bool(index % 2))
        start = end
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    label_ends(axes, ends, gap=0.075)


def _plot_phase(axes: Axes, series: Series, start: float) -> list[tuple[float, float, str, str]]:
    """Draw the losses of one training, and return where their lines end: x, y, name, colour."""
    senses = {_sense_in(name) for name in series} - {"loss"}
    ends = []
    for name, points in series.items():
        steps, values = (np.array(column, dtype=float) for column in zip(*points, strict=True))
        steps, total = steps + start, name == "loss"
        colour, label = (INK, "total") if total else (colour_of(_sense_in(name)), _label(name, senses))
        axes.plot(steps, values, color=colour, alpha=0.2, linewidth=0.8)
        smooth = _smoothed(values)
        axes.plot(steps, smooth, color=colour, linewidth=1.8 if total else 1.3, linestyle=_dashes(name, series))
        ends.append((float(steps[-1]), float(smooth[-1]), label, colour))
    return ends


def _mark_span(axes: Axes, start: float, end: float, name: str, *, shaded: bool) -> None:
    """Write a name at the foot of a part of the horizontal axis, and shade every second one."""
    if shaded:
        axes.axvspan(start, end, color=TINT, linewidth=0)
    axes.text((start + end) / 2, 0.02, _words(name), transform=axes.get_xaxis_transform(), ha="center", fontsize=7.5,
              color=SOFT)  # fmt: skip


def _plot_validation(axes: Axes, stages: Mapping[str, Series]) -> None:
    """Every validated quantity from stage to stage, so that what an old sense keeps can be seen."""
    axes.set(title="validation, all stages", xlabel="optimiser steps of all stages", ylabel="%")
    joined: Series = {}
    start = 0.0
    for index, (stage, series) in enumerate(stages.items()):
        for name, points in series.items():
            joined.setdefault(name, []).extend((start + step, value) for step, value in points)
        end = start + max(step for points in series.values() for step, _ in points)
        _mark_span(axes, start, end, stage, shaded=bool(index % 2))
        start = end
    axes.set_xlim(0, start)
    ends = []
    for name, points in joined.items():
        steps, values = (np.array(column, dtype=float) for column in zip(*points, strict=True))
        colour = colour_of(_sense_in(name))
        axes.plot(steps, 100 * values, color=colour, marker="o", markersize=3, linewidth=1.4,
                  linestyle=_dashes(name, joined))  # fmt: skip
        label = _words(name.replace("/", " "))
        if steps[-1] == start:
            ends.append((steps[-1], 100 * values[-1], label, colour))
        else:
            axes.annotate(label, (steps[-1], 100 * values[-1]), xytext=(0, 5), textcoords="offset points", ha="right",
                          fontsize=7.5, color=colour)  # fmt: skip
    axes.set_ylim(0, None)
    label_ends(axes, ends, gap=0.065)


def _plot_group(axes: Axes, rows: Sequence[Row], stages: Sequence[str]) -> None:
    colours = dict(zip(stages, stage_colours(len(stages)), strict=True))
    step = 0.64 / max(1, len(stages))
    for line, row in enumerate(rows):
        span = (line - 0.42, line + 0.42)
        _mark(axes, row.chance, span, color=FAINT, linestyle=":", linewidth=1.6, label="chance" if not line else None)
        _mark(axes, row.upper_bound, span, color=INK, linewidth=2, label="upper bound" if not line else None)
        for index, stage in enumerate(stages):
            if (cell := row.cells.get(stage)) is not None:
                y = line + (index - (len(stages) - 1) / 2) * step
                if cell.low is not None and cell.high is not None:
                    axes.plot([100 * cell.low, 100 * cell.high], [y, y], color=colours[stage], linewidth=1.4)
                axes.plot([100 * cell.value], [y], "o", color=colours[stage], markersize=4)
    for stage in stages:
        axes.plot([], [], "o", color=colours[stage], markersize=4, label=stage)
    axes.set_yticks(range(len(rows)), [_words(row.modality) for row in rows], color=INK, fontsize=8.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("%")
    axes.grid(axis="y", visible=False)


def _mark(axes: Axes, value: float | None, span: tuple[float, float], **style: Any) -> None:
    if value is not None:
        axes.plot([100 * value, 100 * value], span, **style)


def _series_by_stage(log: Sequence[LogLine], event: str, read: Any) -> dict[str, dict[str, Series]]:
    """Stage to phase to name of a quantity to its (step, value) points, for one kind of log line."""
    out: dict[str, dict[str, Series]] = {}
    for line in log:
        if line.get("event") == event:
            stage, phase = str(line["stage"]), str(line.get("phase", ""))
            for name, value in read(line).items():
                series = out.setdefault(stage, {}).setdefault(phase, {})
                series.setdefault(name, []).append((float(line["step"]), value))
    return out


def _losses(line: LogLine) -> dict[str, float]:
    """The total and, where there are several, its terms."""
    terms = dict(_numbers(line.get("losses")))
    total = dict(_numbers({"loss": line.get("loss")}))
    return total | (terms if len(terms) > 1 else {})


def _numbers(value: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """The finite numbers of a nested mapping, by their path."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _numbers(item, f"{prefix}/{name}" if prefix else str(name))
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        yield prefix, float(value)


def _sense_in(name: str) -> str:
    return name.replace("/", " ").split(" ")[0]


def _label(name: str, senses: set[str]) -> str:
    """The name of a term, without its sense where the panel has only one."""
    return _words(name.partition("/")[2] if len(senses) == 1 and "/" in name else name.replace("/", " "))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _dashes(name: str, series: Series) -> str:
    """Terms of one sense share its colour and differ in their dashes."""
    same = [other for other in series if other != "loss" and _sense_in(other) == _sense_in(name)]
    return ("-", "--", ":", "-.")[same.index(name) % 4] if name in same else "-"


def _smoothed(values: NDArray[Any]) -> NDArray[Any]:
    """Running mean over about a twentieth of the curve, without a lag at its start."""
    decay = 1 - 2 / (max(3.0, len(values) / 20) + 1)
    out, state, weight = np.empty_like(values), 0.0, 0.0
    for index, value in enumerate(values):
        state, weight = decay * state + (1 - decay) * value, decay * weight + (1 - decay)
        out[index] = state / weight
    return out
