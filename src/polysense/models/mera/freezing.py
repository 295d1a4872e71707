"""What trains in a step of MERA, as patterns of parameters' names; known before there is a model."""

from __future__ import annotations

from collections.abc import Iterable

LANGUAGE_MODEL = r"(model\.language_model|lm_head)\..*"
"""Pattern of the language model's parameters, its head among them: what all senses have in common."""


def freezing_table(trained: Iterable[str], *, language_model: bool = False) -> dict[str, bool]:
    """Pattern to trainable (the last that matches counts) of a step that trains the connectors of some senses.

    Args:
        language_model: train the language model too, head included.
    """
    connectors = {rf"model\.connectors\.{name}\..*": True for name in trained}
    return {r".*": False, **connectors, **({LANGUAGE_MODEL: True} if language_model else {})}


__all__ = ["LANGUAGE_MODEL", "freezing_table"]
