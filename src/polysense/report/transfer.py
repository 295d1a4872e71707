"""COMET's reproduction for people: tables and figures in the shape of the paper's (Tables 1 to 8, Figures 2 and 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polysense.report.claims import claim_lines, draw_claims, drawable
from polysense.report.codes import level_colours
from polysense.report.style import FAINT, INK, SOFT, new_figure, stage_colours, styled
from polysense.report.tables import markdown_table

Report = Mapping[str, Any]
"""As `recipes.comet_world.summary` makes it."""

_DAGGER = " †"
_AVERAGE = "Avg."
_LEVELS = ("0", "1", "2", "3")


def transfer_markdown(report: Report) -> str:
    """All tables of a report that have a figure, in percent, and the claims."""
    first, second = report["main"]
    compared, spoken = report["rows"]["compared"], report["spoken"]
    both = [(first, name) for name in compared] + [(second, name) for name in compared]
    tables = [
        figure_rows(report, "Heads that learned from one sense, on the other (Table 1)", "transfer", both, (2, 3)),
        *(
            figure_rows(report, f"Retrieval, {pair} ({number})", pair, both, stages)
            for pair, number, stages in (
                ("V-T", "Table 2", (1, 2, 3)), ("A-T", "Table 3", (1, 2, 3)), ("I-T", "Table 4", (3,)),
                ("I-A", "Table 7", (3,)), ("V-A", "beyond the paper", (2, 3)),
            )
        ),
        figure_rows(report, "Masks that text has taught, asked by speech (Table 5)", "segmentation",
                    [(spoken, name) for name in report["rows"]["spoken"]], (2, 3), average=False),
        *(
            figure_rows(
                _in_common(report, words), f"{words} {title}", measure, [(first, name) for name in names], stages
            )
            for words, names in report["rows"]["removed"].items()
            for title, measure, stages in (("(Table 6)", "transfer", (2, 3)), ("(Table 8)", "I-A", (3,)))
        ),
        expert_rows(report), code_rows(report), *memory_rows(report),
        *(course_rows(report, order) for order in report["scores"]),
        reference_rows(report),
    ]  # fmt: skip
    claims = [("Claims", report["claims"]), ("Claims on fresh worlds, a value from each", report["fresh"]["claims"])]
    judged = ["\n".join([f"**{title}**\n", *claim_lines(every)]) for title, every in claims if every]
    parts = [_opening(report), *filter(None, tables), *judged]
    return "\n\n".join(parts) + "\n"


def _opening(report: Report) -> str:
    seeds = ", ".join(map(str, report["seeds"])) or "none"
    told = {name: ", ".join(pairs) for name, pairs in report["orders"].items()}
    told |= {
        name: f"{report['main'][0]} on a world of seed {seed}" for name, seed in report["fresh"]["worlds"].items()
    }
    orders = "; ".join(f"{name}: {each}" for name, each in told.items())
    return (
        f"Figures in percent, mean of as many seeds as stand beside a method (of all: {seeds}), averages with 90 % "
        f"intervals in brackets; where parts are removed, and experts counted, of the seeds that all rows have; "
        f"{_DAGGER.strip()} is the second order. Heads are scored on a split of their own after their last epoch. "
        f"Made by `{report['command']}`.\n\nOrders: {orders}."
    )


def figure_rows(
    report: Report, title: str, measure: str, rows: Sequence[tuple[str, str]], stages: Sequence[int], *,
    average: bool = True,
) -> str:  # fmt: skip
    """Single figures and their average, stage by stage, for each (order, method) that has some; "" without any."""
    columns, body = report["columns"][measure], []
    for order, method in rows:
        texts = [text for stage in stages for text in _figures(report, order, method, stage, measure, average=average)]
        if any(text != "-" for text in texts):
            body.append([_label(report, order, method), *texts])
    names = [*columns.values(), *([_AVERAGE] if average else [])]
    head = ["method", *(f"{stage}: {name}" for stage in stages for name in names)]
    return markdown_table(title, head, body) if body else ""


def _figures(report: Report, order: str, method: str, stage: int, measure: str, *, average: bool) -> Iterator[str]:
    found = report["figures"].get(order, {}).get(method, [])
    own = found[stage - 1] if stage <= len(found) else {}
    for name in report["columns"][measure]:
        yield _percent(own.get(name))
    if average:
        yield _spread(_score(report, order, method, stage, measure))


def expert_rows(report: Report) -> str:
    """Table 1's average by number of experts (Figure 2)."""
    numbers = list(next(iter(report["rows"]["experts"].values()), {}))
    body = []
    for words, methods in report["rows"]["experts"].items():
        same = _in_common(report, words)
        for stage in (2, 3):
            texts = [_spread(_score(same, report["main"][0], methods[number], stage, "transfer"))
                     for number in numbers]  # fmt: skip
            if any(text != "-" for text in texts):
                body.append([f"{words}, stage {stage}", *texts])
    return markdown_table("Number of experts (Figure 2)", ["method", *numbers], body) if body else ""


