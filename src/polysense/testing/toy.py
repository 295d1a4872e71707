"""The smallest complete training: two senses of six numbers each, aligned with a frozen anchor by a contrastive loss.

It has everything the loop must be exact about: augmentation, dropout, a frozen part, a buffer, an anchor modality,
captions, and data sets of different sizes. The tests of the loop, of its processes and of its faults train it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polysense.data import Batch, MediaRef, Mixture, Sample, Source
from polysense.data.rng import keyed_rng
from polysense.errors import MediaError
from polysense.modality import JsonValue
from polysense.trainer.distributed import gather_with_grad
from polysense.trainer.objective import zero_touch

SIZE = 6
SENSES = ("audio", "depth")


@dataclass(frozen=True)
class ToyDataset:
    """`length` samples of `modality` with an image each; those listed in `broken` cannot be decoded."""

    modality: str
    length: int
    broken: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        values = keyed_rng("toy", self.modality, index).normal(size=(2, SIZE)).astype(np.float32)
        if index in self.broken:
            values[0, 0] = np.nan
        media = {self.modality: MediaRef(values[0]), "image": MediaRef(values[1] + values[0])}
        labels, captions = {self.modality: f"class {index % 3}"}, {self.modality: ("one", "two", "three")}
        return Sample(f"{self.modality}-{index}", media, labels, captions)

    def labels(self, modality: str) -> Sequence[str | None]:
        return [f"class {index % 3}" if modality == self.modality else None for index in range(self.length)]


def toy_processor(
    modality: str,
    sources: Sequence[Any],
    *,
    facts: Sequence[Mapping[str, JsonValue]],
    rngs: Sequence[np.random.Generator] | None,
) -> dict[str, Tensor]:
    """Stack the numbers, with noise where augmentation is asked for; NaN counts as an unusable file."""
    for source in sources:
        if np.isnan(source).any():
            raise MediaError("the values are not finite", fix="Record the sample again.")
    noise = [0.0] * len(sources) if rngs is None else [rng.normal(scale=0.1, size=SIZE) for rng in rngs]
    values = [np.asarray(source + extra, np.float32) for source, extra in zip(sources, noise, strict=True)]
    return {f"{modality}_values": torch.from_numpy(np.stack(values))}


def toy_mixture(
    batch_size: int = 4,
    *,
    seed: int = 0,
    augment: bool = True,
    broken: Iterable[int] = (),
    lengths: Sequence[int] = (29, 17),
) -> Mixture:
    """One source per sense."""
    sources = [
        Source(
            name=f"{modality}-set",
            modality=modality,
            dataset=ToyDataset(modality, length, frozenset(broken)),
            batch_size=batch_size,
            anchors=("image",),
        )
        for modality, length in zip(SENSES, lengths, strict=True)
    ]
    return Mixture(sources, toy_processor, seed=seed, augment=augment, max_skipped_share=0.2)


class ToyModel(nn.Module):
    """A trainable linear encoder per sense, a frozen one for images, and a count of the samples it has seen."""

    seen: Tensor

    def __init__(self, dropout: float = 0.1, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoders = nn.ModuleDict({modality: nn.Linear(SIZE, width) for modality in SENSES})
        self.anchor = nn.Linear(SIZE, width).requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def embed(self, modality: str, values: Tensor) -> Tensor:
        encoder = self.anchor if modality == "image" else self.encoders[modality]
        return F.normalize(encoder(self.dropout(values)), dim=-1)


class ToyObjective:
    """Symmetric InfoNCE of a sense with its images, and a weighted second term.

    Args:
        dropout: of the inputs.
        spoil: called with the modality and the batch; true turns the loss into NaN.
        local: let each rank score its own rows against all columns, in place of all rows against all columns.
    """

    def __init__(
        self, *, dropout: float = 0.1, spoil: Callable[[str, Batch], bool] | None = None, local: bool = False
    ) -> None:
        self.module = ToyModel(dropout)
        self.modalities, self.weights = SENSES, {"size": 0.01}
        self.spoil, self.local = spoil, local

    def losses(self, modality: str, batch: Batch) -> dict[str, Tensor]:
        mine = self.module.embed(modality, batch.features[modality][f"{modality}_values"])
        anchor = self.module.embed("image", batch.features["image"]["image_values"])
        self.module.seen += len(batch)
        everyone, anchors = gather_with_grad(mine), gather_with_grad(anchor)
        if self.local:
            own = torch.arange(len(mine)) + _first_row(everyone, mine)
            nce = (F.cross_entropy(10 * mine @ anchors.T, own) + F.cross_entropy(10 * anchor @ everyone.T, own)) / 2
        else:
            logits, own = 10 * everyone @ anchors.T, torch.arange(len(everyone))
            nce = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        if self.spoil is not None and self.spoil(modality, batch):
            nce = nce * float("nan")
        return {"nce": nce, "size": mine.abs().sum(dim=-1).mean()}

    def dummy(self, modality: str) -> Tensor:
        return zero_touch(self.module.encoders[modality])


def _first_row(everyone: Tensor, mine: Tensor) -> int:
    """Where this rank's rows begin among all ranks' rows."""
    matches = (everyone.detach() == mine.detach()[0]).all(dim=-1)
    return int(matches.nonzero()[0])
