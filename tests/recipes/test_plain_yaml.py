"""Texts of configs: what is read as it stands, and what is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest

from polysense.errors import ConfigError
from polysense.recipes.plain_yaml import read_yaml

NAMES = "abcdefg"
BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in pairwise(NAMES)
)


def test_plain_values_and_their_aliases_are_read() -> None:
    text = "a: &a {x: [1, 2.5, true, null, word]}\nb: *a\nc: {<<: *a, y: '2020-01-01'}\n"
    inner = {"x": [1, 2.5, True, None, "word"]}
    assert read_yaml(text, "x.yaml") == {"a": inner, "b": inner, "c": {**inner, "y": "2020-01-01"}}
    assert read_yaml("", "x.yaml") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a {b: *a}", r"x\.yaml, line 1: an alias leads back"),
        ("a:\n  - &a [*a]", r"x\.yaml, line 2: an alias leads back"),
        (BOMB, r"x\.yaml, line [56]: with its aliases written out it has more than 100,000 values"),
        ("a: 1\nb: 2\na: 3", r"x\.yaml, line 3: the key 'a' stands in line 1 already"),
        ("a: {b: 1, b: 1}", r"x\.yaml, line 1: the key 'b' stands in line 1 already"),
        ("a: 2020-01-01", r"x\.yaml, line 1: '2020-01-01' is read as timestamp\. Put text in quotation marks"),
        ("a: !!set {b}", r"x\.yaml, line 1: what stands there is read as set"),
        ("a: !!binary aGVsbG8=", r"x\.yaml, line 1: 'aGVsbG8=' is read as binary"),
        ("a: !!python/object/apply:os.system ['true']", r"is read as python/object/apply:os\.system"),
        ("a: !own 1", r"'1' is read as !own"),
        ("a: [", r"x\.yaml: the text is not YAML"),
        ("[" * 600, r"x\.yaml: the text is not YAML"),
        ("? [1]\n: 2", r"x\.yaml: the text is not YAML"),
        ("a: !!int x", r"x\.yaml: the text is not YAML"),
        ("a: !!bool x", r"x\.yaml: the text is not YAML"),
        ("a: !!int ''", r"x\.yaml: the text is not YAML"),
        ("a: " + "9" * 5000, r"x\.yaml: the text is not YAML"),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_refused_at_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_yaml(text, "x.yaml")
