"""MERA's reproduction for people: tables and figures in the shape of the paper's (Tables 2-5, 9, 10; Figures 2, 3)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polysense.metrics.intervals import interval
from polysense.report.claims import claim_lines, draw_claims, drawable
from polysense.report.style import FAINT, label_ends, new_figure, styled

Gains = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Order to method to `seeds`, `mean` and `deviation` of their `values`, `backward` and `forward`."""

COMPARED = ("fine-tuning", "replay-1", "replay-10", "ewc", "pathweave", "mera-1", "mera-10")
"""Rows of Tables 2 and 3 and lines of the figures."""
ABLATED = ("fine-tuning", "merging", "fine-tuning-realigned", "mera-10")
"""Rows of Table 4."""
REALIGNED = (
    *((name, f"{name}-realigned") for name in ("fine-tuning", "replay-1", "replay-10", "ewc", "pathweave")),
    ("merging", "mera-10"),
)
"""Pairs of Table 5."""

_PAPER = ("sequential", "reverse")
_COSTS = ("ME17", "ME18")  # claims about costs, whose ratios would need a scale of their own
_TASKS = {"captioning": "cap", "question answering": "QA"}
_COLOURS = dict(zip(COMPARED, ("#8a94a0", "#e69f00", "#d55e00", "#56b4e9", "#0072b2", "#7fbf9f", "#1a8a5a"),
                    strict=True))  # fmt: skip


