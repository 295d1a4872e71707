"""What a model answered about files: each file drawn, what was asked of it, what was said and what is right."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from polysense.errors import ConfigError
from polysense.report.senses import draw_sense
from polysense.report.style import INK, SOFT, new_figure, styled

_LINE, _LEFT, _WIDTH = 1.5, 1.75, 8.6  # inches: of a file, of its text, of the figure
_COLUMN = 78  # characters


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a model said about one file.

    Attributes:
        modality, kind: of the file, and its tokenizer kind, which says how it is drawn.
        raw: what its processor's `load` returns.
        source: the file.
        turns: (asked, answered, right answer).
    """

    modality: str
    kind: str
    raw: Any
    source: str
    turns: Sequence[tuple[str, str, str]]


def draw_answers(files: Sequence[Told]) -> Figure:
    """One line per file: its drawing, and beside it everything that was asked.

    Raises:
        ConfigError: there are no files.
    """
    if not files:
        raise ConfigError("there is nothing to show", where="answers", fix="Ask about a file first.")
    height = _LINE * len(files)
    with styled():
        figure = new_figure(_WIDTH, height)
        figure.set_layout_engine("none")
        for line, told in enumerate(files):
            base = height - (line + 1) * _LINE
            axes = figure.add_axes((0.15 / _WIDTH, (base + 0.1) / height, 1.25 / _WIDTH, 1.15 / height))
            draw_sense(axes, told.kind, told.modality, told.raw)
            axes.set_title(told.modality.replace("_", " "), loc="left", fontsize=7.5, color=INK, pad=2.5)
            _write(figure, told, (base + _LINE - 0.12) / height, height)
    return figure


def _write(figure: Figure, told: Told, top: float, height: float) -> None:
    lines = [
        (f"{label:8} {textwrap.shorten(text, _COLUMN, placeholder=' ...')}", colour)
        for asked, answered, right in told.turns
        for label, text, colour in (("asked", asked, SOFT), ("answered", answered, INK), ("right", right, SOFT))
    ]
    for number, (text, colour) in enumerate(lines):
        gap = 0.19 * number + 0.1 * (number // 3)  # a little more between the turns
        figure.text(_LEFT / _WIDTH, top - gap / height, text, fontsize=8, family="DejaVu Sans Mono", color=colour,
                    va="top")  # fmt: skip


__all__ = ["Told", "draw_answers"]
