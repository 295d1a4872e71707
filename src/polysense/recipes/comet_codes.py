"""A COMET checkpoint with the extractors of its senses: files and texts in, codes out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from polysense.data import MediaRef, SampleDataset
from polysense.data.feature_sequences import TEXT, phrases_key, stack_sequences
from polysense.data.feature_store import Extract, FeatureStore
from polysense.errors import CheckpointError, MediaError, UnknownModalityError
from polysense.modality import JsonValue
from polysense.models.base import local_folder
from polysense.models.comet import CometModel
from polysense.models.encoders.extraction import LONGEST, SequenceExtractor
from polysense.outputs import CometEncoding
from polysense.processing import fit_steps, read_text
from polysense.recipes.codes import CodeSequences
from polysense.recipes.config import build
from polysense.recipes.feature_pairs import ExtractorSettings
from polysense.safety import read_json
from polysense.storage import digest, write_whole

_FILE, _NETS = "extractors.json", "nets"
_BATCH = 256

Store = Callable[[str], FeatureStore]


@dataclass(frozen=True, kw_only=True)
class SavedExtractors:
    """Content of a checkpoint's `extractors.json`; the nets that it names lie in the folder `nets` beside it.

    Attributes:
        steps: of every sequence.
        extractors: sense to what makes its sequences.
    """

    steps: int
    extractors: Mapping[str, ExtractorSettings]


def save_extractors(saved: SavedExtractors, nets: Path, folder: Path) -> None:
    """Write everything that turns files into sequences beside a checkpoint's weights.

    Args:
        nets: where encoders were looked for first.
        folder: of the checkpoint. Encoders of the Hub stay there.
    """
    copied: dict[Path, str] = {}
    written = {}
    for sense, settings in saved.extractors.items():
        name = settings.encoder or settings.language_model
        source = nets / str(name) if name and (nets / name).is_dir() else Path(str(name))
        if name is None or not source.is_dir():
            written[sense] = settings
            continue
        source = source.resolve()
        if source not in copied:
            taken = source.name if source.name not in copied.values() else f"{source.name}-{len(copied)}"
            copied[source] = taken
            shutil.copytree(source, folder / _NETS / taken)
        field = "encoder" if settings.encoder else "language_model"
        change: dict[str, Any] = {field: copied[source]}
        written[sense] = replace(settings, **change)
    content = asdict(replace(saved, extractors=written))
    write_whole(folder / _FILE, json.dumps(content, indent=1) + "\n")


class SequenceReader:
    """The feature sequences of whole data sets, as they are; a `CodeEncoder` for a bound that does without codes.

    Args:
        extractor: sense to its extractor.
        steps: of every sequence.
        store: sense to where sequences of data sets are kept; in memory without it.
    """

    def __init__(self, extractor: Callable[[str], SequenceExtractor], steps: int, store: Store | None = None) -> None:
        self._extractor, self.steps, self._store = extractor, steps, store
        self._memory: dict[str, dict[str, Tensor]] = {}

    def __call__(self, sense: str, dataset: SampleDataset) -> CodeSequences:
        """A data set's sequences in the order of its samples, padded; pictures as rows of all their values.

        Raises:
            ManifestError: a sample lacks the sense.
            MediaError: a file cannot be used.
        """
        names, known = self._known(sense, dataset)
        stacked = stack_sequences([known[name].flatten(1) for name in names], self.steps)
        return CodeSequences(stacked["sequence"], None, stacked["mask"])

    def _known(self, sense: str, dataset: SampleDataset) -> tuple[list[str], FeatureStore | Mapping[str, Tensor]]:
        """The name of every sample's sequence, and where it is found."""
        refs = [dataset[index].ref(sense) for index in range(len(dataset))]
        names = [_name(sense, ref) for ref in refs]
        wanted = {name: partial(self._extract, sense, ref) for name, ref in zip(names, refs, strict=True)}
        return names, self._sequences(sense, wanted)

    def _extract(self, sense: str, ref: MediaRef) -> Tensor:
        return self._extractor(sense)(*_given(sense, ref))

    def _sequences(self, sense: str, wanted: Mapping[str, Extract]) -> FeatureStore | Mapping[str, Tensor]:
        """All sequences that are wanted, of which those that are there are not computed again."""
        if self._store is None:
            known: MutableMapping[str, Tensor] = self._memory.setdefault(sense, {})
            missing = [name for name in wanted if name not in known]
            for name in tqdm(missing, desc=f"features of {sense}", delay=2, leave=False):
                known[name] = wanted[name]()
            return known
        store = self._store(sense)
        store.fill(wanted, max_skipped_share=0.0)
        return store


