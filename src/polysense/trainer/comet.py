"""COMET's training objective (section 3.4): the losses of CMG, gate balance, and replay, over any number of senses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from polysense.continual import OnlineEwc, batch_fisher, normalised
from polysense.continual.pseudo_modality import PseudoModality
from polysense.data.rng import keyed_int
from polysense.errors import ConfigError, FeatureShapeError
from polysense.losses import (
    code_distribution,
    commitment,
    cross_modal_code,
    gate_balance,
    info_nce,
    negative_log_likelihood,
    step_error,
    vclub,
)
from polysense.models.comet import CometModel
from polysense.models.comet.modeling_comet import CometOutput
from polysense.nn.alignment import ALIGNMENTS
from polysense.nn.codebook import CodeStatistics
from polysense.trainer.comet_prediction import contrast, predict, replay_contrast
from polysense.trainer.distributed import (
    exchange,
    gather_objects,
    gather_with_grad,
    mean_ranks,
    rank,
    sum_ranks,
    world_size,
)
from polysense.trainer.inner_optimizer import InnerAdam
from polysense.trainer.objective import zero_touch

TERMS = ("reconstruction", "commitment", "contrast", "replay", "code", "information", "gate", "sequence")
DIAGNOSTICS = ("perplexity", "same_code")
Sequences = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class CometSettings:
    """Weights of the terms, all 1 in CMG's release (`code`: 0.5) and in COMET, and what belongs to single terms.

    Attributes:
        reconstruction, commitment, information, gate: weights; terms of weight zero are not computed.
        contrast: Cross-CPC between the senses.
        replay: Cross-CPC between the senses and the pseudo-modality, where a stage has one; with its full weight a
            frozen teacher leaves new pairs little room.
        code: code matching (L_cmcm), per pair of senses.
        sequence: InfoNCE of whole sequences (the baselines CMCM and TURN).
        beta: of the commitment terms.
        cross_commitment: commitment to the other senses' codes as well.
        axis, self_weight: see `cross_cpc`.
        earliest: first step after which Cross-CPC may predict; the later ones are drawn alike.
        scale: factor on the cosines of `sequence`.
        inner_steps, inner_learning_rate: vCLUB's own optimisation in every step. With a single inner step and a weight
            of 0.1 a model was seen to collapse; five are CMG's.
        masked: leave padding out (vCLUB meets it as zeros). Otherwise padded steps count like any other, as in CMG's
            release.
        seed: keys the draws of the objective.
    """

    reconstruction: float = 1.0
    commitment: float = 1.0
    contrast: float = 1.0
    replay: float = 0.15
    code: float = 0.5
    information: float = 1.0
    gate: float = 1.0
    sequence: float = 0.0
    beta: float = 0.25
    cross_commitment: bool = True
    axis: str = "both"
    self_weight: float = 0.1
    earliest: int = 1
    scale: float = 1 / 0.07
    inner_steps: int = 5
    inner_learning_rate: float = 1e-3
    masked: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        numbers = (*TERMS, "beta", "self_weight", "earliest", "scale", "inner_steps", "inner_learning_rate")
        if bad := [name for name in numbers if not 0 <= getattr(self, name) < math.inf]:
            raise ConfigError(f"{bad[0]} is {getattr(self, bad[0])}", where="objective", fix="Give at least 0.")
        if self.axis not in ("both", "predictions", "targets"):
            raise ConfigError(f"axis is {self.axis!r}", where="objective",
                              fix="Choose one of both, predictions, targets.")  # fmt: skip


class CometTraining(nn.Module):
    """All that a stage trains or keeps: the model, the replay, and the inner optimisers' state.

    Buffers: `steps`, optimiser steps done, which key the draws of the objective alike on all processes; `restarts`, of
    codes in all of them.
    """

    steps: Tensor
    restarts: Tensor

    def __init__(self, model: CometModel, replay: PseudoModality | None, inner: Mapping[str, InnerAdam]) -> None:
        super().__init__()
        self.model, self.replay, self.inner = model, replay, nn.ModuleDict(inner)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("restarts", torch.zeros((), dtype=torch.int64))


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
        ConfigError: fewer than two senses, vCLUB without the model's approximations, or nothing to descend.
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
        lacking = {"gate": model.adapter is None, "replay": replay is None}
        if not any(getattr(settings, name) for name in TERMS if not lacking.get(name)):
            raise ConfigError("no term of the objective has a weight", where="objective",
                              fix=f"Give one of {', '.join(TERMS)} more than 0.")  # fmt: skip
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
        return {**{name: getattr(self.settings, name) for name in TERMS}, **dict.fromkeys(DIAGNOSTICS, 0.0)}

    # ---- one batch ----------------------------------------------------------------------------------------------

    def losses(self, modality: str, batch: Any) -> dict[str, Tensor]:
        """The terms of a batch.

        Raises:
            FeatureShapeError: sequences that do not fit the model or one another.
        """
        features, masks = self.inputs(batch)
        self._ids = () if self.module.training else [each for ids in gather_objects(batch.ids) for each in ids]
        out = self.module.model(features, masks, update=False)
        if self.module.training:
            statistics = out.codebook.statistics
            self._pending = statistics if self._pending is None else self._pending + statistics
        terms: dict[str, Callable[[CometOutput], Tensor]] = {
            "reconstruction": self._reconstruction,
            "commitment": self._commitment,
            "code": self._code,
            "information": self._information,
            "gate": self._gate,
            "sequence": self._sequence,
        }
        wanted = {name for name, weight in self.weights.items() if weight} - (set() if out.gates else {"gate"})
        found = {name: term(out) for name, term in terms.items() if name in wanted}
        diagnostics = {"perplexity": out.codebook.perplexity, "same_code": _same_code(out)}
        return {**found, **self._predictive(out, features), **diagnostics}

    def inputs(self, batch: Any) -> tuple[Sequences, Sequences | None]:
        """Sequences and masks of the stage's senses. Raises `FeatureShapeError` if a side is missing."""
        if missing := [name for name in self.senses if name not in batch.features]:
            raise FeatureShapeError(f"the batch has {', '.join(batch.features)} alone", where=missing[0],
                                    fix="Give samples of all senses of the stage.")  # fmt: skip
        features = {name: batch.features[name]["sequence"] for name in self.senses}
        masks = {name: batch.features[name]["mask"] for name in self.senses if "mask" in batch.features[name]}
        return features, masks if self.settings.masked else None

    def total(self, modality: str, batch: Any) -> Float[Tensor, ""]:
        """The weighted sum of all terms, which training descends."""
        terms = self.losses(modality, batch)
        return torch.stack([value.float() * self.weights[name] for name, value in terms.items()]).sum()

    def dummy(self, modality: str) -> Tensor:
        """Touches everything that the stage trains, but not the approximations, which the inner optimisation moves."""
        named = self.module.named_parameters()
        own = [parameter for name, parameter in named if not name.startswith("model.approximations.")]
        return zero_touch(nn.ParameterList(own))

    # ---- the terms ----------------------------------------------------------------------------------------------

    def _predictive(self, out: CometOutput, features: Sequences) -> dict[str, Tensor]:
        """The terms of Cross-CPC: between the senses, and with the pseudo-modality."""
        settings, module, found = self.settings, self.module, {}
        replay = module.replay if settings.replay else None
        if not settings.contrast and replay is None:
            return {}
        ahead = predict(module.model, out, earliest=settings.earliest, key=self._key())
        options: dict[str, Any] = {"axis": settings.axis, "self_weight": settings.self_weight}
        if settings.contrast:
            found["contrast"] = contrast(ahead, **options)
        if replay is not None:
            sequence = module.model.as_sequence(replay.mediator, features[replay.mediator])
            continuous, mask = out.continuous[replay.mediator], out.masks[replay.mediator]
            found["replay"] = replay_contrast(
                ahead, replay, replay(module.model, sequence, continuous, mask), **options
            )
        return found

    def _reconstruction(self, out: CometOutput) -> Tensor:
        errors = [step_error(out.reconstructions[name], out.targets[name], out.masks[name]) for name in self.senses]
        return torch.stack(errors).sum()

    def _commitment(self, out: CometOutput) -> Tensor:
        mixing = self.module.model.config.mixing
        align = ALIGNMENTS["time" if mixing == "none" else mixing] if self.settings.cross_commitment else None
        return commitment(out.continuous, out.codebook.codes, out.masks, beta=self.settings.beta, align=align)

    def _key(self) -> tuple[str | int, ...]:
        """What a draw depends on, alike on all processes: seed and step; outside training, where steps do not count,
        the samples of all of them."""
        return (self.settings.seed, int(self.module.steps), *self._ids)

    def _code(self, out: CometOutput) -> Tensor:
        codes, scores = self.module.model.codebook.embedding, out.codebook.scores
        likely = {
            name: code_distribution(z, codes, out.masks[name], scores.get(name)) for name, z in out.continuous.items()
        }
        return cross_modal_code(likely, gather=gather_with_grad)

    def _information(self, out: CometOutput) -> Tensor:
        """vCLUB of the quantised and the specific features of every sense, its approximation fitted to them first,
        unless the sense is frozen."""
        terms = []
        for name in self.senses:
            mask = out.masks[name][..., None]
            x, y = (gather_with_grad(each[name] * mask) for each in (out.quantized, out.summaries))
            network = self.module.model.approximation(name)
            if self.module.training and all(each.requires_grad for each in network.parameters()):
                self._fit(name, x.detach(), y.detach())
            constants = {key: parameter.detach() for key, parameter in network.named_parameters()}
            mean, log_variance = functional_call(network, constants, (x,))
            generator = torch.Generator().manual_seed(keyed_int("exchange", name, *self._key()) >> 1)
            terms.append(vclub(mean, log_variance, y, torch.randperm(len(x), generator=generator).to(x.device)))
        return torch.stack(terms).sum()

    def _fit(self, name: str, x: Tensor, y: Tensor) -> None:
        """The inner optimisation, on the samples of all processes, so that all have the same approximation."""
        network, inner = self.module.model.approximation(name), self.module.inner[self.module.model.branch(name)]
        with torch.enable_grad():
            for _ in range(self.settings.inner_steps):
                mean, log_variance = network(x)
                cast(InnerAdam, inner).step(network, negative_log_likelihood(mean, log_variance, y))

    def _gate(self, out: CometOutput) -> Tensor:
        balances = [gate_balance(gather_with_grad(gates[out.masks[name]])) for name, gates in out.gates.items()]
        return torch.stack(balances).mean()

    def _sequence(self, out: CometOutput) -> Tensor:
        """Symmetric InfoNCE of the means over time, for every pair of senses."""
        means = {}
        for name, z in out.continuous.items():
            weights = out.masks[name].to(z.dtype)[..., None]
            means[name] = F.normalize((z * weights).sum(dim=1), dim=-1)
        pairs = [(a, b) for place, a in enumerate(self.senses) for b in self.senses[place + 1 :]]
        scale = self.settings.scale
        return torch.stack([info_nce(means[a], means[b], scale, gather=gather_with_grad) for a, b in pairs]).sum()

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
