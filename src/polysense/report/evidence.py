"""A reproduction on the world for people: scores beside chance and bound, claims beside their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polysense.report.claims import claim_lines, draw_claims, draw_interval, drawable
from polysense.report.style import FAINT, INK, SOFT, colour_of, new_figure, stage_colours, styled


def evidence_markdown(report: Mapping[str, Any]) -> str:
    """Every method's score per sense and split, the claims with their verdicts, and what lies behind the verdicts.

    Args:
        report: `senses` (sense to `bound` and, by split, methods to seeds, mean, low and high, and `chance`),
            `claims`, `held_to`, `by_sense`, `bound_words`, `anchor`, `seeds` and `command`, as
            `recipes.unialign_world.summary` makes it.
    """
    parts = [_scores(report), claim_lines(report["claims"]), _held_to(report), _by_sense(report), _words(report),
             _anchor(report)]  # fmt: skip
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part))) + "\n"


def _scores(report: Mapping[str, Any]) -> Iterator[str]:
    methods = _methods(report)
    yield (
        f"Top-1 in percent, mean of as many seeds as stand beside a method (of all: {len(report['seeds'])}) with its "
        f"90 % interval; behind it the share of full supervision, of the seeds that have both. Made by "
        f"`{report['command']}`."
    )
    if not methods:
        return
    first = next(iter(report["senses"].values()))
    heads = [f"{method} ({len(first['test'][method]['seeds'])})" for method in methods]
    yield ""
    yield f"| sense | split | chance | {' | '.join(heads)} | supervised ({len(first['bound']['seeds'])}) |"
    yield "|---" * (len(methods) + 4) + "|"
    for sense, entry in report["senses"].items():
        for split, rows in _splits(entry):
            bound = _spread(entry["bound"]) if any("share_of_bound" in rows[method] for method in methods) else ""
            scores = " | ".join(_score(rows[method]) for method in methods)
            yield f"| {sense} | {split} | {100 * rows['chance']:.1f} | {scores} | {bound} |"


def _held_to(report: Mapping[str, Any]) -> Iterator[str]:
    held = report["held_to"]
    low, high = (f"{100 * end:.0f}" for end in held["range"])
    yield (
        f"What every sense is held to: NCE alone reaches {low} to {high} % of full supervision, and top-1 is at least "
        f"{held['least']:g} times chance. Means over the seeds with their 90 % intervals:"
    )
    yield ""
    yield "| measure | split | sense | value | seeds | verdict |"
    yield "|---|---|---|---|---|---|"
    for sense, row in held["nce_share"].items():
        yield (
            f"| NCE alone, percent of full supervision | test | {sense} | {_spread(row)} | {len(row['values'])} | "
            f"{row['verdict']} |"
        )
    for split, methods in held["times_chance"].items():
        for method, senses in methods.items():
            for sense, row in senses.items():
                yield (
                    f"| {method}, times chance | {split} | {sense} | {_spread(row, 1.0)} | {len(row['values'])} | "
                    f"{row['verdict']} |"
                )


def _by_sense(report: Mapping[str, Any]) -> Iterator[str]:
    if not report["by_sense"]:
        return
    yield "Difference in top-1 by sense, in percentage points with its 90 % interval:"
    yield ""
    yield f"| claim | {' | '.join(report['senses'])} |"
    yield "|---" * (len(report["senses"]) + 1) + "|"
    for claim, rows in report["by_sense"].items():
        yield f"| {claim} | {' | '.join(_spread(rows[sense]) for sense in report['senses'])} |"


def _words(report: Mapping[str, Any]) -> Iterator[str]:
    names = list(report["bound_words"])
    if not names:
        return
    yield (
        "What soft binding (UA9) binds: the share, in percent, of a data set's targets in another one (column) that "
        "lies on classes with a word in common. Where it is small, classes are bound by chance likenesses of names."
    )
    yield ""
    yield f"| data set | {' | '.join(names)} |"
    yield "|---" * (len(names) + 1) + "|"
    for name, row in report["bound_words"].items():
        yield f"| {name} | {' | '.join(f'{100 * row[o]:.0f}' if o in row else '' for o in names)} |"


def _anchor(report: Mapping[str, Any]) -> Iterator[str]:
    """Where the figures come from that no cell holds, which outlive the anchor that they were counted on."""
    if by := report["anchor"]:
        parts = f", on the anchor `{by['parts']}`" if "parts" in by else ""
        yield f"UA15 and what soft binding binds were measured by `{by['command']}`, commit `{by['commit']}`{parts}."


def plot_evidence(report: Mapping[str, Any]) -> Figure:
    """Left: every method's score per sense on the test split, between chance and bound. Right: the claims."""
    claims = drawable(report["claims"])
    with styled():
        figure = new_figure(11.0, max(0.9 * len(report["senses"]), 0.5 * len(claims), 1.0) + 1.2)
        left, right = figure.subplots(1, 2)
        _draw_scores(left, report)
        draw_claims(right, claims)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=8)
    return figure


def _draw_scores(axes: Axes, report: Mapping[str, Any]) -> None:
    methods = _methods(report)
    colours = stage_colours(len(methods))
    for line, (sense, entry) in enumerate(report["senses"].items()):
        rows, first = entry["test"], not line
        for value, colour, style, label in (
            (rows["chance"], FAINT, ":", "chance"), (3 * rows["chance"], SOFT, ":", "three times chance"),
            (entry["bound"]["mean"], INK, "-", "supervised"),
        ):  # fmt: skip
            if value is not None:
                axes.plot([100 * value] * 2, (line - 0.42, line + 0.42), color=colour, linestyle=style, linewidth=1.8,
                          label=label if first else None)  # fmt: skip
        for number, method in enumerate(methods):
            y = line + (number - (len(methods) - 1) / 2) * 0.16
            draw_interval(axes, rows[method], y, colours[number], 100.0, label=method if first else None)
        axes.text(-0.02, line, sense.replace("_", " "), transform=axes.get_yaxis_transform(), ha="right", va="center",
                  color=colour_of(sense), fontsize=8.5)  # fmt: skip
    axes.set(title="zero-shot top-1 on the test split", xlabel="%", ylim=(max(len(report["senses"]), 1) - 0.5, -0.5))
    axes.set_xlim(left=0)
    axes.set_yticks([])


def _methods(report: Mapping[str, Any]) -> list[str]:
    """Methods that were run."""
    entry: Mapping[str, Any] = next(iter(report["senses"].values()), {"test": {}})
    return [name for name, row in entry["test"].items() if isinstance(row, Mapping)]


def _splits(entry: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from ((split, rows) for split, rows in entry.items() if "chance" in rows)


def _score(row: Mapping[str, Any]) -> str:
    share = row.get("share_of_bound")
    return _spread(row) + ("" if share is None else f" ({100 * share:.0f} %)")


def _spread(row: Mapping[str, Any], scale: float = 100.0) -> str:
    """Mean and interval, as far as there are any."""
    if row["mean"] is None:
        return "-"
    mean = f"{scale * row['mean']:.1f}"
    return mean if row["low"] is None else f"{mean} [{scale * row['low']:.1f}, {scale * row['high']:.1f}]"
