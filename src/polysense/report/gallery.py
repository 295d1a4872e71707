"""The retrieval gallery of the UniAlign paper's Fig. 5: queries of one sense or several, what they find in others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from polysense.errors import ConfigError
from polysense.metrics import composed
from polysense.report.senses import draw_sense
from polysense.report.style import FAINT, INK, RIGHT, SOFT, WRONG, new_figure, styled

_CELL, _GAP, _HEAD, _LINE = 1.12, 0.34, 0.4, 1.56  # inches


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Embedded samples of one sense, among which queries find and from which they are taken.

    Attributes:
        modality: name of the sense.
        kind: its tokenizer kind, which says how it is drawn.
        embeddings: unit vectors.
        load: sample number to what its processor's `load` returns (or a text).
        labels: what is written under each sample.
    """

    modality: str
    kind: str
    embeddings: Float[Tensor, "samples embed"]
    load: Callable[[int], Any]
    labels: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked: one sample, or several of different senses that are composed.

    Attributes:
        parts: pools and sample numbers.
        relevant: whether sample `number` of a pool answers the query.
    """

    parts: Sequence[tuple[Pool, int]]
    relevant: Callable[[Pool, int], bool]


@dataclass(frozen=True, kw_only=True)
class Found:
    """One retrieved sample."""

    pool: Pool
    number: int
    right: bool


@dataclass(frozen=True, kw_only=True)
class GalleryRow:
    """A query and what it found, best first, per target sense."""

    query: Query
    found: Sequence[Sequence[Found]]


def retrieve(query: Query, targets: Sequence[Pool], k: int = 3) -> GalleryRow:
    """The `k` samples of every target that are closest to the query by cosine; the query itself does not count.

    Raises:
        ConfigError: the query has no parts.
    """
    if not query.parts:
        raise ConfigError("a query needs at least one sample", where="gallery", fix="Give it a pool and a number.")
    vector = composed(*(pool.embeddings[number].unsqueeze(0) for pool, number in query.parts))[0]
    found = []
    for target in targets:
        scores = target.embeddings @ vector
        own = [number for pool, number in query.parts if pool is target]
        scores[own] = -torch.inf
        best = scores.topk(min(k, len(scores) - len(own))).indices.tolist()
        found.append([Found(pool=target, number=n, right=query.relevant(target, n)) for n in best])
    return GalleryRow(query=query, found=found)


def draw_gallery(rows: Sequence[GalleryRow], title: str = "") -> Figure:
    """One line per query: its samples, then what it found, each with its label and marked right or wrong.

    Raises:
        ConfigError: there are no rows.
    """
    if not rows:
        raise ConfigError("a gallery needs at least one query", where="gallery", fix="Retrieve something first.")
    asked = max(len(row.query.parts) for row in rows)
    columns = zip_longest(*(row.found for row in rows), fillvalue=())
    places = _places(asked, [max(map(len, column)) for column in columns])
    width, top = places[-1][-1] + _CELL + 0.15, _HEAD if title else 0.12
    height = top + len(rows) * _LINE
    with styled():
        figure = new_figure(width, height)
        figure.set_layout_engine("none")
        if title:
            figure.text(0.12 / width, 1 - 0.22 / height, title, fontsize=11, fontweight="bold", va="center", color=INK)
        for line, row in enumerate(rows):
            base = height - top - line * _LINE - _CELL - 0.22
            _draw_row(figure, row, places, base)
    return figure


def _places(asked: int, found: Sequence[int]) -> list[list[float]]:
    """Left edges in inches of the query's cells and of the cells of each target."""
    left, out = 0.12, []
    for index, count in enumerate([asked, *found]):
        out.append([left + i * (_CELL + 0.1 + (0.1 if not index else 0)) for i in range(count)])
        left = out[-1][-1] + _CELL + (2 * _GAP if not index else _GAP)
    return out


def _draw_row(figure: Figure, row: GalleryRow, places: Sequence[Sequence[float]], base: float) -> None:
    size = figure.get_size_inches()
    first = len(places[0]) - len(row.query.parts)  # a query of one sense stands beside its arrow
    for index, (pool, number) in enumerate(row.query.parts):
        left = places[0][first + index]
        axes = _cell(figure, left, base, pool, number, INK)
        axes.set_title(pool.modality.replace("_", " "), loc="center", fontsize=7.5, color=INK, pad=2.5)
        if index:
            figure.text((left - 0.1) / size[0], (base + _CELL / 2) / size[1], "+", fontsize=13, ha="center",
                        va="center", color=SOFT)  # fmt: skip
    arrow = places[0][-1] + _CELL + _GAP
    figure.text(arrow / size[0], (base + _CELL / 2) / size[1], "→", fontsize=16, ha="center", va="center", color=SOFT)
    for lefts, group in zip(places[1:], row.found, strict=False):  # a query may have fewer targets than another
        for left, item in zip(lefts, group, strict=False):
            axes = _cell(figure, left, base, item.pool, item.number, RIGHT if item.right else WRONG)
            axes.set_title(item.pool.modality.replace("_", " "), loc="left", fontsize=7.5, fontweight="normal",
                           color=SOFT, pad=2.5)  # fmt: skip
            mark, colour = ("✓", RIGHT) if item.right else ("✗", WRONG)
            axes.text(1, 1.005, mark, transform=axes.transAxes, fontsize=10, color=colour, ha="right", va="bottom")


def _cell(figure: Figure, left: float, base: float, pool: Pool, number: int, colour: str) -> Axes:
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, base / height, _CELL / width, _CELL / height))
    draw_sense(axes, pool.kind, pool.modality, pool.load(number))
    for spine in axes.spines.values():
        spine.set(visible=True, edgecolor=FAINT if colour == INK else colour, linewidth=0.8 if colour == INK else 2)
    if pool.labels[number]:
        axes.set_xlabel(_short(pool.labels[number]), fontsize=7, color=SOFT, labelpad=2.5)
    return axes


def _short(label: str, limit: int = 24) -> str:
    return label if len(label) <= limit else label[: limit - 3].rstrip() + "..."
