"""Batches that mix modalities: group, stack, and remember where every sample came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from polysense.errors import FeatureShapeError, UnknownModalityError
from polysense.processing.base import ModalityProcessor


@dataclass(frozen=True)
class MixedBatch:
    """What `collate` returns.

    Attributes:
        inputs: modality to the keyword arguments of a model, values and masks; batch sizes differ between modalities.
        index: modality to the positions that its rows had in the mixed list, ascending.
    """

    inputs: dict[str, dict[str, Tensor]]
    index: dict[str, Int[Tensor, " rows"]]

    def merged(self) -> dict[str, Tensor]:
        """All inputs in one dictionary, as `model(**inputs)` takes them."""
        return {key: value for inputs in self.inputs.values() for key, value in inputs.items()}

    def undo(self, outputs: Mapping[str, Sequence[Any] | Tensor]) -> list[Any]:
        """Rows of per-modality outputs in the order of the mixed list.

        Raises:
            FeatureShapeError: a modality without outputs, or with another number of rows.
        """
        mixed: list[Any] = [None] * sum(len(positions) for positions in self.index.values())
        for modality, positions in self.index.items():
            rows = outputs.get(modality, ())
            if len(rows) != len(positions):
                raise FeatureShapeError(f"{len(rows)} outputs came back for {len(positions)} samples of {modality}",
                                        fix="Hand over one output per row of the batch.")  # fmt: skip
            for position, row in zip(positions.tolist(), rows, strict=True):
                mixed[position] = row
        return mixed


def collate(
    samples: Sequence[tuple[str, Shaped[Tensor, " ..."]]], processors: Mapping[str, ModalityProcessor]
) -> MixedBatch:
    """Group (modality, features) pairs by modality, in order of first appearance, and stack each group.

    Args:
        samples: features as the processors made them, in any order.
        processors: modality to the processor that made its features and knows how they are padded.

    Raises:
        UnknownModalityError: a sample whose modality has no processor.
        FeatureShapeError: no samples, or shapes within a modality that cannot be stacked.
    """
    if not samples:
        raise FeatureShapeError("a batch has no samples", fix="Give at least one (modality, features) pair.")
    groups: dict[str, list[int]] = {}
    for position, (modality, _) in enumerate(samples):
        if modality not in processors:
            raise UnknownModalityError(modality, processors)
        groups.setdefault(modality, []).append(position)
    inputs = {m: processors[m].batch([samples[p][1] for p in positions]) for m, positions in groups.items()}
    return MixedBatch(inputs, {m: torch.tensor(positions) for m, positions in groups.items()})
