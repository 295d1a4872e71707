"""Code sequences of a data set as downstream recipes take them, whatever encoder they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from polysense.data import MediaRef, Sample, SampleDataset
from polysense.errors import ConfigError, FeatureShapeError, ManifestError
from polysense.nn.masks import masked_mean


@dataclass(frozen=True)
class CodeSequences:
    """What an encoder makes of the samples of a data set, in their order.

    Attributes:
        vectors: the quantised vectors (or any other features, for a bound that does without codes).
        indices: the codes' numbers.
        mask: false where a step is padding; `None` where all sequences have one length.

    Raises:
        FeatureShapeError: the parts do not belong together, or a sample has no step or a value that is not finite.
    """

    vectors: Float[Tensor, "samples time dim"]
    indices: Int[Tensor, "_samples _time"] | None = None  # compared with the vectors below, for a message of ours
    mask: Bool[Tensor, "_samples _time"] | None = None

    def __post_init__(self) -> None:
        for name, part in (("indices", self.indices), ("mask", self.mask)):
            if part is not None and part.shape != self.vectors.shape[:2]:
                raise FeatureShapeError(
                    f"{name} of shape {tuple(part.shape)} beside vectors of shape {tuple(self.vectors.shape)}",
                    fix="Give one code and one flag for each step.",
                )
        bad = ~self.vectors.isfinite().flatten(1).all(dim=1) | ~self.steps.any(dim=1)
        if bool(bad.any()):
            raise FeatureShapeError("the sequence has no step, or values that are not finite",
                                    where=f"sample {int(bad.nonzero()[0])} of {len(self)}",
                                    fix="Leave the sample out, or extract its features again.")  # fmt: skip

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def steps(self) -> Bool[Tensor, "samples time"]:
        """Which steps are real."""
        everywhere = torch.ones(self.vectors.shape[:2], dtype=torch.bool, device=self.vectors.device)
        return everywhere if self.mask is None else self.mask

    @property
    def pooled(self) -> Float[Tensor, "samples dim"]:
        """One unit vector per sample: the mean of its steps (method-facts 3.7; COMET has no branch of its own)."""
        return F.normalize(masked_mean(self.vectors, self.steps), dim=-1)


CodeEncoder = Callable[[str, SampleDataset], CodeSequences]
"""(sense, data set) to the sequences of its samples. Samples of text have the sentence as their medium "text"."""


@dataclass(frozen=True)
class Sentences:
    """The captions of a data set as a data set of texts: each caption a sample, its medium "text" the sentence.

    Attributes:
        sense: whose captions.
        each: how many of a sample's captions are taken, the first ones; `None` takes all.
    """

    dataset: SampleDataset
    sense: str
    each: int | None = None

    @cached_property
    def _entries(self) -> list[tuple[int, str, str]]:
        """Sample number, identifier and text of every sentence."""
        found = []
        for number in range(len(self.dataset)):
            sample = self.dataset[number]
            texts = sample.captions.get(self.sense, ())[: self.each]
            if not texts:
                raise ManifestError(f"the sample has no caption of {self.sense!r}", where=sample.id,
                                    fix="Leave it out, or give it a caption.")  # fmt: skip
            found += [(number, f"{sample.id}/{self.sense}/{place}", text) for place, text in enumerate(texts)]
        return found

    @property
    def owners(self) -> Int[Tensor, " sentences"]:
        """Number of the sample that each sentence describes."""
        return torch.tensor([number for number, _, _ in self._entries])

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        _, name, text = self._entries[index]
        return Sample(name, {"text": MediaRef(text)}, {}, {"text": (text,)})

    def labels(self, modality: str) -> Sequence[str | None]:
        return [None] * len(self)


def encoded(encode: CodeEncoder, sense: str, dataset: SampleDataset) -> CodeSequences:
    """The sequences of a data set, with their number checked.

    Raises:
        ConfigError: the encoder left out or added samples.
    """
    codes = encode(sense, dataset)
    if len(codes) != len(dataset):
        raise ConfigError(f"{len(dataset)} samples were encoded as {len(codes)} sequences", where=sense,
                          fix="Give a data set of which every sample can be encoded.")  # fmt: skip
    return codes
