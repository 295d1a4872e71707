from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from polysense.errors import MediaError
from polysense.processing.image import resized
from polysense.processing.masks import load_masks, resized_masks


def png(picture: Image.Image) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, format="PNG")
    file.seek(0)
    return file


def test_values_are_numbers_of_objects_even_in_a_palette() -> None:
    numbers = np.array([[0, 1], [2, 0]], np.uint8)
    grey, palette = Image.fromarray(numbers), Image.fromarray(numbers, mode="P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    for picture in (grey, palette):
        assert load_masks(png(picture)).tolist() == [numbers.tolist()]


def test_frames_lie_one_below_the_other() -> None:
    film = np.arange(12, dtype=np.uint8).reshape(6, 2)
    masks = load_masks(png(Image.fromarray(film)), frames=3)
    assert masks.shape == (3, 2, 2) and masks[1].tolist() == [[4, 5], [6, 7]]
    with pytest.raises(MediaError, match="6 pixels high"):
        load_masks(png(Image.fromarray(film)), frames=4)


def test_colours_are_no_numbers() -> None:
    with pytest.raises(MediaError, match="mode RGB"):
        load_masks(png(Image.new("RGB", (2, 2))))


@pytest.mark.parametrize("shape", [(8, 8), (8, 20), (21, 8)])
def test_a_mask_is_cut_where_its_picture_is(shape: tuple[int, int]) -> None:
    """An object that fills its half of the picture: both say the same of nearly every pixel."""
    numbers = np.zeros(shape, np.uint8)
    numbers[:, : shape[1] // 2] = 1
    picture = np.repeat(255 * numbers[..., None], 3, axis=2)
    found = resized_masks(numbers[None], 16)[0]
    assert found.shape == (16, 16)
    assert np.mean((resized(picture, 16)[..., 0] > 127) == (found == 1)) > 0.93