def gains_markdown(report: Mapping[str, Any]) -> str:
    """All tables of a report, as `recipes.mera_world.summary` makes it; relative gains in percent."""
    gains, labels = report["gains"], report["methods"]
    sections = [
        _opening(report),
        ["**Backward relative gain over the stages (Table 2)**", "", *gain_rows(gains, COMPARED, labels)],
        ["**Its ablation (Table 4)**", "", *gain_rows(shared(gains, ABLATED), ABLATED, labels)],
        ["**What realigning on 10 % adds (Table 5)**", "", *realigning_rows(gains, labels)],
        ["**Further variants**", "", *gain_rows(gains, _further(gains), labels)] if _further(gains) else [],
        ["**Costs as multiples of fine-tuning's (Table 3)**", "", *cost_rows(report["cost"], labels)],
        *(_of_order(report, order) for order in report["orders"] if order in gains),
        ["**Claims**", "", *claim_lines(report["claims"])],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _opening(report: Mapping[str, Any]) -> list[str]:
    seeds, kept = len(report["seeds"]), report["language_model_unchanged"]
    lines = [
        f"Scores relative to one expert per sense, in percent; mean of the seeds that stand beside a method (of all: "
        f"{seeds}), 90 % intervals in brackets. What Tables 4, 5, 9 and 10 compare has the seeds that all of it has. "
        f"Made by `{report['command']}`.",
        f"Realigning left the language model {'bit for bit as it was' if kept else 'CHANGED, which it must not'}.",
    ]
    if encoders := report.get("encoders"):
        each = ", ".join(f"{sense} {name}" for sense, name in encoders.items())
        lines.append(f"Encoders of {' and '.join(_PAPER)}: {each}.")
    return lines


def shared(gains: Gains, methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The gains of some methods over the seeds that all of them have; order by order, those that were run there."""
    found: dict[str, dict[str, Any]] = {}
    for order, rows in gains.items():
        own = {method: rows[method] for method in methods if method in rows}
        common = set.intersection(*(set(row["seeds"]) for row in own.values())) if own else set()
        if common:
            found[order] = {method: _of_seeds(row, common) for method, row in own.items()}
    return found


def _of_seeds(row: Mapping[str, Any], seeds: Collection[Any]) -> dict[str, Any]:
    """Mean and deviation of a row over some of its seeds alone."""
    places = [place for place, seed in enumerate(row["seeds"]) if seed in seeds]
    values = {what: [row[what]["values"][place] for place in places] for what in ("mean", "deviation")}
    found = {what: {**interval(own), "values": own} for what, own in values.items()}
    return {"seeds": [row["seeds"][place] for place in places], **found}


def gain_rows(gains: Gains, methods: Sequence[str], labels: Mapping[str, str]) -> Iterator[str]:
    """Mean and deviation over the stages, per order (the shape of Tables 2 and 4); methods that were not run are left
    out."""
    yield from _head([f"{order} {what}" for order in _PAPER for what in ("mean", "std")])
    for method in methods:
        rows = [gains.get(order, {}).get(method) for order in _PAPER]
        if any(rows):
            yield _row(_counted(labels[method], rows), [text for row in rows for text in _both(row)])


def realigning_rows(gains: Gains, labels: Mapping[str, str]) -> Iterator[str]:
    """Every method, and beneath it what realigning adds to mean and deviation (the shape of Table 5)."""
    yield from _head([f"{order} {what}" for order in _PAPER for what in ("mean", "std")])
    for pair in REALIGNED:
        both = shared({order: rows for order, rows in gains.items() if set(pair) <= rows.keys()}, pair)
        own, more = ([both.get(order, {}).get(method) for order in _PAPER] for method in pair)
        if any(own):
            yield _row(_counted(labels[pair[0]], own), [text for row in own for text in _both(row)])
            yield _row("+ realigning", [text for rows in zip(own, more, strict=True) for text in _added(*rows)])


def cost_rows(cost: Mapping[str, Mapping[str, float | None]], labels: Mapping[str, str]) -> Iterator[str]:
    """The shape of Table 3, in ratios."""
    columns = list(next(iter(cost.values()), {}))
    yield from _head(columns)
    for method, row in cost.items():
        yield _row(labels[method], ["-" if row[name] is None else f"{row[name]:.2f}" for name in columns])


def raw_rows(
    order: Sequence[str], experts: Mapping[str, Mapping[str, float]],
    runs: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]], labels: Mapping[str, str],
) -> Iterator[str]:  # fmt: skip
    """Every method's scores after every stage (the shape of Tables 9 and 10): CIDEr-D times 100, share of right
    answers."""
    yield from _head([f"{sense.replace('_', ' ')} {short}" for sense in order for short in _TASKS.values()])
    yield _row("experts", _scores(order, experts))
    for method, stages in runs.items():
        for number, scores in enumerate(stages, start=1):
            yield _row(f"{labels[method]}, stage {number}", _scores(order, scores))


def stage_rows(gains: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str], direction: str) -> Iterator[str]:
    """`backward` or `forward` gain after every stage of one order (what Figures 2 and 3 draw)."""
    stages = max(len(row[direction]) for row in gains.values())
    yield from _head([f"stage {number}" for number in range(1, stages + 1)])
    for method, row in gains.items():
        yield _row(labels[method], [f"{100 * value:.2f}" for value in row[direction]])


def _of_order(report: Mapping[str, Any], order: str) -> list[str]:
    senses, gains, labels = report["orders"][order], report["gains"][order], report["methods"]
    title = f"{order}: {', '.join(sense.replace('_', ' ') for sense in senses)}"
    return [
        f"**Backward gain by stage, {title}**", "", *stage_rows(gains, labels, "backward"), "",
        f"**Forward gain by stage, {title}**", "", *stage_rows(gains, labels, "forward"), "",
        *_raw(report, order, title),
    ]  # fmt: skip


def _raw(report: Mapping[str, Any], order: str, title: str) -> Iterator[str]:
    if (raw := report["raw"].get(order)) is not None:
        yield from (f"**Raw scores, {title} (seeds: {', '.join(map(str, raw['seeds']))})**", "")
        yield from raw_rows(report["orders"][order], raw["experts"], raw["methods"], report["methods"])


def _further(gains: Gains) -> list[str]:
    known = {*COMPARED, *ABLATED, *(name for pair in REALIGNED for name in pair)}
    return [name for name in dict.fromkeys(name for order in _PAPER for name in gains.get(order, {}))
            if name not in known]  # fmt: skip


def _head(columns: Sequence[str]) -> Iterator[str]:
    yield _row("method", columns)
    yield "|---" + "|---:" * len(columns) + "|"


def _row(name: str, texts: Sequence[str]) -> str:
    return f"| {' | '.join([name, *texts])} |"


def _counted(label: str, rows: Sequence[Mapping[str, Any] | None]) -> str:
    """A method's name with the number of its seeds, by order where that differs."""
    counts = [len(row["seeds"]) for row in rows if row]
    return f"{label} ({' / '.join(map(str, dict.fromkeys(counts)))})"


def _both(row: Mapping[str, Any] | None) -> tuple[str, str]:
    if row is None:
        return "-", "-"
    mean = row["mean"]
    return f"{100 * mean['mean']:.2f}{_spread(mean)}", f"{100 * row['deviation']['mean']:.2f}"


def _spread(mean: Mapping[str, Any], sign: str = "") -> str:
    """The interval in brackets, where there is one."""
    return "" if mean["low"] is None else f" [{100 * mean['low']:{sign}.2f}, {100 * mean['high']:{sign}.2f}]"


def _added(own: Mapping[str, Any] | None, more: Mapping[str, Any] | None) -> tuple[str, str]:
    if own is None or more is None:
        return "-", "-"
    means, deviations = (
        [a - b for a, b in zip(more[what]["values"], own[what]["values"], strict=True)]
        for what in ("mean", "deviation")
    )  # fmt: skip
    return f"{100 * fmean(means):+.2f}{_spread(interval(means), '+')}", f"{100 * fmean(deviations):+.2f}"


def _scores(order: Sequence[str], scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    texts = []
    for own in (scores.get(sense, {}) for sense in order):
        for task, short in _TASKS.items():
            score = f"{100 * own.get(task, 0):.2f}" if short == "cap" else f"{own.get(task, 0):.3f}"
            texts.append(score if task in own else "-")
    return texts


# ---- figures --------------------------------------------------------------------------------------------------------


def plot_gains(report: Mapping[str, Any]) -> Figure:
    """Above: backward and forward gain by stage, mean of both orders (Figures 2 and 3). Beneath: claims about them."""
    claims = {name: claim for name, claim in drawable(report["claims"]).items() if not name.startswith(_COSTS)}
    with styled():
        figure = new_figure(11.0, 4.0 + 0.45 * len(claims))
        grid = figure.add_gridspec(2, 2, height_ratios=[4.0, max(0.5, 0.45 * len(claims))])
        for column, direction in enumerate(("backward", "forward")):
            _draw_stages(figure.add_subplot(grid[0, column]), report, direction)
        draw_claims(figure.add_subplot(grid[1, :]), claims)
    return figure


def _draw_stages(axes: Axes, report: Mapping[str, Any], direction: str) -> None:
    axes.axhline(100, color=FAINT, linewidth=1.2)
    ends = []
    for method in COMPARED:
        runs = [report["gains"][order][method][direction] for order in _PAPER
                if method in report["gains"].get(order, {})]  # fmt: skip
        if not runs:
            continue
        values = [100.0, *(100 * fmean(stage) for stage in list(zip(*runs, strict=True))[1:])]
        stages, colour = range(1, len(values) + 1), _COLOURS[method]
        axes.plot(stages, values, "o-", color=colour, markersize=4, linewidth=1.8)
        ends.append((float(len(values)), values[-1], report["methods"][method], colour))
    axes.set(title=f"{direction} relative gain, mean of both orders", xlabel="stage", ylabel="%")
    if ends:
        axes.set_xticks(range(1, int(ends[0][0]) + 1))
        label_ends(axes, ends)


__all__ = [
    "cost_rows", "gain_rows", "gains_markdown", "plot_gains", "raw_rows", "realigning_rows", "shared", "stage_rows",
]  # fmt: skip
