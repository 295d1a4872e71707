"""What each stage of MERA still knows of the senses before it, for all methods in a run folder beside one another."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from polysense.hub.gains import alone_scores, mean_gain, task_scores
from polysense.report.run import Run, StageResults
from polysense.report.style import FAINT, INK, colour_of, label_ends, new_figure, styled
from polysense.report.tables import shown, unit

_METHODS = {"ewc": "EWC", "pathweave": "PathWeave"}
_DASHES: Sequence[Any] = ("-", "--", ":", "-.", (0, (1, 1)), (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))
_GAIN = "backward relative gain"

Scores = Mapping[str, float]

RETENTION_LEGEND = (
    "Accuracy in percent; CIDEr-D times 100, as papers print it. *Chance*: for captions those of other samples, for "
    "questions the most frequent answer. *Alone*: a model that learned that sense and no other. *Backward relative "
    "gain*: the mean over all earlier senses and both tasks of the score divided by that of *alone*, in percent; it "
    "needs every earlier sense alone in the same run folder (`stages=[audio]`)."
)


@dataclass(frozen=True)
class Table:
    """A table as text, whose first `left` columns are words and whose others are figures."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 2


def method_name(stage: StageResults) -> str:
    """How a stage past the first learned: a method's name, with what COMET adds; "MERA" with the share it replays."""
    if learning := dict(stage.record.get("hyperparameters") or {}).get("learning"):
        return _codebook_method(stage, learning)
    options, phases = dict(stage.method.get("options") or {}), {str(each["name"]): each for each in stage.phases}
    realigned = phases.get("realign")
    replay, merge = (phases.get("joint") or {}).get("replay", 0), options.get("merge")
    if merge == "running_average" and realigned:
        return f"MERA {100 * realigned['replay']:g} %"
    if "method" in options:
        name = _METHODS.get(options["method"]["name"], str(options["method"]["name"]))
    elif merge is not None:
        name = "merging" if merge == "running_average" else f"merging by {_merge_name(merge)}"
    else:
        name = f"replay {100 * replay:g} %" if replay else "fine-tuning"
    return f"{name} and realigning" if realigned else name


def _merge_name(merge: str | Mapping[str, Any]) -> str:
    """A merge method with the options that a config gave it."""
    if isinstance(merge, str):
        return merge
    options = ", ".join(f"{key} {value}" for key, value in merge.items() if key != "name")
    return f"{merge['name']} ({options})"


def _codebook_method(stage: StageResults, learning: Mapping[str, Any]) -> str:
    name = str(learning["method"]).upper()
    teacher = dict(stage.method.get("options") or {}).get("pmr_teacher")
    return " + COMET".join([name, f", {teacher} teacher" if teacher else ""]) if learning["comet"] else name


class Retention:
    """The scores of a MERA run folder, by method, stage and sense.

    Attributes:
        methods: name to stages; a method's name is followed by its last stage's key where another has the same.
        senses: in the order in which they were learned.
        metrics: of all tasks, as (task, metric).
    """

    def __init__(self, run: Run) -> None:
        self.stages = run.stages
        chains = [chain for chain in run.chains if len(chain) > 1]
        names = [method_name(chain[-1]) for chain in chains]
        self.methods = {
            name if names.count(name) == 1 else f"{name} ({chain[-1].name.rpartition('-')[2]})": chain
            for name, chain in sorted(zip(names, chains, strict=True), key=lambda each: not each[0].startswith("MERA"))
        }
        learned = [stage for chain in [*self.methods.values(), run.stages] for stage in chain]
        self.senses = list(dict.fromkeys(sense for stage in learned for sense in stage.trained))
        self.metrics = list(dict.fromkeys((r["task"], r["metric"]) for stage in run.stages for r in stage.results))

    def scores(self, stage: StageResults, sense: str, field: str = "value") -> Scores:
        """Task to what a stage scored on a sense; several data sets of one task count alike."""
        return task_scores(stage.results, sense, field)

    @cached_property
    def alone(self) -> dict[str, Scores]:
        """Sense to the scores of the model that learned it first of all, and so alone."""
        return alone_scores((stage.record, stage.results) for stage in self.stages)

    def backward_gain(self, chain: Sequence[StageResults], number: int) -> float | None:
        """Backward relative gain after stage `number` (MERA, section 5.1); `None` where a score of it is not known.

        Args:
            chain: stages of one method.
            number: from 1; the first stage has nothing before it and counts as 1.
        """
        if number == 1:
            return 1.0
        earlier = [sense for stage in chain[: number - 1] for sense in stage.trained]
        return mean_gain(chain[number - 1].results, earlier, self.alone)

    def shared(self) -> Iterator[tuple[int, StageResults, str]]:
        """Number, stage and methods of every stage, those that several methods have in common once."""
        for number in range(1, max(map(len, self.methods.values()), default=0) + 1):
            of_stage: dict[str, tuple[StageResults, list[str]]] = {}
            for name, chain in self.methods.items():
                if number <= len(chain):
                    of_stage.setdefault(chain[number - 1].name, (chain[number - 1], []))[1].append(name)
            for stage, names in of_stage.values():
                yield number, stage, "all" if len(names) == len(self.methods) > 1 else ", ".join(names)


def final_stage(run: Run) -> StageResults:
    """The stage that a run has led to; of several methods in one folder, MERA's."""
    chains = [*Retention(run).methods.values(), *run.chains]
    return chains[0][-1]


