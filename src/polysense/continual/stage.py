"""A stage as data: which modality joins, and the phases of training that this takes.

MERA's stage (section 5.1, Table 7) has three: the new connector alone on captions, connector and language model on
captions and questions, and, from the second stage on, all connectors on a replayed share of everything so far.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from polysense.errors import ConfigError
from polysense.modality import JsonValue
from polysense.storage import digest

_NAME = re.compile(r"[A-Za-z0-9_]+(-[A-Za-z0-9_]+)*")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One training within a stage.

    Attributes:
        name: "connector", "joint", "realign" ...
        trains: freezing table, see `apply_freezing`.
        data: names of the data sets.
        learning_rates: name of a parameter group to its peak learning rate.
        batch_size: samples per optimiser step.
        epochs, steps: how long; exactly one of the two is given.
        replay: share of earlier stages' data that joins, from 0 to 1.

    Raises:
        ConfigError: a value that cannot be used.
    """

    name: str
    trains: Mapping[str, bool]
    data: Sequence[str]
    learning_rates: Mapping[str, float]
    batch_size: int
    epochs: float | None = None
    steps: int | None = None
    replay: float = 0.0

    def __post_init__(self) -> None:
        _check_name(self.name)
        length = self.steps if self.epochs is None else self.epochs
        if length is None or (self.epochs is not None and self.steps is not None) or not 0 < length < math.inf:
            raise ConfigError(f"epochs is {self.epochs} and steps is {self.steps}", where=self.name,
                              fix="Give exactly one of them, above zero.")  # fmt: skip
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}", where=self.name, fix="Give a positive number.")
        if not 0 <= self.replay <= 1:
            raise ConfigError(f"the replay share is {self.replay}", where=self.name, fix="Give a share from 0 to 1.")
        if not self.data and not self.replay:
            raise ConfigError("the phase has neither data nor replay", where=self.name, fix="Name its data sets.")
        if bad := [name for name, rate in self.learning_rates.items() if not 0 < rate < math.inf]:
            raise ConfigError(f"the learning rates of {bad} are not positive", where=self.name,
                              fix="Give positive rates; freeze what is not to train.")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One modality joining a model that already has others.

    Attributes:
        name: part of the stage folder's name, such as "video".
        modality: the one that joins.
        phases: what is trained, in order.
        options: whatever else the method decides, such as `{"merge": "running_average"}` or `{"ewc": 1.0}`; JSON.

    Raises:
        ConfigError: a name that is no file name, no phase, or two phases of one name.
    """

    name: str
    modality: str
    phases: Sequence[Phase]
    options: Mapping[str, JsonValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_name(self.name)
        names = [phase.name for phase in self.phases]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"the stage has the phases {names}", where=self.name,
                              fix="Give at least one, each with a name of its own.")  # fmt: skip

    def to_dict(self) -> dict[str, JsonValue]:
        """All settings, JSON-able."""
        return {**asdict(self), "phases": [asdict(phase) for phase in self.phases]}


def stage_keys(stages: Sequence[Stage], common: Mapping[str, JsonValue]) -> list[str]:
    """A key per stage that tells all settings it depends on: `common`, its own, and those of all stages before it.

    Methods that begin alike have equal keys as far as they are alike, whatever they do later.

    Args:
        common: what holds for all stages: seed, base model, content hashes of the data sets ...; JSON.

    Raises:
        ConfigError: a setting is not JSON.
    """
    key, keys = _key(common, "common"), []
    for stage in stages:
        key = _key([key, stage.to_dict()], stage.name)
        keys.append(key)
    return keys


def _key(settings: JsonValue, where: str) -> str:
    try:
        text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the settings are not JSON ({error})", where=where, fix="Use plain values.") from error
    return digest(text.encode())


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError("a name has letters, digits, underscores and single hyphens", where=repr(name),
                          fix="Choose another name.")  # fmt: skip
