"""Configuration of the small nets that make feature sequences of pictures and sounds.

Annotations are evaluated here (no `from __future__ import annotations`): strict dataclasses check no field whose type
is a string.
"""

from typing import Any

from huggingface_hub.dataclasses import strict

from polysense.errors import ConfigError
from polysense.modality import Modality
from polysense.models.config import PolysenseConfig
from polysense.models.nested import check_limits

_LIMITS = {"channels": 64, "frames_per_step": 64, "height": 4_096, "width": 4_096, "groups": 1_024}
_MAX_WIDTH = 16_384
_MAX_STAGES = 12


@strict
class StepNetConfig(PolysenseConfig):
    """What a `StepNet` is made of; the defaults are those of a film's net on the embedded world.

    Attributes:
        sense: spec of the modality that it was trained on, with the options of its processor, as
            `Modality.to_dict` gives it.
        channels: values per pixel, or 1 for a spectrogram.
        frames_per_step: pictures that one step sees together; two a second show motion.
        height, width: of one picture, or mel bins and frames of one window of a spectrogram.
        widths: channels after each stage, which halves height and width. The last is the width of a token.
        halvings: stages, from the first on, that halve the width; all by default. A spectrogram's width is time, and
            after 2 a column of the raster is 40 ms.
        groups: groups of the norms, a divisor of every width.
        vector: whether a step becomes one vector through a linear layer, as VGGish's does, or keeps its raster.
        parts: of the raster's width, over each of which the linear layer sees mean and maximum (`TimePooling`); with
            0 it sees the raster itself.
        frequencies: lowest ones of the raster's course over its width, whose amplitudes are seen beside them: rhythm,
            whenever it begins.

    Raises:
        ConfigError: sizes out of range or that do not go together.
    """

    model_type = "step_net"

    sense: dict[str, Any] | None = None
    channels: int = 3
    frames_per_step: int = 1
    height: int = 64
    width: int = 64
    widths: list[int] | tuple[int, ...] = (16, 32, 64, 64)
    halvings: int | None = None
    groups: int = 4
    vector: bool = False
    parts: int = 0
    frequencies: int = 0
    layer_norm_eps: float = 1e-5

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        check_limits({name: getattr(self, name) for name in _LIMITS}, _LIMITS, where="StepNetConfig")
        self.widths = list(self.widths)
        fits = all(1 <= width <= _MAX_WIDTH and width % self.groups == 0 for width in self.widths)
        if not 1 <= len(self.widths) <= _MAX_STAGES or not fits:
            raise ConfigError(
                f"widths {self.widths} fit no net with norms of {self.groups} groups", where="StepNetConfig: widths",
                fix=f"Give 1 to {_MAX_STAGES} multiples of it, up to {_MAX_WIDTH}.",
            )  # fmt: skip
        self._check_pooling()
        if self.sense is not None:
            Modality.from_dict(self.sense)

    def _check_pooling(self) -> None:
        if self.halvings is not None and not 0 <= self.halvings <= len(self.widths):
            raise ConfigError(
                f"{self.halvings} of {len(self.widths)} stages cannot halve the width",
                where="StepNetConfig: halvings", fix="Give 0 to as many as there are widths, or leave it out.",
            )  # fmt: skip
        width = self.raster[1]
        if not 0 <= self.parts <= width or not 0 <= self.frequencies <= width // 2:
            raise ConfigError(
                f"{self.parts} parts and {self.frequencies} frequencies do not fit a raster {width} wide",
                where="StepNetConfig: parts, frequencies",
                fix="Give at most a part per column and half as many frequencies.",
            )  # fmt: skip
        if (self.parts and not self.vector) or (self.frequencies and not self.parts):
            raise ConfigError(
                "only vectors have parts, and only parts have frequencies beside them",
                where="StepNetConfig: parts, frequencies", fix="Set vector: true, and parts: 1 or more.",
            )  # fmt: skip

    @property
    def strides(self) -> list[tuple[int, int]]:
        """(height, width) by which each stage shortens a picture."""
        halvings = len(self.widths) if self.halvings is None else self.halvings
        return [(2, 2 if number < halvings else 1) for number in range(len(self.widths))]

    @property
    def raster(self) -> tuple[int, int]:
        """(height, width) after the last stage."""
        height, width = self.height, self.width
        for down, along in self.strides:
            height, width = -(-height // down), -(-width // along)
        return height, width

    @property
    def senses(self) -> dict[str, Modality]:
        """The sense that it was made for, with the options of its processor; none where it was not told."""
        if self.sense is None:
            return {}
        spec = Modality.from_dict(self.sense)
        return {spec.name: spec}


__all__ = ["StepNetConfig"]
