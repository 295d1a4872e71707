"""YAML that says what JSON could: no dates or sets, no key twice, and no aliases without end."""

from __future__ import annotations

from typing import Any

import yaml

from polysense.errors import ConfigError, PolysenseError

MAX_VALUES = 100_000
"""Most values of a text, each counted wherever an alias puts it."""

_PREFIX = "tag:yaml.org,2002:"
_PLAIN = {f"{_PREFIX}{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}


def read_yaml(text: str, where: str) -> Any:
    """What a text holds.

    Raises:
        ConfigError: it is not YAML, has one key twice, holds what is neither text, number, list nor mapping, or its
            aliases lead in a circle or to more than `MAX_VALUES` values.
    """
    try:
        if (node := yaml.compose(text, Loader=yaml.SafeLoader)) is not None:
            _count(node, where, {})
        return yaml.safe_load(text)
    except PolysenseError:
        raise
    # "!!int x" and numbers of more digits than Python reads end in errors of Python's own, of many kinds
    except (yaml.YAMLError, RecursionError, ValueError, LookupError) as error:
        raise ConfigError(f"the text is not YAML ({error})", where=where, fix="Correct it.") from error


def _count(node: yaml.Node, where: str, counts: dict[int, int | None]) -> int:
    """How many values a node has, aliases written out; `counts` has those that were looked at, `None` meanwhile."""
    place = f"{where}, line {node.start_mark.line + 1}"
    if id(node) not in counts:
        counts[id(node)] = None
        if node.tag not in _PLAIN:
            what = repr(node.value) if isinstance(node, yaml.ScalarNode) else "what stands there"
            raise ConfigError(f"{what} is read as {node.tag.removeprefix(_PREFIX)}", where=place,
                              fix="Put text in quotation marks; use lists and mappings.")  # fmt: skip
        counts[id(node)] = 1 + sum(_count(part, where, counts) for part in _parts(node, where))
    if (count := counts[id(node)]) is None:
        raise ConfigError("an alias leads back to where it stands", where=place, fix="Break the circle.")
    if count > MAX_VALUES:
        raise ConfigError(f"with its aliases written out it has more than {MAX_VALUES:,} values", where=place,
                          fix="Use fewer aliases.")  # fmt: skip
    return count


def _parts(node: yaml.Node, where: str) -> list[yaml.Node]:
    """What a list or mapping consists of. YAML takes the last of equal keys, and says nothing: they are refused."""
    if not isinstance(node, yaml.MappingNode):
        return list(node.value) if isinstance(node, yaml.SequenceNode) else []
    seen: dict[str, int] = {}
    for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
        line = key.start_mark.line + 1
        if key.value in seen:
            raise ConfigError(f"the key {key.value!r} stands in line {seen[key.value]} already",
                              where=f"{where}, line {line}", fix="Keep one of them.")  # fmt: skip
        seen[key.value] = line
    return [part for pair in node.value for part in pair]