class CometReader(SequenceReader):
    """Codes of files, texts and whole data sets; a `CodeEncoder`.

    Args:
        model: in whichever mode; it is put into eval mode.
        extractor, steps, store: see `SequenceReader`.
    """

    def __init__(
        self,
        model: CometModel,
        extractor: Callable[[str], SequenceExtractor],
        steps: int,
        store: Store | None = None,
    ) -> None:
        super().__init__(extractor, steps, store)
        self.model = model.eval()

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> CometReader:
        """A stage's folder, or its name on the Hub.

        Raises:
            UnsafeFileError, CheckpointError: it is unsafe, damaged, or no stage of a COMET recipe.
        """
        folder = local_folder(name, {"revision": revision})
        if not (folder / _FILE).exists() or read_json(folder / "config.json").get("model_type") != "comet":
            raise CheckpointError("the folder holds no COMET model with extractors", where=folder,
                                  fix="Give a stage that `polysense train comet` wrote.")  # fmt: skip
        saved = build(SavedExtractors, read_json(folder / _FILE), str(folder / _FILE))
        opened: dict[str, SequenceExtractor] = {}

        def extractor(sense: str) -> SequenceExtractor:
            if sense not in saved.extractors:
                raise UnknownModalityError(sense, list(saved.extractors))
            if sense not in opened:
                opened[sense] = saved.extractors[sense].open(sense, saved.steps, folder / _NETS)
            return opened[sense]

        return cls(CometModel.from_pretrained(folder), extractor, saved.steps)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The model's senses."""
        return tuple(self.model.modalities)

    @property
    def size(self) -> int:
        """Number of codes."""
        return sum(self.model.config.codebook_sizes)

    @property
    def longest(self) -> int:
        """Most codes that a film or a sound has in its timeline."""
        return LONGEST * self.steps

    def codes(self, sense: str, source: Any, facts: Mapping[str, JsonValue] | None = None) -> CometEncoding:
        """One file or text (a sentence, a `Path` to one, or a tuple of phrases) as a batch of one.

        Raises:
            UnknownModalityError: the model lacks the sense.
            MediaError: the file cannot be used.
        """
        self.model.branch(sense)
        return self._encode(sense, [self._extract(sense, MediaRef(source, facts or {}))])

    def timeline(self, sense: str, source: Any, facts: Mapping[str, JsonValue] | None = None) -> list[int]:
        """The code of every second that a file really has (a picture has one), of every word of a text, or of every
        span that its extractor makes of it. Files longer than a sequence are read as several, end to end.

        Raises: see `codes`.
        """
        self.model.branch(sense)
        extractor = self._extractor(sense)
        whole = extractor.whole(*_given(sense, MediaRef(source, facts or {})))
        if extractor.fit == "resample":
            whole = fit_steps(whole, self.steps, extractor.fit)
        fitted = [fit_steps(piece, self.steps, extractor.fit) for piece in whole.split(self.steps)]
        return [int(code) for code in self._encode(sense, fitted).indices.flatten()[: len(whole)]]

    def assumed(self, sense: str, facts: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        """What stands in for facts that a file of the sense lacks although its codes depend on them."""
        return self._extractor(sense).assumed(facts)

    def __call__(self, sense: str, dataset: SampleDataset) -> CodeSequences:
        """Codes of a data set's samples, in their order.

        Raises:
            UnknownModalityError: the model lacks the sense.
            ManifestError: a sample lacks it.
            MediaError: a file cannot be used.
        """
        self.model.branch(sense)
        names, known = self._known(sense, dataset)
        batches = range(0, len(names), _BATCH)
        parts = [self._encode(sense, [known[name] for name in names[at : at + _BATCH]]) for at in batches]
        return CodeSequences(
            torch.cat([part.quantized for part in parts]).float().cpu(),
            torch.cat([part.indices for part in parts]).cpu(),
            torch.cat([part.mask for part in parts]).cpu(),
        )

    @torch.no_grad()
    def _encode(self, sense: str, sequences: list[Tensor]) -> CometEncoding:
        stacked = {name: each.to(self.model.device) for name, each in stack_sequences(sequences, self.steps).items()}
        encoding: CometEncoding = self.model.encode_sequence(sense, stacked["sequence"], stacked["mask"])
        return encoding


def _given(sense: str, ref: MediaRef) -> tuple[Any, Mapping[str, JsonValue]]:
    """What an extractor takes: the source and what has to be known beside it."""
    return (_phrases(ref.source) if sense == TEXT else ref.open()), ref.facts


def _phrases(text: object) -> tuple[str, ...]:
    return tuple(map(str, text)) if isinstance(text, list | tuple) else (read_text(text),)


def _name(sense: str, ref: MediaRef) -> str:
    """What a sequence is kept under, whichever data set it is met in: a text's words, a file's place and state."""
    source = ref.source
    if sense == TEXT:
        return phrases_key(_phrases(source))
    if isinstance(source, str | Path):
        try:
            state = Path(source).stat()
        except OSError as error:
            raise MediaError(f"cannot be read ({error.strerror})", where=str(source),
                             fix="Restore the file, or leave the sample out.") from error  # fmt: skip
        content: list[Any] = [str(Path(source).resolve()), state.st_size, state.st_mtime_ns]
    else:
        data = source if isinstance(source, bytes) else np.ascontiguousarray(source).tobytes()
        content = [digest(data), *getattr(source, "shape", ())]
    return digest(json.dumps([content, dict(ref.facts)], sort_keys=True, default=str).encode())


__all__ = ["CometReader", "SavedExtractors", "SequenceReader", "save_extractors"]
