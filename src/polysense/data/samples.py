"""What every data set gives, whatever it is stored in: samples whose media are not decoded yet."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from polysense.errors import ManifestError
from polysense.modality import JsonValue


@dataclass(frozen=True)
class MediaRef:
    """Where the raw media of one modality of one sample is.

    Attributes:
        source: a file's path, encoded bytes, or a decoded array.
        facts: what the processor has to know beside the media, such as `{"intrinsics": [fx, fy, cx, cy]}`.
    """

    source: object
    facts: Mapping[str, JsonValue] = field(default_factory=dict)

    def open(self) -> object:
        """The source as processors take it: encoded bytes become a file, everything else is handed on."""
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source

    @property
    def is_path(self) -> bool:
        """Whether it lies in a file, which may be missing."""
        return isinstance(self.source, str | Path)

    def __str__(self) -> str:
        return str(self.source) if self.is_path else f"{type(self.source).__name__} in memory"


@dataclass(frozen=True)
class Sample:
    """One row of a data set.

    Attributes:
        id: unique within its data set; random draws for the sample are keyed by it.
        media: modality to undecoded media.
        labels: modality to class name.
        captions: modality to sentences that name only what the modality can show.
        extra: every further key of the row, as it stands.
    """

    id: str
    media: Mapping[str, MediaRef]
    labels: Mapping[str, str] = field(default_factory=dict)
    captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    extra: Mapping[str, JsonValue] = field(default_factory=dict)

    def ref(self, modality: str) -> MediaRef:
        """The media of `modality`; `ManifestError` when the row has none."""
        if modality not in self.media:
            raise ManifestError(
                f"the sample has no media of modality {modality!r}, only {', '.join(self.media) or 'none'}",
                where=self.id,
                fix="Leave the row out of this data set, or add the file to it.",
            )
        return self.media[modality]

    def check_files(self, modalities: Collection[str], *, where: str | None = None) -> None:
        """Raise `ManifestError` when a file of `modalities` is not there; none is opened.

        Args:
            where: the row, if not the id says which it is.
        """
        for modality, ref in self.media.items():
            if modality in modalities and ref.is_path and not os.path.isfile(str(ref.source)):
                raise ManifestError(f"media.{modality}: {ref} does not exist", where=where or self.id,
                                    fix="Restore the file or drop the row.")  # fmt: skip


@runtime_checkable
class SampleDataset(Protocol):
    """Random access to samples: `Manifest`, `ColumnDataset`, `Subset`, or the user's own class."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def labels(self, modality: str) -> Sequence[str | None]:
        """Class name of every sample in `modality`, without touching media; `None` where a row has no label."""


@dataclass(frozen=True)
class Subset:
    """Some samples of a data set, in the order of `indices`."""

    dataset: SampleDataset
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]

    def labels(self, modality: str) -> Sequence[str | None]:
        names = self.dataset.labels(modality)
        return [names[index] for index in self.indices]
