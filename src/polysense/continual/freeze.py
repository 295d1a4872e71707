"""Freezing as a table: patterns of parameter names to whether they train, logged as it is applied."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from torch import nn

from polysense.errors import ConfigError

logger = logging.getLogger(__name__)


def apply_freezing(model: nn.Module, table: Mapping[str, bool]) -> dict[str, int]:
    """Set `requires_grad` by the last pattern of `table` that matches a parameter's whole name.

    Returns:
        Number of parameters (not tensors) that each pattern decided.

    Raises:
        ConfigError: a pattern that matches no parameter, or a parameter that no pattern matches. Nothing is changed.
    """
    patterns = {pattern: re.compile(pattern) for pattern in table}
    decisions: dict[str, str] = {}
    matched: set[str] = set()
    for name, _ in model.named_parameters():
        hits = [pattern for pattern, compiled in patterns.items() if compiled.fullmatch(name)]
        if not hits:
            raise ConfigError("no pattern of the freezing table matches this parameter", where=name,
                              fix="Begin the table with '.*'.")  # fmt: skip
        matched.update(hits)
        decisions[name] = hits[-1]
    if idle := [pattern for pattern in table if pattern not in matched]:
        raise ConfigError(f"the freezing table's patterns {idle} match no parameter", fix="Mend or remove them.")
    counts = dict.fromkeys(table, 0)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(table[decisions[name]])
        counts[decisions[name]] += parameter.numel()
    for pattern, count in counts.items():
        logger.info("%s %s: %d parameters", "trains" if table[pattern] else "frozen", pattern, count)
    return counts