def code_rows(report: Report) -> str:
    """Which share of the codes no, one, two and three senses activate (Figure 3), and how codes live."""
    order, body = report["main"][0], []
    for method in report["scores"].get(order, {}):
        for stage in (2, 3):
            shares = [_score(report, order, method, stage, f"codes in {level}") for level in _LEVELS]
            if shares[0] is not None:
                dead, perplexity, restarts = (
                    _score(report, order, method, stage, name) for name in ("dead codes", "perplexity", "restarts")
                )
                figures = [*map(_spread, (*shares, dead)), _plain(perplexity), _plain(restarts)]
                body.append([f"{_named(report, order, method)}, stage {stage}", *figures])
    head = ["codes active in", "no sense", "one", "two", "three", "dead", "perplexity", "restarts per 1,000 steps"]
    return markdown_table("Codes that senses share (Figure 3)", head, body) if body else ""


def memory_rows(report: Report) -> Iterator[str]:
    """For each order, what a method keeps of every pair until the last stage, and how well it learns each."""
    for order, methods in report["memory"].items():
        pairs = list(dict.fromkeys(pair for each in methods.values() for pair in each))
        body = [
            [_named(report, order, method), *(_spread(each.get(pair, {}).get(what)) for pair in pairs
                                          for what in ("retention", "plasticity"))]
            for method, each in methods.items()
        ]  # fmt: skip
        chances = [next(each[pair]["chance"] for each in methods.values() if pair in each) for pair in pairs]
        body.append(["chance", *(text for chance in chances for text in ("", _percent(chance)))])
        head = ["method", *(f"{pair} {what}" for pair in pairs for what in ("kept", "learned"))]
        title = f"Retrieval of each pair as learned, and the share above chance that is kept to the end, {order}"
        yield markdown_table(title, head, body)


def course_rows(report: Report, order: str) -> str:
    """Every average after every stage of one order: what each further stage costs the earlier ones."""
    measures = [name for name in report["columns"] if name != "segmentation"]
    methods, body = report["scores"][order], []
    stages = max(len(each["stages"]) for each in methods.values())
    for method in methods:
        for measure in measures:
            texts = [_spread(_score(report, order, method, number, measure)) for number in range(1, stages + 1)]
            if any(text != "-" for text in texts):
                body.append([_named(report, order, method), measure, *texts])
    head = ["method", "average", *(f"stage {number}" for number in range(1, stages + 1))]
    return markdown_table(f"Averages after every stage, {order}", head, body, left=2)


def reference_rows(report: Report) -> str:
    """Chance, the same head on codes of the tested sense itself, and on its sequences without codes."""
    columns, body = report["columns"]["transfer"], []
    for method, found in report["references"].items():
        if any(name in found for name in columns):
            for what, words in (("chance", "chance"), ("codes", "bound on codes"), ("raw", "bound on raw sequences")):
                texts = [_percent(found.get(name, {}).get(what)) for name in columns]
                body.append([report["methods"][method], words, *texts])
    head = ["method", "reference", *columns.values()]
    return markdown_table("What Table 1 is to be read beside, last stage", head, body, left=2) if body else ""


def _named(report: Report, order: str, method: str) -> str:
    """A method, and how many seeds it has there."""
    return f"{report['methods'][method]} ({len(report['scores'][order][method]['seeds'])})"


def _label(report: Report, order: str, method: str) -> str:
    return _named(report, order, method) + (_DAGGER if order == report["main"][1] else "")


def _in_common(report: Report, words: str) -> Report:
    """The report on those seeds alone that all rows of a comparison have."""
    return {**report, **report["common"][words]}


