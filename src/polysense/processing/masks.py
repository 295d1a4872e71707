"""Instance masks: pictures whose values are the numbers of objects, never colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from polysense.errors import MediaError
from polysense.processing import media
from polysense.processing.image import centre_cut

_MODES = ("1", "L", "P")  # of a palette the index counts, as in DAVIS and Ref-Youtube-VOS


def load_masks(source: Any, frames: int = 1) -> UInt8[np.ndarray, "frames height width"]:
    """Object numbers per pixel, 0 where there is none.

    Args:
        source: path, bytes or binary file of a PNG, 8 bits or fewer per pixel.
        frames: how many masks lie in it, one below the other.

    Raises:
        MediaError: unreadable, in colours, or of a height that is no multiple of `frames`.
    """
    with media.open_media(source, ("PNG picture",)) as opened:
        name = opened.name
        with media.decoding(name, opened.kind), Image.open(opened.file, formats=("PNG",)) as picture:
            media.check_picture_size(*picture.size, name)
            mode, numbers = picture.mode, np.asarray(picture, dtype=np.uint8)
    if mode not in _MODES:
        raise MediaError(f"has pixels of mode {mode}, which are no object numbers", where=name,
                         fix="Save the mask with one value of 8 bits per pixel.")  # fmt: skip
    if frames < 1 or len(numbers) % frames:
        raise MediaError(f"is {len(numbers)} pixels high, which are no {frames} masks", where=name,
                         fix="Correct the number of frames.")  # fmt: skip
    return numbers.reshape(frames, -1, numbers.shape[1])


def resized_masks(masks: UInt8[np.ndarray, "frames height width"], size: int) -> UInt8[np.ndarray, "frames size size"]:
    """Nearest resize of the shorter side to `size`, then the centre: where `ImageProcessor` takes its picture from."""
    return np.stack([centre_cut(Image.fromarray(mask), size, Image.Resampling.NEAREST) for mask in masks])
