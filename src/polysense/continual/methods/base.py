"""What a way of learning is: how every stage changes the language model, as one file and one registration.

The first stage has nothing to merge with, to hold or to choose between, so that all methods agree on it: a fresh LoRA
that is added whole (`fresh_lora`, plain fine-tuning). It is trained once for all of them, and is the expert of its
sense. A method decides about the stages after it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from jaxtyping import Float
from torch import Tensor

from polysense.continual.adapter_checks import check_base
from polysense.continual.adapter_settings import AdapterSettings
from polysense.continual.stage_adapter import StageAdapter
from polysense.data import SampleDataset
from polysense.errors import ConfigError
from polysense.modality import JsonValue
from polysense.models.mera import MeraForConditionalGeneration

ScoredBatches = tuple[Iterable[Any], Callable[[Any], Float[Tensor, " samples"]]]
"""Batches of samples, each once, and the function that gives every sample's loss with the model as it is then."""

Penalty = Callable[[], Float[Tensor, ""]]


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """A stage, as methods see it.

    Attributes:
        number: the stage's, from 1.
        senses: all so far; the last one joins now, the one before it is what the last stage learned.
        seed: of the run.
        adapter: size and place of what a stage adds to the language model.
        llm: folder or Hub name of the language model before the first stage; `None` where it is not at hand.
        start: folder of the stage before; `None` before the first.
        work: folder of this run alone, for what has to survive until the stage's own folder is written.
        whole: the method alone changes the language model in this stage; not where realigning trains it too.
        on_main: runs a function on the main process alone, while the others wait.
        scored: (sense, share) to a random share of the data of a sense.
    """

    number: int
    senses: Sequence[str]
    seed: int
    adapter: AdapterSettings
    llm: str | Path | None
    start: Path | None
    work: Path
    whole: bool
    on_main: Callable[[Callable[[], None]], Any]
    scored: Callable[[str, float], ScoredBatches]

    @property
    def previous(self) -> Path:
        """Folder of the stage before. Raises `ConfigError` in the first stage, which all methods leave alone."""
        if self.start is None:
            raise ConfigError("the first stage continues nothing", fix="Learn the first sense with fresh_lora.")
        return self.start

    def base_weights(self) -> Mapping[str, Tensor]:
        """W_0: the weights before the first stage, by their keys in a MERA model; none where they are not at hand."""
        return {} if self.llm is None else dict(MeraForConditionalGeneration.from_parts(self.llm).state_dict())


class Learning:
    """A method at work in one stage; what a subclass does not define does nothing.

    Every step is repeated when a killed run goes on, and must then lead to the same bits.

    Args:
        model: as the stage before left it, with the connector of the new sense.
        context: the stage.
    """

    def __init__(self, model: MeraForConditionalGeneration, context: StageContext) -> None:
        self.model, self.context = model, context

    def check(self) -> None:
        """Before anything trains: refuse what the stage before has left, if it cannot be gone on from.

        Raises:
            CheckpointError, ConfigError: see the methods; nothing has been changed.
        """

    def check_base(self, adapter: StageAdapter) -> None:
        """Refuse a language model that is no longer the one that the first stage's adapter was trained on.

        Raises:
            CheckpointError: naming it. Whatever was computed from W_0 would be of two models.
        """
        if self.context.llm is not None and adapter.whole:
            check_base(self.context.base_weights(), adapter, self.context.llm)

    def begin(self) -> None:
        """Before the language model trains: put in place what is to train (`LearningMethod.trains`)."""

    def penalties(self) -> Mapping[str, Penalty]:
        """Name to a function that gives a scalar, which training adds to the loss of every step."""
        return {}

    def finish(self) -> None:
        """After it: leave the model so that it can be used, realigned and saved."""

    def record(self) -> dict[str, JsonValue]:
        """What the stage's record says of how the language model was changed, after `finish`; JSON."""
        return {}

    def save(self, folder: Path) -> None:
        """Write into the stage folder what the next stage needs beside the model itself."""


@dataclass(frozen=True, kw_only=True)
class LearningMethod(ABC):
    """A way in which stages change the language model. The fields of a subclass are its options: JSON-able values."""

    name: ClassVar[str]

    def settings(self) -> dict[str, JsonValue]:
        """What a stage's key says of the method; stages of equal settings are one."""
        return {"method": {"name": self.name, **asdict(self)}}

    def check_data(self, last: Mapping[str, SampleDataset]) -> None:  # noqa: B027  (most methods define none)
        """Refuse the data sets of the sense before the one that is to be learned, if the method cannot use them.

        Raises:
            ConfigError: see the methods, most of which look at none.
        """

    def check_start(self, folder: Path, stage: int) -> None:  # noqa: B027  (likewise)
        """Refuse a stage's folder that lacks what the method goes on from, before any weights are read.

        Args:
            stage: number of the folder's stage; 1 where it has no record, such as a LLaVA.

        Raises:
            CheckpointError: see the methods, of which some need nothing.
        """

    @abstractmethod
    def trains(self, sense: str) -> str:
        """Pattern of the parameters that train beside the connector of the new sense, for the freezing table."""

    @abstractmethod
    def learning(self, model: MeraForConditionalGeneration, context: StageContext) -> Learning:
        """The method in one stage. Nothing is computed or changed yet."""


Kind = TypeVar("Kind", bound=type[LearningMethod])

_METHODS: dict[str, type[LearningMethod]] = {}


def register_method(name: str) -> Callable[[Kind], Kind]:
    """Class decorator that makes a way of learning available under `name`.

    Raises:
        ConfigError: the name is taken by another class.
    """

    def register(method: Kind) -> Kind:
        if _METHODS.setdefault(name, method) is not method:
            raise ConfigError(f"a learning method {name!r} is registered already", fix="Choose another name.")
        method.name = name
        return method

    return register


def get_method(name: str) -> type[LearningMethod]:
    """The method registered as `name`. Raises `ConfigError` with the known names."""
    if name not in _METHODS:
        raise ConfigError(f"there is no learning method {name!r}", fix=f"Known methods: {', '.join(_METHODS)}.")
    return _METHODS[name]


def learning_methods() -> tuple[str, ...]:
    """Names of the registered methods, in order of registration."""
    return tuple(_METHODS)
