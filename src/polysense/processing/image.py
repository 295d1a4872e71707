"""Pictures: CLIP's pipeline for RGB, and its general form for any picture-like sense.

`GridProcessor` serves every sense that is a raster of values: subclass it, or register it with other options (a
thermal camera needs `scale`, `offset`, `mean` and `std` only). `ImageProcessor` is `GridProcessor` with CLIP's
published values and agrees with Hugging Face's `CLIPImageProcessorPil` to 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Shaped
from PIL import Image, ImageOps
from torch import Tensor
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from polysense.errors import MediaError
from polysense.processing import media
from polysense.processing.arrays import in_memory_array, read_npy
from polysense.processing.augment import View, draw_view
from polysense.processing.base import Facts, ModalityProcessor

_PIL_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ROUNDING = 1e-3  # of full scale, by which resampled floats may leave the range
_LONGEST_WHOLE = 16  # longer to shorter side, up to which a picture is resized whole, as HF does


@dataclass(frozen=True, kw_only=True)
class GridProcessor(ModalityProcessor):
    """A raster of values: resize the shorter side, cut out the centre, scale, normalise.

    The features are `((values * scale + offset) - mean) / std`, `channels height width`.

    Attributes:
        mean: one number, or one per channel, in the unit that `scale` and `offset` lead to.
        std: likewise.
        scale: factor from stored values to that unit (0.01 for centikelvin to kelvin).
        offset: added after scaling (-273.15 for kelvin to degrees Celsius).
        crop_scale: in training, smallest and largest share of the area kept by a random crop; the published recipes
            use 0.08 to 1, which loses small objects.
        flip: in training, mirror half of the samples.
    """

    kind: ClassVar[str] = "grid"
    formats: ClassVar[tuple[str, ...]] = (*media.PICTURES, "NumPy array")

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1.0
    offset: float = 0.0
    crop_scale: tuple[float, float] = (0.5, 1.0)
    flip: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mean", "std"):
            self._require(len(getattr(self, name)) in (1, self.channels), name, "one number or one per channel")
        self._require(min(self.std) > 0, "std", "above 0")
        self._require(0 < self.crop_scale[0] <= self.crop_scale[1] <= 1, "crop_scale", "two ordered shares in (0, 1]")

    def load(self, source: Any, facts: Facts | None = None) -> Shaped[np.ndarray, "height width channels"]:
        """Values as stored: integers of the file's width, or float32.

        Args:
            source: path, bytes or binary file of a picture or .npy array; a PIL picture; an array `height width` or
                `height width channels`.
            facts: not used.

        Raises:
            MediaError: unreadable, too large, with another number of channels, or with values that are not finite.
        """
        name = media.source_name(source)
        if isinstance(source, Image.Image):
            with media.decoding(name, "picture"):  # an opened one is read only now
                values = self._upright(source, name)
        elif (array := in_memory_array(source)) is not None:
            values = array
        else:
            with media.open_media(source, self.formats) as opened:
                values = read_npy(opened) if opened.kind == "NumPy array" else self._decode(opened)
        return self._checked(values, name)

    def features(
        self, raw: Shaped[np.ndarray, "height width channels"], rng: np.random.Generator | None = None
    ) -> Float[Tensor, "channels size size"]:
        """Resize (bicubic), crop and normalise; with `rng`, a random crop and flip instead of the centre."""
        view = None if rng is None else draw_view(rng, raw.shape[0], raw.shape[1], self.crop_scale, self.flip)
        values = self._scaled(resized(raw, self.size, view))
        return self._normalised(values if rng is None else self._augmented(values, rng))

    def _augmented(
        self, values: Float[np.ndarray, "channels size size"], rng: np.random.Generator
    ) -> Float[np.ndarray, "channels size size"]:
        """Place for a subclass's further augmentation of values in physical units."""
        return values

    def _scaled(self, pixels: Shaped[np.ndarray, "... height width channels"]) -> Float[np.ndarray, " ..."]:
        values = np.moveaxis(pixels, -1, -3).astype(np.float32)
        return values * np.float32(self.scale) + np.float32(self.offset)

    def _normalised(self, values: Float[np.ndarray, "... channels size size"]) -> Float[Tensor, " ..."]:
        mean = np.array(self.mean, np.float32)[:, None, None]
        std = np.array(self.std, np.float32)[:, None, None]
        return torch.from_numpy(np.ascontiguousarray((values - mean) / std))

    def _decode(self, opened: media.MediaFile) -> Shaped[np.ndarray, "height width channels"]:
        with media.decoding(opened.name, opened.kind), Image.open(opened.file, formats=_PIL_FORMATS) as picture:
            return self._upright(picture, opened.name)

    def _upright(self, picture: Image.Image, name: str) -> Shaped[np.ndarray, "height width channels"]:
        """Values of a picture as the camera was held."""
        media.check_picture_size(*picture.size, name)
        picture.load()
        return self._picture_values(ImageOps.exif_transpose(picture), name)

    def _picture_values(self, picture: Image.Image, name: str) -> Shaped[np.ndarray, "height width channels"]:
        if picture.mode in ("I;16", "I;16B", "I", "F"):
            if self.channels != 1:
                raise MediaError(f"has one channel of mode {picture.mode}, and {self.modality} takes {self.channels} "
                                 "8-bit channels", where=name, fix="Convert it to 8-bit RGB.")  # fmt: skip
            return np.asarray(picture)[..., None]
        if self.channels not in _MODES:
            raise MediaError(f"is a picture, and {self.modality} takes {self.channels} channels", where=name,
                             fix="Store it as a .npy array of height, width, channels.")  # fmt: skip
        return np.asarray(picture.convert(_MODES[self.channels])).reshape(picture.height, picture.width, self.channels)

    def _checked(self, values: Shaped[np.ndarray, " ..."], name: str) -> Shaped[np.ndarray, "height width channels"]:
        values = values[..., None] if values.ndim == 2 else values
        if values.ndim != 3 or values.shape[2] != self.channels:
            raise MediaError(f"has shape {values.shape}, and {self.modality} takes height, width, {self.channels}",
                             where=name, fix="Put the channels last and give that many.")  # fmt: skip
        media.check_picture_size(values.shape[1], values.shape[0], name)
        if values.dtype.kind in "iu":
            return values
        if values.dtype.kind not in "bf":
            raise MediaError(f"has values of type {values.dtype}", where=name, fix="Give integers or floats.")
        if not np.isfinite(values).all():
            raise MediaError("has values that are not finite", where=name, fix="Replace NaN and infinity.")
        return values.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class ImageProcessor(GridProcessor):
    """RGB pictures with CLIP's statistics (method of Radford et al. 2021; parity with HF's CLIPImageProcessorPil).

    Arrays hold 0 to 255 as stored in 8 bits; floats none of which is above 1 are shares of that.
    """

    formats: ClassVar[tuple[str, ...]] = media.PICTURES
    fact_names: ClassVar[tuple[str, ...] | None] = ()

    mean: tuple[float, ...] = tuple(OPENAI_CLIP_MEAN)
    std: tuple[float, ...] = tuple(OPENAI_CLIP_STD)
    scale: float = 1 / 255

    def _checked(self, values: Shaped[np.ndarray, " ..."], name: str) -> Shaped[np.ndarray, "height width channels"]:
        checked, white = super()._checked(values, name), 1 / self.scale
        lowest, highest = float(checked.min()), float(checked.max())
        if checked.dtype.kind == "f" and lowest >= 0 and highest <= 1 + _ROUNDING:
            return checked * np.float32(white)
        if lowest < -_ROUNDING * white or highest > (1 + _ROUNDING) * white:
            raise MediaError(f"has values from {lowest:g} to {highest:g}, and {self.modality} takes 0 to {white:g}",
                             where=name, fix="Convert it to 8 bits, or to floats from 0 to 1.")  # fmt: skip
        return checked


