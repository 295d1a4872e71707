"""Column mapping: rows of a `datasets` data set (local parquet or the Hub) as the same samples a manifest gives.

The mapping is declarative, so it can stand in a recipe's YAML. Media are handed on undecoded (`decode=False`), to be
opened by the guarded processors: neither `datasets`' own decoders nor torchcodec take part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets import Audio, ClassLabel, Dataset, Image, Video, load_dataset

from polysense.data.manifest import resolve_inside
from polysense.data.samples import MediaRef, Sample
from polysense.errors import ConfigError, ManifestError, UnsafeFileError
from polysense.modality import JsonValue

_FACT_KEYS = {"column", "values", "value"}


@dataclass(frozen=True, kw_only=True)
class ColumnMapping:
    """Which columns hold what.

    Attributes:
        media: modality to the column of its media: encoded bytes, an Image, Audio or Video, or an array.
        labels: modality to the column of its class: a ClassLabel, a text, or a list of texts (its first entry is the
            sample's label; all entries are kept in `Sample.extra`).
        captions: modality to the column of its captions: a text or a list of texts.
        facts: modality to the facts of its media, each the name of a column, or `{"value": constant}`, or
            `{"column": name, "values": {entry: fact}}` to translate a column's entries.
        id: column of unique identifiers; by default the row number.
    """

    media: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    id: str | None = None

    def __post_init__(self) -> None:
        if not self.media:
            raise ConfigError("a column mapping names no media", fix="Give `media: {modality: column}`.")
        for modality, facts in self.facts.items():
            for name, spec in facts.items():
                if isinstance(spec, Mapping) and not (
                    set(spec) <= _FACT_KEYS and ("column" in spec) != ("value" in spec)
                ):
                    raise ConfigError(
                        f"fact {name!r} of {modality!r} is {dict(spec)}",
                        where="column mapping",
                        fix="Give a column, {value: ...}, or {column: ..., values: {...}}.",
                    )

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> ColumnMapping:
        """The mapping as it stands in YAML; unknown keys raise `ConfigError`."""
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(spec) - set(known)):
            raise ConfigError(f"a column mapping has unknown keys {unknown}", fix=f"Known keys: {', '.join(known)}.")
        return cls(**spec)

    @property
    def columns(self) -> list[str]:
        """Every column that is read, each once."""
        facts = [
            spec if isinstance(spec, str) else spec["column"]
            for specs in self.facts.values()
            for spec in specs.values()
            if isinstance(spec, str) or "column" in spec
        ]
        names = [*self.media.values(), *self.labels.values(), *self.captions.values(), *facts, self.id]
        return list(dict.fromkeys(name for name in names if name is not None))


class ColumnDataset:
    """Samples from the columns of a `datasets.Dataset`.

    Args:
        dataset: a map-style data set; columns that the mapping does not name are not read.
        mapping: which columns hold what.
        root: folder that media *paths* in the data set must stay in; without it only media stored in the rows
            themselves are read.

    Raises:
        ConfigError: the data set lacks a column of the mapping, or has no row.
    """

    def __init__(self, dataset: Dataset, mapping: ColumnMapping, *, root: str | Path | None = None) -> None:
        if missing := [name for name in mapping.columns if name not in dataset.column_names]:
            raise ConfigError(
                f"the data set has no columns {missing}, only {dataset.column_names}",
                where="column mapping",
                fix="Correct the mapping.",
            )
        if not len(dataset):
            raise ConfigError("the data set has no rows", where="column mapping", fix="Choose another split.")
        self.mapping, self.root = mapping, None if root is None else Path(root).resolve()
        dataset = dataset.select_columns(mapping.columns)
        for name, feature in dataset.features.items():
            if isinstance(feature, Audio | Image | Video):
                dataset = dataset.cast_column(name, type(feature)(decode=False))
        arrays = [name for name in mapping.media.values() if _is_array(dataset.features[name])]
        self._rows = dataset
        self._arrays = dataset.select_columns(list(dict.fromkeys(arrays))).with_format("numpy") if arrays else None

    @classmethod
    def from_parquet(cls, files: str | Sequence[str], mapping: ColumnMapping, **options: Any) -> ColumnDataset:
        """Local parquet files (a path, a pattern or a list) as one data set; `options` go to the constructor."""
        return cls(load_dataset("parquet", data_files=files, split="train"), mapping, **options)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        row = dict(self._rows[index])
        if self._arrays is not None:
            row.update(self._arrays[index])
        where = f"row {index}"
        sample_id = str(index) if self.mapping.id is None else str(row[self.mapping.id])
        media = {
            modality: MediaRef(self._media(row[column], f"{where}, {column}"), self._facts(modality, row, where))
            for modality, column in self.mapping.media.items()
            if row[column] is not None
        }
        labels, extra = {}, {}
        for modality, column in self.mapping.labels.items():
            names = self._class_names(column, row[column])
            if names:
                labels[modality] = names[0]
            if len(names) > 1:
                extra[column] = list(names)
        captions = {modality: _texts(row[column]) for modality, column in self.mapping.captions.items()}
        return Sample(sample_id, media, labels, captions, extra)

    def labels(self, modality: str) -> Sequence[str | None]:
        """Class name of every row in `modality`; media are not read."""
        return self._label_columns.get(modality, [None] * len(self))

    @cached_property
    def _label_columns(self) -> dict[str, list[str | None]]:
        return {
            modality: [next(iter(self._class_names(column, value)), None) for value in self._rows[column][:]]
            for modality, column in self.mapping.labels.items()
        }

    def _class_names(self, column: str, value: Any) -> tuple[str, ...]:
        feature = self._rows.features[column]
        if isinstance(feature, ClassLabel):
            return () if value is None or value < 0 else (str(feature.int2str(int(value))),)
        return _texts(value)

    def _media(self, value: Any, where: str) -> object:
        if isinstance(value, str) or (isinstance(value, Mapping) and value.get("bytes") is None):
            path = value if isinstance(value, str) else value.get("path")
            return self._path(path, where)
        return value["bytes"] if isinstance(value, Mapping) else value

    def _path(self, path: str | None, where: str) -> Path:
        if path is None:
            raise ManifestError("the row has neither bytes nor a path", where=where, fix="Drop the row.")
        if self.root is None:
            raise UnsafeFileError(
                f"the row points to the file {path!r}",
                where=where,
                fix="Store the media in the rows, or give their folder as `root`.",
            )
        inside = Path(path)
        relative = inside.relative_to(self.root) if inside.is_relative_to(self.root) else inside
        return resolve_inside(self.root, str(relative), where=where)

    def _facts(self, modality: str, row: Mapping[str, Any], where: str) -> dict[str, JsonValue]:
        facts = {}
        for name, spec in self.mapping.facts.get(modality, {}).items():
            if isinstance(spec, str):
                facts[name] = row[spec]
            elif "value" in spec:
                facts[name] = spec["value"]
            else:
                entry = row[spec["column"]]
                if entry not in spec["values"]:
                    raise ManifestError(
                        f"fact {name!r} does not translate {entry!r} of column {spec['column']!r}",
                        where=where,
                        fix=f"Known: {', '.join(map(str, spec['values']))}.",
                    )
                facts[name] = spec["values"][entry]
        return facts


def _is_array(feature: Any) -> bool:
    """Whether a column holds numbers in rows, to be read as numpy arrays and not as nested Python lists."""
    while (inner := getattr(feature, "feature", None)) is not None:
        feature = inner
    return getattr(feature, "dtype", "").startswith(("int", "uint", "float")) and not isinstance(feature, ClassLabel)


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(str(entry) for entry in value)
