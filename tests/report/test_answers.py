"""A file is drawn beside what was asked about it, what was answered and what is right."""

from __future__ import annotations

import numpy as np
import pytest

from polysense.errors import ConfigError
from polysense.report import Told, draw_answers, to_png


def test_every_file_has_its_drawing_and_all_its_turns() -> None:
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    turns = [("what is it ?", "a cup", "a red cup"), ("how large ?", "small " * 40, "small")]
    told = Told(modality="image", kind="grid", raw=picture, source="x.png", turns=turns)
    figure = draw_answers([told, Told(modality="point_cloud", kind="points", raw=np.eye(6), source="y", turns=turns)])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["image", "point cloud"]
    texts = [text.get_text() for text in figure.texts]
    assert len(texts) == 12 and texts[:3] == ["asked    what is it ?", "answered a cup", "right    a red cup"]
    assert texts[4].endswith(" ...") and len(texts[4]) < 90
    assert to_png(figure, dpi=30).startswith(b"\x89PNG")


def test_an_answer_with_dollar_signs_is_drawn_as_it_is() -> None:
    turns = [("how much ?", r"$\frac{a and $5", "$5 or $6")]
    told = Told(modality="image", kind="grid", raw=np.zeros((8, 8, 3), dtype=np.uint8), source="x.png", turns=turns)
    assert to_png(draw_answers([told]), dpi=30).startswith(b"\x89PNG")


def test_nothing_to_show_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is nothing to show"):
        draw_answers([])
