"""Stages of a tiny language model without senses: sequences of tokens stand for what each sense has to say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from polysense.continual import apply_freezing
from polysense.continual.adapter_settings import AdapterSettings
from polysense.continual.methods import Learning, LearningMethod, StageContext
from polysense.continual.methods.base import ScoredBatches
from polysense.models.mera import MeraForConditionalGeneration
from polysense.testing import tiny_llama

SENSES = ("image", "video", "audio")
PROBE = torch.tensor([[1, 8, 9, 10, 30], [1, 40, 41, 42, 43]])


def sequences(sense: str) -> Tensor:
    """Five sequences of a sense."""
    return torch.randint(3, 90, (5, 6), generator=torch.Generator().manual_seed(SENSES.index(sense)))


def sample_losses(model: Any, ids: Tensor) -> Tensor:
    logits = model(input_ids=ids).logits[:, :-1]
    return F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").mean(dim=1)


class Chain:
    """Stage after stage in a folder, each from the folder of the one before."""

    def __init__(self, folder: Path, *, whole: bool = True) -> None:
        self.folder, self.whole = folder, whole
        tiny_llama().save_pretrained(folder / "llm")

    def start(self, number: int) -> Any:
        """The model that a stage begins with."""
        if number == 1:
            return MeraForConditionalGeneration.from_parts(self.folder / "llm")
        return MeraForConditionalGeneration.from_pretrained(self.stage(number - 1))

    def stage(self, number: int) -> Path:
        return self.folder / f"stage-{number}"

    def context(self, number: int, model: Any) -> StageContext:
        def scored(sense: str, share: float) -> ScoredBatches:
            return list(sequences(sense).split(2)), lambda ids: sample_losses(model, ids)

        def on_main(work: Callable[[], None]) -> None:
            work()

        return StageContext(
            number=number, senses=SENSES[:number], seed=0, adapter=AdapterSettings(rank=2, alpha=4.0, dropout=0.0),
            llm=self.folder / "llm", start=self.stage(number - 1) if number > 1 else None,
            work=self.folder / f"work-{number}", whole=self.whole, on_main=on_main, scored=scored,
        )  # fmt: skip

    def begun(self, method: LearningMethod, number: int) -> tuple[Any, Learning]:
        """Model and learning of a stage at the moment when training begins."""
        model = self.start(number)
        learning = method.learning(model, self.context(number, model))
        learning.begin()
        apply_freezing(model, {".*": False, method.trains(SENSES[number - 1]): True})
        return model, learning

    def learn(self, method: LearningMethod, number: int) -> Any:
        """A whole stage: a few steps of training, and its folder; the model is returned."""
        model, learning = self.begun(method, number)
        optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.5)
        for _ in range(3):
            penalty = sum(each() for each in learning.penalties().values())
            (sample_losses(model.train(), sequences(SENSES[number - 1])).mean() + penalty).backward()
            optimizer.step()
            optimizer.zero_grad()
        learning.finish()
        model.eval().save_pretrained(self.stage(number))
        learning.save(self.stage(number))
        return model


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=PROBE).logits  # type: ignore[no-any-return]
