from __future__ import annotations

import pytest
import torch

from polysense.errors import ConfigError
from polysense.metrics import CodeActivation, code_activation
from polysense.report import activation_rows, plot_activation, plot_code_map, to_png
from polysense.report.codes import level_colours


def activation(senses: int = 3) -> CodeActivation:
    """Code 0 by all senses, 1 by the first alone, 2 by none, 3 by the first two."""
    rows = [[10, 10, 0, 10], [10, 0, 1, 10], [10, 0, 0, 0], [10, 0, 0, 0]]
    names = ("video", "audio", "text", "image")
    return code_activation({name: torch.tensor(row) for name, row in zip(names[:senses], rows, strict=False)})


def test_the_table_has_a_column_for_every_number_of_senses() -> None:
    rows = activation_rows({"DCID": activation(), "DCID + COMET": activation()})
    assert rows[0] == "| method | no sense | one sense | 2 senses | all 3 senses | dead | codes |"
    assert rows[1].count("---") == 7
    assert rows[2] == "| DCID | 25.0 % | 25.0 % | 25.0 % | 25.0 % | 0.0 % | 4 |"


def test_figure_3_has_a_panel_per_method_and_a_square_per_code() -> None:
    figure = plot_activation({"DCID": activation(), "DCID + COMET": activation()})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["DCID", "DCID + COMET"]
    colours = [patch.get_facecolor()[:3] for patch in figure.axes[0].patches]
    assert len(colours) == 4 and len(set(colours)) == 4
    assert "in two senses or more 50 %, in none 25 %" in figure.axes[0].get_xlabel()
    assert to_png(figure).startswith(b"\x89PNG")


def test_the_map_is_the_same_whenever_it_is_drawn() -> None:
    codes = torch.randn(4, 6)
    assert to_png(plot_code_map(codes, activation())) == to_png(plot_code_map(codes, activation()))


def test_two_senses_have_no_red_and_five_have_colours_of_their_own() -> None:
    assert len(level_colours(2)) == 3 and level_colours(3)[:3] == level_colours(2)
    for senses in (4, 5, 8):
        assert len(set(level_colours(senses))) == senses + 1
    assert to_png(plot_activation({"a": activation(4)}))


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 methods"):
        plot_activation({})
    with pytest.raises(ConfigError, match="2 sets of senses"):
        activation_rows({"a": activation(2), "b": activation(3)})
    with pytest.raises(ConfigError, match="codebook of 5"):
        plot_code_map(torch.randn(5, 6), activation())
