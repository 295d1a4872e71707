"""Terms of an objective by name, and their weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from polysense.errors import ConfigError
from polysense.trainer.terms import Terms, TermSettings


@dataclass(frozen=True, kw_only=True)
class Settings(TermSettings):
    OWN: ClassVar[tuple[str, ...]] = ("near",)
    near: float = 2.0
    scale: float = 1.0


def registry() -> Terms[float]:
    terms: Terms[float] = Terms()

    @terms.register("near")
    def near(scored: float) -> Tensor:
        return torch.tensor(scored)

    @terms.register("far")
    def far(scored: float) -> Tensor | None:
        return torch.tensor(-scored) if scored > 0 else None

    return terms


def test_terms_that_weigh_something_are_computed_in_order_of_registration() -> None:
    terms, settings = registry(), Settings(terms={"far": 0.5})
    assert settings.weights == {"near": 2.0, "far": 0.5}
    found = terms(3.0, {"far": 0.5, "near": 2.0})
    assert list(found) == ["near", "far"] and [value.item() for value in found.values()] == [3.0, -3.0]
    assert list(terms(3.0, {"far": 1.0})) == ["far"] and not terms(3.0, {"far": 0.0})
    assert list(terms(-3.0, settings.weights)) == ["near"], "the other has nothing to score"


def test_names_are_taken_once_and_have_to_be_there() -> None:
    terms = registry()
    with pytest.raises(ConfigError, match="a term 'near' is registered already"):
        terms.register("near")(lambda scored: None)
    with pytest.raises(ConfigError, match="'logged' is computed beside the terms already"):
        Terms[float](beside=["logged"]).register("logged")(lambda scored: None)
    terms.check(["near", "far"])
    with pytest.raises(ConfigError, match=r"terms: there is no term 'fra'.*Known: near, far"):
        terms.check(["near", "fra"])


@pytest.mark.parametrize(("value", "what"), [
    (torch.zeros(4, 8), r"of shape \(4, 8\)"), (torch.zeros(1), r"of shape \(1,\)"), (0.5, "a float"),
])  # fmt: skip
def test_a_term_that_is_no_scalar_tensor_is_named(value: Any, what: str) -> None:
    terms = registry()
    terms.register("mine")(lambda scored: value)
    with pytest.raises(ConfigError, match=f"terms: the term 'mine' is {what}.*the mean over the samples"):
        terms(1.0, {"near": 1.0, "mine": 0.1})


@pytest.mark.parametrize(("values", "what"), [
    ({"near": -1.0}, "near is -1.0"),
    ({"terms": {"far": math.inf}}, "far is inf"),
    ({"terms": {"near": 1.0}}, "near is weighed twice"),
])  # fmt: skip
def test_weights_that_cannot_be_used_are_named(values: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        Settings(**values)  # type: ignore[arg-type]


def test_values_name_further_terms_only_if_there_are_any() -> None:
    assert Settings().to_dict() == {"near": 2.0, "scale": 1.0}
    assert Settings(terms={"far": 0.5}).to_dict() == {"near": 2.0, "scale": 1.0, "terms": {"far": 0.5}}
