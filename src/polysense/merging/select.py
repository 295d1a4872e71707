"""Which tensors are merged and which are taken as they are, judged from keys, shapes and dtypes alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from polysense.errors import ConfigError

MERGEABLE = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_SAME_MODEL = "Merge models of one architecture, saved in the same way."


@dataclass(frozen=True)
class Entry:
    """What is known of a tensor before it is read.

    Attributes:
        where: the file (or the state) and the key, for messages.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    where: str


@dataclass(frozen=True)
class Selection:
    """What becomes of each key: CMA* of MERA, section 4.1.

    Attributes:
        merged: the modality-agnostic part, by a merge method.
        kept: of the previous state, as it is (the senses learned earlier).
        added: of the current state, as it is (the new sense).
    """

    merged: tuple[str, ...]
    kept: tuple[str, ...]
    added: tuple[str, ...]


def entries(state: Mapping[str, Tensor], name: str) -> dict[str, Entry]:
    """The entries of a state dict that messages call `name`."""
    return {key: Entry(tensor.dtype, tuple(tensor.shape), f"{name}: {key}") for key, tensor in state.items()}


def select(
    previous: Mapping[str, Entry],
    current: Mapping[str, Entry],
    base: Mapping[str, Entry] | None = None,
    *,
    shared: Sequence[str] | None = None,
    same_dtype: bool = False,
    places: Sequence[str | Path] = ("current", "base"),
) -> Selection:
    """Divide the keys, after checking that what is to be merged fits together.

    Args:
        previous, current, base: the states; base may be missing.
        shared: names of the modules that are merged, such as "model.language_model"; what else there is stays as it
            is. None: everything is merged, so all keys must be equal.
        same_dtype: refuse to merge float16 with bfloat16 and the like.
        places: what messages call the current state and the base: their folders, if they have some.

    Raises:
        ConfigError: a key is missing or left over, a module has no tensor, shapes or dtypes differ, or a dtype cannot
            be merged; the message names the state (or file) and the key.
    """
    if isinstance(shared, str):
        raise ConfigError(f"shared is the text {shared!r}", fix="Give a list of module names.")
    for module in shared or ():
        if not any(_is_part(key, [module]) for key in previous):
            raise ConfigError(f"no tensor of the previous model belongs to module {module!r}",
                              fix="Name modules as in the keys of the state dict, without the parameter.")  # fmt: skip
    merged = tuple(key for key in previous if _is_part(key, shared))
    for name, other, place in (("current", current, places[0]), ("base", base, places[-1])):
        if other is not None:
            _check_keys(name, place, merged, {key for key in other if _is_part(key, shared)})
            for key in merged:
                _check_entry(previous[key], other[key], same_dtype)
    kept = tuple(key for key in previous if not _is_part(key, shared))
    return Selection(merged, kept, tuple(key for key in current if key not in previous))


def _is_part(key: str, modules: Iterable[str] | None) -> bool:
    return modules is None or any(key == module or key.startswith(f"{module}.") for module in modules)


def _check_keys(name: str, place: str | Path, expected: Collection[str], found: Collection[str]) -> None:
    differences = (
        ("lacks", [key for key in expected if key not in found]),
        ("has beyond the previous one", sorted(set(found) - set(expected))),
    )
    for what, keys in differences:
        if keys:
            listing = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise ConfigError(f"the {name} model {what} {listing}", where=place,
                              fix=f"{_SAME_MODEL} List the modules to be merged where others differ.")  # fmt: skip


def _check_entry(previous: Entry, other: Entry, same_dtype: bool) -> None:
    if other.shape != previous.shape:
        raise ConfigError(f"the tensor has shape {other.shape}, not {previous.shape} as in {previous.where}",
                          where=other.where, fix=_SAME_MODEL)  # fmt: skip
    strict = same_dtype or not {previous.dtype, other.dtype} <= set(MERGEABLE)
    if strict and other.dtype != previous.dtype:
        expected = f"{dtype_name(previous.dtype)} as in {previous.where}"
        raise ConfigError(f"the tensor is {dtype_name(other.dtype)}, not {expected}",
                          where=other.where, fix="Save both models with the same dtype.")  # fmt: skip
    if previous.dtype not in MERGEABLE and (previous.dtype.is_floating_point or previous.dtype.is_complex):
        raise ConfigError(f"{dtype_name(previous.dtype)} numbers cannot be averaged", where=previous.where,
                          fix="Merge the model that these weights were quantised from.")  # fmt: skip


def dtype_name(dtype: torch.dtype) -> str:
    """As users write it: "bfloat16"."""
    return str(dtype).removeprefix("torch.")
