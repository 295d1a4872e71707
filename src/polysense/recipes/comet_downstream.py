"""What a codebook is good for, with its encoder frozen: transfer, retrieval, segmentation, and shared codes.

The model stays outside: everything here takes a callable that gives code sequences (`CodeEncoder`), so that the same
protocols score any model, and raw features as a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from polysense.data import SampleDataset, Subset
from polysense.data.feature_sequences import TEXT
from polysense.errors import ConfigError, UnknownModalityError
from polysense.metrics import CodeActivation, code_activation, code_counts, perplexity
from polysense.recipes.code_retrieval import RetrievalSettings, retrieval_results, retrieval_samples
from polysense.recipes.code_transfer import TransferSettings, check_transfer, transfer_results
from polysense.recipes.codes import CodeEncoder, Sentences, encoded
from polysense.recipes.comet_segmentation import SegmentationSettings, check_segmentation, segmentation_results
from polysense.recipes.config import place
from polysense.recipes.evaluation import Result, metrics_record
from polysense.recipes.sources import DatasetSettings


@dataclass(frozen=True, kw_only=True)
class ActivationSettings:
    """Which samples show how the senses share the codes (COMET, section 4.8).

    Attributes:
        data: samples that have all the senses (VALOR32K).
        senses: two or more; "text" stands for the first caption of the first of the others.
        share: see `polysense.metrics.code_activation`.

    Raises:
        ConfigError: fewer than two senses, one named twice, or a share outside 0 to 1.
    """

    data: DatasetSettings
    senses: Sequence[str] = ("video", "audio", "text")
    share: float | None = None

    def __post_init__(self) -> None:
        if len(set(self.senses)) < max(2, len(self.senses)):
            raise ConfigError(f"the senses {list(self.senses)} share no codes", where="activation",
                              fix="Name two or more, each once.")  # fmt: skip
        if self.share is not None and not 0 <= self.share <= 1:
            raise ConfigError(f"share is {self.share}", where="activation", fix="Give a number from 0 to 1.")


@dataclass(frozen=True, kw_only=True)
class DownstreamSettings:
    """Everything that a stage's codes are scored on; what needs a sense that the model lacks waits for its stage.

    Attributes:
        transfer, retrieval, segmentation: name to protocol.
        activation: of the codes, or `None`.
        seed: of the heads.
    """

    transfer: Mapping[str, TransferSettings] = field(default_factory=dict)
    retrieval: Mapping[str, RetrievalSettings] = field(default_factory=dict)
    segmentation: Mapping[str, SegmentationSettings] = field(default_factory=dict)
    activation: ActivationSettings | None = None
    seed: int = 0


@dataclass(frozen=True)
class Downstream:
    """What the protocols found.

    Attributes:
        results: every figure.
        activation: how the senses share the codes, where that was asked for and all senses are there.
    """

    results: tuple[Result, ...]
    activation: CodeActivation | None = None

    def record(self, seed: int) -> dict[str, Any]:
        """What `metrics.json` holds."""
        record = metrics_record(self.results, seed)
        return record if self.activation is None else {**record, "codes": activation_record(self.activation)}


def check_protocols(settings: DownstreamSettings, known: Collection[str], seen: Collection[str], root: Path) -> None:
    """Refuse protocols that cannot be scored, before anything is trained that they are to score.

    Args:
        known: senses that there may be.
        seen: those that a model will have; what needs others is not opened.
        root: folder that the data sets are relative to.

    Raises:
        ConfigError: naming the protocol, for senses that nobody knows, data sets that cannot be opened, and those
            without samples, labels or captions that it could be scored on.
    """
    wanted: dict[str, tuple[Sequence[str], Callable[[], object]]] = {}
    for name, transfer in settings.transfer.items():
        wanted[f"transfer: {name}"] = transfer.senses, partial(check_transfer, transfer, root)
    for name, retrieval in settings.retrieval.items():
        wanted[f"retrieval: {name}"] = retrieval.senses, partial(retrieval_samples, retrieval, root)
    for name, segmentation in settings.segmentation.items():
        wanted[f"segmentation: {name}"] = segmentation.senses, partial(check_segmentation, segmentation, root)
    if (activation := settings.activation) is not None:
        wanted["activation"] = activation.senses, partial(_activation_samples, activation, root)
    for where, (senses, look) in wanted.items():
        with place(where):
            if unknown := sorted(set(senses) - set(known)):
                raise UnknownModalityError(unknown[0], sorted(known), where="senses")
            if set(senses) <= set(seen):
                look()


def score_codes(
    settings: DownstreamSettings, encode: CodeEncoder, senses: Sequence[str], root: Path, *, size: int
) -> Downstream:
    """Run every protocol whose senses the model has.

    Args:
        encode: the frozen encoder in evaluation mode.
        senses: those that the model has.
        root: folder that the data sets are relative to.
        size: number of codes.

    Raises:
        ConfigError: naming the protocol.
    """
    results: list[Result] = []
    for name, transfer in settings.transfer.items():
        if set(transfer.senses) <= set(senses):
            with place(f"transfer: {name}"):
                results += transfer_results(transfer, encode, root, seed=settings.seed)
    for name, retrieval in settings.retrieval.items():
        if set(retrieval.senses) <= set(senses):
            with place(f"retrieval: {name}"):
                results += retrieval_results(name, retrieval, encode, root)
    for name, segmentation in settings.segmentation.items():
        if set(segmentation.senses) <= set(senses):
            with place(f"segmentation: {name}"):
                results += segmentation_results(segmentation, encode, root, seed=settings.seed)[1]
    activation = None
    if settings.activation is not None and set(settings.activation.senses) <= set(senses):
        with place("activation"):
            activation = shared_codes(settings.activation, encode, root, size=size)
    return Downstream(tuple(results), activation)


def shared_codes(settings: ActivationSettings, encode: CodeEncoder, root: Path, *, size: int) -> CodeActivation:
    """Which senses activate which codes, on samples that have all of them.

    Raises:
        ConfigError: no sample has all senses, or the encoder gives no codes.
    """
    samples, sentences = _activation_samples(settings, root)
    counts = {}
    for sense in settings.senses:
        codes = encoded(encode, sense, sentences if sense == TEXT else samples)
        if codes.indices is None:
            raise ConfigError("the encoder gives vectors without the numbers of their codes", where=sense,
                              fix="Give an encoder with a codebook.")  # fmt: skip
        counts[sense] = code_counts(codes.indices, size, codes.mask)
    return code_activation(counts, share=settings.share)


def _activation_samples(settings: ActivationSettings, root: Path) -> tuple[SampleDataset, Sentences]:
    """The samples that have all senses, and their first captions. Raises `ConfigError` or `ManifestError`."""
    dataset, media = settings.data.open(root), [sense for sense in settings.senses if sense != TEXT]
    rows = tuple(row for row in range(len(dataset)) if set(media) <= set(dataset[row].media))
    if not rows:
        raise ConfigError(f"no sample has {', '.join(media)}", where=settings.data.name,
                          fix="Give samples of all senses.")  # fmt: skip
    samples = Subset(dataset, rows)
    sentences = Sentences(samples, media[0], each=1)
    if TEXT in settings.senses:
        sentences.owners  # noqa: B018  # reads all captions
    return samples, sentences


def activation_record(activation: CodeActivation) -> dict[str, Any]:
    """The analysis as JSON: the hits, and what Figure 3 shows of them."""
    hits = dict(zip(activation.senses, activation.hits, strict=True))
    return {
        "hits": {sense: counts.tolist() for sense, counts in hits.items()},
        "perplexity": {sense: perplexity(counts) for sense, counts in hits.items()},
        "active_in": {str(number): share for number, share in activation.level_shares.items()},
        "dead": activation.dead,
    }
