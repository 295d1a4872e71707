"""Tables of rows, local or on the Hub, as `datasets` data sets that hold what stands in the files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

from datasets import ClassLabel, Dataset, Features, Json, Value, load_dataset
from datasets.exceptions import DatasetsError

from polysense.errors import ConfigError

FileKind = Literal["parquet", "csv", "json"]

_TOO_LONG = "Length of header or names"  # how pandas begins to say that it drops columns without a name


def read_files(kind: FileKind, files: str | Sequence[str]) -> Dataset:
    """Local files (a path, a pattern or a list) with a row per sample as one data set.

    Args:
        kind: "json" is a list of objects or one in each line; all columns of "csv" are texts, named in its first line.

    Raises:
        ConfigError: they cannot be read, are of another kind or have no rows, or the first row of a CSV file has more
            columns than there are names.
    """
    with _opening(files if isinstance(files, str) else files[0]), warnings.catch_warnings():
        if kind != "csv":
            return cast(Dataset, load_dataset(kind, data_files=files, split="train"))
        warnings.filterwarnings("error", message=_TOO_LONG)
        names = load_dataset(kind, data_files=files, split="train", nrows=1, index_col=False).column_names
        features = Features(dict.fromkeys(names, Value("string")))
        # guessing takes the zeros off an id, loses the answer "none", and takes a column without a name for an index
        reading: dict[str, Any] = {"features": features, "keep_default_na": False, "index_col": False}
        return cast(Dataset, load_dataset(kind, data_files=files, split="train", **reading))


def read_hub(name: str, split: str) -> Dataset:
    """A split of a data set on the Hub.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    with _opening(name):
        return cast(Dataset, load_dataset(name, split=split))


def holds_texts(feature: Any) -> bool:
    """Whether a column's entries are texts, what is written as one, or lists of these."""
    inner = getattr(feature, "feature", feature)
    written = isinstance(inner, Value) and inner.dtype not in ("binary", "large_binary")
    return written or isinstance(inner, ClassLabel | Json)  # what Json holds may differ from row to row


@contextmanager
def _opening(where: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, DatasetsError, Warning) as error:
        reason = error.__cause__ or error  # datasets says that something went wrong, and what only behind that
        told = f"{type(reason).__name__}: {reason}"
        if str(reason).startswith(_TOO_LONG):
            told = "the first row has more columns than the line of names"
        raise ConfigError(f"the data set cannot be opened ({told})", where=where,
                          fix="Correct its files, or download it again.") from error  # fmt: skip
