"""Online EWC (MERA, appendix D; method-facts 4.5): one LoRA on W_0 is trained on, and held where it matters.

A stage is followed by the exact Fisher diagonal of its answers' loss, on a share of its own data. It is computed
when the next stage begins, so that the first stage is the one of all other methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from safetensors.torch import load, save_file
from torch import Tensor

from polysense.continual.adapter_checks import check_adapters, check_record, check_settings
from polysense.continual.ewc import OnlineEwc
from polysense.continual.fisher import sample_fisher
from polysense.continual.methods.base import Learning, LearningMethod, Penalty, StageContext, register_method
from polysense.continual.methods.fresh_lora import LoraLearning
from polysense.continual.replay import check_replay
from polysense.continual.stage_adapter import (
    TRAINED,
    StageAdapter,
    adapter_folder,
    read_adapter,
    take_out,
)
from polysense.data import SampleDataset
from polysense.errors import CheckpointError, ConfigError
from polysense.models.mera import MeraForConditionalGeneration
from polysense.storage import atomic_folder, read_verified

_STATE = "ewc.safetensors"


@register_method("ewc")
@dataclass(frozen=True, kw_only=True)
class Ewc(LearningMethod):
    """Online EWC on the LoRA; the paper has lambda 1 and 1 %.

    Attributes:
        strength: lambda.
        share: of the last stage's data sets that its Fisher information is computed on.

    Raises:
        ConfigError: lambda is negative, or the share is none.
    """

    strength: float = 1.0
    share: float = 0.01

    def __post_init__(self) -> None:
        OnlineEwc(self.strength)
        if not 0 < self.share <= 1:
            raise ConfigError(f"the share is {self.share}", where="share", fix="Give a share above 0, at most 1.")

    def check_data(self, last: Mapping[str, SampleDataset]) -> None:
        if not last:
            raise ConfigError("there is no data set of the sense before, whose Fisher information is needed",
                              where="sources", fix="Add one, or learn by another method.")  # fmt: skip
        check_replay(last, self.share)

    def check_start(self, folder: Path, stage: int) -> None:
        adapter = adapter_folder(folder, stage)
        check_record(adapter, "EWC")
        if stage > 1 and not (adapter / _STATE).exists():
            raise CheckpointError("the stage has no state of EWC", where=adapter / _STATE,
                                  fix="Train it with this method.")  # fmt: skip

    def trains(self, sense: str) -> str:
        return TRAINED

    def learning(self, model: MeraForConditionalGeneration, context: StageContext) -> Learning:
        return EwcLearning(model, context, self)


class EwcLearning(LoraLearning):
    """The LoRA of the stage before, taken out of the weights and trained on under the penalty.

    Beside the LoRA its stage folder has `ewc.safetensors`: importance and anchor of all stages before
    (`OnlineEwc.state_dict`).
    """

    def __init__(self, model: MeraForConditionalGeneration, context: StageContext, method: Ewc) -> None:
        super().__init__(model, context)
        self.method, self.ewc = method, OnlineEwc(method.strength)

    def penalties(self) -> Mapping[str, Penalty]:
        return {"ewc": lambda: self.ewc.penalty(self.model.named_parameters())}

    def check(self) -> None:
        context = self.context
        self.method.check_start(context.previous, context.number - 1)
        self.go_on = read_adapter(adapter_folder(context.previous, context.number - 1))
        check_settings(self.model, self.go_on, context.adapter)
        check_adapters(self.model, [self.go_on])
        self.check_base(self.go_on)

    def begin(self) -> None:
        if self.go_on is None:
            self.check()
        last = adapter_folder(self.context.previous, self.context.number - 1)
        take_out(self.model, cast(StageAdapter, self.go_on), self.context.base_weights())
        self.add()
        self.context.on_main(lambda: self._consolidate(last / _STATE))
        self.ewc.load_state_dict(self._on_device(read_verified(self._kept_state, (_STATE,))[1][_STATE]))

    def save(self, folder: Path) -> None:
        super().save(folder)
        state = (self._kept_state / _STATE).read_bytes()
        (adapter_folder(folder, self.context.number) / _STATE).write_bytes(state)

    @property
    def _kept_state(self) -> Path:
        return self.context.work / "ewc"

    def _consolidate(self, before: Path) -> None:
        """End the stage before, unless that is done: its Fisher information joins, and it becomes the anchor."""
        if self._kept_state.exists():
            return
        ewc, context = OnlineEwc(self.ewc.strength), self.context
        if before.exists():
            ewc.load_state_dict(self._on_device(before.read_bytes()))
        batches, losses = context.scored(context.senses[-2], self.method.share)
        self.model.eval()
        fisher = sample_fisher(self.model, batches, losses, which=TRAINED)
        ewc.consolidate(dict(self.model.named_parameters()), fisher)
        with atomic_folder(self._kept_state) as folder:
            save_file(ewc.state_dict(), folder / _STATE)

    def _on_device(self, state: bytes) -> dict[str, Tensor]:
        return {key: tensor.to(self.model.device) for key, tensor in load(state).items()}
