"""How every figure of a report looks."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

INK, SOFT, FAINT, GRID, TINT = "#22282f", "#66707c", "#b4bcc6", "#e8ebef", "#f4f6f9"
RIGHT, WRONG = "#1a8a5a", "#c8443b"

# colours that people with colour-blindness can tell apart (Okabe and Ito), the built-in senses first
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c6d31", "#4c566a")
_SENSES = ("image", "depth", "point_cloud", "video", "audio", "speech", "text", "thermal")

_RC: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK,
    "axes.edgecolor": FAINT, "axes.labelcolor": SOFT, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.titlecolor": INK, "axes.linewidth": 0.8, "axes.grid": True,
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    "grid.color": GRID, "grid.linewidth": 0.8, "xtick.color": SOFT, "ytick.color": SOFT,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "xtick.major.size": 0, "ytick.major.size": 0,
    "legend.frameon": False, "legend.fontsize": 8, "figure.facecolor": "white",
    "text.parse_math": False,  # what users and models write may hold dollar signs, and is drawn as it is
}  # fmt: skip


def colour_of(modality: str) -> str:
    """The one colour of a sense in all figures; senses that the library does not know share the last."""
    return _COLOURS[_SENSES.index(modality)] if modality in _SENSES else _COLOURS[-1]


def stage_colours(count: int) -> list[str]:
    """Colours from the first stage (light) to the last (dark)."""
    if count == 1:
        return ["#1f5f8b"]
    low, high = (0xA9, 0xCD, 0xE6), (0x12, 0x3F, 0x66)
    mixed = [[round(a + (b - a) * i / (count - 1)) for a, b in zip(low, high, strict=True)] for i in range(count)]
    return ["#{:02x}{:02x}{:02x}".format(*each) for each in mixed]


@contextmanager
def styled() -> Iterator[None]:
    """Within this block, new figures have the report's look; nothing global remains changed."""
    with mpl.rc_context(_RC):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` by `height` inches, drawn without a display."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.08))
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as PNG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], gap: float = 0.055) -> None:
    """Write each line's name at its end (x, y, name, colour), moved apart where they would overlap."""
    low, high = axes.get_ylim()
    step, places = gap * (high - low), list[float]()
    ends = sorted(ends, key=lambda end: end[1])
    for end in ends:
        places.append(max(end[1], places[-1] + step) if places else end[1])
    for index in reversed(range(len(places))):  # back from the top, where the names above have pushed them over it
        limit = high if index == len(places) - 1 else places[index + 1] - step
        places[index] = min(places[index], limit)
    for (x, y, name, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            name, (x, y), xytext=(1.015, (place - low) / (high - low)), textcoords=("axes fraction", "axes fraction"),
            color=colour, fontsize=7.5, va="center",
        )  # fmt: skip
