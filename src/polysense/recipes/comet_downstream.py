"""What a codebook is good for, with its encoder frozen: transfer, retrieval, segmentation, and shared codes.

The model stays outside: everything here takes a callable that gives code sequences (`CodeEncoder`), so that the same
protocols score any model, and raw features as a bound.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polysense.data import SampleDataset, Subset
from polysense.data.feature_sequences import TEXT
from polysense.errors import ConfigError, UnknownModalityError
from polysense.metrics import CodeActivation, code_activation, code_counts, perplexity
from polysense.recipes.code_retrieval import RetrievalSettings, retrieval_results
from polysense.recipes.code_transfer import TransferSettings, transfer_results
from polysense.recipes.codes import CodeEncoder, Sentences, encoded
from polysense.recipes.comet_segmentation import SegmentationSettings, segmentation_results
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
    """

    data: DatasetSettings
    senses: Sequence[str] = ("video", "audio", "text")
    share: float | None = None


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
        ConfigError: naming the protocol, for senses that nobody knows and data sets that cannot be opened.
    """
    wanted = {f"transfer: {name}": (each.senses, [each.train, *each.tests.values()])
              for name, each in settings.transfer.items()}  # fmt: skip
    wanted |= {f"retrieval: {name}": (each.senses, [each.data]) for name, each in settings.retrieval.items()}
    wanted |= {f"segmentation: {name}": (each.senses, [*each.train, *each.tests.values()])
               for name, each in settings.segmentation.items()}  # fmt: skip
    if settings.activation is not None:
        wanted["activation"] = settings.activation.senses, [settings.activation.data]
    for where, (senses, data) in wanted.items():
        with place(where):
            if unknown := sorted(set(senses) - set(known)):
                raise UnknownModalityError(unknown[0], sorted(known), where="senses")
            if set(senses) <= set(seen):
                for each in data:
                    each.open(root)


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
    dataset, media = settings.data.open(root), [sense for sense in settings.senses if sense != TEXT]
    rows = tuple(row for row in range(len(dataset)) if set(media) <= set(dataset[row].media))
    if not rows or not media:
        raise ConfigError(f"no sample has {', '.join(settings.senses)}", where=settings.data.name,
                          fix="Give samples of all senses.")  # fmt: skip
    samples: SampleDataset = Subset(dataset, rows)
    counts = {}
    for sense in settings.senses:
        codes = encoded(encode, sense, Sentences(samples, media[0], each=1) if sense == TEXT else samples)
        if codes.indices is None:
            raise ConfigError("the encoder gives vectors without the numbers of their codes", where=sense,
                              fix="Give an encoder with a codebook.")  # fmt: skip
        counts[sense] = code_counts(codes.indices, size, codes.mask)
    return code_activation(counts, share=settings.share)


def activation_record(activation: CodeActivation) -> dict[str, Any]:
    """The analysis as JSON: the hits, and what Figure 3 shows of them."""
    hits = dict(zip(activation.senses, activation.hits, strict=True))
    return {
        "hits": {sense: counts.tolist() for sense, counts in hits.items()},
        "perplexity": {sense: perplexity(counts) for sense, counts in hits.items()},
        "active_in": {str(number): share for number, share in activation.level_shares.items()},
        "dead": activation.dead,
    }
