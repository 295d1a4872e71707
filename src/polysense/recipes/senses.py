"""Senses as recipes name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from polysense.errors import ConfigError
from polysense.modality import Modality, get_modality
from polysense.processing import processor_for
from polysense.recipes.config import place

_SIZE = 224  # stands in for the encoder's picture, whose size is not known before the anchor is there


@dataclass(frozen=True, kw_only=True)
class SenseSettings:
    """How a registered sense is used here.

    Attributes:
        channels: values per pixel, cell or point, if not the registered number.
        tokenizer, processor: options that refine the registered spec's.
        templates: prompts for its class names.
    """

    channels: int | None = None
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    processor: Mapping[str, Any] = field(default_factory=dict)
    templates: Sequence[str] = ()

    def spec(self, name: str) -> Modality:
        """The registered spec, refined."""
        base = get_modality(name)
        return replace(
            base, channels=self.channels or base.channels, tokenizer={**base.tokenizer, **self.tokenizer},
            processor={**base.processor, **self.processor},
        )  # fmt: skip


def check_sense(spec: Modality, templates: Sequence[str], where: str) -> None:
    """Processor options and prompts of a sense.

    Raises:
        ConfigError: naming `where` and the option.
    """
    with place(where):
        processor_for(spec, _SIZE)
        for template in templates:
            if "{}" not in template:
                raise ConfigError(f"the template {template!r} has no {{}} for the class name", where="templates",
                                  fix="Write one.")  # fmt: skip