def resized(
    pixels: Shaped[np.ndarray, "height width channels"], size: int, view: View | None = None
) -> Shaped[np.ndarray, "size size channels"]:
    """Bicubic resize with anti-aliasing: of the shorter side to `size`, then the centre; or of `view` alone."""
    bicubic = Image.Resampling.BICUBIC
    if view is None:
        return _by_picture(pixels, lambda picture: centre_cut(picture, size, bicubic))
    out = _by_picture(pixels, lambda picture: np.asarray(picture.resize((size, size), bicubic, view.box)))
    return out[:, ::-1] if view.flip else out


def centre_cut(
    picture: Image.Image, size: int, resampling: Image.Resampling
) -> Shaped[np.ndarray, "size size *channels"]:
    """The centre of a picture whose shorter side is resized to `size`, in memory that `size` bounds."""
    (width, height), short = picture.size, min(picture.size)
    # the longer side is truncated, not rounded: so does HF, and the crop below depends on it
    whole = (int(size * width / short), int(size * height / short))
    left, top = (whole[0] - size) // 2, (whole[1] - size) // 2
    if max(picture.size) <= _LONGEST_WHOLE * short:
        return np.asarray(picture.resize(whole, resampling))[top : top + size, left : left + size]
    # a box is rounded to 32 bits, which would part ordinary pictures from HF's in the last bit
    box = (left * width / whole[0], top * height / whole[1])
    end = ((left + size) * width / whole[0], (top + size) * height / whole[1])
    return np.asarray(picture.resize((size, size), resampling, (*box, *end)))


def _by_picture(
    pixels: Shaped[np.ndarray, "height width channels"],
    resample: Callable[[Image.Image], Shaped[np.ndarray, "new_height new_width *bands"]],
) -> Shaped[np.ndarray, "new_height new_width channels"]:
    """What `resample` makes of PIL's form of the pixels: 8-bit as they are, all else channel by channel as floats."""
    channels = pixels.shape[2]
    if pixels.dtype == np.uint8 and channels in (1, 3):
        out = resample(Image.fromarray(np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels)))
        return out.reshape(*out.shape[:2], channels)
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 0), dtype=np.float32)
    return np.stack([resample(Image.fromarray(plane)) for plane in planes], axis=-1)
