"""Which codes the senses share: COMET's Figure 3, and a map of the codebook."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from polysense.errors import ConfigError
from polysense.metrics import CodeActivation
from polysense.report.style import FAINT, SOFT, new_figure, styled

_LEVELS = ("#22282f", "#2f6fb5", "#1a8a5a", "#c8443b")
"""Black, blue, green, red: activated by none, one, two, three senses, as in Figure 3."""


def level_colours(senses: int) -> list[str]:
    """Colour of being activated by 0, 1, ... senses; with more than three the last are drawn from a scale."""
    if senses < len(_LEVELS):
        return list(_LEVELS[: senses + 1])
    scale = mpl.colormaps["plasma"]
    further = [mpl.colors.to_hex(scale(0.15 + 0.8 * number / senses)) for number in range(senses - 2)]
    return [*_LEVELS, *further[1:]]


def plot_activation(methods: Mapping[str, CodeActivation]) -> Figure:
    """A panel per method with a square per code, the most shared first, and how large a part each level has.

    Args:
        methods: name to the activation of its codes; all by the same senses.

    Raises:
        ConfigError: there is nothing to draw, or the senses differ.
    """
    senses = _common_senses(methods)
    colours = level_colours(len(senses))
    with styled():
        figure = new_figure(3.1 * len(methods) + 0.3, 3.6)
        panels = figure.subplots(1, len(methods), squeeze=False)[0]
        for axes, (name, activation) in zip(panels, methods.items(), strict=True):
            _squares(axes, activation, colours)
            shared = sum(share for level, share in activation.level_shares.items() if level >= 2)
            axes.set_title(name)
            axes.set_xlabel(f"in two senses or more {100 * shared:.0f} %, in none {_percent(activation, 0)} %")
        figure.legend(handles=_legend(colours, senses), loc="outside lower center", ncols=len(colours))
    return figure


def plot_code_map(codebook: Float[Tensor, "size dim"], activation: CodeActivation, title: str = "") -> Figure:
    """The codes in the plane of their two main directions, coloured as in `plot_activation`, larger the more used.

    Args:
        codebook: the code vectors.
        activation: of these codes.

    Raises:
        ConfigError: the codebook has another size than what was counted, or fewer than three codes.
    """
    size = activation.hits.shape[1]
    if len(codebook) != size or size < 3:
        raise ConfigError(f"a codebook of {len(codebook)} beside the use of {size} codes", where="code map",
                          fix="Give the codebook whose codes were counted.")  # fmt: skip
    places, explained = _plane(codebook)
    colours = level_colours(len(activation.senses))
    use = (activation.hits / activation.hits.sum(dim=1, keepdim=True)).mean(dim=0)
    areas = (14 + 110 * use / use.max()).numpy()
    with styled():
        figure = new_figure(5.4, 5.0)
        axes = figure.subplots()
        level = activation.level.tolist()
        order = np.argsort(level, kind="stable")  # shared codes lie over the others
        shown = [colours[level[number]] for number in order]
        axes.scatter(
            places[order, 0], places[order, 1], s=areas[order], c=shown, alpha=0.85, linewidths=0.4, edgecolors="white"
        )
        axes.set(xlabel=f"first direction ({explained[0]:.0f} % of the variance)",
                 ylabel=f"second direction ({explained[1]:.0f} %)", xticks=[], yticks=[])  # fmt: skip
        axes.set_title(title or "Codes by the senses that activate them")
        figure.legend(handles=_legend(colours, activation.senses), loc="outside lower center", ncols=len(colours))
    return figure


def activation_rows(methods: Mapping[str, CodeActivation]) -> list[str]:
    """A Markdown table: per method the shares of codes that no, one, two ... senses activate, and the dead share.

    Raises:
        ConfigError: see `plot_activation`.
    """
    senses = _common_senses(methods)
    heads = ["method", *(_level_name(level, senses) for level in range(len(senses) + 1)), "dead", "codes"]
    rows = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for name, each in methods.items():
        shares = [f"{100 * share:.1f} %" for share in each.level_shares.values()]
        rows.append(f"| {name} | {' | '.join(shares)} | {100 * each.dead:.1f} % | {each.hits.shape[1]} |")
    return rows


def _common_senses(methods: Mapping[str, CodeActivation]) -> tuple[str, ...]:
    kinds = {each.senses for each in methods.values()}
    if len(kinds) != 1:
        raise ConfigError(f"{len(methods)} methods use codes by {len(kinds)} sets of senses", where="code activation",
                          fix="Draw methods whose codes were counted on the same senses.")  # fmt: skip
    return kinds.pop()


def _squares(axes: Axes, activation: CodeActivation, colours: list[str]) -> None:
    levels = activation.level.sort(descending=True).values.numpy()
    side = int(np.ceil(np.sqrt(len(levels))))
    for number, level in enumerate(levels):
        row, column = divmod(number, side)
        axes.add_patch(mpl.patches.Rectangle((column, row), 0.84, 0.84, color=colours[level], linewidth=0))
    axes.set(xlim=(-0.4, side + 0.24), ylim=(side + 0.24, -0.4), xticks=[], yticks=[])
    axes.set_aspect("equal")
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, edgecolor=FAINT)
    axes.xaxis.label.set(color=SOFT, fontsize=8)


def _plane(vectors: Float[Tensor, "size dim"]) -> tuple[np.ndarray, list[float]]:
    """Coordinates in the plane of largest variance, and the percentages of it; signs are fixed."""
    centred = vectors.detach().double().cpu() - vectors.detach().double().cpu().mean(dim=0)
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    pick = directions[:2]
    signs = pick.gather(1, pick.abs().argmax(dim=1, keepdim=True)).sign()
    parts = 100 * values.square() / values.square().sum().clamp(min=1e-12)
    return (centred @ (pick * signs).t()).numpy(), parts[:2].tolist()


def _legend(colours: list[str], senses: tuple[str, ...]) -> list[Line2D]:
    return [
        Line2D([], [], marker="s", linestyle="", markersize=6, color=colour, label=_level_name(level, senses))
        for level, colour in enumerate(colours)
    ]


def _level_name(level: int, senses: tuple[str, ...]) -> str:
    if level == len(senses) > 1:
        return f"all {level} senses"
    return {0: "no sense", 1: "one sense"}.get(level, f"{level} senses")


def _percent(activation: CodeActivation, level: int) -> str:
    return f"{100 * activation.level_shares[level]:.0f}"
