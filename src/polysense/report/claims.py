"""The claims of a reproduction beside their intervals and verdicts: as a table and as a plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.axes import Axes

from polysense.report.style import FAINT, INK, RIGHT, SOFT, WRONG

Claims = Mapping[str, Mapping[str, Any]]
"""Name to `measure`, `values` and `verdict`; where chance plays a part to `mean`, `low` and `high`, and where nothing
was measured to a `reason`."""

_VERDICTS = {"reproduced": RIGHT, "not reproduced": WRONG}


def claim_lines(claims: Claims) -> Iterator[str]:
    """A table in Markdown, line by line."""
    yield "| claim | measured as | mean | 90 % interval | seeds | verdict |"
    yield "|---|---|---|---|---|---|"
    for name, claim in claims.items():
        yield f"| {name} | {claim['measure']} | {' | '.join(_figures(claim))} |"


def _figures(claim: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Mean, interval, seeds and verdict."""
    if not claim["values"]:
        return "-", "-", "-", f"{claim['verdict']}: {claim['reason']}"
    mean = claim.get("mean", claim["values"][0])
    if "low" not in claim:
        return f"{mean:.3f}", "exact", "-", claim["verdict"]
    span = "none" if claim["low"] is None else f"{claim['low']:.3f} to {claim['high']:.3f}"
    return f"{mean:.3f}", span, str(len(claim["values"])), claim["verdict"]


def drawable(claims: Claims) -> dict[str, Mapping[str, Any]]:
    """The claims that have an interval."""
    return {name: claim for name, claim in claims.items() if claim.get("low") is not None}


def draw_claims(axes: Axes, claims: Claims) -> None:
    """Mean, interval and seeds of every claim about zero, in the colour of its verdict."""
    axes.axvline(0, color=FAINT, linewidth=1.2)
    for line, claim in enumerate(claims.values()):
        draw_interval(axes, claim, float(line), _VERDICTS.get(claim["verdict"], SOFT), 1.0)
        axes.plot(claim["values"], [line + 0.22] * len(claim["values"]), "|", color=FAINT, markersize=6)
        axes.text(0.01, line - 0.22, f"{claim['measure']}: {claim['verdict']}", fontsize=7.5, color=SOFT, va="center",
                  transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set(title="claims: mean, 90 % interval and seeds", xlabel="difference", ylim=(len(claims) - 0.4, -0.6))
    axes.set_yticks(range(len(claims)), list(claims), color=INK)


def draw_interval(
    axes: Axes, row: Mapping[str, Any], y: float, colour: str, scale: float, *, label: str | None = None
) -> None:
    """A mean as a dot on the line of its interval, if it has one."""
    if row["low"] is not None:
        axes.plot([scale * row["low"], scale * row["high"]], [y, y], color=colour, linewidth=1.4)
    axes.plot([scale * row["mean"]], [y], "o", color=colour, markersize=4, label=label)


__all__ = ["Claims", "claim_lines", "draw_claims", "draw_interval", "drawable"]
