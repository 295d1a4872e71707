"""Tables of rows, opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Image, Json, List, Value

from polysense.data.tables import holds_texts, read_files
from polysense.errors import ConfigError


@pytest.mark.parametrize(
    ("feature", "texts"),
    [
        (Value("string"), True),
        (Value("int64"), True),
        (List(Value("string")), True),
        (ClassLabel(names=["a"]), True),
        (List(ClassLabel(names=["a"])), True),
        (Json(), True),
        (Value("binary"), False),
        (List(List(Value("string"))), False),
        ({"raw": Value("string")}, False),
        (List({"raw": Value("string")}), False),
        (Image(), False),
    ],
    ids=str,
)
def test_texts_are_what_is_written_as_one_and_lists_of_these(feature: Any, texts: bool) -> None:
    assert holds_texts(feature) is texts


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [("a.csv", "caf\xe9\n".encode("latin-1"), "UnicodeDecodeError"), ("a.json", b'[{"id": 1,', "ValueError"),
     ("b.csv", b"a,b\n", "no data")],
)  # fmt: skip
def test_what_cannot_be_read_says_which_file_and_why(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    kind: Any = Path(name).suffix[1:]
    with pytest.raises(ConfigError, match=rf"{name}: the data set cannot be opened \(.*{reason}"):
        read_files(kind, str(tmp_path / name))
