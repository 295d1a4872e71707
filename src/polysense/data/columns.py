"""Column mapping: rows of a `datasets` data set (local parquet or the Hub) as the same samples a manifest gives.

The mapping is declarative, so it can stand in a recipe's YAML. Media are handed on undecoded (`decode=False`), to be
opened by the guarded processors: neither `datasets`' own decoders nor torchcodec take part.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Audio, ClassLabel, Dataset, Image, Video

from polysense.data.conditions import check_conditions, fulfils
from polysense.data.manifest import resolve_inside
from polysense.data.samples import MediaRef, Sample
from polysense.data.tables import FileKind, holds_texts, read_files
from polysense.errors import ConfigError, ManifestError, UnsafeFileError
from polysense.modality import JsonValue
from polysense.safety import check_keys

_LIST_RULES = ("first", "each", "distinct")
_QUESTION_KEYS = {"question", "answer"}


@dataclass(frozen=True, kw_only=True)
class ColumnMapping:
    """Which columns hold what. A ClassLabel is read as the name of its class, whatever it is read for.

    Attributes:
        media: modality to the column of its media: encoded bytes, an Image, Audio or Video, an array or a path. Or to
            a path with columns in braces, such as "coco/{filepath}/{filename}"; "{filename:stem}" leaves off the
            ending.
        labels: modality to the column of its class: a ClassLabel, a text, or a list of either (its first entry is the
            sample's label; all entries are kept in `Sample.extra`).
        captions: modality to the column of its captions, a text or a list of texts; or to several columns, whose
            captions are taken together.
        questions: modality to the columns of a question about it, `{"question": column, "answer": column}`. An answer
            is a text or a list of all right ones; `Sample.extra["questions"]` then is as in a manifest.
        lists: column of captions or answers to what becomes of its lists: "first" keeps the first entry alone, "each"
            makes a sample of every entry, "distinct" of every different one. Without it they stay together: one is
            drawn at every epoch, and all are references at test.
        where: column to the conditions that its entry must fulfil for a row to be taken; see `check_conditions`.
        facts: modality to the facts of its media, each the name of a column, or `{"value": constant}`, or
            `{"column": name, "values": {entry: fact}}` to translate a column's entries.
        id: column of unique identifiers; by default the row number.

    Raises:
        ConfigError: no media, or a part that is none of these.
    """

    media: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    captions: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    questions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    lists: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    id: str | None = None

    def __post_init__(self) -> None:
        if not self.media:
            raise ConfigError("a column mapping names no media", fix="Give `media: {modality: column}`.")
        for path in self.media.values():
            _path_columns(path)
        for modality, columns in self.questions.items():
            if set(columns) != _QUESTION_KEYS:
                raise ConfigError(f"the questions about {modality!r} are {dict(columns)}", where="column mapping",
                                  fix="Give {question: column, answer: column}.")  # fmt: skip
        self._check_lists()
        for column, conditions in self.where.items():
            check_conditions(conditions, where=f"column mapping: where: {column}")
        for modality, facts in self.facts.items():
            for name, spec in facts.items():
                if not isinstance(spec, str) and not _is_fact(spec):
                    raise ConfigError(
                        f"fact {name!r} of {modality!r} is {spec!r}",
                        where="column mapping",
                        fix="Give a column, {value: ...}, or {column: ..., values: {...}}.",
                    )

    def _check_lists(self) -> None:
        texts = {*self._captions, *(columns["answer"] for columns in self.questions.values())}
        where, rules = "column mapping: lists", ", ".join(_LIST_RULES)
        for column, rule in self.lists.items():
            if column not in texts or rule not in _LIST_RULES:
                raise ConfigError(f"{column!r} is {rule!r}", where=where,
                                  fix=f"Give a column of captions or answers one of {rules}.")  # fmt: skip
        if sum(rule != "first" for rule in self.lists.values()) > 1:
            raise ConfigError("several columns are to make samples of their entries", where=where,
                              fix="Leave one of them.")  # fmt: skip

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> ColumnMapping:
        """The mapping as it stands in YAML; unknown keys raise `ConfigError`."""
        check_keys(spec, [f.name for f in fields(cls)], "column mapping")
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
        media = [column for path in self.media.values() for column in _path_columns(path) or (path,)]
        names = [*media, *self.texts, *self.where, *facts, self.id]
        return list(dict.fromkeys(name for name in names if name is not None))

    @property
    def texts(self) -> list[str]:
        """The columns of labels, captions, questions and answers."""
        questions = [column for columns in self.questions.values() for column in columns.values()]
        return [*self.labels.values(), *self._captions, *questions]

    @property
    def _captions(self) -> list[str]:
        return [column for columns in self.captions.values() for column in _listed(columns)]

    @property
    def has_paths(self) -> bool:
        """Whether media are files at paths that the mapping itself puts together."""
        return any(map(_path_columns, self.media.values()))

    @property
    def split(self) -> tuple[str, str] | None:
        """The column whose entries become samples of their own, and the rule."""
        return next(((column, rule) for column, rule in self.lists.items() if rule != "first"), None)


class ColumnDataset:
    """Samples from the columns of a `datasets.Dataset`.

    Args:
        dataset: a `datasets.Dataset`; columns that the mapping does not name are not read.
        mapping: which columns hold what.
        root: folder that media *paths* in the data set must stay in; without it only media stored in the rows
            themselves are read.

    Raises:
        ConfigError: the data set is streamed or a dictionary of splits, lacks a column of the mapping, has something
            else than texts where they are wanted, or has no row that is taken.
    """

    def __init__(self, dataset: Any, mapping: ColumnMapping, *, root: str | Path | None = None) -> None:
        if not isinstance(dataset, Dataset):
            raise ConfigError(f"this is a {type(dataset).__name__}, not a datasets.Dataset", where="column mapping",
                              fix="Load one split with load_dataset(..., split=...), without streaming.")  # fmt: skip
        if missing := [name for name in mapping.columns if name not in dataset.column_names]:
            raise ConfigError(
                f"the data set has no columns {missing}, only {dataset.column_names}",
                where="column mapping",
                fix="Correct the mapping.",
            )
        if not len(dataset):
            raise ConfigError("the data set has no rows", where="column mapping", fix="Choose another split.")
        for name in mapping.texts:
            if not holds_texts(feature := dataset.features[name]):
                raise ConfigError(
                    f"column {name!r} holds no texts but {feature}",
                    where="column mapping",
                    fix="Name a column of texts or of lists of texts; put what is meant into one.",
                )
        self.mapping, self.root = mapping, None if root is None else Path(root).resolve()
        self._given_root = None if root is None else Path(root).absolute()  # where paths in rows may lead by its name
        dataset = dataset.select_columns(mapping.columns)
        for name, feature in dataset.features.items():
            if isinstance(feature, Audio | Image | Video):
                dataset = dataset.cast_column(name, type(feature)(decode=False))
        arrays = [name for name in mapping.media.values() if _is_array(dataset.features.get(name))]
        self._rows = dataset
        self._places = self._chosen() if mapping.where or mapping.split else None
        self._arrays = dataset.select_columns(list(dict.fromkeys(arrays))).with_format("numpy") if arrays else None

    @classmethod
    def from_parquet(cls, files: str | Sequence[str], mapping: ColumnMapping, **options: Any) -> ColumnDataset:
        """Local parquet files (a path, a pattern or a list) as one data set; `options` go to the constructor."""
        return cls.from_files("parquet", files, mapping, **options)

    @classmethod
    def from_files(
        cls, kind: FileKind, files: str | Sequence[str], mapping: ColumnMapping, **options: Any
    ) -> ColumnDataset:
        """Local files with a row per sample, as `from_parquet`; kinds and errors: see `tables.read_files`."""
        return cls(read_files(kind, files), mapping, **options)

    def __len__(self) -> int:
        return len(self._rows) if self._places is None else len(self._places)

    def __getitem__(self, index: int) -> Sample:
        number, entry = (index, None) if self._places is None else self._places[index]
        row, mapping, where = self._row(number), self.mapping, f"row {number}"
        sample_id = str(number) if mapping.id is None else str(row[mapping.id])
        sources = {modality: self._media(path, row, where) for modality, path in mapping.media.items()}
        media = {
            modality: MediaRef(source, self._facts(modality, row, where))
            for modality, source in sources.items()
            if source is not None
        }
        labels: dict[str, str] = {}
        extra: dict[str, JsonValue] = {}
        for modality, column in mapping.labels.items():
            names = _texts(row[column])
            if names:
                labels[modality] = names[0]
            if len(names) > 1:
                extra[column] = list(names)
        if mapping.questions:
            extra["questions"] = self._questions(row, entry)
        captions = {
            modality: tuple(text for column in _listed(columns) for text in self._taken(column, row, entry))
            for modality, columns in mapping.captions.items()
        }
        return Sample(sample_id if entry is None else f"{sample_id}/{entry}", media, labels, captions, extra)

    def _row(self, number: int) -> dict[str, Any]:
        named = {name: _named(self._rows.features[name], value) for name, value in self._rows[number].items()}
        return named if self._arrays is None else {**named, **self._arrays[number]}

    def _entries(self, column: str) -> list[Any]:
        """A column's entries in all rows."""
        feature = self._rows.features[column]
        return [_named(feature, value) for value in self._rows[column][:]]

    def labels(self, modality: str) -> Sequence[str | None]:
        """Class name of every row in `modality`; media are not read."""
        return self._label_columns.get(modality, [None] * len(self))

    @cached_property
    def _label_columns(self) -> dict[str, list[str | None]]:
        found = {}
        for modality, column in self.mapping.labels.items():
            names = [next(iter(_texts(value)), None) for value in self._entries(column)]
            found[modality] = names if self._places is None else [names[row] for row, _ in self._places]
        return found

    def _chosen(self) -> list[tuple[int, int | None]]:
        """(row, entry of its list) of every sample."""
        rows: Iterable[int] = range(len(self._rows))
        for column, conditions in self.mapping.where.items():
            entries = self._entries(column)
            rows = [row for row in rows if fulfils(entries[row], conditions)]
            if not rows:
                raise ConfigError(
                    f"no row is left whose {column!r} fulfils {dict(conditions)}; the first one's is {entries[0]!r}",
                    where="column mapping: where",
                    fix="Correct the conditions; YAML reads yes and no as true and false, except in quotation marks.",
                )
        if self.mapping.split is None:
            return [(row, None) for row in rows]
        column, rule = self.mapping.split
        lists = self._entries(column)
        return [(row, entry) for row in rows for entry in _entries(_texts(lists[row]), rule)]

    def _taken(self, column: str, row: Mapping[str, Any], entry: int | None) -> tuple[str, ...]:
        """The texts of a column that belong to a sample."""
        texts, rule = _texts(row[column]), self.mapping.lists.get(column)
        if rule == "first":
            return texts[:1]
        return texts if rule is None or entry is None else (texts[entry],)

    def _questions(self, row: Mapping[str, Any], entry: int | None) -> list[dict[str, JsonValue]]:
        """Questions of a row as they stand in manifests, except those that nothing answers."""
        found = []
        for modality, columns in self.mapping.questions.items():
            answers = self._taken(columns["answer"], row, entry)
            for question in _texts(row[columns["question"]])[:1] if answers else ():
                answer = answers[0] if len(answers) == 1 else list(answers)
                found.append({"modality": modality, "question": question, "answer": answer})
        return found

    def _media(self, path: str, row: Mapping[str, Any], where: str) -> object:
        """What a mapping's column or path says of the media of a row; `None` where the row has none."""
        columns = _path_columns(path)
        value, where = row.get(path), f"{where}, {path}"
        if columns:
            if any(row[column] in (None, "") for column in columns):
                return None
            try:
                value = path.format_map({name: _part(row[name]) for name in columns})
            except (ValueError, TypeError) as error:
                raise ManifestError(f"the row makes no path ({error})", where=where, fix="Drop the row.") from error
        if isinstance(value, str):  # a table of texts says by an empty one that there is none
            return self._path(value, where) if value else None
        if not isinstance(value, Mapping) or value.get("array") is not None:
            return value
        return self._path(value.get("path"), where) if value.get("bytes") is None else value["bytes"]

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
        for root in (self.root, self._given_root):
            if root is not None and inside.is_relative_to(root):
                inside = inside.relative_to(root)
        return resolve_inside(self.root, str(inside), where=where)

    def _facts(self, modality: str, row: Mapping[str, Any], where: str) -> dict[str, JsonValue]:
        facts = {}
        for name, spec in self.mapping.facts.get(modality, {}).items():
            if isinstance(spec, str):
                facts[name] = row[spec]
            elif "value" in spec:
                facts[name] = spec["value"]
            else:
                entry = row[spec["column"]]
                if isinstance(entry, list | dict) or entry not in spec["values"]:
                    raise ManifestError(
                        f"fact {name!r} does not translate {entry!r} of column {spec['column']!r}",
                        where=where,
                        fix=f"Known: {', '.join(map(str, spec['values']))}.",
                    )
                facts[name] = spec["values"][entry]
        return facts


def _is_fact(spec: Any) -> bool:
    """Whether a mapping gives a constant, or translates a column."""
    keys = set(spec) if isinstance(spec, Mapping) else set()
    return keys == {"value"} or (keys == {"column", "values"} and isinstance(spec["values"], Mapping))


class _Part(str):
    """A column's entry as a part of a path; the format "stem" leaves off its ending."""

    def __format__(self, spec: str) -> str:
        return str(Path(self).with_suffix("")) if spec == "stem" else format(str(self), spec)


def _part(entry: Any) -> Any:
    return _Part(entry) if isinstance(entry, str) else entry


def _listed(columns: str | Sequence[str]) -> Sequence[str]:
    return (columns,) if isinstance(columns, str) else columns


def _is_array(feature: Any) -> bool:
    """Whether a column holds numbers in rows, to be read as numpy arrays and not as nested Python lists."""
    while (inner := getattr(feature, "feature", None)) is not None:
        feature = inner
    return getattr(feature, "dtype", "").startswith(("int", "uint", "float")) and not isinstance(feature, ClassLabel)


def _named(feature: Any, value: Any) -> Any:
    """An entry with class names in place of their numbers; hidden labels are none."""
    if isinstance(feature, ClassLabel):
        return None if value is None or value < 0 else str(feature.int2str(int(value)))
    inner = getattr(feature, "feature", None)
    if isinstance(inner, ClassLabel) and value is not None:
        return [name for each in value if (name := _named(inner, each)) is not None]
    return value


def _texts(value: Any) -> tuple[str, ...]:
    """The texts of an entry, without those that are missing: none, empty, or not a number."""
    listed = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
    return tuple(str(each) for each in (value if listed else (value,)) if each not in (None, "") and each == each)


def _entries(texts: Sequence[str], rule: str) -> list[int]:
    """Which entries of a list become samples; of equal ones the first, where they must differ."""
    return [place for place, text in enumerate(texts) if rule == "each" or text not in texts[:place]]


def _path_columns(path: str) -> tuple[str, ...]:
    """The columns in braces of a path; none of a plain column."""
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(path) if name is not None]
    except ValueError:
        names = [""]
    if any(not name or {".", "["} & set(name) for name in names):
        raise ConfigError(f"the path {path!r} does not name columns", where="column mapping: media",
                          fix="Put columns' names in braces, such as images/{file_name}.")  # fmt: skip
    return tuple(names)
