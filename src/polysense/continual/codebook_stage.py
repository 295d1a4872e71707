"""How a stage of COMET begins: the new sense joins, the last codebook is kept as V1, and the codebook grows."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from polysense.continual.pseudo_modality import NEW_CODE_WEIGHT, TEACHERS, PseudoModality
from polysense.errors import ConfigError, FeatureShapeError, UnknownModalityError
from polysense.models.comet import CometModel
from polysense.nn.codebook import check_spread, real_masks

logger = logging.getLogger(__name__)

EWC_SCOPES = {
    "adapter": r"adapter\.(common|specific)\..*",
    "adapter+encoder": r"(adapter\.(common|specific|gate)|semantic\.{mediator})\..*",
    "encoder": r"semantic\.{mediator}\..*",
}
"""What EWC holds. "adapter" is what is printed: common layers and the specific ones that were activated. The
mediator's encoder, which it leaves open, is where most is forgotten; "encoder" alone is a control."""


@dataclass(frozen=True, kw_only=True)
class CodebookStage:
    """One pair of senses joining a model.

    Attributes:
        pair: the two senses (or more) whose data the stage has; at least one is known from the second stage on.
        mediator: the known one through which the codebook is reached; by default the first of the pair that is known.
        rows: K2, codes that are added from the second stage on; 0 adds none.
        protect: keep the codes of earlier stages, which an absent sense may use, from restarts; growing does so too.
        pmr_teacher: who chooses the codes of the pseudo-modality; `None` goes without replay.
        new_code_weight: weight of new codes in the pseudo-modality.

    Raises:
        ConfigError: a pair of fewer than two senses, a mediator outside it, negative rows, or a weight outside 0 to 1.
    """

    pair: Sequence[str]
    mediator: str | None = None
    rows: int = 0
    protect: bool = False
    pmr_teacher: str | None = None
    new_code_weight: float = NEW_CODE_WEIGHT

    def __post_init__(self) -> None:
        if len(set(self.pair)) < max(2, len(self.pair)):
            raise ConfigError(f"a stage of the senses {list(self.pair)}", where="pair", fix="Name two, each once.")
        if self.mediator is not None and self.mediator not in self.pair:
            raise ConfigError(f"the mediator {self.mediator!r} is not one of {', '.join(self.pair)}",
                              where="mediator", fix="Name a sense of the pair.")  # fmt: skip
        if type(self.rows) is not int or self.rows < 0:
            raise ConfigError(f"a codebook cannot grow by {self.rows} codes", where="rows", fix="Give 0 or more.")
        if self.pmr_teacher not in (None, *TEACHERS):
            raise ConfigError(f"pmr_teacher is {self.pmr_teacher!r}", where="pmr_teacher",
                              fix=f"Choose one of {', '.join(TEACHERS)}, or leave it out.")  # fmt: skip
        if not 0 <= self.new_code_weight <= 1:
            raise ConfigError(f"new_code_weight is {self.new_code_weight}", where="new_code_weight",
                              fix="Give a weight from 0 to 1.")  # fmt: skip

    def mediator_in(self, known: Sequence[str]) -> str:
        """The mediator, given the senses of the stages before.

        Raises:
            ConfigError: no sense of the pair is known.
            UnknownModalityError: the mediator itself is not.
        """
        shared = [name for name in self.pair if name in known]
        if not shared:
            raise ConfigError(
                f"the stage of {', '.join(self.pair)} shares no sense with the stages before ({', '.join(known)})",
                where="pair", fix="Begin with a pair that has one of them.",
            )  # fmt: skip
        if self.mediator is not None and self.mediator not in known:
            raise UnknownModalityError(self.mediator, known, where="mediator")
        return self.mediator or shared[0]


