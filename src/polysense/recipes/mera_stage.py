"""The trainings of one MERA stage: data, objective and loop of a phase, and samples to be scored one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from polysense.continual import Phase, apply_freezing, draw_replay, join_replay
from polysense.continual.methods.base import Penalty, ScoredBatches
from polysense.data import Mixture, Sample, SampleDataset, Source
from polysense.data.conversations import Conversations
from polysense.errors import ConfigError
from polysense.models.base import weights_digest
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.models.mera.frozen_tokens import FrozenTokens
from polysense.models.mera.token_store import FrozenTokenStore
from polysense.recipes.answering import ANSWERS, VERDICTS, AnswerEvaluator
from polysense.recipes.kept_answers import KeptAnswers
from polysense.recipes.mera_config import MeraRecipe
from polysense.trainer import LoopConfig, TrainingResult, train
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

    def run(self, phase: Phase, penalties: Mapping[str, Penalty] | None = None) -> TrainingResult:
        """Train one phase, or go on with it.

        Args:
            penalties: see `PenalisedObjective`.
        """
        apply_freezing(self.model, phase.trains)
        mixture, asking = self.feed(phase)
        # the batches of a step weigh one altogether
        objective = PenalisedObjective(asking, penalties or {}, slots=1)
        samples = sum(len(source.dataset) for source in mixture.sources)
        return train(objective, mixture, self._loop(phase, samples), self.work / phase.name)

    def feed(self, phase: Phase) -> tuple[Mixture, MeraObjective]:
        """A phase's batches, each of samples of about one length, and the loss of what they are asked."""
        asked = self.recipe.conversations
        if phase.name == "connector":
            asked = _captioning(asked)
        datasets = self._data(phase)
        drawn = draws({name: len(each) for name, each in datasets.items()}, phase.batch_size)
        sources = [
            Source(name=name, modality=self.recipe.sources[name].modality, dataset=each, **drawn[name],
                   length=self._words(name, asked)) for name, each in datasets.items()
        ]  # fmt: skip
        mixture = Mixture(sources, self.features, seed=self.recipe.seed, augment=False)
        return mixture, self._objective(mixture, asked)

    def evaluator(self) -> AnswerEvaluator:
        """Asks the model as it is now; answers and a judge's verdicts survive an interruption.

        Verdicts serve all stages of a run.
        """
        return AnswerEvaluator(
            self.model, self.processor, self.recipe.evaluation, self.recipe.conversations, features=self.features,
            verdicts=self.work.parent / VERDICTS,
            kept=KeptAnswers(self.work / ANSWERS, weights_digest(self.model.state_dict())),
        )  # fmt: skip

    def scored(self, sense: str, share: float) -> ScoredBatches:
        """Every sample of a share of a sense's data sets once, and what gives their losses (method-facts 4.5)."""
        own = {name: self.datasets[name] for name in self.recipe.named_sources([sense])}
        drawn, size = draw_replay(own, share, self.recipe.seed), self.recipe.joint.batch_size
        sources = [Source(name=name, modality=sense, dataset=each, batch_size=size) for name, each in drawn.items()]
        mixture = Mixture(sources, self.features, seed=self.recipe.seed, augment=False)
        objective = self._objective(mixture, self.recipe.conversations)
        return mixture.once(), partial(objective.sample_losses, sense)

    def _words(self, name: str, asked: Conversations) -> Callable[[Sample, int], int]:
        """How long a sample's conversation is; batches of about one length are little padded."""
        return partial(asked.words, modality=self.recipe.sources[name].modality, seed=self.recipe.seed)

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

    def _loop(self, phase: Phase, samples: int) -> LoopConfig:
        """The recipe's loop with a phase's length and learning rates: one for connectors, one for the rest.

        An epoch has as many steps as give as many samples as all data sets of the phase have together.
        """
        rates = phase.learning_rates
        peak = rates.get("language_model", rates["connectors"])
        by_step = phase.batch_size * world_size() * self.recipe.loop.accumulation
        steps = phase.steps or max(1, math.ceil((phase.epochs or 0) * samples / by_step))
        return replace(
            self.recipe.loop, steps=steps, epochs=0, seed=self.recipe.seed, learning_rate=peak,
            lr_multipliers={CONNECTORS: rates["connectors"] / peak},
            warmup_steps=math.ceil(self.recipe.warmup_share * steps),
        )  # fmt: skip


def check_source(dataset: SampleDataset, modality: str, asked: Conversations, *, captions: bool) -> None:
    """Refuse a data set whose first sample has nothing to learn from, while that costs nothing.

    Args:
        captions: whether the first phase trains on it, which asks for captions alone.

    Raises:
        ConfigError: it is empty.
        ManifestError: the sample has no media of the sense, no caption or nothing to ask about it, or is malformed.
    """
    if not len(dataset):
        raise ConfigError("the data set is empty", fix="Name another file, or correct its conditions.")
    sample = dataset[0]
    sample.ref(modality)
    asked.test(sample, modality)
    if captions:
        _captioning(asked).test(sample, modality)


def _captioning(asked: Conversations) -> Conversations:
    """What the first phase asks."""
    return replace(asked, tasks=("caption",))


def draws(samples: Mapping[str, int], batch_size: int) -> dict[str, dict[str, Any]]:
    """What every data set gives to a step, and what that weighs: as if all of them were shuffled together.

    In proportion to their samples, by largest remainder; those with less than one sample in a step give one every few
    steps. So all are gone through about once in an epoch, and every sample counts alike.

    Returns:
        Name to `batch_size`, `every` and `weight` of a `Source`.
    """
    total = sum(samples.values())
    exact = {name: batch_size * count / total for name, count in samples.items()}
    sizes = {name: max(1, math.floor(share)) for name, share in exact.items()}
    large = sorted(
        (name for name in samples if exact[name] >= 1), key=lambda name: math.floor(exact[name]) - exact[name]
    )
    left = round(sum(exact[name] for name in large)) - sum(sizes[name] for name in large)
    for name in large[:left]:
        sizes[name] += 1
    every = {name: max(1, round(1 / share)) for name, share in exact.items()}
    return {
        name: {"batch_size": size, "every": every[name], "weight": size / batch_size} for name, size in sizes.items()
    }
