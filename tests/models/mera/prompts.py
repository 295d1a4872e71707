"""Prompts of token ids for tiny MERA models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from polysense.testing import tiny_features

STEPS = {"video": 4, "audio": 2, "speech": 1}
VALUES = {"image": "pixel_values"}


def prompt(model: Any, *parts: int | str) -> list[int]:
    """Token ids, with the name of a sense standing for one item of it."""
    ids: list[int] = []
    for part in parts:
        if isinstance(part, int):
            ids.append(part)
        else:
            ids += [model.config.senses[part].token_id] * model.token_layout(part).count(STEPS.get(part, 1))
    return ids


def padded(rows: Sequence[list[int]], side: str = "left") -> dict[str, Tensor]:
    """`input_ids` and `attention_mask` of rows padded with token 0."""
    length = max(len(row) for row in rows)
    fill = [[0] * (length - len(row)) for row in rows]
    ids = [pad + row if side == "left" else row + pad for pad, row in zip(fill, rows, strict=True)]
    real = [[0] * len(pad) + [1] * len(row) if side == "left" else [1] * len(row) + [0] * len(pad)
            for pad, row in zip(fill, rows, strict=True)]  # fmt: skip
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(real)}


def features(**counts: int) -> dict[str, Tensor]:
    """Random features of so many items of each sense."""
    names = {name: VALUES.get(name, f"{name}_values") for name in counts}
    return {key: tiny_features(counts[name], seed=len(name))[key] for name, key in names.items()}


def labels_of(batch: dict[str, Tensor], last: int = 3) -> Tensor:
    """Labels on the last `last` tokens of every row, none elsewhere."""
    ids = batch["input_ids"]
    keep = torch.arange(ids.shape[1]) >= ids.shape[1] - last
    return torch.where(keep & batch["attention_mask"].bool(), ids, -100)
