"""Conditions on a column's entries."""

from __future__ import annotations

from typing import Any

import pytest

from polysense.data.conditions import check_conditions, fulfils
from polysense.errors import ConfigError


@pytest.mark.parametrize(
    ("conditions", "taken", "left"),
    [
        ({"equals": "yes"}, ["yes"], ["no", "Yes", None]),
        ({"one_of": ["yes", "Yes"]}, ["yes", "Yes"], ["no", None]),
        ({"at_most_characters": 3}, ["red", "", None, ["a", None, "red"], [], 123], ["blue", ["red", "blue"], 1234]),
        ({"one_of": ["a", "bcde"], "at_most_characters": 3}, ["a"], ["bcde", "b"]),
    ],
    ids=str,
)
def test_entries_are_taken_that_fulfil_every_condition(
    conditions: dict[str, Any], taken: list[Any], left: list[Any]
) -> None:
    check_conditions(conditions, where="here")
    assert all(fulfils(entry, conditions) for entry in taken)
    assert not any(fulfils(entry, conditions) for entry in left)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({}, "here: no condition is given"),
        ({"is": "yes"}, "here: there is no condition 'is'. Known conditions: equals, one_of"),
        ({"one_of": "yes"}, "here: one_of is 'yes'. Give a list of entries"),
        ({"at_most_characters": "100"}, "here: at_most_characters is '100'. Give a whole number"),
        ({"at_most_characters": True}, "here: at_most_characters is True"),
    ],
)
def test_what_is_no_condition_is_refused(conditions: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_conditions(conditions, where="here")
