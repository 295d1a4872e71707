"""The terms of a system's training objective: each is one function and one registration, here or in a user's module.

A recipe weighs a registered term by its name (`objective: {terms: {my_term: 0.1}}`, with `imports: [my_module]`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

from jaxtyping import Float
from torch import Tensor

from polysense.errors import ConfigError

Scored = TypeVar("Scored")
"""What the terms of a system are computed from: a batch, and what its model makes of it."""

Term: TypeAlias = Callable[[Scored], Float[Tensor, ""] | None]
"""A *mean over samples* (see `Objective`), or `None` where a batch has nothing for it, on all processes alike. What
compares samples takes those of all processes (`gather_with_grad`)."""


@dataclass(frozen=True, kw_only=True)
class TermSettings:
    """Weights of an objective's terms: those that the system has by fields of their names, which `OWN` lists.

    Attributes:
        terms: weights of further ones, by the names they are registered under.

    Raises:
        ConfigError: a weight that is negative or infinite, or a term that is weighed twice.
    """

    OWN: ClassVar[tuple[str, ...]]
    terms: Mapping[str, float] = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term."""
        return {**{name: getattr(self, name) for name in self.OWN}, **self.terms}

    def __post_init__(self) -> None:
        if twice := sorted({*self.OWN} & {*self.terms}):
            raise ConfigError(f"{twice[0]} is weighed twice", where="terms",
                              fix="Terms that the library has are keys of the objective itself.")  # fmt: skip
        self.check_not_negative(self.weights)

    @staticmethod
    def check_not_negative(numbers: Mapping[str, float]) -> None:
        """Refuse numbers that are negative or infinite. Raises `ConfigError`."""
        if bad := [name for name, number in numbers.items() if not 0 <= number < math.inf]:
            raise ConfigError(f"{bad[0]} is {numbers[bad[0]]}", where="objective", fix="Give at least 0.")

    def to_dict(self) -> dict[str, Any]:
        """All values; no `terms` if there are none, so that stages from before there could be any keep their names."""
        return {name: value for name, value in asdict(self).items() if name != "terms" or value}


class Terms(Generic[Scored]):
    """The terms of one system by name, in order of registration.

    Args:
        beside: names of what the system computes or logs beside its terms, which no term can have.
    """

    def __init__(self, beside: Iterable[str] = ()) -> None:
        self._functions: dict[str, Term[Scored]] = {}
        self._beside = frozenset(beside)

    def register(self, name: str) -> Callable[[Term[Scored]], Term[Scored]]:
        """Decorator that makes a function available as the term `name`.

        Raises:
            ConfigError: the name is taken by another function, or by what is computed beside the terms.
        """

        def add(function: Term[Scored]) -> Term[Scored]:
            if name in self._beside:
                raise ConfigError(f"{name!r} is computed beside the terms already", fix="Choose another name.")
            if self._functions.setdefault(name, function) is not function:
                raise ConfigError(f"a term {name!r} is registered already", fix="Choose another name.")
            return function

        return add

    def check(self, names: Iterable[str]) -> None:
        """Refuse terms that are not there. Raises `ConfigError` with the known names."""
        if unknown := [name for name in names if name not in self._functions]:
            raise ConfigError(
                f"there is no term {unknown[0]!r}",
                where="terms",
                fix=f"Known: {', '.join(self._functions)}. Modules with more go into imports.",
            )

    def __call__(self, scored: Scored, weights: Mapping[str, float]) -> dict[str, Tensor]:
        """The terms that weigh anything and that the batch has something for.

        Raises:
            ConfigError: a term that is no scalar tensor.
        """
        computed = {name: function(scored) for name, function in self._functions.items() if weights.get(name)}
        found = {name: value for name, value in computed.items() if value is not None}
        for name, value in found.items():
            if not isinstance(value, Tensor) or value.ndim:
                kind = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
                raise ConfigError(f"the term {name!r} is {kind}", where="terms",
                                  fix="Let it return a scalar tensor, the mean over the samples.")  # fmt: skip
        return found
