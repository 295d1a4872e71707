"""Random draws of training augmentation, every one from the generator handed in.

What is drawn is kept apart from how it is applied, so that all frames of a clip share one view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image

_CROP_TRIES = 10
_RATIO = (3 / 4, 4 / 3)  # width to height of a random crop
_ERASE_AREA, _ERASE_RATIO = (0.02, 0.33), (0.3, 3.3)


@dataclass(frozen=True)
class View:
    """The part of a picture that is shown.

    Attributes:
        box: left, top, right, bottom in pixels.
        flip: whether left and right are exchanged.
    """

    box: tuple[int, int, int, int]
    flip: bool


def draw_view(rng: np.random.Generator, height: int, width: int, scale: tuple[float, float], flip: bool) -> View:
    """RandomResizedCrop and horizontal flip (Szegedy et al. 2015, as in torchvision).

    Args:
        scale: smallest and largest share of the area that a crop keeps.
        flip: whether half of the views are mirrored.
    """
    mirrored = bool(flip and rng.random() < 0.5)
    for _ in range(_CROP_TRIES):
        area = height * width * rng.uniform(*scale)
        ratio = float(np.exp(rng.uniform(*np.log(_RATIO))))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return View((left, top, left + w, top + h), mirrored)
    side_w, side_h = min(width, round(height * _RATIO[1])), min(height, round(width / _RATIO[0]))
    left, top = (width - side_w) // 2, (height - side_h) // 2
    return View((left, top, left + side_w, top + side_h), mirrored)


def erase(
    pixels: Float[np.ndarray, "channels height width"], rng: np.random.Generator, probability: float
) -> Float[np.ndarray, "channels height width"]:
    """RandomErasing (Zhong et al. 2017): with `probability`, one rectangle becomes zero."""
    if rng.random() >= probability:
        return pixels
    _, height, width = pixels.shape
    for _ in range(_CROP_TRIES):
        area = height * width * rng.uniform(*_ERASE_AREA)
        ratio = float(np.exp(rng.uniform(*np.log(_ERASE_RATIO))))
        h, w = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < h < height and 0 < w < width:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            pixels = pixels.copy()
            pixels[:, top : top + h, left : left + w] = 0
            return pixels
    return pixels


def warp(
    pixels: Float[np.ndarray, "channels height width"], rng: np.random.Generator, operations: int, magnitude: int
) -> Float[np.ndarray, "channels height width"]:
    """The geometric operations of RandAugment (Cubuk et al. 2019): identity, shear, translation, rotation.

    Colour operations have no meaning for distances and temperatures and are left out.

    Args:
        operations: how many are drawn and applied in turn.
        magnitude: 0 to 30, as in the paper; at 30 shear is 0.3, translation 0.45 of the side, rotation 30 degrees.
    """
    strength = magnitude / 30
    for _ in range(operations):
        kind, sign = int(rng.integers(6)), 1 if rng.random() < 0.5 else -1
        matrix = _affine(kind, sign * strength, pixels.shape[2], pixels.shape[1])
        if matrix is not None:
            pixels = np.stack([_transformed(channel, matrix) for channel in pixels])
    return pixels


def _affine(kind: int, strength: float, width: int, height: int) -> tuple[float | int, ...] | None:
    """PIL's output-to-input matrix (a, b, c, d, e, f) about the centre; None for the identity."""
    cx, cy = width / 2, height / 2  # PIL measures from the corner of the first pixel
    if kind in (1, 2):
        shear = 0.3 * strength
        return (1, shear, -shear * cy, 0, 1, 0) if kind == 1 else (1, 0, 0, shear, 1, -shear * cx)
    if kind in (3, 4):
        shift = 0.45 * strength
        return (1, 0, shift * width, 0, 1, 0) if kind == 3 else (1, 0, 0, 0, 1, shift * height)
    if kind == 5:
        cos, sin = np.cos(np.deg2rad(30 * strength)), np.sin(np.deg2rad(30 * strength))
        return (cos, sin, cx - cos * cx - sin * cy, -sin, cos, cy + sin * cx - cos * cy)
    return None


def _transformed(channel: NDArray[np.float32], matrix: tuple[float | int, ...]) -> NDArray[np.float32]:
    picture = Image.fromarray(np.ascontiguousarray(channel, dtype=np.float32))
    warped = picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(warped, dtype=np.float32)
