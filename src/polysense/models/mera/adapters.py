"""PathWeave's adapters inside the language model, as part of a checkpoint: where they sit, and for which senses."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from torch import nn

from polysense.errors import ConfigError
from polysense.modality import Modality
from polysense.models.nested import check_limits
from polysense.nn.adapter_in_adapter import AdapterOptions, add_path, inject_adapters

_LIMITS = {"rank": 65_536}
_MAX_PATHS = 64
_STARTS = ("identity", "linear")


@dataclass(frozen=True, kw_only=True)
class MeraAdapters:
    """What the language model has beside its own linears (`polysense.nn.adapter_in_adapter`).

    Attributes:
        linears: names of the adapted layers within the language model, such as "layers.0.mlp.up_proj".
        paths: senses that have a path, first to last; the gates have their rows in this order.
        options: what all adapters have in common.
    """

    linears: Sequence[str]
    options: AdapterOptions
    paths: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"linears": list(self.linears), "paths": list(self.paths), "options": asdict(self.options)}

    @classmethod
    def from_dict(cls, values: Any, *, where: str = "adapters") -> Self:
        """Rebuild them from a checkpoint.

        Raises:
            ConfigError: unknown, missing or mistyped keys, or values that no adapters have.
        """
        if not isinstance(values, Mapping) or set(values) != {"linears", "paths", "options"}:
            raise ConfigError("the adapters are no mapping of linears, paths and options", where=where,
                              fix="Use the config as it was saved.")  # fmt: skip
        for key in ("linears", "paths"):
            names = values[key]
            texts = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
            if not texts or len(set(names)) < len(names):
                raise ConfigError("there is no list of different names", where=f"{where}.{key}",
                                  fix="Use the config as it was saved.")  # fmt: skip
        if len(values["paths"]) > _MAX_PATHS:
            raise ConfigError(f"there are {len(values['paths'])} paths", where=where, fix=f"Use at most {_MAX_PATHS}.")
        for name in values["paths"]:
            Modality(name=name, kind="grid")  # it becomes a module's name, as a sense's does
        options = _options(values["options"], where=f"{where}.options")
        return cls(linears=tuple(values["linears"]), paths=tuple(values["paths"]), options=options)

    def inject(self, language_model: nn.Module) -> None:
        """Put adapters with all paths into a language model, the last path in use.

        Raises:
            ConfigError: it lacks one of the linears, or has adapters already. Nothing is changed.
        """
        modules = dict(language_model.named_modules())
        if missing := [name for name in self.linears if not isinstance(modules.get(name), nn.Linear)]:
            raise ConfigError(f"the language model has no linear {missing[0]!r}", where="adapters.linears",
                              fix="Name layers of this very language model.")  # fmt: skip
        inject_adapters(language_model, "|".join(map(re.escape, self.linears)), self.options)
        for name in self.paths:
            add_path(language_model, name)


def _options(values: Any, *, where: str) -> AdapterOptions:
    known = [field.name for field in fields(AdapterOptions)]
    if not isinstance(values, Mapping) or set(values) != set(known):
        raise ConfigError(
            f"the options are not {', '.join(known)}", where=where, fix="Use the config as it was saved."
        )
    check_limits({"rank": values["rank"]}, _LIMITS, where=where)
    alpha = values["alpha"]
    number = isinstance(alpha, int | float) and not isinstance(alpha, bool) and math.isfinite(alpha)
    if not (alpha is None or number) or not isinstance(values["noise"], bool):
        raise ConfigError(f"alpha is {alpha!r} and noise is {values['noise']!r}", where=where,
                          fix="Use a number (or none), and true or false.")  # fmt: skip
    if values["in_adapter_start"] not in _STARTS:
        raise ConfigError(f"in_adapter_start is {values['in_adapter_start']!r}", where=where,
                          fix=f"Use one of {', '.join(_STARTS)}.")  # fmt: skip
    return AdapterOptions(**values)
