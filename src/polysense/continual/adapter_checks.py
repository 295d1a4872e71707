"""Whether adapters belong to the weights that they are about to be used with, asked before anything is changed.

Shapes alone do not tell: adapters of another language model of the same size fit, and give nonsense. Every adapter
says which weights it was trained on and which ones its stage ended with; one of the time before that is trusted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from math import prod
from pathlib import Path

from torch import Tensor, nn

from polysense.continual.adapter_settings import AdapterSettings
from polysense.continual.stage_adapter import (
    RECORD,
    StageAdapter,
    bare_key,
    base_digest,
    check_adapter,
    read_adapter,
)
from polysense.errors import CheckpointError, ConfigError
from polysense.merging.weight_files import read_headers, read_numbers


def check_record(folder: Path, method: str) -> None:
    """Refuse the folder of a stage's adapter that has none, for a method that goes on from it.

    Raises:
        CheckpointError: naming the method.
    """
    if not (folder / RECORD).exists():
        raise CheckpointError(f"the stage has no adapter of its own that {method} could go on from", where=folder,
                              fix="Begin with a stage that this recipe trained, or learn by fresh_lora.")  # fmt: skip


def check_adapters(model: nn.Module, adapters: Sequence[StageAdapter]) -> None:
    """Refuse the adapters of a stage's folder that are not those of its model.

    Args:
        model: of that stage.
        adapters: in order; the last one is the stage's own.

    Raises:
        CheckpointError: weights of other shapes, an adapter that was trained on others than the stage before it ended
            with, or a model that is not what the last stage ended with.
    """
    for each in adapters:
        check_adapter(model, each)
    for before, after in pairwise(adapters):
        known = before.merged is not None and after.base is not None
        if known and before.factors.keys() == after.factors.keys() and before.merged != after.base:
            raise _of_others(after, f"those that stage {before.stage} ended with")
    for last in adapters[-1:]:
        if last.merged is not None and base_digest(last.factors, model.get_parameter) != last.merged:
            raise _of_others(last, "those of this model")


def check_settings(model: nn.Module, adapter: StageAdapter, settings: AdapterSettings) -> None:
    """Refuse to go on training an adapter by other settings than its own.

    Args:
        model: that it is to be trained in, without any adapter.

    Raises:
        CheckpointError: another rank or scaling, or other layers.
    """
    layers = {f"{name}.weight" for name, module in model.named_modules()
              if isinstance(module, nn.Linear) and re.fullmatch(settings.targets, name)}  # fmt: skip
    wanted = settings.rank, settings.alpha / settings.rank
    sizes = {(len(A), scaling) for A, _, scaling in adapter.factors.values()}
    if layers != set(adapter.factors) or sizes != {wanted}:
        raise CheckpointError(
            f"the adapter of stage {adapter.stage} is of other layers, another rank or another alpha", where="adapter",
            fix="Go on with the settings it was trained with.",
        )  # fmt: skip


def check_base(base: Mapping[str, Tensor], adapter: StageAdapter, where: str | Path) -> None:
    """Refuse a language model that is not the one that an adapter was trained on.

    Args:
        base: its weights, by their keys in a MERA model.
        where: it came from.

    Raises:
        CheckpointError: naming the place.
    """
    if adapter.base is None:
        return
    if not set(adapter.factors) <= set(base) or base_digest(adapter.factors, base.__getitem__) != adapter.base:
        raise CheckpointError(f"this is not the language model that stage {adapter.stage} was trained on", where=where,
                              fix="Put back what was there, or train all stages again in another folder.")  # fmt: skip


def check_added(model: Path, adapters: Sequence[Path]) -> None:
    """Refuse adapters that were trained neither on a model nor on what one of the others led to.

    Args:
        model: folder of a language model, or of a MERA model.
        adapters: their own folders; a LoRA of elsewhere, without a record of its base, is taken on trust.

    Raises:
        CheckpointError: naming the adapter's folder.
    """
    stored = read_headers(model)

    def weight_of(key: str) -> Tensor:
        tensor = stored[stored_key(key, stored)]
        return read_numbers(tensor, 0, prod(tensor.shape)).reshape(tensor.shape)

    known = {folder: read_adapter(folder) for folder in adapters if (folder / RECORD).exists()}
    for folder, each in known.items():
        others = [other.merged for other in known.values() if other is not each]
        known_here = any(stored_key(key, stored) in stored for key in each.factors)
        untold = each.base is None or None in others or not known_here
        if not untold and each.base not in others and base_digest(each.factors, weight_of) != each.base:
            raise CheckpointError(
                f"the adapter of stage {each.stage} was trained on other weights than those of {model}", where=folder,
                fix="Give the model that it was trained on, or all adapters from there.",
            )  # fmt: skip


def stored_key(key: str, stored: Collection[str]) -> str:
    """Name that a weight of MERA's language model has among those of a MERA model, or of the language model alone."""
    prefixes = ("model", *sorted({each.partition(".")[0] for each in stored}))
    names = (key, *(bare_key(key, prefix) for prefix in prefixes))
    return next((name for name in names if name in stored), bare_key(key))


def check_sum(adapters: Sequence[StageAdapter], where: str | Path) -> None:
    """Refuse adapters that do not tell all that their stages did to the language model.

    Raises:
        ConfigError: a stage changed it otherwise than by a multiple of its adapter.
    """
    for each in adapters:
        if each.coefficient is None or not each.whole:
            raise ConfigError(f"stage {each.stage} changed the language model by more than a multiple of its adapter",
                              where=where, fix="Use the merged weights themselves.")  # fmt: skip


def _of_others(adapter: StageAdapter, whose: str) -> CheckpointError:
    return CheckpointError(
        f"the adapter of stage {adapter.stage} belongs to other weights than {whose}", where="adapters",
        fix="Use the adapters of this very model, in a stage folder as the recipe wrote it.",
    )  # fmt: skip


__all__ = ["check_adapters", "check_added", "check_base", "check_record", "check_settings", "check_sum", "stored_key"]
