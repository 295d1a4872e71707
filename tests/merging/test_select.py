from __future__ import annotations

import re

import pytest
import torch

from polysense.errors import ConfigError
from polysense.merging.select import Entry, Selection, entries, select


def listing(
    name: str, *keys: str, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = (2,)
) -> dict[str, Entry]:
    return entries({key: torch.zeros(shape, dtype=dtype) for key in keys}, name)


def test_without_modules_everything_is_merged() -> None:
    state = listing("previous", "b", "a")
    assert select(state, listing("current", "a", "b")) == Selection(("b", "a"), (), ())


def test_modules_divide_the_keys_in_three() -> None:
    previous = listing("previous", "model.llm.w", "model.llm2.w", "connectors.image")
    current = listing("current", "model.llm.w", "connectors.audio", "connectors.image")
    selection = select(previous, current, shared=["model.llm"])
    assert selection.merged == ("model.llm.w",), "a module is named as a whole, not by the beginning of its name"
    assert selection.kept == ("model.llm2.w", "connectors.image")
    assert selection.added == ("connectors.audio",)


def test_the_base_may_have_more_than_what_is_merged() -> None:
    state, base = listing("previous", "llm.w"), listing("base", "llm.w", "head")
    assert select(state, state, base, shared=["llm"]).merged == ("llm.w",)
    with pytest.raises(ConfigError, match="the base model has beyond the previous one head"):
        select(state, state, base)


@pytest.mark.parametrize(
    ("current", "message"),
    [
        (listing("current", "a"), "current: the current model lacks b, c, d and 1 more"),
        (listing("current", *"abcdex"), "current: the current model has beyond the previous one x"),
        (
            listing("current", *"abcde", shape=(3,)),
            "current: a: the tensor has shape (3,), not (2,) as in previous: a",
        ),
        (
            listing("current", *"abcde", dtype=torch.int8),
            "current: a: the tensor is int8, not float32 as in previous: a",
        ),
    ],
)
def test_what_does_not_fit_is_named(current: dict[str, Entry], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        select(listing("previous", *"abcde"), current)


def test_floats_of_two_widths_fit_unless_one_dtype_is_asked_for() -> None:
    previous, current = listing("previous", "a", dtype=torch.bfloat16), listing("current", "a")
    assert select(previous, current).merged == ("a",)
    with pytest.raises(ConfigError, match=r"^current: a: the tensor is float32, not bfloat16"):
        select(previous, current, same_dtype=True)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64])
def test_what_has_no_average_is_refused(dtype: torch.dtype) -> None:
    state = listing("previous", "a", dtype=dtype)
    with pytest.raises(ConfigError, match="numbers cannot be averaged"):
        select(state, state)


def test_modules_have_to_exist_and_come_as_a_list() -> None:
    state = listing("previous", "llm.w")
    with pytest.raises(ConfigError, match="no tensor of the previous model belongs to module 'lm'"):
        select(state, state, shared=["llm", "lm"])
    with pytest.raises(ConfigError, match="shared is the text 'llm'"):
        select(state, state, shared="llm")