def _score(report: Report, order: str, method: str, stage: int, measure: str) -> Mapping[str, Any] | None:
    stages = report["scores"].get(order, {}).get(method, {}).get("stages", [])
    found: Mapping[str, Any] | None = stages[stage - 1].get(measure) if stage <= len(stages) else None
    return found


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _plain(row: Mapping[str, Any] | None) -> str:
    return "-" if row is None else f"{row['mean']:.1f}"


def _spread(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "-"
    known = row["low"] is not None
    return _percent(row["mean"]) + (f" [{_percent(row['low'])}, {_percent(row['high'])}]" if known else "")


# ---- figures --------------------------------------------------------------------------------------------------------


def plot_transfer(report: Report) -> Figure:
    """Above: what methods keep beside what they learn, number of experts, codes in use. Beneath: the claims."""
    claims = drawable(report["claims"])
    with styled():
        figure = new_figure(14.0, 4.6 + 0.45 * len(claims))
        grid = figure.add_gridspec(2, 3, height_ratios=[4.6, max(0.5, 0.45 * len(claims))])
        _draw_memory(figure.add_subplot(grid[0, 0]), report)
        _draw_experts(figure.add_subplot(grid[0, 1]), report)
        _draw_codes(figure.add_subplot(grid[0, 2]), report)
        draw_claims(figure.add_subplot(grid[1, :]), claims)
    return figure


def _draw_memory(axes: Axes, report: Report) -> None:
    """The first pair's retention over the mean of what the later stages learned."""
    axes.set(title="kept and learned", xlabel="retrieval of later pairs as they are learned, %",
             ylabel="share of the first pair's retrieval kept, %")  # fmt: skip
    for method, pairs in report["memory"].get(report["main"][0], {}).items():
        if len(pairs) < 2:
            continue
        first, *later = pairs.values()
        x, y = 100 * fmean(each["plasticity"]["mean"] for each in later), 100 * first["retention"]["mean"]
        known = method in report["rows"]["compared"]
        axes.plot([x], [y], "o", color=INK if known else FAINT, markersize=5 if known else 4)
        axes.annotate(report["methods"][method], (x, y), xytext=(4, 3), textcoords="offset points", fontsize=6.5,
                      color=INK if known else SOFT)  # fmt: skip


def _draw_experts(axes: Axes, report: Report) -> None:
    axes.set(title="number of experts", xlabel="experts", ylabel="average of Table 1, %")
    order, drawn = report["main"][0], [
        (f"{words}, stage {stage}", _in_common(report, words), methods, stage)
        for words, methods in report["rows"]["experts"].items() for stage in (2, 3)
    ]  # fmt: skip
    for (label, same, methods, stage), colour in zip(drawn, stage_colours(max(2, len(drawn))), strict=False):
        scores = {int(number): row for number, method in methods.items()
                  if (row := _score(same, order, method, stage, "transfer")) is not None}  # fmt: skip
        if scores:
            axes.plot(list(scores), [100 * row["mean"] for row in scores.values()], "o-", color=colour, label=label,
                      markersize=4)  # fmt: skip
    if axes.lines:
        axes.legend()


def _draw_codes(axes: Axes, report: Report) -> None:
    """How large a part of the codes none, one, two and three senses activate, after the second stage."""
    axes.set(title="senses that activate a code, stage 2", xlabel="% of the codes")
    order, rows = report["main"][0], []
    for method in report["rows"]["compared"]:
        shares = [_score(report, order, method, 2, f"codes in {level}") for level in _LEVELS]
        if all(share is not None for share in shares):
            rows.append((str(report["methods"][method]), [100 * share["mean"] for share in shares if share]))
    left = [0.0] * len(rows)
    for level, colour in enumerate(level_colours(len(_LEVELS) - 1)):
        widths = [shares[level] for _, shares in rows]
        label = ("no sense", "one sense", "two senses", "three senses")[level]
        axes.barh(range(len(rows)), widths, left=left, color=colour, label=label, height=0.7)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], color=INK)
    axes.invert_yaxis()
    if rows:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=4)


__all__ = [
    "code_rows", "course_rows", "expert_rows", "figure_rows", "memory_rows", "plot_transfer", "reference_rows",
    "transfer_markdown",
]  # fmt: skip
