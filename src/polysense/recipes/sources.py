"""Data sets as recipes name them: manifests, parquet files and Hub data sets, by declaration."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tqdm.auto import tqdm

from polysense.data import (
    BACKGROUND,
    ColumnDataset,
    ColumnMapping,
    EventLayout,
    EventTable,
    Manifest,
    Sample,
    SampleDataset,
    Source,
    Subset,
    keyed_rng,
)
from polysense.data.tables import FileKind, read_hub
from polysense.errors import ConfigError
from polysense.recipes.config import build, check_positive, place
from polysense.trainer.distributed import on_main
from polysense.world import WorldConfig, build_world


@dataclass(frozen=True)
class Retold:
    """A data set whose samples have other captions.

    Attributes:
        tell: a sample to the same sample with its captions; a function of a module or a partial of one, since loaders
            take it to other processes.
    """

    dataset: SampleDataset
    tell: Callable[[Sample], Sample]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self.tell(self.dataset[index])

    def labels(self, modality: str) -> Sequence[str | None]:
        return self.dataset.labels(modality)


def _pooled(sample: Sample, pools: Mapping[str, Sequence[str]]) -> Sample:
    """Captions of a modality are those of several lists together: `pools` is modality to their names."""
    pooled = {
        modality: tuple(text for name in names for text in sample.captions.get(name, ()))
        for modality, names in pools.items()
    }
    return replace(sample, captions={**sample.captions, **pooled})


def _told_by_label(sample: Sample, templates: Mapping[str, Sequence[str]], quiet: Mapping[str, str]) -> Sample:
    """Captions are made of class names: what a label is to a text (CMG's prompts of VGGSound).

    They say less than a description, and what they say the senses have in common. A sample without a label keeps its
    captions. Where its row says in which seconds something happens, a narration can be made of its label, too.
    """
    names = {modality: sample.labels[modality] for modality in templates if modality in sample.labels}
    told = {
        modality: tuple(template.replace("{}", name) for template in templates[modality])
        for modality, name in names.items()
    }
    semantics = sample.extra.get("semantics")
    meant = {**semantics, **names} if isinstance(semantics, Mapping) else {**names}
    extra = {**sample.extra, "semantics": meant}
    seconds = sample.extra.get("seconds")
    if isinstance(seconds, Mapping):
        narrated = {
            modality: [quiet[modality] if each == BACKGROUND else names[modality] for each in seconds[modality]]
            for modality in names if modality in quiet and modality in seconds
        }  # fmt: skip
        extra["narrations"] = {**sample.extra.get("narrations", {}), **narrated}
    return replace(sample, captions={**sample.captions, **told}, extra=extra)


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """Where samples come from: exactly one of `manifest`, `parquet`, `csv`, `json`, `events` and `hub`.

    Attributes:
        folder: of the data root, which the files and what they name are relative to.
        manifest: JSONL manifest, relative to the recipe's data root.
        parquet, csv, json: files or patterns, relative to the data root.
        events: tables of the events of clips (`polysense.data.EventLayout`).
        hub: name of a data set on the Hub.
        split: split of a Hub data set.
        columns: column mapping for all but manifests and events (`polysense.data.ColumnMapping`).
        captions: modality to the caption lists that are pooled for it, such as `{image: [image, web]}`.
        templates: modality to sentences that take the place of its captions, with one `{}` each for the label.
        quiet: of modalities with templates, what is said of a second in which nothing happens. Samples whose rows have
            `seconds` can then be narrated by their labels.
        having: use only samples whose rows have these values, such as `{split: train}`.
        sample: use so many samples only, drawn at random: the same ones at every opening, all of them among more.
        limit: use the first samples only.

    Raises:
        ConfigError: a number below 1, or templates, or what is quiet, without a sentence to fill.
    """

    folder: str = ""
    manifest: str | None = None
    parquet: Sequence[str] = ()
    csv: Sequence[str] = ()
    json: Sequence[str] = ()
    events: EventLayout | None = None
    hub: str | None = None
    split: str = "train"
    columns: Mapping[str, Any] = field(default_factory=dict)
    captions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    templates: Mapping[str, Sequence[str]] = field(default_factory=dict)
    quiet: Mapping[str, str] = field(default_factory=dict)
    having: Mapping[str, str] = field(default_factory=dict)
    sample: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        check_positive(self, "sample", "limit")
        if silent := [modality for modality in self.quiet if modality not in self.templates]:
            raise ConfigError(f"{silent[0]} is not told by its labels", where="quiet",
                              fix="Give its templates, too.")  # fmt: skip
        for modality, templates in self.templates.items():
            if not templates or any(template.count("{}") != 1 for template in templates):
                raise ConfigError(f"the templates of {modality} are {list(templates)}", where="templates",
                                  fix="Give at least one sentence, each with one {} for the label.")  # fmt: skip

    def open(self, root: Path) -> SampleDataset:
        """The data set.

        Raises:
            ConfigError: none or several of the kinds, files that are not there or of another kind, or columns that do
                not exist.
            ManifestError: a manifest that cannot be read.
        """
        if sum(map(bool, (self.manifest, self.parquet, self.csv, self.json, self.events, self.hub))) != 1:
            raise ConfigError("a data set needs exactly one of manifest, parquet, csv, json, events and hub",
                              fix="Give one of them.")  # fmt: skip
        dataset = self._rows(root / self.folder)
        if self.captions:
            dataset = Retold(dataset, partial(_pooled, pools=self.captions))
        if self.templates:
            dataset = Retold(dataset, partial(_told_by_label, templates=self.templates, quiet=self.quiet))
        if self.having:
            dataset = self._having(dataset)
        if self.sample is not None and self.sample < len(dataset):
            drawn = keyed_rng("sample", self.name).permutation(len(dataset))[: self.sample]
            dataset = Subset(dataset, tuple(sorted(drawn.tolist())))
        return dataset if self.limit is None else Subset(dataset, tuple(range(min(self.limit, len(dataset)))))

    def _having(self, dataset: SampleDataset) -> SampleDataset:
        extras = [dataset[index].extra for index in range(len(dataset))]
        rows = [n for n, extra in enumerate(extras) if all(extra.get(key) == v for key, v in self.having.items())]
        if not rows:
            raise ConfigError(f"no sample has {dict(self.having)}", where=self.name, fix="Correct having.")
        return Subset(dataset, tuple(rows))

    def _rows(self, root: Path) -> SampleDataset:
        if self.manifest:
            return Manifest(root / self.manifest, root=root)
        return EventTable(self.events, root) if self.events else self._columns(root)

    @property
    def _files(self) -> tuple[FileKind, Sequence[str]]:
        """Which kind of files there are, and their patterns."""
        kinds: Mapping[FileKind, Sequence[str]] = {"parquet": self.parquet, "csv": self.csv, "json": self.json}
        return next(((kind, patterns) for kind, patterns in kinds.items() if patterns), ("parquet", ()))

    def _columns(self, root: Path) -> ColumnDataset:
        mapping = build(ColumnMapping, self.columns, "columns")
        kind, patterns = self._files
        for pattern in patterns:
            if not _matches(root, pattern):
                raise ConfigError(f"there is no such {kind} file", where=root / pattern,
                                  fix="Put the files there, or correct data_root or the pattern.")  # fmt: skip
        if patterns:
            return ColumnDataset.from_files(kind, [_under(root, each) for each in patterns], mapping, root=root)
        rows = read_hub(str(self.hub), self.split)
        return ColumnDataset(rows, mapping, root=root if mapping.has_paths else None)

    @property
    def name(self) -> str:
        """What figures on this data set are called by: its files with their folder, or its name on the Hub."""
        kind, patterns = self._files
        if patterns:
            return re.split(r"[*?\[]", patterns[0].removesuffix(f".{kind}"))[0].rstrip("-_./")
        tables = list(self.events.tables.values()) if self.events else [self.manifest or ""]
        return self.hub or Path(tables[0]).stem

    def content_hash(self, root: Path) -> str:
        """SHA-256 of the manifest or of the files; a Hub data set is named by itself."""
        if self.hub:
            return f"{self.hub}[{self.split}]"
        root = root / self.folder
        tables = self.events.files if self.events else [self.manifest] if self.manifest else []
        matches = [root / table for table in tables] + [p for each in self._files[1] for p in _matches(root, each)]
        together = hashlib.sha256()
        for path in tqdm(sorted(matches), desc="hashing data", delay=2, leave=False):
            with path.open("rb") as file:
                together.update(hashlib.file_digest(file, "sha256").digest())
        return together.hexdigest()

    def key(self, root: Path) -> dict[str, Any]:
        """What decides which samples there are: the files' content, and how they are read and chosen."""
        how = {
            "folder": self.folder,
            "events": None if self.events is None else asdict(self.events),
            "columns": self.columns,
            "captions": self.captions,
            "templates": self.templates,
            "quiet": self.quiet,
            "having": self.having,
            "sample": self.sample,
            "limit": self.limit,
        }
        return {"content_hash": self.content_hash(root), **{name: value for name, value in how.items() if value}}


def _under(root: Path, pattern: str) -> str:
    """A pattern under `root`, whose own name is none; an absolute one as it is."""
    return str(Path(glob.escape(str(root))) / pattern)


def _matches(root: Path, pattern: str) -> list[Path]:
    found = map(Path, glob.glob(_under(root, pattern), recursive=True))
    return sorted(path for path in found if path.is_file())


def data_record(name: str, data: DatasetSettings, license: str, samples: int, root: Path) -> dict[str, Any]:
    """What a stage's record says of one of its data sets."""
    return {"name": name, "samples": samples, "license": license, "content_hash": data.content_hash(root)}


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """One data set in its role.

    Attributes:
        modality: the sense that it trains.
        data: where the samples come from.
        batch_size: samples per process and micro-batch.
        anchors: modalities of the same samples to align with beside text, such as `[image]`.
        text: what a sample's text is: its class "label" in the sense's templates, or one of its "caption"s.
        repeat, per_class: see `polysense.data.Source`.
        license: of the data, for the model card.
    """

    modality: str
    data: DatasetSettings
    batch_size: int = 32
    anchors: Sequence[str] = ()
    text: Literal["label", "caption"] = "label"
    repeat: int = 1
    per_class: int | None = None
    license: str = "unknown"

    def __post_init__(self) -> None:
        check_positive(self, "batch_size", "repeat", "per_class")

    def source(self, name: str, dataset: SampleDataset) -> Source:
        """The opened data set in its role."""
        with place(f"sources: {name}"):
            return Source(
                name=name, modality=self.modality, dataset=dataset, batch_size=self.batch_size,
                anchors=tuple(self.anchors), repeat=self.repeat, per_class=self.per_class,
            )  # fmt: skip


def open_sources(sources: Mapping[str, SourceSettings], root: Path) -> dict[str, SampleDataset]:
    """The data set of every source, whose rows can be read.

    Raises:
        ConfigError: naming the source.
    """
    opened = {}
    for name, settings in sources.items():
        with place(f"sources: {name}: data"):
            opened[name] = settings.data.open(root)
            opened[name].labels(settings.modality)  # of every row, some of which a training would only reach late
    return opened


@dataclass(frozen=True, kw_only=True)
class WorldSettings:
    """The embedded world, built into the data root if it is not there.

    Attributes:
        size, difficulty, seed: see `polysense.world.WorldConfig`.
    """

    size: str = "standard"
    difficulty: str = "standard"
    seed: int = 0

    def folder(self, output: Path) -> Path:
        """Where this world lies in a folder that may hold others."""
        standard = self == WorldSettings()
        return output / ("world" if standard else f"world-{self.size}-{self.difficulty}-{self.seed}")

    @property
    def config(self) -> WorldConfig:
        return WorldConfig(size=self.size, difficulty=self.difficulty, seed=self.seed)

    def build(self, root: Path) -> None:
        """Build it into `root` by the main process, while the others wait."""
        on_main(lambda: build_world(root, self.config))


def class_names(dataset: SampleDataset, modality: str) -> tuple[str, ...]:
    """Sorted class names that occur in a data set; empty if nothing is labelled."""
    return tuple(sorted({label for label in dataset.labels(modality) if label is not None}))
