"""What a MERA recipe may say: senses, data, the phases of a stage, and the way of learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from polysense.continual.adapter_settings import AdapterSettings
from polysense.continual.methods import LearningMethod, get_method
from polysense.data.conversations import Conversations
from polysense.errors import ConfigError
from polysense.recipes.answering import AnsweringSettings
from polysense.recipes.config import build, place
from polysense.recipes.sources import DatasetSettings, WorldSettings
from polysense.safety import check_keys
from polysense.trainer import LoopConfig

_RATES = ("connectors", "language_model")
"""What has a learning rate of its own."""


@dataclass(frozen=True, kw_only=True)
class MeraSenseSettings:
    """How a sense reaches the language model.

    Attributes:
        encoder: folder or Hub name; or what is trained first: a config of `training/anchors` ("clip") or of
            `training/unialign` ("unialign:world"), or a net of `training/comet/features.yaml` ("net:audio"). Senses
            of one encoder share it. Where a checkpoint is extended, one of its senses means that sense's encoder.
        connector, layer, pool: see `MeraForConditionalGeneration.add_modality`.
        bert: folder or Hub name of a BERT whose weights a Q-Former starts from.
        processor: options of the sense's processor that replace those of its encoder's spec.
    """

    encoder: str
    connector: str | Mapping[str, Any] = "mlp"
    layer: int = -1
    pool: int = 1
    bert: str | None = None
    processor: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MeraSource:
    """A data set of one sense.

    Attributes:
        modality: the sense.
        data: where the samples come from.
        captions: whether it has captions, so that the first phase can use it.
        license: of the data, for the model card.
    """

    modality: str
    data: DatasetSettings
    captions: bool = True
    license: str = "unknown"


@dataclass(frozen=True, kw_only=True)
class PhaseSettings:
    """One of the trainings of a stage (Table 7).

    Attributes:
        learning_rates: peak rates of "connectors" and, where it trains, of the "language_model".
        batch_size: samples per optimiser step and process, all data sets together.
        epochs, steps: how long; one of them.
        replay: share of every earlier data set (realigning: of all data sets so far) that is trained on.

    Raises:
        ConfigError: a rate of something else, or none of the connectors.
    """

    learning_rates: Mapping[str, float]
    batch_size: int
    epochs: float | None = None
    steps: int | None = None
    replay: float = 0.0

    def __post_init__(self) -> None:
        # a misspelt part would train at the rate of another one, and nothing would tell
        check_keys(self.learning_rates, _RATES, "learning_rates")
        if _RATES[0] not in self.learning_rates:
            raise ConfigError("the connectors have no learning rate", where="learning_rates",
                              fix="Give one of connectors, which train in every phase.")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MeraRecipe:
    """Config of `training/mera/*.yaml`.

    Attributes:
        llm: folder or Hub name of a causal language model with its tokenizer; `package:` and the name of an installed
            package that carries one as a GGUF file; or "llama", which is trained first. Not needed to go on from a
            checkpoint, which has its own.
        senses: name to its settings.
        sources: name to data set.
        stages: senses in the order in which they are learned.
        connector: first phase of every stage: the new connector, on captions.
        joint: second phase: the new connector and what the method adds to the language model, on captions and
            questions.
        realign: last phase from the second stage on: all connectors, on replay alone; with a rate of its
            "language_model", that too. `None` leaves it out.
        merge: method by which the language model is merged after the second phase, a name or `{name: ties, density:
            0.3}`; `None` keeps it as trained. Only methods that merge look at it.
        method: way of learning from the second stage on, `{name: ..., **options}` (`polysense.continual.methods`).
        adapter: the LoRA, or other adapters of its size and place.
        conversations: what samples are asked.
        evaluation: what every stage is tested on; a stage that is finished is not tested again.
        loop: see `LoopConfig`; length, learning rates and warm-up are each phase's.
        warmup_share: share of a phase's steps in which the learning rate rises.
        llm_license: for the model card.
        data_root: folder that data sets are relative to; the world is built there if `world` is given.
        world: the embedded world.
        frozen_mib: mebibytes of the frozen encoders' tokens that a stage keeps in memory.
        frozen_store: folder in which they are kept for other stages and runs too; `None` keeps none.
        seed: of initial weights, order of data and conversations.
        imports: modules that register what the config names.

    Raises:
        ConfigError: the second phase has no learning rate for the language model, or the warm-up is no share.
    """

    senses: Mapping[str, MeraSenseSettings]
    sources: Mapping[str, MeraSource]
    stages: Sequence[str]
    connector: PhaseSettings
    joint: PhaseSettings
    loop: LoopConfig
    realign: PhaseSettings | None = None
    merge: str | Mapping[str, Any] | None = "running_average"
    method: Mapping[str, Any] = field(default_factory=lambda: {"name": "fresh_lora"})
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    conversations: Conversations = field(default_factory=Conversations)
    evaluation: AnsweringSettings = field(default_factory=AnsweringSettings)
    warmup_share: float = 0.03
    llm: str = ""
    llm_license: str = "see its card"
    data_root: str = "runs/world"
    world: WorldSettings | None = None
    frozen_mib: int = 1024
    frozen_store: str | None = None
    seed: int = 0
    imports: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_share <= 1:
            raise ConfigError(f"warmup_share is {self.warmup_share}", fix="Give a share, from 0 to 1.")
        if _RATES[1] not in self.joint.learning_rates:
            raise ConfigError("the language model has no learning rate", where="joint: learning_rates",
                              fix="Give one of language_model, which trains in this phase.")  # fmt: skip

    def learning_method(self) -> LearningMethod:
        """What `method` names, with its options, and with `merge` where it is one of them.

        Raises:
            ConfigError: an unknown name or option, or a value it cannot have.
        """
        options = dict(self.method)
        with place("method: name"):
            kind = get_method(str(options.pop("name", "fresh_lora")))
        if "merge" in {each.name for each in fields(kind)}:
            options = {"merge": self.merge, **options}
        return build(kind, options, "method")

    def named_sources(self, senses: Sequence[str], *, captions: bool = False) -> list[str]:
        """Names of the data sets of some senses; of those with captions alone, if so asked."""
        found = self.sources.items()
        return [name for name, each in found if each.modality in senses and (each.captions or not captions)]