def retention_tables(run: Run) -> list[Table]:
    """One table per metric, rows being stages and columns senses, and one of the backward relative gains.

    There are none for a run of another system than MERA, or one that was not evaluated.
    """
    if run.system != "mera":
        return []
    kept = Retention(run)
    tables = [_scores_table(kept, task, metric) for task, metric in kept.metrics]
    return [*tables, _gains_table(kept)] if tables and kept.methods else tables


def _scores_table(kept: Retention, task: str, metric: str) -> Table:
    def line(stage: str, method: str, values: Mapping[str, float | None]) -> list[str]:
        return [stage, method, *(shown(values.get(sense), metric) for sense in kept.senses)]

    def measured(stage: StageResults, field: str = "value") -> dict[str, float | None]:
        return {sense: kept.scores(stage, sense, field).get(task) for sense in kept.senses}

    chance: dict[str, float | None] = {}
    for stage in kept.stages:
        chance |= {sense: value for sense, value in measured(stage, "chance").items() if value is not None}
    rows = [line("chance", "", chance)]
    rows += [line(_title(number, stage), name, measured(stage)) for number, stage, name in kept.shared()]
    rows.append(line("alone", "", {sense: scores.get(task) for sense, scores in kept.alone.items()}))
    return Table(f"{task}, {metric}, {unit(metric)}", ["stage", "method", *map(_words, kept.senses)], rows)


def _gains_table(kept: Retention) -> Table:
    rows = []
    for number in range(2, max(map(len, kept.methods.values())) + 1):
        for name, chain in kept.methods.items():
            if number <= len(chain):
                gain = kept.backward_gain(chain, number)
                rows.append([_title(number, chain[number - 1]), name, shown(gain, _GAIN)])
    for name, chain in kept.methods.items():
        gains = [kept.backward_gain(chain, number) for number in range(1, len(chain) + 1)]
        known = [gain for gain in gains if gain is not None]
        rows.append(["mean, the first as 100", name, shown(fmean(known) if len(known) == len(gains) else None, _GAIN)])
    return Table(f"{_GAIN}, %", ["stage", "method", "of all earlier senses"], rows)


def table_html(table: Table) -> str:
    """A table as HTML."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<h3>{html.escape(table.title)}</h3><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def plot_retention(run: Run) -> Figure | None:
    """Score by stage and sense, one panel per metric, and the backward relative gains; methods differ in dashes.

    `None` for a run of another system than MERA, or where nothing was measured after a second stage.
    """
    kept = Retention(run) if run.system == "mera" else None
    if kept is None or not kept.metrics or not kept.methods:
        return None
    dashes = {name: _DASHES[index % len(_DASHES)] for index, name in enumerate(kept.methods)}
    with styled():
        figure = new_figure(4.1 * (len(kept.metrics) + 1), 3.4)
        panels = figure.subplots(1, len(kept.metrics) + 1, squeeze=False)[0]
        for axes, (task, metric) in zip(panels, kept.metrics, strict=False):
            _plot_scores(axes, kept, task, dashes)
            axes.set(title=task, ylabel=f"{metric.partition(' (')[0]}, {unit(metric)}")
        _plot_gains(panels[-1], kept, dashes)
        longest = max(map(len, kept.methods.values()))
        for axes in panels:
            axes.set_xticks(range(1, longest + 1))
            axes.set(xlabel="stage", xlim=(0.85, longest + 0.15))
            axes.set_ylim(bottom=0)
        lines = [Line2D([], [], color=INK, linestyle=style) for style in dashes.values()]
        lines.append(Line2D([], [], color=FAINT, linestyle="-", linewidth=0.8))
        figure.legend(lines, [*dashes, "chance"], loc="outside lower center", ncols=len(lines))
    return figure


def _plot_scores(axes: Axes, kept: Retention, task: str, dashes: Mapping[str, Any]) -> None:
    ends: dict[str, tuple[float, float, str, str]] = {}
    for name, chain in kept.methods.items():
        for sense in kept.senses:
            found = [(number, kept.scores(stage, sense).get(task)) for number, stage in enumerate(chain, start=1)]
            points = [(float(number), 100 * value) for number, value in found if value is not None]
            if not points:
                continue
            xs, ys = zip(*points, strict=True)
            axes.plot(xs, ys, color=colour_of(sense), linestyle=dashes[name], marker="o", markersize=3.5)
            ends.setdefault(sense, (xs[-1], ys[-1], _words(sense), colour_of(sense)))
            if (chance := kept.scores(chain[-1], sense, "chance").get(task)) is not None:
                axes.plot(xs, [100 * chance] * len(xs), color=colour_of(sense), linewidth=0.8, alpha=0.4)
    axes.set_ylim(bottom=0)
    label_ends(axes, list(ends.values()), gap=0.08)


def _plot_gains(axes: Axes, kept: Retention, dashes: Mapping[str, Any]) -> None:
    for name, chain in kept.methods.items():
        gains = [(number, kept.backward_gain(chain, number)) for number in range(1, len(chain) + 1)]
        points = [(number, 100 * gain) for number, gain in gains if gain is not None]
        axes.plot(*zip(*points, strict=True), color=INK, linestyle=dashes[name], marker="o", markersize=3.5)
    axes.axhline(100, color=FAINT, linewidth=0.8)
    axes.set(title=_GAIN, ylabel="%")


def _title(number: int, stage: StageResults) -> str:
    return f"{number} {_words(', '.join(stage.trained))}"


def _words(name: str) -> str:
    return name.replace("_", " ")


__all__ = [
    "RETENTION_LEGEND",
    "Retention",
    "Table",
    "final_stage",
    "method_name",
    "plot_retention",
    "retention_tables",
    "table_html",
]
