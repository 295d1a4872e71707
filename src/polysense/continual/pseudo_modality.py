"""Pseudo-modality replay: what the mediator would have meant in the stage before (COMET, section 3.3).

Data of earlier stages are gone, their codebook V1 is not. The mediator's features choose codes of V1, and this
sequence takes part in Cross-CPC like a third sense, as a teacher: no gradient flows into it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polysense.errors import ConfigError
from polysense.models.comet import CometModel
from polysense.nn.codebook_growth import FrozenCodes
from polysense.nn.prediction import ContextPredictor
from polysense.nn.starts import start_anew

NEW_CODE_WEIGHT = math.exp(-6)
TEACHERS = ("live", "frozen")


@dataclass(frozen=True)
class PseudoSequence:
    """A batch of pseudo-modal sequences.

    Attributes:
        vectors: V1's codes where the mediator's step has one nearest, new codes elsewhere; no gradient.
        weights: 1 for V1's codes, the weight of new codes elsewhere.
    """

    vectors: Float[Tensor, "batch time dim"]
    weights: Float[Tensor, "batch time"]


class PseudoModality(nn.Module):
    """V1, the teacher that looks things up in it, and the pseudo-modality's own predictor for Cross-CPC.

    To be made after the last stage and before the codebook grows. V1 is a buffer and the predictor trains, so both are
    in a training's checkpoints; a frozen teacher is a frozen part, to be made again from the last stage's model.

    Args:
        model: as the stage before left it.
        mediator: the sense that both stages have.
        teacher: "live": the mediator's features of the moment choose the codes, as printed. When they drift, the
            choice drifts with them, which is most of the forgetting; "frozen" lets a snapshot of the mediator's way
            choose.
        new_weight: weight of steps whose nearest code is a new one; e^-6.
        seed: keys the predictor's start.

    Raises:
        UnknownModalityError: the model lacks the mediator. Nothing is changed.
        ConfigError: another teacher, or a weight outside 0 to 1.
    """

    def __init__(
        self,
        model: CometModel,
        mediator: str,
        *,
        teacher: str = "live",
        new_weight: float = NEW_CODE_WEIGHT,
        seed: int = 0,
    ) -> None:
        super().__init__()
        model.branch(mediator)
        if teacher not in TEACHERS or not 0 <= new_weight <= 1:
            raise ConfigError(f"a {teacher!r} teacher with new codes of weight {new_weight}", where="pmr",
                              fix="Use live or frozen, and a weight from 0 to 1.")  # fmt: skip
        self.mediator, self.new_weight = mediator, new_weight
        self.codes = FrozenCodes(model.codebook)
        self.snapshot = model.snapshot(mediator) if teacher == "frozen" else None
        config = model.config
        self.context = ContextPredictor(config.hidden_size, config.context_layers, config.horizon)
        start_anew(self.context, f"{seed}/contexts.pseudo")

    @torch.no_grad()
    def forward(
        self,
        model: CometModel,
        sequence: Float[Tensor, "batch time ..."],
        continuous: Float[Tensor, "batch time dim"],
        mask: Bool[Tensor, "batch time"],
    ) -> PseudoSequence:
        """The pseudo-modal sequences of a batch.

        Args:
            model: whose codebook has V1's codes first, then new ones.
            sequence: the mediator's features, as the model takes them; only a frozen teacher looks at them.
            continuous: what the live model makes of them.
            mask: real steps.
        """
        z = continuous.detach() if self.snapshot is None else cast(Tensor, self.snapshot(sequence, mask))
        _, vectors, matched = self.codes.match(model.codebook, z)
        weights = torch.where(matched, 1.0, self.new_weight).to(continuous.dtype)
        return PseudoSequence(vectors.to(continuous.dtype), weights)
