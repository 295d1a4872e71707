"""Features that were computed elsewhere, as sequences of a fixed number of steps (VGGish, VGG19, BERT ...)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from polysense.errors import FeatureShapeError, MediaError
from polysense.processing import media
from polysense.processing.arrays import in_memory_array, read_npy
from polysense.processing.base import Facts, ModalityProcessor

Fit = Literal["cut", "repeat", "resample"]


def fit_steps(sequence: Float[Tensor, "time ..."], steps: int, how: Fit) -> Float[Tensor, "fitted ..."]:
    """A sequence of `steps` steps, or of fewer real ones.

    Args:
        how: "cut" leaves out what is longer, and what is shorter to a batch's padding (CMG's ten words); "repeat" cuts
            too, and repeats the last step (CMG's ten seconds); "resample" averages the steps that fall into each of
            `steps` equal spans, and repeats them where there are fewer.

    Raises:
        FeatureShapeError: the sequence has no step.
    """
    length = len(sequence)
    if not length:
        raise FeatureShapeError("a sequence has no steps", fix="Leave the sample out.")
    if how == "resample":
        spans = [(step * length // steps, max(-(-(step + 1) * length // steps), 1)) for step in range(steps)]
        return torch.stack([sequence[start:end].mean(dim=0) for start, end in spans])
    kept = sequence[:steps]
    if how == "cut" or len(kept) == steps:
        return kept
    return torch.cat([kept, kept[-1:].expand(steps - len(kept), *kept.shape[1:])])


@dataclass(frozen=True, kw_only=True)
class SequenceProcessor(ModalityProcessor):
    """Sequences from .npy files or arrays: `time channels`, or `time height width channels` with a raster.

    Attributes:
        raster: (height, width) of each step; empty where a step is one vector.
        sequence: whether the first axis of an array is time; without it, a single step (a picture) is meant.
    """

    kind: ClassVar[str] = "sequence"
    time_axis: ClassVar[bool] = True

    raster: tuple[int, ...] = ()
    sequence: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = len(self.raster) in (0, 2) and all(side >= 1 for side in self.raster)
        self._require(fits, "raster", "empty, or height and width")

    def load(self, source: Any, facts: Facts | None = None) -> Float[np.ndarray, "time ..."]:
        """The stored steps as 32-bit floats.

        Args:
            source: path, bytes or binary file of .npy; or an array.
            facts: not used.

        Raises:
            MediaError: unreadable, of another shape or type, without a step, or with values that are not finite.
        """
        name = media.source_name(source)
        if (array := in_memory_array(source)) is None:
            with media.open_media(source, ("NumPy array",)) as opened:
                array = read_npy(opened)
        values = array if self.sequence else array[None]
        return self._checked(values, name)

    def features(
        self, raw: Float[np.ndarray, "time ..."], rng: np.random.Generator | None = None
    ) -> Float[Tensor, "time ..."]:
        """The steps as they are; features have no augmentation."""
        return torch.from_numpy(raw)

    def _checked(self, values: Shaped[np.ndarray, " ..."], name: str) -> Float[np.ndarray, "time ..."]:
        wanted = (*self.raster, self.channels)
        if values.dtype.kind not in "fiu":
            raise MediaError(f"holds values of type {values.dtype}, not real numbers", where=name,
                             fix="Save features as floating-point numbers.")  # fmt: skip
        if values.shape[1:] != wanted or values.ndim != len(wanted) + 1:
            raise MediaError(f"has shape {values.shape}, and a step of {self.modality} is {wanted}", where=name,
                             fix="Correct the sizes in the configuration, or extract the features anew.")  # fmt: skip
        if not len(values):
            raise MediaError("has no steps", where=name, fix="Leave the sample out, or extract its features anew.")
        if not np.isfinite(values).all():
            raise MediaError("has features that are not finite numbers", where=name,
                             fix="Extract them anew, or drop the sample.")  # fmt: skip
        return np.ascontiguousarray(values, np.float32)
