"""Tables of events in clips (AVE, AVVP): what happens from when to when, as samples with labels for each second."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polysense.data.manifest import resolve_inside
from polysense.data.samples import MediaRef, Sample
from polysense.errors import ConfigError, ManifestError

BACKGROUND = "background"
"""What happens in a second in which nothing happens."""


@dataclass(frozen=True, kw_only=True)
class EventLayout:
    """Where tables of events are, and how to read them.

    Attributes:
        tables: sense to the file of its events, relative to the data root; senses may share one.
        columns: names of all columns in order. A first line that repeats them is skipped.
        delimiter: one character between columns.
        clip, label, start, end: columns of the clip's identifier, of the event's class, and of its first second and
            the one after its last.
        media: modality to the path of a clip's file with columns in braces, such as "video/{filename}.mp4".
        rename: class of the table to the name that other data sets have for it.
        classes: keep events of these classes alone, by their new names, and clips that have one; empty keeps all.
        listed: a table whose first column names the clips that are kept, such as a split of AVVP; empty keeps all.
        clip_per_row: every row is a clip of its own (AVE); otherwise rows with one identifier are one clip (AVVP).
        seconds: length of a clip.

    Raises:
        ConfigError: no table, a column that is used and not named, or a delimiter or length that cannot be.
    """

    tables: Mapping[str, str]
    columns: Sequence[str]
    delimiter: str
    clip: str
    label: str
    start: str
    end: str
    media: Mapping[str, str]
    rename: Mapping[str, str] = field(default_factory=dict)
    classes: Sequence[str] = ()
    listed: str = ""
    clip_per_row: bool = False
    seconds: int = 10

    def __post_init__(self) -> None:
        missing = sorted({self.clip, self.label, self.start, self.end} - set(self.columns))
        if not self.tables or missing:
            raise ConfigError(f"a layout of events has {len(self.tables)} tables and lacks the columns {missing}",
                              fix="Give one table or more, and the names of all columns in order.")  # fmt: skip
        if len(self.delimiter) != 1 or self.seconds < 1:
            raise ConfigError(f"clips of {self.seconds} seconds with columns between {self.delimiter!r}",
                              where="layout of events", fix="Give one character, and a positive length.")  # fmt: skip

    @property
    def files(self) -> list[str]:
        """All files that decide which clips there are."""
        return [*self.tables.values(), *filter(None, [self.listed])]


class EventTable:
    """Clips of one or more tables of events.

    `Sample.extra["seconds"]` holds, for each sense whose table has the clip, a list with the classes of every second
    (`[]` where nothing happens); its label is the class of the sense's longest event.

    Args:
        root: folder that tables and media are relative to.

    Raises:
        ManifestError: a table cannot be read, is empty, or has a row that contradicts the layout.
        UnsafeFileError: a row's media would lie outside the root.
    """

    def __init__(self, layout: EventLayout, root: str | Path) -> None:
        self.layout, self.root = layout, Path(root).resolve()
        self._listed: frozenset[str] | None = None
        if layout.listed:
            listed = _lines(self.root / layout.listed, layout.delimiter)
            self._listed = frozenset(values[0] for _, values in listed)
        self._rows: dict[str, Mapping[str, str]] = {}
        self._seconds: dict[str, dict[str, list[list[str]]]] = {}
        for sense, table in layout.tables.items():
            for clip, row, events in self._events(self.root / table):
                self._rows.setdefault(clip, row)
                seconds = self._seconds.setdefault(clip, {}).setdefault(sense, [[] for _ in range(layout.seconds)])
                for label, start, end in events:
                    for second in seconds[max(0, start) : max(0, end)]:
                        if label not in second:
                            second.append(label)
        if not self._rows:
            raise ManifestError("the tables hold no event", where=", ".join(layout.tables.values()),
                                fix="Correct the tables, or the classes and clips that are kept.")  # fmt: skip
        self._clips = list(self._rows)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Sample:
        clip = self._clips[index]
        media = {
            modality: MediaRef(resolve_inside(self.root, self._path(path, clip), where=clip))
            for modality, path in self.layout.media.items()
        }
        labels = {sense: label for sense in self.layout.tables if (label := self._label(clip, sense)) is not None}
        return Sample(clip, media, labels, {}, {"seconds": self._seconds[clip]})

    def labels(self, modality: str) -> Sequence[str | None]:
        """The class of every clip's longest event in `modality`; media are not read."""
        return [self._label(clip, modality) for clip in self._clips]

    def _name(self, label: str) -> str:
        return self.layout.rename.get(label.strip(), label.strip())

    def _label(self, clip: str, sense: str) -> str | None:
        """The class of most seconds; of several the one that begins first."""
        every = [label for second in self._seconds[clip].get(sense, ()) for label in second]
        return max(dict.fromkeys(every), key=every.count, default=None)

    def _path(self, path: str, clip: str) -> str:
        try:
            return path.format_map(self._rows[clip])
        except (KeyError, ValueError, IndexError) as error:
            raise ConfigError(f"the path {path!r} does not name columns", where="layout of events: media",
                              fix=f"Columns are {', '.join(self.layout.columns)}.") from error  # fmt: skip

    def _events(self, path: Path) -> Iterator[tuple[str, Mapping[str, str], list[tuple[str, int, int]]]]:
        """Clip, row and (class, first second, second after the last) of every row of a table that is kept."""
        layout, names = self.layout, list(self.layout.columns)
        for number, values in _lines(path, layout.delimiter):
            where = f"{path}:{number}"
            if values == names:
                continue
            if len(values) != len(names):
                raise ManifestError(f"the row has {len(values)} columns of {len(names)}", where=where,
                                    fix="Correct the row, the delimiter or the columns.")  # fmt: skip
            row = dict(zip(names, values, strict=True))
            if self._listed is not None and row[layout.clip] not in self._listed:
                continue
            events = self._spans(row, where)
            kept = [each for each in events if not layout.classes or each[0] in layout.classes]
            if kept:
                yield (f"{row[layout.clip]}/{number}" if layout.clip_per_row else row[layout.clip]), row, kept

    def _spans(self, row: Mapping[str, str], where: str) -> list[tuple[str, int, int]]:
        """The events of one row. Several stand in it as lists with commas, as CMG merges AVVP's tables."""
        starts, ends = row[self.layout.start].split(","), row[self.layout.end].split(",")
        # classes of AVE have commas of their own ("Violin, fiddle")
        labels = [row[self.layout.label]] if len(starts) == 1 else row[self.layout.label].split(",")
        try:
            spans = [
                (self._name(label), math.floor(float(start)), math.ceil(float(end)))
                for label, start, end in zip(labels, starts, ends, strict=True)
            ]
        except (ValueError, OverflowError) as error:
            raise ManifestError(f"the row's events do not fit together ({error})", where=where,
                                fix="Give one start, one end and one class for each event.") from error  # fmt: skip
        for label, start, end in spans:
            if not label or end < start:
                raise ManifestError(f"an event of class {label!r} lasts from {start} to {end}", where=where,
                                    fix="Correct the row, or the layout's columns.")  # fmt: skip
        return spans


def _lines(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Number and columns of every line that is not empty."""
    options: dict[str, Any] = {"delimiter": delimiter, "quoting": csv.QUOTE_NONE}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, values in enumerate(csv.reader(file, **options), start=1):
                if values:
                    yield number, values
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"the table cannot be read ({error})", where=path,
                            fix="Put the table there, or correct its path.") from error  # fmt: skip
