"""A drawing shows what its sample holds: frames in order, pitch upward, near points over far ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from numpy.typing import NDArray

from polysense.report import draw_sense
from polysense.report.style import new_figure

_RAW: dict[str, Any] = {
    "grid": np.full((4, 4, 1), 0.5), "frames": np.zeros((3, 4, 4, 3), dtype=np.uint8),
    "spectrogram": np.zeros(100), "points": np.random.default_rng(0).normal(size=(20, 6)), "odd": np.zeros(3),
}  # fmt: skip


def drawn(kind: str, modality: str, raw: Any) -> Axes:
    axes = new_figure(1.0, 1.0).add_subplot()
    draw_sense(axes, kind, modality, raw)
    return axes


def picture(kind: str, modality: str, raw: Any) -> NDArray[Any]:
    return np.asarray(drawn(kind, modality, raw).images[0].get_array())


@pytest.mark.parametrize("kind", _RAW)
def test_every_kind_has_a_picture(kind: str) -> None:
    axes = drawn(kind, "thermal", _RAW[kind])
    assert axes.images or axes.collections or [text.get_text() for text in axes.texts] == ["thermal"]
    assert not len(axes.get_xticks()) and not len(axes.get_yticks())


def test_text_is_wrapped_into_its_cell() -> None:
    axes = drawn("text", "text", "a large red metal cube beside a small blue sphere " * 5)
    lines = axes.texts[0].get_text().splitlines()
    assert len(lines) == 6 and max(map(len, lines)) <= 17 and lines[-1].endswith("...")


def test_colours_stay_as_they_are_whatever_their_range() -> None:
    raw = np.array([[[255, 0, 51]]], dtype=np.uint8)
    assert picture("grid", "image", raw).tolist() == [[[255, 0, 51]]]
    assert picture("grid", "image", raw / np.float32(255)).tolist() == [[[255, 0, 51]]]


@pytest.mark.parametrize(("modality", "missing"), [("depth", 1.0), ("thermal", 0.0)])
def test_what_was_not_measured_is_black(modality: str, missing: float) -> None:
    shown = picture("grid", modality, np.array([[0.1, 0.2], [0.3, missing]])[..., None])
    assert (shown[1, 1] == 0).all() and all(shown[y, x].any() for y, x in [(0, 0), (0, 1), (1, 0)])


def test_four_frames_spread_over_the_film_are_read_like_text() -> None:
    film = np.stack([np.full((4, 4, 3), 10 * number, dtype=np.uint8) for number in range(7)])
    shown = picture("frames", "video", film)
    assert shown.shape == (12, 12, 3), "two by two frames of four pixels, each with a margin of one"
    assert shown[[2, 2, 8, 8], [2, 8, 2, 8], 0].tolist() == [0, 20, 40, 60]


def test_a_tone_is_a_bright_line_at_its_frequency_from_when_it_begins() -> None:
    wave = np.sin(2 * np.pi * np.arange(4096) / 16)  # 32 periods in a window of 512
    wave[:2048] = 0
    loudness = picture("spectrogram", "audio", wave)
    columns = (4096 - 512) // 128 + 1
    assert loudness.shape == (127, columns)
    assert loudness[:, -1].argmax() == 31, "the constant part is not drawn, so that row 31 is 32 periods"
    assert (loudness[:, 0] == loudness[0, 0]).all() and loudness[:, -1].max() > loudness[0, 0] + 5


def test_near_points_of_a_floor_are_drawn_over_far_ones() -> None:
    floor = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    floor[:, 2] = 0
    axes = drawn("points", "point_cloud", floor)
    heights = np.asarray(axes.collections[0].get_offsets())[:, 1]
    assert (np.diff(heights) <= 0).all(), "what lies farther on a floor is seen higher up, and comes first"


def test_point_colours_may_be_bytes_or_shares() -> None:
    places, colours = np.eye(3), np.array([[255, 0, 0], [0, 255, 0], [0, 0, 51]])
    as_bytes, as_shares = (drawn("points", "point_cloud", np.hstack([places, c])) for c in (colours, colours / 255))
    first, second = (np.asarray(axes.collections[0].get_facecolor()) for axes in (as_bytes, as_shares))
    np.testing.assert_allclose(first, second)
    assert sorted(first[:, :3].sum(axis=1).round(3).tolist()) == [0.2, 1.0, 1.0]
