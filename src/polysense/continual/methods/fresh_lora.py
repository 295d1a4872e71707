"""Every stage trains a fresh LoRA and merges it: MERA with any merge method, and fine-tuning without one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from polysense.continual.adapter_checks import check_adapters
from polysense.continual.methods.base import Learning, LearningMethod, StageContext, register_method
from polysense.continual.stage_adapter import (
    TRAINED,
    StageAdapter,
    adapter_folder,
    add_adapter,
    merge_adapter,
    read_adapters,
    record_merged,
    save_adapter,
    trained_adapter,
)
from polysense.errors import CheckpointError
from polysense.merging import chosen_method
from polysense.modality import JsonValue
from polysense.models.mera import MeraForConditionalGeneration
from polysense.safety import read_json


@register_method("fresh_lora")
@dataclass(frozen=True, kw_only=True)
class FreshLora(LearningMethod):
    """MERA (section 4.1), and fine-tuning.

    Attributes:
        merge: method by which a stage's LoRA is merged, a name or `{name: ties, density: 0.3}`; `None` adds it whole,
            which is fine-tuning. A method that draws does so by the run's seed, unless the options name one.

    Raises:
        ConfigError: there is no such merge method, or it cannot have such options.
    """

    merge: str | Mapping[str, JsonValue] | None = "running_average"

    def __post_init__(self) -> None:
        if self.merge is not None:
            chosen_method(self.merge)

    def settings(self) -> dict[str, JsonValue]:
        if self.merge is None:
            return {"merge": None}
        method, options = chosen_method(self.merge)
        return {"merge": {"name": method.name, **options} if options else method.name}

    def check_start(self, folder: Path, stage: int) -> None:
        if read_json(folder / "config.json").get("adapters") is not None:
            raise CheckpointError("the language model has PathWeave's adapters, which no LoRA can be merged into",
                                  where=folder, fix="Go on with `method: {name: pathweave}`.")  # fmt: skip

    def trains(self, sense: str) -> str:
        return TRAINED

    def learning(self, model: MeraForConditionalGeneration, context: StageContext) -> Learning:
        return LoraLearning(model, context, merge=self.merge)


class LoraLearning(Learning):
    """A LoRA that trains and is then merged; it stays in the stage folder (`adapters/stage-i`), readable by peft.

    Args:
        merge: see `FreshLora`.

    Attributes:
        merge: name and options of the merge method, as `merge_adapter` takes them.
        wrapped: the peft model, between `begin` and `finish`.
        go_on: the adapter that is trained on, if it is not a fresh one.
        earlier: adapters that the weights are a sum with.
        adapted, merged: keys of the weights that it changes, and what is recorded of the merge; from `finish` on.
    """

    def __init__(
        self,
        model: MeraForConditionalGeneration,
        context: StageContext,
        *,
        merge: str | Mapping[str, JsonValue] | None = None,
    ) -> None:
        super().__init__(model, context)
        self.merge: dict[str, Any] = {"method": None}
        if merge is not None:
            method, options = chosen_method(merge)
            drawn = {"seed": context.seed} if "seed" in method.options else {}
            self.merge = {"method": method.name, "options": {**drawn, **options}}
        self.wrapped: Any = None
        self.go_on: StageAdapter | None = None
        self.earlier: Sequence[StageAdapter] = ()
        self.adapted: tuple[str, ...] = ()
        self.merged: dict[str, JsonValue] = {}

    def check(self) -> None:
        context = self.context
        self.earlier = [] if context.start is None else read_adapters(context.start)
        check_adapters(self.model, self.earlier)
        for first in self.earlier[:1]:
            self.check_base(first)

    def begin(self) -> None:
        if not self.earlier:
            self.check()
        self.add()

    def add(self) -> None:
        """Wrap the model with the adapter."""
        context = self.context
        self.wrapped = add_adapter(
            self.model, context.adapter, stage=context.number, seed=context.seed, go_on=self.go_on
        )

    def finish(self) -> None:
        context = self.context
        adapter = trained_adapter(self.wrapped, stage=context.number, **self.merge)
        adapter, self.adapted = replace(adapter, whole=context.whole), tuple(adapter.factors)
        context.on_main(lambda: self._keep(adapter))
        base = context.base_weights() if self.earlier else {}
        errors = merge_adapter(self.wrapped, adapter, **self.merge, base=base or None, earlier=self.earlier)
        self.merged = {**self.merge, "coefficient": adapter.coefficient, "rounding": asdict(errors)}

    def record(self) -> dict[str, JsonValue]:
        return self.merged

    def save(self, folder: Path) -> None:
        if self.earlier:
            shutil.copytree(self.context.previous / "adapters", folder / "adapters")
        own = adapter_folder(folder, self.context.number)
        shutil.copytree(self._kept, own)
        record_merged(own, self.model, self.adapted)

    @property
    def _kept(self) -> Path:
        return self.context.work / "adapter"

    def _keep(self, adapter: StageAdapter) -> None:
        """Put the trained adapter aside: once it is merged, peft cannot write it any more."""
        shutil.rmtree(self._kept, ignore_errors=True)
        save_adapter(self.wrapped, self._kept, adapter, **self.merge)
