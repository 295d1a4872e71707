"""What a merge method is: a formula over numbers, registered under a name, lifted here to whole state dicts.

A formula sees a `Block`: a tensor, or a piece of one, of every state, as a row of numbers in at least float32. So
it reads as the equation it implements, and serves state dicts in memory and files larger than memory alike.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import torch
from jaxtyping import Float
from torch import Tensor

from polysense.errors import ConfigError
from polysense.merging.select import MERGEABLE, dtype_name, entries, select
from polysense.modality import JsonValue

State = Mapping[str, Tensor]
Formula = Callable[..., Tensor]
Coefficient = Callable[..., float]


@dataclass(frozen=True)
class Block:
    """Consecutive numbers of one tensor, in each of the states that are merged.

    Attributes:
        name: key of the tensor.
        start: index of the first number within the whole tensor.
        stage: number of the training stage that led from `previous` to `current`, at least 2.
        previous: theta_{i-1}, the merged weights that the stage's training began with.
        current: theta_{i,vanilla}, the weights that it ended with.
        base: theta_0, the weights before the first stage, for methods that look at the whole path.
    """

    name: str
    start: int
    stage: int
    previous: Float[Tensor, " numbers"]
    current: Float[Tensor, " numbers"]
    base: Float[Tensor, " numbers"] | None = None

    @property
    def update(self) -> Float[Tensor, " numbers"]:
        """What this stage's training has changed: its task vector."""
        return self.current - self.previous


@dataclass(frozen=True)
class MergeMethod:
    """A pure function over state dicts: `method(previous, current, stage=3)`.

    Attributes:
        name: under which it is registered.
        formula: merged numbers of a `Block`; its keyword arguments are the method's options.
        whole_tensors: the formula has to see a tensor in one piece; else any piece will do.
        needs_base: the formula uses `Block.base`.
        counts: stage and options to what the stage's update is multiplied by, for a formula that does nothing else.
    """

    name: str
    formula: Formula
    whole_tensors: bool = False
    needs_base: bool = False
    counts: Coefficient | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """Names of its options."""
        return tuple(name for name in inspect.signature(self.formula).parameters if name != "block")

    def coefficient(self, stage: int, options: Mapping[str, JsonValue] | None = None) -> float | None:
        """What a stage's update counts, all of it in the first; `None` where the merge is no multiple of it.

        With one, a LoRA's delta is merged exactly by scaling it (`polysense.merging.lora_delta`).

        Raises:
            ConfigError: see `prepare`.
        """
        self.prepare(stage, options or {}, has_base=True)
        if self.counts is None:
            return None
        return 1.0 if stage == 1 else float(self.counts(stage, **(options or {})))

    @torch.no_grad()
    def __call__(
        self,
        previous: State,
        current: State,
        *,
        stage: int,
        base: State | None = None,
        shared: Sequence[str] | None = None,
        **options: JsonValue,
    ) -> dict[str, Tensor]:
        """Merge what stage `stage` has trained into what was there before it.

        Args:
            previous: theta_{i-1}, the merged model that the stage began with.
            current: theta_{i,vanilla}, the model after the stage's training.
            stage: i, counted from 1; the first stage has nothing to merge with, so the result is `current`.
            base: theta_0, the model before the first stage; some methods need it.
            shared: names of the modules that are merged (MERA: the language model); of the others `previous` keeps
                its own and those that only `current` has are added. None: everything is merged.
            options: of the method, see its formula.

        Returns:
            New tensors, computed in at least float32, in the dtype and on the device of `previous`. Integer and bool
            tensors have to be equal in all states and stay as they are.

        Raises:
            ConfigError: wrong stage or option, keys, shapes or dtypes that differ, numbers that are not finite,
                integers that differ; the message names the state and the key, and nothing has been computed. Also
                where a merged number does not fit the dtype.
        """
        formula = self.prepare(stage, options, has_base=base is not None)
        states = {"previous": previous, "current": current} | ({} if base is None else {"base": base})
        listings = [entries(state, name) for name, state in states.items()]
        selection = select(*listings, shared=shared)
        for key in selection.merged:
            check_values([(f"{name}: {key}", state[key]) for name, state in states.items()])
        merged = {key: current[key].clone() for key in selection.added}
        merged |= {key: previous[key].clone() for key in selection.kept}
        for key in selection.merged:
            before, after, *origin = (state[key].reshape(-1) for state in states.values())
            numbers = merge_numbers(formula, key, 0, stage, before, [after], *origin)
            merged[key] = numbers.reshape(previous[key].shape)
        return {key: merged[key] for key in (*previous, *selection.added)}

    def prepare(self, stage: int, options: Mapping[str, JsonValue], *, has_base: bool) -> Formula:
        """The formula with its options, after trying them on a single number.

        Raises:
            ConfigError: the stage is no positive integer, the base is missing, or an option is unknown or impossible.
        """
        check_stage(stage)
        if self.needs_base and not has_base:
            raise ConfigError(f"merge method {self.name!r} needs the model before the first stage",
                              fix="Give it as `base`.")  # fmt: skip
        if unknown := sorted(set(options) - set(self.options)):
            raise ConfigError(f"merge method {self.name!r} has no options {unknown}",
                              fix=f"It has: {', '.join(self.options) or 'none'}.")  # fmt: skip
        formula, one = partial(self.formula, **options), torch.zeros(1)
        formula(Block("", 0, max(stage, 2), one, one, one))
        return formula


