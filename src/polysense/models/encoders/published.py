"""Weights of published checkpoints under our names, and their strict loading."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from polysense.errors import CheckpointError

Rules = Iterable[tuple[str, str]]


def renamed(state: Mapping[str, Any], rules: Rules, *, left_out: str, where: str) -> dict[str, Tensor]:
    """Weights under the names that the first fitting rule gives them.

    Args:
        rules: regular expressions of whole names, and what they become.
        left_out: regular expression of names that are dropped.
        where: the published model, for messages.

    Raises:
        CheckpointError: a name that fits nothing, or a value that is no tensor.
    """
    compiled = [(re.compile(old), new) for old, new in rules]
    out = {}
    for key, value in state.items():
        fitting = next(((old, new) for old, new in compiled if old.fullmatch(key)), None)
        if fitting is not None:
            check_tensor(key, value)
            out[fitting[0].sub(fitting[1], key)] = value
        elif not re.fullmatch(left_out, key):
            raise CheckpointError(
                f"no {where} has this weight", where=key, fix="Give the weights of the encoder alone."
            )
    return out


def check_tensor(key: str, value: object) -> None:
    """Raise `CheckpointError` if what a published checkpoint calls a weight is none."""
    if not isinstance(value, Tensor):
        raise CheckpointError(f"the weight is no tensor but of type {type(value).__name__}", where=key,
                              fix="Give the checkpoint's tensors, as they were published.")  # fmt: skip


@torch.no_grad()
def load_strictly(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Load weights that must match one by one.

    Raises:
        CheckpointError: names that are missing or unknown, another shape, or a value that is no tensor; nothing has
            been changed then.
    """
    own = model.state_dict()
    missing, unknown = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    if missing or unknown:
        raise CheckpointError(f"the weights do not fit (missing {missing[:3]}, unknown {unknown[:3]})",
                              fix="Use the config that belongs to them.")  # fmt: skip
    for key, value in state.items():
        check_tensor(key, value)
        if value.shape != own[key].shape:
            raise CheckpointError(f"the weight has shape {tuple(value.shape)}, not {tuple(own[key].shape)}", where=key,
                                  fix="Use the config that belongs to it.")  # fmt: skip
    model.load_state_dict(dict(state))
