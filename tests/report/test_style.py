"""One look for all figures, which leaves those of others alone."""

from __future__ import annotations

import io

import matplotlib as mpl
import pytest
from PIL import Image

from polysense.modality import registered_modalities
from polysense.report.style import GRID, colour_of, label_ends, new_figure, stage_colours, styled, to_png


def places(heights: list[float]) -> dict[str, float]:
    """Where labels of lines that end at these heights stand, in shares of the axes' height."""
    axes = new_figure(2.0, 2.0).add_subplot()
    axes.set_ylim(0, 2)
    label_ends(axes, [(1.0, 2 * y, str(index), "#000000") for index, y in enumerate(heights)], gap=0.1)
    return {text.get_text(): round(text.xyann[1], 6) for text in axes.texts}  # type: ignore[attr-defined]


def test_every_built_in_sense_has_a_colour_of_its_own() -> None:
    senses = sorted(registered_modalities())
    assert len({colour_of(sense) for sense in [*senses, "unheard of"]}) == len(senses) + 1
    assert colour_of("unheard of") == colour_of("unseen")


def test_stages_go_from_light_to_dark_in_even_steps() -> None:
    assert stage_colours(3) == ["#a9cde6", "#5e86a6", "#123f66"]
    assert len(stage_colours(1)) == 1 and stage_colours(0) == []


def test_the_look_ends_with_its_block_even_after_an_error() -> None:
    before = mpl.rcParams["grid.color"]
    with pytest.raises(KeyError), styled():
        assert mpl.rcParams["grid.color"] == GRID
        raise KeyError
    assert mpl.rcParams["grid.color"] == before != GRID


def test_a_figure_has_the_size_that_was_asked_for() -> None:
    picture = Image.open(io.BytesIO(to_png(new_figure(2.0, 1.5), dpi=40)))
    assert picture.size == (80, 60) and "Software" not in picture.info


def test_labels_stay_where_there_is_room() -> None:
    assert places([0.8, 0.2, 0.5]) == {"0": 0.8, "1": 0.2, "2": 0.5}


def test_labels_that_would_overlap_move_up_in_the_order_of_their_lines() -> None:
    assert places([0.5, 0.45, 0.52]) == {"1": 0.45, "0": 0.55, "2": 0.65}


def test_labels_at_the_top_move_down_instead() -> None:
    assert places([1.0, 0.95, 0.3]) == {"2": 0.3, "1": 0.9, "0": 1.0}
