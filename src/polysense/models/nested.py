"""Configs of models inside the configs of ours: known types only, and of sizes that a model can have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, PreTrainedConfig

from polysense.errors import ConfigError, PolysenseError
from polysense.safety import check_config

# Names of sizes among transformers' configs with the values that are let through, the first match deciding. Layers and
# experts become modules, of which even an empty model has objects; the rest only has to keep arithmetic finite.
_RULES: tuple[tuple[str, int, int], ...] = (
    (r"(num_|n_|encoder_|decoder_)?(hidden_)?layers?|depth|num_blocks", 1, 1_024),
    (r"\w*experts\w*", 0, 4_096),
    (r"\w*heads", 1, 4_096),
    (r"(hidden|intermediate|projection|embedding)_(size|dim)|d_model|n_embd|(embed|ffn)_dim", 1, 262_144),
    (r"vocab_size", 1, 4_000_000),
    (r"(image|patch)_size|num_channels|num_mel_bins|groups|neighbours", 1, 16_384),
    (r"max_length|max_position_embeddings|n_positions", 1, 100_000_000),
)  # fmt: skip


def nested_config(value: Mapping[str, Any] | PreTrainedConfig, *, where: str) -> PreTrainedConfig:
    """The config object of a model inside another.

    Args:
        value: a dictionary with `model_type`, as a config file holds it, or the object itself.
        where: the key it stands under, for messages.

    Raises:
        UnsafeFileError: it names code or files to be used.
        ConfigError: a type that transformers does not know (or nothing registered), or values no such model has.
    """
    values = value.to_dict() if isinstance(value, PreTrainedConfig) else dict(value)
    check_config(values, where=where)
    check_sizes(values, where=where)
    if isinstance(value, PreTrainedConfig):
        return value
    kind = values.pop("model_type", None)
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise ConfigError(f"there is no model type {kind!r}", where=where,
                          fix="Give a model_type of transformers or of this library.")  # fmt: skip
    try:
        return CONFIG_MAPPING[kind](**values)
    except PolysenseError:
        raise
    except Exception as error:  # each of transformers' configs has checks and exceptions of its own
        raise ConfigError(f"the values do not fit a config of type {kind!r} ({_first_line(error)})", where=where,
                          fix="Use the config that was saved with that model.") from error  # fmt: skip


def nested_values(config: PreTrainedConfig) -> dict[str, Any]:
    """What of a nested config is written into a file: its type, and the values that are not the type's own."""
    values = config.to_diff_dict()
    values.pop("transformers_version", None)
    return {"model_type": config.model_type, **values}


def check_sizes(values: Mapping[str, Any], *, where: str) -> None:
    """Refuse sizes that no model has, at any level: a hostile config must not make us allocate.

    Raises:
        ConfigError: names the key and the value.
    """
    for key, number in _numbers(values):
        rule = next((rule for rule in _RULES if re.fullmatch(rule[0], key)), None)
        if rule is not None and not (isinstance(number, int) and rule[1] <= number <= rule[2]):
            raise ConfigError(f"{key} is {number}", where=where, fix=f"Use a value from {rule[1]} to {rule[2]}.")


def check_limits(sizes: Mapping[str, Any], limits: Mapping[str, int], *, where: str) -> None:
    """Refuse sizes of one of our configs that are no whole number from 1 to their limit.

    Args:
        sizes: name to value; `None` is a size that the config leaves open.
        limits: name to the largest value.

    Raises:
        ConfigError: names the size and the value.
    """
    for name, value in sizes.items():
        if value is not None and not (isinstance(value, int) and 1 <= value <= limits[name]):
            raise ConfigError(f"{name} is {value}", where=where, fix=f"Use a value from 1 to {limits[name]}.")


@contextmanager
def strict_errors(where: str) -> Iterator[None]:
    """Within this block, a strict config's field of a wrong type becomes a `ConfigError` about `where`."""
    try:
        yield
    except StrictDataclassError as error:
        raise ConfigError(" ".join(str(error).split()), where=where, fix="Correct the value.") from error


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, int | float]]:
    """Every number of a nested config with the name it stands under; items of a list have the list's."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _numbers(item, str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item, key)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, value


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])
