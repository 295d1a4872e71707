"""Pairs of feature sequences as COMET's recipes name them: extracted once, then handed out stage by stage."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from polysense.data import Mixture, SampleDataset, Source
from polysense.data.feature_sequences import TEXT, FeatureSequences, Phrases, SequenceBatches, TextChoice, phrases_key
from polysense.data.feature_store import Extract, FeatureStore
from polysense.errors import ConfigError
from polysense.modality import JsonValue
from polysense.models.base import load_foreign, local_folder
from polysense.models.encoders.extraction import (
    EncoderExtractor,
    SequenceExtractor,
    StoredExtractor,
    TextExtractor,
    WhitenedExtractor,
    extractor_digest,
    read_whitening,
)
from polysense.models.unialign import UniAlignProcessor
from polysense.processing import Fit, ModalityProcessor, SequenceProcessor, processor_for
from polysense.recipes.config import place
from polysense.recipes.sources import DatasetSettings, WorldSettings
from polysense.storage import digest
from polysense.trainer.distributed import on_main

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExtractorSettings:
    """What makes the sequences of a sense: exactly one of `encoder`, `language_model` and `stored`.

    Attributes:
        encoder: folder of a `ModalityEncoder`, within the nets' folder, or any other, or one on the Hub.
        language_model: likewise, of a language model and its tokenizer.
        stored: features that were computed elsewhere: `channels`, `raster` and `sequence` of `SequenceProcessor`.
        processor: options that replace those of the encoder's processor, such as its windows.
        fit: how a sequence is brought to the number of steps (`fit_steps`); by default "cut" for sentences, and
            "repeat" for everything else.
        raster: keep height and width of tokens that have them.
        whiten: by the whitening that lies beside the net (`polysense.nn.whitening`).

    Raises:
        ConfigError: none or several of the three, or features stored elsewhere that are to be whitened.
    """

    encoder: str | None = None
    language_model: str | None = None
    stored: Mapping[str, Any] = field(default_factory=dict)
    processor: Mapping[str, Any] = field(default_factory=dict)
    fit: Fit | None = None
    raster: bool = True
    whiten: bool = False

    def __post_init__(self) -> None:
        if sum(map(bool, (self.encoder, self.language_model, self.stored))) != 1:
            raise ConfigError("an extractor needs exactly one of encoder, language_model and stored",
                              fix="Give one of them.")  # fmt: skip
        if self.whiten and self.stored:
            raise ConfigError("stored features have no net that a whitening could lie beside", where="whiten",
                              fix="Store them whitened.")  # fmt: skip

    def open(self, sense: str, steps: int, nets: Path) -> SequenceExtractor:
        """The extractor.

        Raises:
            ConfigError: options that do not fit, or an encoder that does not say what it is made for.
            CheckpointError: a folder that is damaged or holds something else.
        """
        if self.stored:
            with place(f"extractors: {sense}: stored"):
                reader = SequenceProcessor.from_dict({**self.stored, "modality": sense})
            return StoredExtractor(part=reader, steps=steps, fit=self.fit or "repeat")
        folder = _folder(str(self.encoder or self.language_model), nets)
        extractor = self._of_net(folder, sense, steps)
        return WhitenedExtractor(extractor=extractor, whitening=read_whitening(folder)) if self.whiten else extractor

    def _of_net(self, folder: Path, sense: str, steps: int) -> SequenceExtractor:
        if self.language_model:
            model = load_foreign(AutoModel, folder, may_lack=r"pooler\..*").eval()
            tokenizer = AutoTokenizer.from_pretrained(folder)
            return TextExtractor(model=model, tokenizer=tokenizer, steps=steps, fit=self.fit or "cut")
        encoder = AutoModel.from_pretrained(folder).eval()
        part = _part(encoder, folder, sense)
        with place(f"extractors: {sense}: processor"):
            part = part.from_dict({**part.to_dict(), **self.processor})
        return EncoderExtractor(encoder=encoder, part=part, steps=steps, fit=self.fit or "repeat", raster=self.raster)


def _folder(name: str, nets: Path) -> Path:
    own = nets / name
    return local_folder(own if own.is_dir() else name, {})


def _part(encoder: Any, folder: Path, sense: str) -> ModalityProcessor:
    """The processor that belongs to an encoder: of the sense itself, or of the only one that it knows."""
    if encoder.config.model_type == "unialign":
        return UniAlignProcessor.from_pretrained(folder).part(sense)
    specs = getattr(encoder.config, "senses", {})
    spec = specs.get(sense) or next(iter(specs.values()), None)
    if spec is None:
        raise ConfigError(f"the encoder does not say how {sense} is processed", where=folder,
                          fix="Use a net of this library, or a UniAlign checkpoint.")  # fmt: skip
    return processor_for(replace(spec, name=sense), int(getattr(encoder.config, "height", 224)))


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """One data set of samples that have several senses.

    Attributes:
        senses: two, or more where all of them are known of every sample; "text" is one of them or not.
        data: where the samples come from.
        root: folder that its files are relative to, if not the recipe's.
        captions: list of captions that "text" is taken from; by default that of the first other sense.
        narrated: share of the samples that are told step by step in place of in sentences.
        batch_size: samples per process and micro-batch.
        license: of the data, for the model card.

    Raises:
        ConfigError: no sense but text, or one named twice.
    """

    senses: Sequence[str]
    data: DatasetSettings
    root: str = ""
    captions: str = ""
    narrated: float = 0.0
    batch_size: int = 80
    license: str = "unknown"

    def __post_init__(self) -> None:
        if len(self.senses) < 1 or len(set(self.senses)) < len(self.senses) or set(self.senses) == {TEXT}:
            raise ConfigError(f"{list(self.senses)} are no senses of one sample", where="senses",
                              fix="Name each once, and one that is not text.")  # fmt: skip

    def folder(self, root: Path) -> Path:
        """What its files are relative to, in a recipe whose data root is `root`."""
        return Path(self.root) if self.root else root

    def texts(self, dataset: SampleDataset) -> list[tuple[Phrases, ...]] | None:
        """The texts of every sample, where text is among the senses."""
        if TEXT not in self.senses:
            return None
        about = self.captions or next(sense for sense in self.senses if sense != TEXT)
        return TextChoice(captions=about, narrated=self.narrated).of(dataset)


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """One figure of what a linear classifier reads out of a sense's features.

    Attributes:
        sense: whose features.
        train, test: names of pairs.
        target: "seconds" are labels of every step, in the row's `seconds`; an attribute of the events in the row's
            `scene`, such as "material", is that of every step's event; "label" is the sample's class, to be read from
            the mean of its steps.
        of: the sense whose labels they are, if not the same.
    """

    sense: str
    train: str
    test: str
    target: str = "seconds"
    of: str = ""


@dataclass(frozen=True, kw_only=True)
class PairRecipe:
    """What the sequences of which data sets are made by.

    Attributes:
        extractors: sense to what makes its sequences.
        pairs: name to a data set.
        steps: of every sequence.
        data_root: folder that data sets are relative to; the world is built there if `world` is given.
        world: the embedded world.
        nets: folder that encoders are looked for in first.
        store: folder in which sequences are kept; runs may share it.
        half: keep 16 bits of each value.
        max_skipped_share: share of a data set's files that may be unusable.
        probes: what linear classifiers are to read out of the features.

    Raises:
        ConfigError: a sense of a pair that nothing extracts, or no steps.
    """

    extractors: dict[str, ExtractorSettings]
    pairs: dict[str, PairSettings]
    steps: int = 10
    data_root: str = "runs/world"
    world: WorldSettings | None = None
    nets: str = "runs/features/nets"
    store: str = "runs/features/sequences"
    half: bool = False
    max_skipped_share: float = 0.05
    probes: Sequence[ProbeSettings] = ()

    def __post_init__(self) -> None:
        for name, pair in self.pairs.items():
            if unknown := [sense for sense in pair.senses if sense not in self.extractors]:
                raise ConfigError(f"nothing extracts {unknown[0]!r}", where=f"pairs: {name}: senses",
                                  fix="Add it to extractors.")  # fmt: skip
        if self.steps < 1:
            raise ConfigError(f"steps is {self.steps}", fix="Give at least 1.")


class PairStages:
    """Data of one stage at a time: beginning a stage closes what the one before it has opened.

    Args:
        recipe: see `PairRecipe`; its world is built if need be.
    """

    def __init__(self, recipe: PairRecipe) -> None:
        self.recipe, self._root = recipe, Path(recipe.data_root)
        self._extractors: dict[str, SequenceExtractor] = {}
        self._current: dict[str, FeatureSequences] = {}
        if recipe.world is not None:
            recipe.world.build(self._root)

    def begin(self, names: Sequence[str]) -> dict[str, FeatureSequences]:
        """The pairs of a stage, their sequences extracted where they are not there yet.

        Raises:
            ConfigError: an unknown name, or settings that do not fit.
            QuotaExceededError: too many files of a data set cannot be used.
        """
        if unknown := [name for name in names if name not in self.recipe.pairs]:
            raise ConfigError(f"there are no pairs {unknown}", fix=f"Known: {', '.join(self.recipe.pairs)}.")
        for pairs in self._current.values():
            pairs.close()
        self._current = {}
        for name in names:
            self._current[name] = self._opened(name)
        return dict(self._current)

    def mixture(self, names: Sequence[str], seed: int) -> Mixture:
        """The pairs of a stage as a feed of batches, with one text of a sample drawn in every epoch.

        Raises: see `begin`.
        """
        sources = [
            Source(
                name=name, modality=opened.senses[0], anchors=opened.senses[1:], dataset=opened,
                batch_size=self.recipe.pairs[name].batch_size,
            )
            for name, opened in self.begin(names).items()
        ]  # fmt: skip
        return Mixture(sources, SequenceBatches(steps=self.recipe.steps), seed=seed)

    def _opened(self, name: str) -> FeatureSequences:
        settings = self.recipe.pairs[name]
        root = settings.folder(self._root)
        with place(f"pairs: {name}"):
            dataset = settings.data.open(root)
            texts = settings.texts(dataset)
        known = settings.data.key(root)
        known = {key: value for key, value in known.items() if key in ("content_hash", "columns")}
        stores = {
            sense: self._text_store(texts or []) if sense == TEXT else self._store(sense, dataset, known)
            for sense in settings.senses
        }  # fmt: skip
        return FeatureSequences(dataset, stores, texts)

    def _text_store(self, texts: Sequence[tuple[Phrases, ...]]) -> FeatureStore:
        """Texts are kept by their words, whichever data set they come from."""
        extractor = self.extractor(TEXT)
        every = dict.fromkeys(text for told in texts for text in told)
        return self._filled(TEXT, {}, {phrases_key(text): partial(extractor, text) for text in every})

    def _store(self, sense: str, dataset: SampleDataset, known: Mapping[str, JsonValue]) -> FeatureStore:
        extractor, ids = self.extractor(sense), [dataset[index].id for index in range(len(dataset))]
        wanted = {
            sample: partial(_extract, extractor, dataset, index, sense) for index, sample in enumerate(ids)
        }  # fmt: skip
        return self._filled(sense, known, wanted)

    def _filled(self, sense: str, known: Mapping[str, JsonValue], wanted: Mapping[str, Extract]) -> FeatureStore:
        """The store of a sense and of what is known of its data set, with all that is wanted."""

        def fill() -> int:
            share = self.recipe.max_skipped_share
            return self.store(sense, known).fill(wanted, half=self.recipe.half, max_skipped_share=share)

        if added := on_main(fill):
            logger.info("extracted %d sequences of %s", added, sense)
        return self.store(sense, known)

    def store(self, sense: str, known: Mapping[str, JsonValue]) -> FeatureStore:
        """Where the sequences are kept that the sense's extractor makes of a data set, of which this is known."""
        about = {"sense": sense, "extractor": extractor_digest(self.extractor(sense)), "half": self.recipe.half,
                 **known}  # fmt: skip
        key = digest(json.dumps(about, sort_keys=True, default=str).encode())
        return FeatureStore(Path(self.recipe.store) / sense, key, about)

    def extractor(self, sense: str) -> SequenceExtractor:
        """What makes the sequences of a sense.

        Raises: see `ExtractorSettings.open`.
        """
        if sense not in self._extractors:
            settings = self.recipe.extractors[sense]
            self._extractors[sense] = settings.open(sense, self.recipe.steps, Path(self.recipe.nets))
        return self._extractors[sense]


def _extract(extractor: SequenceExtractor, dataset: SampleDataset, index: int, sense: str) -> Tensor:
    ref = dataset[index].ref(sense)
    return extractor(ref.open(), ref.facts)
