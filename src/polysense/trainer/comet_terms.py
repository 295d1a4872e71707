"""The terms of COMET's objective (section 3.4): those of CMG, gate balance and replay, over any number of senses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from polysense.continual.pseudo_modality import PseudoModality
from polysense.data.rng import Key, keyed_int
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
from polysense.trainer.comet_prediction import Predictions, contrast, predict, replay_contrast
from polysense.trainer.comet_settings import CometSettings
from polysense.trainer.distributed import gather_with_grad
from polysense.trainer.inner_optimizer import InnerAdam
from polysense.trainer.terms import Terms

Sequences = dict[str, Tensor]


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


@dataclass(frozen=True)
class CodedBatch:
    """A batch of the senses of a stage and what the model makes of it: what the terms are computed from.

    Attributes:
        training: the model, the replay, and the inner optimisers.
        settings: of the objective.
        senses: of the stage, in order.
        features: sequences by sense, `batch time dim` or maps.
        out: what the model makes of them; its masks say which steps count.
        key: what draws depend on, alike on all processes.
    """

    training: CometTraining
    settings: CometSettings
    senses: Sequence[str]
    features: Sequences
    out: CometOutput
    key: Sequence[Key]

    @property
    def model(self) -> CometModel:
        return self.training.model

    @cached_property
    def predictions(self) -> Predictions:
        """What every sense expects of the steps after a drawn moment; Cross-CPC and replay share them."""
        return predict(self.model, self.out, earliest=self.settings.earliest, key=self.key)

    @property
    def cpc(self) -> dict[str, Any]:
        """Options of Cross-CPC."""
        return {"axis": self.settings.axis, "self_weight": self.settings.self_weight}


DIAGNOSTICS = ("perplexity", "same_code")
"""What is logged of every batch and weighs nothing."""

PENALTY = "ewc"
"""What a stage adds to its terms, once in every step."""

CODE_TERMS: Terms[CodedBatch] = Terms(beside=(*DIAGNOSTICS, PENALTY))
"""Terms of COMET's objective; `CODE_TERMS.register(name)` adds one."""


@CODE_TERMS.register("reconstruction")
def reconstruction(coded: CodedBatch) -> Float[Tensor, ""]:
    """Squared error of every sense's features, decoded from its codes and its specific features."""
    out = coded.out
    errors = [step_error(out.reconstructions[name], out.targets[name], out.masks[name]) for name in coded.senses]
    return torch.stack(errors).sum()


@CODE_TERMS.register("commitment")
def commitments(coded: CodedBatch) -> Float[Tensor, ""]:
    """Of every sense to its own codes, and to those of the others."""
    settings, out, mixing = coded.settings, coded.out, coded.model.config.mixing
    align = ALIGNMENTS["time" if mixing == "none" else mixing] if settings.cross_commitment else None
    return commitment(out.continuous, out.codebook.codes, out.masks, beta=settings.beta, align=align)


@CODE_TERMS.register("code")
def code_matching(coded: CodedBatch) -> Float[Tensor, ""]:
    """L_cmcm: the senses of a sample are to choose codes alike."""
    out, codes = coded.out, coded.model.codebook.embedding
    likely = {
        name: code_distribution(z, codes, out.masks[name], out.codebook.scores.get(name))
        for name, z in out.continuous.items()
    }
    return cross_modal_code(likely, gather=gather_with_grad)


@CODE_TERMS.register("information")
def information(coded: CodedBatch) -> Float[Tensor, ""]:
    """vCLUB of the quantised and the specific features of every sense, its approximation fitted to them first, unless
    the sense is frozen."""
    terms = []
    for name in coded.senses:
        mask = coded.out.masks[name][..., None]
        x, y = (gather_with_grad(each[name] * mask) for each in (coded.out.quantized, coded.out.summaries))
        network = coded.model.approximation(name)
        if coded.training.training and all(each.requires_grad for each in network.parameters()):
            fit_approximation(coded, name, x.detach(), y.detach())
        constants = {key: parameter.detach() for key, parameter in network.named_parameters()}
        mean, log_variance = functional_call(network, constants, (x,))
        generator = torch.Generator().manual_seed(keyed_int("exchange", name, *coded.key) >> 1)
        terms.append(vclub(mean, log_variance, y, torch.randperm(len(x), generator=generator).to(x.device)))
    return torch.stack(terms).sum()


def fit_approximation(coded: CodedBatch, name: str, x: Tensor, y: Tensor) -> None:
    """vCLUB's inner optimisation, on the samples of all processes, so that all have the same approximation."""
    network, inner = coded.model.approximation(name), coded.training.inner[coded.model.branch(name)]
    with torch.enable_grad():
        for _ in range(coded.settings.inner_steps):
            mean, log_variance = network(x)
            cast(InnerAdam, inner).step(network, negative_log_likelihood(mean, log_variance, y))


@CODE_TERMS.register("gate")
def balance(coded: CodedBatch) -> Float[Tensor, ""] | None:
    """Load balance of the experts, where there are any."""
    gates, masks = coded.out.gates, coded.out.masks
    balances = [gate_balance(gather_with_grad(each[masks[name]])) for name, each in gates.items()]
    return torch.stack(balances).mean() if balances else None


@CODE_TERMS.register("sequence")
def sequence_contrast(coded: CodedBatch) -> Float[Tensor, ""]:
    """Symmetric InfoNCE of the means over time, for every pair of senses."""
    means, senses = {}, coded.senses
    for name, z in coded.out.continuous.items():
        weights = coded.out.masks[name].to(z.dtype)[..., None]
        means[name] = F.normalize((z * weights).sum(dim=1), dim=-1)
    pairs = [(a, b) for place, a in enumerate(senses) for b in senses[place + 1 :]]
    scale = coded.settings.scale
    return torch.stack([info_nce(means[a], means[b], scale, gather=gather_with_grad) for a, b in pairs]).sum()


@CODE_TERMS.register("contrast")
def cross_prediction(coded: CodedBatch) -> Float[Tensor, ""]:
    """Cross-CPC between the senses."""
    return contrast(coded.predictions, **coded.cpc)


@CODE_TERMS.register("replay")
def pseudo_prediction(coded: CodedBatch) -> Float[Tensor, ""] | None:
    """Cross-CPC between the senses and the pseudo-modality, where the stage has one (Eq. 4 and 5)."""
    replay = coded.training.replay
    if replay is None:
        return None
    name = replay.mediator
    sequence = coded.model.as_sequence(name, coded.features[name])
    pseudo = replay(coded.model, sequence, coded.out.continuous[name], coded.out.masks[name])
    return replay_contrast(coded.predictions, replay, pseudo, **coded.cpc)