def begin_stage(
    model: CometModel,
    stage: CodebookStage,
    senses: Mapping[str, Mapping[str, Any]],
    batch: Mapping[str, Mapping[str, Tensor]],
    *,
    first: bool,
    seed: int = 0,
) -> PseudoModality | None:
    """Prepare a model for a stage, the same on every process that is given the same.

    Args:
        model: as the stage before left it; in the first stage a new one with the pair's senses.
        senses: name to values of a `CometSense` (empty: the model's encoder) of the senses that may have to be added.
        batch: of the stage's first samples: sense to `sequence` and `mask`. Codes are started or added where their
            features lie.
        first: whether this is the first stage.

    Returns:
        The replay, where the stage has one.

    Raises:
        ConfigError, UnknownModalityError: no shared sense, an unknown mediator, or a sense that cannot be added.
            Nothing is changed.
        FeatureShapeError: features that do not fit, are constant, or not finite. Nothing is changed.
    """
    if first:
        _check_features(stage.pair, batch)
        vectors = first_vectors(model, stage.pair, batch)
        model.start_codebook(vectors, seed=seed)
        return None
    mediator = stage.mediator_in(model.modalities)
    new = [name for name in stage.pair if name not in model.modalities]
    if missing := [name for name in new if name not in senses]:
        raise UnknownModalityError(missing[0], [*model.modalities, *senses], where="pair")
    _check_features(stage.pair, batch)
    _check_fit(model, {name: senses[name] for name in new}, {name: batch[name]["sequence"] for name in stage.pair})
    # of the mediator alone: a new sense's encoder has learned nothing yet
    vectors = first_vectors(model, [mediator], batch)
    check_spread(vectors, model.config.hidden_size)
    for name in new:
        model.add_modality(name, seed=seed, **senses[name])
    replay = None
    if stage.pmr_teacher is not None:
        replay = PseudoModality(
            model, mediator, teacher=stage.pmr_teacher, new_weight=stage.new_code_weight, seed=seed
        )
    if stage.rows:
        model.grow_codebook(stage.rows, vectors, seed=seed)
        logger.info("the codebook has %s codes now", " + ".join(map(str, model.config.codebook_sizes)))
    elif stage.protect:
        model.protect_codebook()
    return replay


def _check_features(senses: Sequence[str], batch: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Refuse a sense whose first samples say nothing, before it is learned by heart."""
    for name in senses:
        if name not in batch:
            raise FeatureShapeError(f"the first batch has {', '.join(batch)} alone", where=name,
                                    fix="Give samples of all senses of the pair.")  # fmt: skip
    sequences = {name: batch[name]["sequence"] for name in senses}
    for name, mask in real_masks(sequences, {name: batch[name].get("mask") for name in senses}).items():
        steps = sequences[name][mask]
        if not len(steps) or not steps.isfinite().all():
            raise FeatureShapeError("the first batch has features that are missing or not finite", where=name,
                                    fix="Look for broken samples, or extract the features anew.")  # fmt: skip
        if len(mask) > 1 and bool((steps == steps[0]).all()):
            raise FeatureShapeError("all features of the first batch are the same", where=name,
                                    fix="Check what they are extracted from.")  # fmt: skip


def _check_fit(model: CometModel, new: Mapping[str, Mapping[str, Any]], sequences: Mapping[str, Tensor]) -> None:
    """Give an empty copy of the model its new senses and the sequences: what does not fit shows now."""
    with torch.device("meta"):
        trial = CometModel(copy.deepcopy(model.config))
    for name, values in new.items():
        trial.add_modality(name, **values)
    for name, sequence in sequences.items():
        trial.as_sequence(name, sequence.to("meta"))


@torch.no_grad()
def first_vectors(
    model: CometModel, senses: Sequence[str], batch: Mapping[str, Mapping[str, Tensor]]
) -> Float[Tensor, "steps dim"]:
    """Continuous features of all real steps of a batch, below one another."""
    training = model.training
    model.eval()
    encodings = [model.encode_sequence(name, batch[name]["sequence"], batch[name].get("mask")) for name in senses]
    model.train(training)
    return torch.cat([each.continuous[each.mask] for each in encodings])


def ewc_pattern(scope: str, mediator: str) -> str:
    """Pattern of the parameters of a `CometModel` that EWC holds; of these, those that train.

    Raises:
        ConfigError: an unknown scope.
    """
    if scope not in EWC_SCOPES:
        raise ConfigError(f"there is no ewc_scope {scope!r}", fix=f"Known scopes: {', '.join(EWC_SCOPES)}.")
    return EWC_SCOPES[scope].replace("{mediator}", mediator)
