"""Conditions on a column's entries: which rows of a data set are taken.

A further condition is one function and one entry in `_CONDITIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from polysense.errors import ConfigError
from polysense.modality import JsonValue


def _equals(value: Any, wanted: JsonValue) -> bool:
    return bool(value == wanted)


def _one_of(value: Any, wanted: JsonValue) -> bool:
    return value in wanted


def _at_most_characters(value: Any, wanted: JsonValue) -> bool:
    texts = value if isinstance(value, list | tuple) else (value,)
    return all(len(str(text)) <= wanted for text in texts if text is not None)


_CONDITIONS: Mapping[str, tuple[Callable[[Any, JsonValue], bool], tuple[type, ...], str]] = {
    "equals": (_equals, (object,), "an entry"),
    "one_of": (_one_of, (list, tuple), "a list of entries"),
    "at_most_characters": (_at_most_characters, (int,), "a whole number"),
}


def check_conditions(conditions: Mapping[str, JsonValue], *, where: str) -> None:
    """Refuse what is no condition.

    Args:
        conditions: `equals` an entry, `one_of` several, `at_most_characters` of a text or of every text of a list.

    Raises:
        ConfigError: none, an unknown one, or a value that it cannot be compared with.
    """
    if not conditions:
        raise ConfigError("no condition is given", where=where, fix=f"Known conditions: {', '.join(_CONDITIONS)}.")
    for name, wanted in conditions.items():
        if name not in _CONDITIONS:
            raise ConfigError(f"there is no condition {name!r}", where=where,
                              fix=f"Known conditions: {', '.join(_CONDITIONS)}.")  # fmt: skip
        _, kinds, description = _CONDITIONS[name]
        if not isinstance(wanted, kinds) or (kinds == (int,) and isinstance(wanted, bool)):
            raise ConfigError(f"{name} is {wanted!r}", where=where, fix=f"Give {description}.")


def fulfils(value: Any, conditions: Mapping[str, JsonValue]) -> bool:
    """Whether an entry of a column fulfils every one of its conditions."""
    return all(_CONDITIONS[name][0](value, wanted) for name, wanted in conditions.items())
