"""COMET's training objective (section 3.4): one stage's terms, when codes move, and what EWC holds of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polysense.continual import OnlineEwc, batch_fisher, normalised
from polysense.continual.pseudo_modality import PseudoModality
from polysense.data.rng import Key
from polysense.errors import ConfigError, FeatureShapeError
from polysense.models.comet import CometModel
from polysense.models.comet.modeling_comet import CometOutput
from polysense.nn.codebook import CodeStatistics
from polysense.trainer.comet_settings import CometSettings
from polysense.trainer.comet_terms import CODE_TERMS, DIAGNOSTICS, CodedBatch, CometTraining, Sequences
from polysense.trainer.distributed import exchange, gather_objects, mean_ranks, rank, sum_ranks, world_size
from polysense.trainer.inner_optimizer import InnerAdam
from polysense.trainer.objective import zero_touch


class CometObjective:
    """The objective of one stage, over batches of the senses that belong together.

    A batch's `features` hold for every sense `sequence` (`batch time dim`, or maps) and `mask` (`batch time`).

    Codes move at the end of a step (`after_step`), by what all its micro-batches on all processes say, and not at all
    if the step was skipped: so a NaN moves no code, and all processes keep the same codebook to the bit.

    Args:
        model: what trains is decided by its `requires_grad`, see `CometModel.freezing`.
        modalities: the senses of the stage; the first one gives the batches their name.
        settings: weights.
        replay: the pseudo-modality, from the second stage on.

    Raises:
        ConfigError: fewer than two senses, vCLUB without the model's approximations, a term that is not registered, or
            nothing to descend.
        UnknownModalityError: a sense that the model lacks.
    """

    def __init__(
        self,
        model: CometModel,
        *,
        modalities: Sequence[str],
        settings: CometSettings,
        replay: PseudoModality | None = None,
    ) -> None:
        self.senses, self.settings = tuple(dict.fromkeys(modalities)), settings
        branches = list(dict.fromkeys(model.branch(name) for name in self.senses))
        if len(self.senses) < 2:
            raise ConfigError(f"a stage of the senses {list(modalities)}", where="modalities", fix="Name two.")
        if settings.information and not model.config.information:
            raise ConfigError("the model has no approximations for vCLUB", where="information",
                              fix="Build it with information: true, or set the weight to 0.")  # fmt: skip
        if replay is not None and replay.mediator not in self.senses:
            raise ConfigError(f"the mediator {replay.mediator!r} is not among the senses of the stage",
                              where="mediator", fix="Name a sense of the pair.")  # fmt: skip
        CODE_TERMS.check(settings.terms)
        lacking = {"gate": model.adapter is None, "replay": replay is None}
        if not any(weight for name, weight in settings.weights.items() if not lacking.get(name)):
            raise ConfigError("no term of the objective has a weight", where="objective",
                              fix=f"Give one of {', '.join(settings.weights)} more than 0.")  # fmt: skip
        inner = {
            name: InnerAdam(model.approximations[name], settings.inner_learning_rate)
            for name in branches
            if settings.information
        }
        self.module = CometTraining(model, replay, inner)
        self._pending: CodeStatistics | None = None
        self._ids: Sequence[str] = ()
        self.restarts = 0  # of codes, in the last step

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.senses

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term; diagnostics have none and are only logged."""
        return {**self.settings.weights, **dict.fromkeys(DIAGNOSTICS, 0.0)}

    # ---- one batch ----------------------------------------------------------------------------------------------

    def losses(self, modality: str, batch: Any) -> dict[str, Tensor]:
        """The terms of a batch.

        Raises:
            ConfigError: a term that is no scalar tensor.
            FeatureShapeError: sequences that do not fit the model or one another.
        """
        features, masks = self.inputs(batch)
        self._ids = () if self.module.training else [each for ids in gather_objects(batch.ids) for each in ids]
        out = self.module.model(features, masks, update=False)
        if self.module.training:
            statistics = out.codebook.statistics
            self._pending = statistics if self._pending is None else self._pending + statistics
        coded = CodedBatch(self.module, self.settings, self.senses, features, out, self._key())
        diagnostics = {"perplexity": out.codebook.perplexity, "same_code": _same_code(out)}
        return {**CODE_TERMS(coded, self.weights), **diagnostics}

    def inputs(self, batch: Any) -> tuple[Sequences, Sequences | None]:
        """Sequences and masks of the stage's senses. Raises `FeatureShapeError` if a side is missing."""
        if missing := [name for name in self.senses if name not in batch.features]:
            raise FeatureShapeError(f"the batch has {', '.join(batch.features)} alone", where=missing[0],
                                    fix="Give samples of all senses of the stage.")  # fmt: skip
        features = {name: batch.features[name]["sequence"] for name in self.senses}
        masks = {name: batch.features[name]["mask"] for name in self.senses if "mask" in batch.features[name]}
        return features, masks if self.settings.masked else None

    def _key(self) -> tuple[Key, ...]:
        """What a draw depends on, alike on all processes: seed and step; outside training, where steps do not count,
        the samples of all of them."""
        return (self.settings.seed, int(self.module.steps), *self._ids)

    def total(self, modality: str, batch: Any) -> Float[Tensor, ""]:
        """The weighted sum of all terms, which training descends."""
        terms = self.losses(modality, batch)
        return torch.stack([value.float() * self.weights[name] for name, value in terms.items()]).sum()

    def dummy(self, modality: str) -> Tensor:
        """Touches everything that the stage trains, but not the approximations, which the inner optimisation moves."""
        named = self.module.named_parameters()
        own = [parameter for name, parameter in named if not name.startswith("model.approximations.")]
        return zero_touch(nn.ParameterList(own))

    # ---- the end of a step --------------------------------------------------------------------------------------

    @torch.no_grad()
    def after_step(self, applied: bool) -> None:
        """Move the codes, and give processes without samples what the others have fitted."""
        codebook, pending = self.module.model.codebook, self._pending
        self._pending, self.restarts = None, 0
        if world_size() > 1:
            present = [row[0] for row in exchange([int(pending is not None)])]
            if self.settings.information and not all(present) and any(present):
                self._share_fitted(present.index(1))
            zero = CodeStatistics(torch.zeros_like(codebook.ema_count), torch.zeros_like(codebook.ema_sum))
            mine = zero if pending is None else pending
            pending = zero.from_flat(sum_ranks(mine.flat()).to(codebook.embedding.device))
        if applied and pending is not None:
            self.restarts = codebook.update(pending)
        self.module.steps += 1
        self.module.restarts += self.restarts

    def _share_fitted(self, source: int) -> None:
        """Copy approximations and inner state of the process `source` to all."""
        tensors = [*self.module.model.approximations.parameters(), *self.module.inner.buffers()]
        flat = torch.cat([each.detach().flatten().double() for each in tensors])
        flat = sum_ranks(flat if rank() == source else torch.zeros_like(flat))
        for each, piece in zip(tensors, flat.split([each.numel() for each in tensors]), strict=True):
            each.copy_(piece.view_as(each))


