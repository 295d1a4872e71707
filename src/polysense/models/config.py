"""What the configs of all our models share."""

from __future__ import annotations

from typing import Any, Self, cast

from transformers import PreTrainedConfig

from polysense.errors import ConfigError, PolysenseError


class PolysenseConfig(PreTrainedConfig):
    """Base of our configs: what a file holds and no such config has is an error of ours, by Auto classes too."""

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **options: Any) -> Self:
        """As in transformers.

        Raises:
            ConfigError: a value is of a wrong type, or one that no such model has.
        """
        where = options.get("name_or_path")
        try:
            return cast(Self, super().from_dict(config_dict, **options))
        except PolysenseError:
            raise
        except Exception as error:  # checks of transformers, of strict dataclasses and of torch's names
            raise ConfigError(f"the values are not those of a config of type {cls.model_type!r} "
                              f"({' '.join(str(error).split())})", where=where,
                              fix="Use the config as it was saved.") from error  # fmt: skip


__all__ = ["PolysenseConfig"]
