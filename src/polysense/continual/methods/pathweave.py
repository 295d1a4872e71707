"""PathWeave's adapter-in-adapter in the language model (MERA, appendix D; method-facts 4.4), never merged.

The first path is the first stage's LoRA, since for one sense both are W x + B A x. Every later stage adds a path that
weighs the frozen earlier ones, at first all alike, so that what was learned counts 1/m of itself in stage m until the
gate has learned better (`polysense.nn.adapter_in_adapter`). The model keeps them all: inference costs the extra paths
(MERA, Table 3). A chain that was merged so far is gone on from alike: its last LoRA, counting what it does there, is
the first path, and what was before is the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch

from polysense.continual.adapter_checks import check_adapters, check_record
from polysense.continual.methods.base import Learning, LearningMethod, StageContext, register_method
from polysense.continual.stage_adapter import (
    RECORD,
    StageAdapter,
    adapter_folder,
    read_adapter,
    take_out,
)
from polysense.errors import CheckpointError, ConfigError
from polysense.models.mera import MeraForConditionalGeneration
from polysense.nn.adapter_in_adapter import AdapterInAdapter, AdapterOptions, AdapterPath, path_pattern
from polysense.safety import read_json

_PREFIX, _SUFFIX = "model.language_model.", ".weight"


@register_method("pathweave")
@dataclass(frozen=True, kw_only=True)
class PathWeave(LearningMethod):
    """Adapter-in-adapter on the linears that have a LoRA in the first stage, with its rank and scaling; no dropout.

    Attributes:
        noise, in_adapter_start: see `AdapterOptions`.
    """

    noise: bool = False
    in_adapter_start: Literal["identity", "linear"] = "identity"

    def check_start(self, folder: Path, stage: int) -> None:
        if read_json(folder / "config.json").get("adapters") is not None:
            return
        adapter = adapter_folder(folder, stage)
        check_record(adapter, "PathWeave")
        if read_json(adapter / RECORD).get("coefficient") is None:
            raise CheckpointError("the stage's adapter was not added to the weights, so PathWeave cannot take it out",
                                  where=adapter, fix="Begin with another stage, or learn by fresh_lora.")  # fmt: skip

    def trains(self, sense: str) -> str:
        return path_pattern(sense)

    def learning(self, model: MeraForConditionalGeneration, context: StageContext) -> Learning:
        return PathWeaveLearning(model, context, self)


class PathWeaveLearning(Learning):
    """One more path; model and config hold all there is, so that the stage folder needs nothing beside them."""

    def __init__(self, model: MeraForConditionalGeneration, context: StageContext, method: PathWeave) -> None:
        super().__init__(model, context)
        self.method = method
        # what becomes the first path, where there is none yet
        self.first: StageAdapter | None = None

    def check(self) -> None:
        context = self.context
        if self.model.config.adapters is not None:
            return
        self.method.check_start(context.previous, context.number - 1)
        self.first = read_adapter(adapter_folder(context.previous, context.number - 1))
        if outside := [key for key in self.first.factors if not key.startswith(_PREFIX)]:
            raise ConfigError(f"{outside[0]} is no part of the language model", where="adapter: targets",
                              fix="Give a pattern of its layers alone.")  # fmt: skip
        check_adapters(self.model, [self.first])
        self.check_base(self.first)

    def begin(self) -> None:
        if self.first is None:
            self.check()
        if self.first is not None:
            self._first_path(self.first)
        self.model.add_path(self.context.senses[-1], seed=self.context.seed)

    @torch.no_grad()
    def _first_path(self, adapter: StageAdapter) -> None:
        """Unmerge the last stage's LoRA and make it the path of its sense."""
        model, context, method = self.model, self.context, self.method
        take_out(model, adapter, context.base_weights())
        A, _, scaling = next(iter(adapter.factors.values()))
        options = AdapterOptions(
            rank=len(A), alpha=scaling * len(A), noise=method.noise, in_adapter_start=method.in_adapter_start
        )
        model.add_adapters([key.removeprefix(_PREFIX).removesuffix(_SUFFIX) for key in adapter.factors], options)
        model.add_path(context.senses[-2], seed=context.seed)
        for key, (A, B, _) in adapter.factors.items():
            site = cast(AdapterInAdapter, model.get_submodule(key.removesuffix(_SUFFIX)))
            path = cast(AdapterPath, site.paths[context.senses[-2]])
            path.down.copy_(A)
            path.up.copy_(B if adapter.coefficient is None else adapter.coefficient * B)