def merge_numbers(
    formula: Formula, name: str, start: int, stage: int, previous: Tensor, currents: Sequence[Tensor],
    base: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Merge each of `currents` on top, one stage after the other, and round once at the end.

    Args:
        formula: see `MergeMethod.prepare`.
        name, start: see `Block`.
        stage: of the first of `currents`.
        previous, currents, base: numbers of one tensor, one-dimensional; `check_values` has passed them.

    Returns:
        The merged numbers in the dtype of `previous`.
    """
    if previous.dtype not in MERGEABLE or not previous.numel():
        return previous.clone()
    precision = reduce(torch.promote_types, (each.dtype for each in (previous, *currents)), torch.float32)
    merged = previous.to(precision)
    origin = None if base is None else base.to(previous.device, precision)
    for later, current in enumerate(currents):
        block = Block(name, start, stage + later, merged, current.to(previous.device, precision), origin)
        merged = block.current if block.stage == 1 else formula(block)
    if merged.shape != previous.shape:
        raise ConfigError(f"the merge method turned {len(previous)} numbers into {tuple(merged.shape)}", where=name)
    rounded = merged.to(previous.dtype, copy=True)
    if not all_finite(rounded):
        raise ConfigError(f"the merged tensor does not fit into {dtype_name(rounded.dtype)}", where=name,
                          fix="Save the models as bfloat16 or float32, or give smaller coefficients.")  # fmt: skip
    return rounded


def check_values(tensors: Sequence[tuple[str, Tensor]]) -> None:
    """Floats have to be finite, integers and bools equal to the first; each comes with the place it is from.

    Raises:
        ConfigError: names the place.
    """
    origin, first = tensors[0]
    for where, tensor in tensors:
        if first.dtype in MERGEABLE:
            if not all_finite(tensor):
                raise ConfigError("the tensor holds infinite numbers or NaN", where=where,
                                  fix="Go back to the last checkpoint before the training broke.")  # fmt: skip
        elif not torch.equal(first, tensor.to(first.device)):
            raise ConfigError(f"the {dtype_name(first.dtype)} tensor differs from {origin}",
                              where=where, fix="Integers have no average: make them equal.")  # fmt: skip


def all_finite(tensor: Float[Tensor, " *shape"]) -> bool:
    """No infinite number and no NaN.

    Either would make the sum one, and a sum is many times cheaper than a test of each number; where a sum of finite
    numbers overflows, each is tested.
    """
    return math.isfinite(tensor.sum().item()) or bool(tensor.isfinite().all())


def check_stage(stage: int) -> None:
    """Stages are counted from one. Raises `ConfigError`."""
    if not isinstance(stage, int) or isinstance(stage, bool) or stage < 1:
        raise ConfigError(f"there is no stage {stage!r}", fix="Stages are counted from 1.")


def check_fraction(name: str, value: float) -> None:
    """An option between zero (excluded) and one. Raises `ConfigError`."""
    check_finite(name, value)
    if not 0 < value <= 1:
        raise ConfigError(f"{name} is {value!r}", where=name, fix="Give a number above 0 and at most 1.")


def check_finite(name: str, value: object) -> None:
    """An option that is a number that float64 holds, and no "yes" or "no". Raises `ConfigError`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        raise ConfigError(f"{name} is {value!r}", where=name, fix="Give a finite number.")


def check_whole(name: str, value: object) -> None:
    """An option that is a whole number. Raises `ConfigError`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}", where=name, fix="Give a whole number.")


_METHODS: dict[str, MergeMethod] = {}


def register_merge_method(
    name: str, *, whole_tensors: bool = False, needs_base: bool = False, counts: Coefficient | None = None
) -> Callable[[Formula], MergeMethod]:
    """Make a formula a merge method that every part of the library knows by `name`.

        @register_merge_method("half_way")
        def half_way(block: Block) -> Tensor:
            return block.previous + block.update / 2

    Args:
        name: new in the registry.
        whole_tensors, needs_base, counts: see `MergeMethod`.

    Raises:
        ConfigError: the name is taken by another formula.
    """

    def register(formula: Formula) -> MergeMethod:
        method = MergeMethod(name, formula, whole_tensors, needs_base, counts)
        if _METHODS.setdefault(name, method) != method:
            raise ConfigError(f"a merge method {name!r} is registered already", fix="Choose another name.")
        return method

    return register


def get_merge_method(name: str) -> MergeMethod:
    """The method registered as `name`. Raises `ConfigError` with the known names."""
    if name not in _METHODS:
        raise ConfigError(f"there is no merge method {name!r}", fix=f"Known methods: {', '.join(_METHODS)}.")
    return _METHODS[name]


def chosen_method(choice: str | Mapping[str, JsonValue]) -> tuple[MergeMethod, dict[str, JsonValue]]:
    """The method that a config names, with its options: a bare name, or `{name: ties, density: 0.3}`.

    Raises:
        ConfigError: no name or an unknown one, or an option that is unknown or impossible.
    """
    options = {"name": choice} if isinstance(choice, str) else dict(choice)
    method = get_merge_method(str(options.pop("name", "without a name")))
    method.prepare(2, options, has_base=True)
    return method, options


def merge_methods() -> tuple[str, ...]:
    """Names of the registered methods, in order of registration."""
    return tuple(_METHODS)
