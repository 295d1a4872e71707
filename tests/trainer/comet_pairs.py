"""A pair of senses for the tiny COMET model, shared by the tests of its objective on one process and on several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polysense.continual import apply_freezing
from polysense.continual.codebook_stage import CodebookStage, begin_stage
from polysense.data import Batch, MediaRef, Mixture, Sample, Source
from polysense.data.rng import keyed_rng
from polysense.modality import JsonValue
from polysense.models.comet import CometModel
from polysense.trainer.comet import CometObjective
from polysense.trainer.comet_settings import CometSettings
from tests.models.comet.tiny import SENSES, tiny_comet

STEPS = 5
PAIR = ("audio", "text")


@dataclass(frozen=True)
class Pairs:
    """Sequences of two senses that share their first numbers; texts are shorter by up to two steps."""

    length: int = 23

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        shared = keyed_rng("pair", index).normal(size=(STEPS, 3))
        media = {}
        for name in SENSES:
            sizes = (*SENSES[name].get("grid", ()), SENSES[name]["feature_dim"])
            values = keyed_rng("pair", index, name).normal(size=(STEPS, *sizes)).astype(np.float32)
            values[..., :3] += shared.reshape(STEPS, *[1] * (len(sizes) - 1), 3)
            media[name] = MediaRef(values[: STEPS - index % 3 if name == "text" else STEPS])
        return Sample(f"pair-{index}", media)

    def labels(self, modality: str) -> Sequence[str | None]:
        return [None] * self.length


def padded(
    modality: str,
    sources: Sequence[Any],
    *,
    facts: Sequence[Mapping[str, JsonValue]],
    rngs: Sequence[np.random.Generator] | None,
) -> dict[str, Tensor]:
    sequence = torch.zeros(len(sources), STEPS, *sources[0].shape[1:])
    mask = torch.zeros(len(sources), STEPS, dtype=torch.bool)
    for row, source in enumerate(sources):
        sequence[row, : len(source)], mask[row, : len(source)] = torch.from_numpy(source), True
    return {"sequence": sequence, "mask": mask}


def pairs(batch_size: int = 4, senses: Sequence[str] = PAIR) -> Mixture:
    source = Source(
        name="pairs", modality=senses[0], anchors=tuple(senses[1:]), dataset=Pairs(), batch_size=batch_size
    )
    return Mixture([source], padded, seed=0)


def first_batch(senses: Sequence[str] = PAIR) -> Batch:
    return pairs(12, senses).build(0)[0]


def objective(settings: CometSettings | None = None, **config: Any) -> CometObjective:
    """The first stage, ready to train."""
    model = tiny_comet(*PAIR, **config)
    begin_stage(model, CodebookStage(pair=PAIR), {}, first_batch().features, first=True)
    chosen = settings or CometSettings(information=float(model.config.information))
    made = CometObjective(model, modalities=PAIR, settings=chosen)
    made.module.train()
    return made


def second_stage(teacher: Any = "frozen", model: CometModel | None = None, **settings: Any) -> CometObjective:
    """Video joins audio and text through text, with replay and a larger codebook."""
    model = model or objective().module.model
    stage = CodebookStage(pair=("video", "text"), rows=3, pmr_teacher=teacher)
    batch = first_batch(stage.pair)
    replay = begin_stage(model, stage, {"video": SENSES["video"]}, batch.features, first=False)
    apply_freezing(model, model.freezing(stage.pair))
    made = CometObjective(model, modalities=stage.pair, settings=CometSettings(**settings), replay=replay)
    made.module.train()
    return made


def state(made: CometObjective) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in made.module.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}