def consolidate(ewc: OnlineEwc, objective: CometObjective, batches: Iterable[Any], which: str) -> None:
    """End a stage: the importance of the model's parameters to its total loss joins EWC, whose anchor moves here.

    The Fisher diagonal is the mean over mini-batches of the squared gradient, divided by its own mean in the adapter
    and in the encoder, so that lambda does not depend on the loss's scale (COMET, Eq. 6; method-facts 3.4). To be
    called while the data are there.

    Args:
        batches: of the stage, in the training's batch size, on which the estimate depends. Each process gives its
            share of them, as in training, and all end with the same importance.
        which: see `polysense.continual.codebook_stage.ewc_pattern`.

    Raises:
        ConfigError: nothing that trains matches, there is no batch, or no parameter has any importance.
    """
    training, model = objective.module.training, objective.module.model
    objective.module.eval()  # codes, approximations and dropout stand still
    average = mean_ranks if world_size() > 1 else None
    fisher = batch_fisher(
        model, batches, lambda batch: objective.total(objective.senses[0], batch), which=which, average=average
    )
    objective.module.train(training)
    ewc.consolidate(dict(model.named_parameters()), normalised(fisher))


def _same_code(out: CometOutput) -> Tensor:
    """Share of samples whose most frequent code is the same in all senses (CMG's `equal_num`)."""
    modes = []
    for name, indices in out.codebook.indices.items():
        spread = torch.where(
            out.masks[name], indices, (1 << 40) + torch.arange(indices.shape[1], device=indices.device)
        )
        modes.append(spread.mode(dim=1).values)
    return (torch.stack(modes) == modes[0]).all(dim=0).float().mean()
