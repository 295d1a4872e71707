"""The trainings of one MERA stage: data, objective and loop of a phase, and samples to be scored one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from polysense.continual import Phase, apply_freezing, draw_replay, join_replay
from polysense.continual.methods.base import Penalty, ScoredBatches
from polysense.data import Mixture, SampleDataset, Source
from polysense.data.conversations import Conversations
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.models.mera.frozen_tokens import FrozenTokens
from polysense.models.mera.token_store import FrozenTokenStore
from polysense.recipes.answering import AnswerEvaluator
from polysense.recipes.mera_config import MeraRecipe
from polysense.trainer import LoopConfig, train
from polysense.trainer.distributed import world_size
from polysense.trainer.mera import CONNECTORS, MeraObjective
from polysense.trainer.penalty import PenalisedObjective


class StageTraining:
    """What the phases of a stage train with.

    Args:
        recipe: the run's.
        datasets: name to data set, all of the recipe.
        model, processor: with the stage's sense as their last one.
        work: folder of the phases' checkpoints and logs.
    """

    def __init__(
        self,
        recipe: MeraRecipe,
        datasets: Mapping[str, SampleDataset],
        model: MeraForConditionalGeneration,
        processor: MeraProcessor,
        work: Path,
    ) -> None:
        self.recipe, self.datasets, self.model, self.processor, self.work = recipe, datasets, model, processor, work
        store = None if recipe.frozen_store is None else FrozenTokenStore(recipe.frozen_store)
        self.features = FrozenTokens(model, processor, recipe.frozen_mib << 20, store)

    def run(self, phase: Phase, penalties: Mapping[str, Penalty] | None = None) -> int:
        """Train one phase, or go on with it; its optimiser steps are returned.

        Args:
            penalties: see `PenalisedObjective`.
        """
        apply_freezing(self.model, phase.trains)
        mixture, asking = self.feed(phase)
        objective = PenalisedObjective(asking, penalties or {}, slots=len(mixture.slots))
        return train(objective, mixture, self._loop(phase, mixture), self.work / phase.name).step

    def feed(self, phase: Phase) -> tuple[Mixture, MeraObjective]:
        """A phase's batches, each of samples of about one length, and the loss of what they are asked."""
        asked = self.recipe.conversations
        if phase.name == "connector":
            asked = replace(asked, tasks=("caption",))
        datasets = self._data(phase)
        sizes = batch_sizes(phase.batch_size, {name: len(each) for name, each in datasets.items()})
        sources = [self._source(name, each, sizes[name], asked) for name, each in datasets.items()]
        mixture = Mixture(sources, self.features, seed=self.recipe.seed, augment=False)
        return mixture, self._objective(mixture, asked)

    def evaluator(self) -> AnswerEvaluator:
        """Asks the model as it is now; verdicts of a judge survive an interruption."""
        return AnswerEvaluator(
            self.model, self.processor, self.recipe.evaluation, self.recipe.conversations, features=self.features,
            verdicts=self.work / "verdicts.jsonl",
        )  # fmt: skip

    def scored(self, sense: str, share: float) -> ScoredBatches:
        """Every sample of a share of a sense's data sets once, and what gives their losses (method-facts 4.5)."""
        own = {name: self.datasets[name] for name in self.recipe.named_sources([sense])}
        drawn, size = draw_replay(own, share, self.recipe.seed), self.recipe.joint.batch_size
        sources = [Source(name=name, modality=sense, dataset=each, batch_size=size) for name, each in drawn.items()]
        mixture = Mixture(sources, self.features, seed=self.recipe.seed, augment=False)
        objective = self._objective(mixture, self.recipe.conversations)
        return mixture.once(), partial(objective.sample_losses, sense)

    def _source(self, name: str, dataset: SampleDataset, size: int, asked: Conversations) -> Source:
        sense = self.recipe.sources[name].modality
        length = partial(asked.words, modality=sense, seed=self.recipe.seed)  # little is padded then
        return Source(name=name, modality=sense, dataset=dataset, batch_size=size, length=length)

    def _objective(self, mixture: Mixture, asked: Conversations) -> MeraObjective:
        seed = self.recipe.seed
        return MeraObjective(self.model, self.processor, asked, modalities=mixture.slots, seed=seed)

    def _data(self, phase: Phase) -> dict[str, SampleDataset]:
        """The data sets of a phase; realigning replays all senses so far, the new one among them (section 4.2)."""
        senses, sources = list(self.model.modalities), self.recipe.sources
        own = {name: self.datasets[name] for name in phase.data}
        if not phase.replay:
            return own
        others = {name: self.datasets[name] for name in self.recipe.named_sources(senses) if name not in own}
        if not own:
            return dict(draw_replay(others, phase.replay, self.recipe.seed))
        others = {name: each for name, each in others.items() if sources[name].modality != senses[-1]}
        return join_replay(own, others, phase.replay, self.recipe.seed)

    def _loop(self, phase: Phase, mixture: Mixture) -> LoopConfig:
        """The recipe's loop with a phase's length and learning rates: one for connectors, one for the rest."""
        rates = phase.learning_rates
        peak = rates.get("language_model", rates["connectors"])
        epochs = (phase.epochs or 0) * mixture.steps_per_epoch(world_size()) / self.recipe.loop.accumulation
        steps = phase.steps or max(1, math.ceil(epochs))
        return replace(
            self.recipe.loop, steps=steps, epochs=0, seed=self.recipe.seed, learning_rate=peak,
            lr_multipliers={CONNECTORS: rates["connectors"] / peak},
            warmup_steps=math.ceil(self.recipe.warmup_share * steps),
        )  # fmt: skip


def batch_sizes(batch_size: int, samples: Mapping[str, int]) -> dict[str, int]:
    """What every data set gives to a batch: in proportion to its samples, by largest remainder, but one at least.

    So all data sets are gone through about once in an epoch; one that is too small for it comes round more often.
    """
    total = sum(samples.values())
    exact = {name: batch_size * count / total for name, count in samples.items()}
    sizes = {name: max(1, math.floor(share)) for name, share in exact.items()}
    by_remainder = sorted(samples, key=lambda name: math.floor(exact[name]) - exact[name])
    for name in by_remainder[: max(0, batch_size - sum(sizes.values()))]:
        sizes[name] += 1
    return sizes
